//! `finish`: metadata of large files, then links and specials, then directories' metadata.
//!
//! To be called when all data segments are restored. Fed with the first pieces of large files (as far as their headers
//! go), then with the tail's segments in order. Reports large files, what was skipped here, the content of what this
//! process may not make, and what the archive states about itself.

use std::io::{stdin, stdout, BufRead, Write};

use serde_json::{json, Value};

use crate::abilities::Abilities;
use crate::beneath::Beneath;
use crate::cli::settle;
use crate::entry::Entry;
use crate::error::{Code, Error, Result};
use crate::frames::write_frame;
use crate::header::HeaderReader;
use crate::lanes::{run_in_order, Lane};
use crate::links::TailMaker;
use crate::parent::Input;
use crate::segment::{Segment, SegmentKind};
use crate::tailreader::TailReader;
use crate::volume::Volume;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let volume = Volume::parse(args, |_, _| Ok(false))?;
    settle(&[], &[&volume.root], Input::Frames)?;
    finish(volume.open()?, volume.abilities()?, stdin().lock(), stdout().lock())
}

pub(crate) fn finish(
    beneath: Beneath,
    abilities: Abilities,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<()> {
    let mut finisher = Finisher::new(beneath, abilities);
    run_in_order(input, &mut output, &mut finisher)?;
    finisher.demand_end()?;
    let report = json!({
        "files": finisher.files,
        "bytes": finisher.bytes,
        "skipped": finisher.maker.skipped(),
        "left_out": finisher.maker.left_out().text(),
        "statement": finisher.tail.statement()?,
    });
    write_frame(&mut output, json!({"report": report}), b"")
}

/// Takes the first pieces of large files, then the tail.
pub(crate) struct Finisher {
    pub(crate) maker: TailMaker,
    tail: TailReader,
    large: Option<HeaderReader>,
    files: u64,
    bytes: u64,
}

impl Finisher {
    pub(crate) fn new(beneath: Beneath, abilities: Abilities) -> Self {
        let maker = TailMaker::new(beneath, abilities);
        Self { maker, tail: TailReader::default(), large: None, files: 0, bytes: 0 }
    }

    /// All of it came.
    pub(crate) fn demand_end(&self) -> Result<()> {
        self.tail.finish()
    }
}

impl Lane for Finisher {
    fn open(&mut self, number: u32, segment: Segment, _is_last: bool) -> Result<()> {
        match segment.kind {
            SegmentKind::Tail => self.tail.open(number, segment),
            SegmentKind::Large => {
                self.large = Some(HeaderReader::new(number, segment)?);
                Ok(())
            }
            SegmentKind::Files => {
                Err(Error::new(Code::InvalidInput, format!("segment {number} is done when it is unpacked")))
            }
        }
    }

    fn data(&mut self, payload: &[u8]) -> Result<()> {
        let maker = &mut self.maker;
        match &mut self.large {
            Some(large) => large.feed(payload),
            None => self.tail.data(payload, &mut |entry| maker.make(entry)),
        }
    }

    /// Of a large file its pieces counted nothing and set no metadata, since they come in any order; now it is whole.
    fn close(&mut self) -> Result<Value> {
        match self.large.take() {
            Some(large) => {
                let entry: Entry = large.finish()?;
                self.maker.finish_file(&entry)?;
                self.files += 1;
                self.bytes += entry.size;
            }
            None => self.tail.close()?,
        }
        Ok(json!({}))
    }
}
