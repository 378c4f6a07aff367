//! `differences`: which path was not restored as archived. It is fed with segments and decides nothing but a message.
//!
//! Segments come in archive order: of data segments any (a large file's first piece is enough), then all of the tail.

use std::io::{stdin, stdout, BufRead, Write};
use std::path::Path;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use serde_json::{json, Value};

use crate::abilities::Abilities;
use crate::beneath::Beneath;
use crate::cli::settle;
use crate::differences::{Difference, Differences};
use crate::error::{Code, Error, Result};
use crate::frames::write_frame;
use crate::header::HeaderReader;
use crate::intake::Intake;
use crate::lanes::{run_in_order, Lane};
use crate::mounts;
use crate::parent::Input;
use crate::segment::{Segment, SegmentKind};
use crate::tailreader::TailReader;
use crate::tar::read::{Found, Scanner};
use crate::teller::Teller;
use crate::volume::Volume;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let volume = Volume::parse(args, |_, _| Ok(false))?;
    mounts::keep_open()?;
    // Only probing writes.
    let root = [volume.root.as_path()];
    settle(&root, if volume.has_abilities() { &[] } else { &root }, Input::Frames)?;
    differences(&volume, volume.abilities()?, stdin().lock(), stdout().lock())
}

fn differences(volume: &Volume, abilities: Abilities, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let mut looker = Looker::new(volume.open()?, abilities);
    run_in_order(input, &mut output, &mut looker)?;
    let mut teller = Teller::new(&mut output);
    let found = looker.finish(&volume.root, &mut |entries| teller.progress(entries))?;
    teller.finish()?;
    let found = found.map(|found| json!({"path": STANDARD.encode(found.path), "why": found.why}));
    write_frame(&mut output, json!({ "differs": found }), b"")
}

/// Takes data segments, then the tail.
pub(crate) struct Looker {
    differences: Differences,
    tail: TailReader,
    at: At,
}

impl Looker {
    pub(crate) fn new(beneath: Beneath, abilities: Abilities) -> Self {
        Self { differences: Differences::new(beneath, abilities), tail: TailReader::default(), at: At::Nowhere }
    }

    /// The first difference, once all came.
    pub(crate) fn finish(self, root: &Path, progress: &mut dyn FnMut(u64)) -> Result<Option<Difference>> {
        if !self.differences.is_decided() {
            self.tail.finish()?;
        }
        self.differences.finish(root, progress)
    }
}

enum At {
    Nowhere,
    Files(Box<(Intake, Scanner)>),
    Header(Box<HeaderReader>),
    /// A piece behind the first.
    Piece,
    Tail,
}

impl Lane for Looker {
    fn open(&mut self, number: u32, segment: Segment, _is_last: bool) -> Result<()> {
        self.at = match segment.kind {
            SegmentKind::Files => At::Files(Box::new((Intake::new(number, segment), Scanner::default()))),
            SegmentKind::Large if segment.piece.as_ref().is_some_and(|piece| piece.offset > 0) => At::Piece,
            SegmentKind::Large => At::Header(Box::new(HeaderReader::new(number, segment)?)),
            SegmentKind::Tail => {
                self.tail.open(number, segment)?;
                At::Tail
            }
        };
        Ok(())
    }

    fn data(&mut self, payload: &[u8]) -> Result<()> {
        let differences = &mut self.differences;
        match &mut self.at {
            At::Nowhere => Err(Error::new(Code::InvalidInput, "no segment is open")),
            At::Piece => Ok(()),
            At::Header(header) => header.feed(payload),
            At::Tail => self.tail.data(payload, &mut |entry| differences.take(entry)),
            At::Files(files) => {
                let (intake, scanner) = &mut **files;
                intake.feed(payload, &mut |raw| {
                    scanner.feed(raw, &mut |_, found| match found {
                        Found::Entry(entry) => differences.take(&entry),
                        Found::Data(_) => Ok(()),
                    })
                })
            }
        }
    }

    fn close(&mut self) -> Result<Value> {
        match std::mem::replace(&mut self.at, At::Nowhere) {
            At::Nowhere | At::Piece => {}
            At::Files(files) => files.0.finish()?,
            At::Header(header) => self.differences.take(&header.finish()?)?,
            At::Tail => self.tail.close()?,
        }
        Ok(json!({}))
    }
}

#[cfg(test)]
mod tests;
