//! `plan`: walk the volume and cut it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lexopt::{Arg::Long, ValueExt as _};
use serde_json::json;

use crate::cli::{required, settle, wrong};
use crate::error::{Code, Error, Result};
use crate::frames::write_frame;
use crate::mounts;
use crate::parent::Input;
use crate::plan::cut::Limits;
use crate::plan::scan;

const PROGRESS_EVERY: Duration = Duration::from_millis(500);

pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let (mut root, mut out, mut limits) = (None, None, Limits::default());
    while let Some(arg) = args.next()? {
        match arg {
            Long("root") => root = Some(PathBuf::from(args.value()?)),
            Long("out") => out = Some(PathBuf::from(args.value()?)),
            Long("segment-bytes") => limits.segment_bytes = args.value()?.parse()?,
            Long("max-segment-bytes") => limits.max_segment_bytes = args.value()?.parse()?,
            Long("max-segments") => limits.max_segments = args.value()?.parse()?,
            Long("large-from") => limits.large_from = Some(args.value()?.parse()?),
            Long("allow-devices") => limits.allow_devices = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let (root, out) = (required(root, "root")?, required(out, "out")?);
    if limits.segment_bytes == 0 || limits.max_segments == 0 || limits.max_segments > u32::MAX as usize / 2 {
        return Err(wrong("a plan has segments, and they hold something"));
    }
    mounts::keep_open()?;
    settle(&[&root, &out], &[&out], Input::None)?;
    answer(&root, &out, &limits, &mut std::io::stdout().lock())
}

fn answer(root: &Path, out: &Path, limits: &Limits, output: &mut impl Write) -> Result<()> {
    let output = std::cell::RefCell::new(output);
    let mut progress = Progress::new(|entries| {
        let mut output = output.borrow_mut();
        // A pipe that is broken ends the process at the next segment.
        let _ = write_frame(&mut *output, json!({"progress": entries}), b"").and_then(|()| flush(&mut *output));
    });
    let mut tell = |segment: &crate::segment::Segment| {
        write_frame(&mut *output.borrow_mut(), json!({"segment": segment.to_json()}), b"")
    };
    let plan = scan(root, out, limits, &mut |entries| progress.at(entries), &mut tell)?;
    let mut output = output.borrow_mut();
    write_frame(&mut *output, json!({"plan": plan.summary}), b"").and_then(|()| flush(&mut *output))
}

/// Tells a number now and then, as long as something gets on.
pub struct Progress<F: FnMut(u64)> {
    tell: F,
    told: Instant,
}

impl<F: FnMut(u64)> Progress<F> {
    pub fn new(tell: F) -> Self {
        Self { tell, told: Instant::now() }
    }

    /// It got to here. To be called often.
    pub fn at(&mut self, number: u64) {
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            (self.tell)(number);
        }
    }
}

/// What was written reaches the parent.
pub fn flush(output: &mut impl Write) -> Result<()> {
    output.flush().map_err(|error| Error::new(Code::MoverFailed, format!("the pipe to the mover: {error}")))
}
