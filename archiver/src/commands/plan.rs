//! `plan`: walk the volume and cut it.
//!
//! The segments stand in the plan's table alone: one with many holes is more than a line of a frame may be.

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
    let mut progress = Progress::new(|entries| {
        // A pipe that is broken fails at the end.
        let _ = write_frame(output, json!({"progress": entries}), b"").and_then(|()| flush(output));
    });
    let plan = scan(root, out, limits, &mut |entries| progress.at(entries))?;
    write_frame(output, json!({"plan": plan.summary}), b"").and_then(|()| flush(output))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::read_frame;
    use crate::trees::{new_tree, write};

    #[test]
    fn it_tells_the_plan_and_no_segment() {
        let (outer, tree) = new_tree();
        for number in 0..20 {
            write(&tree, format!("f{number}"), "some text");
        }
        let out = outer.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let limits = Limits { segment_bytes: 8192, ..Limits::default() };
        let mut output = Vec::new();
        answer(&tree, &out, &limits, &mut output).unwrap();
        let mut input = &output[..];
        let mut told = Vec::new();
        while let Some(frame) = read_frame(&mut input).unwrap() {
            told.push(frame.line);
        }
        let (plan, before) = told.split_last().unwrap();
        assert!(plan["plan"]["data_segments"].as_u64() > Some(1));
        assert!(before.iter().all(|line| line.get("progress").is_some()));
    }
}
