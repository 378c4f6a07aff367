//! One data segment back into files: inflate, digest, gate, write.
//!
//! A segment counts as restored only when its digest was right *and* its writer ended well; what a wrong one has
//! written stays in a volume that nobody is handed.

use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::{json, Value};

use crate::abilities::Abilities;
use crate::beneath::{AtPath, Beneath};
use crate::entry::{Content, Entry};
use crate::error::{Code, Error, Result};
use crate::gate::Gate;
use crate::hollow::HollowFile;
use crate::intake::Intake;
use crate::lanes::Lane;
use crate::metadata::{self, Skipped};
use crate::piece::PieceWriter;
use crate::segment::{Segment, SegmentKind};
use crate::tar::read::{Found, Scanner};

/// What a segment brought back. Pieces of large files count nothing: `finish` does, when the file is whole.
#[derive(Debug, Default)]
pub struct Report {
    pub files: u64,
    pub bytes: u64,
    pub skipped: Skipped,
    /// As the headers say.
    pub content: Content,
}

impl Report {
    /// The fields of `done`.
    pub fn to_json(&self) -> Value {
        json!({
            "content": self.content.text(),
            "files": self.files,
            "bytes": self.bytes,
            "skipped": self.skipped,
        })
    }
}

/// A lane that restores data segments, one after the other.
///
/// `ArchiveCorrupt` names the segment. Also `NoSpace`, `AccessDenied`, `BackendUnavailable`.
pub struct Unpacker {
    beneath: Beneath,
    abilities: Abilities,
    open: Option<(Intake, Writer)>,
}

enum Writer {
    Files(Box<FileWriter>),
    Piece(Box<PieceWriter>),
}

impl Unpacker {
    /// Below `root`.
    pub fn new(root: &Path, abilities: Abilities) -> Result<Self> {
        Ok(Self { beneath: Beneath::open(root).writing(b"")?, abilities, open: None })
    }
}

impl Lane for Unpacker {
    fn open(&mut self, number: u32, segment: Segment, _is_last: bool) -> Result<()> {
        let writer = match (segment.kind, &segment.piece) {
            (SegmentKind::Files, None) => Writer::Files(Box::new(FileWriter::new(Gate::new(number, &segment)?))),
            (SegmentKind::Large, Some(piece)) => {
                Writer::Piece(Box::new(PieceWriter::open(&mut self.beneath, number, piece.clone())?))
            }
            (SegmentKind::Tail, _) => {
                return Err(Error::new(Code::InvalidInput, format!("segment {number} holds no file data")));
            }
            _ => return Err(Error::corrupt_segment(number, "the manifest does not say which piece it is")),
        };
        self.open = Some((Intake::new(number, segment), writer));
        Ok(())
    }

    fn data(&mut self, payload: &[u8]) -> Result<()> {
        let Self { beneath, abilities, open } = self;
        let (intake, writer) = open.as_mut().ok_or_else(not_open)?;
        intake.feed(payload, &mut |raw| match writer {
            Writer::Files(files) => files.write(beneath, abilities, raw),
            Writer::Piece(piece) => piece.write(raw),
        })
    }

    fn close(&mut self) -> Result<Value> {
        let (intake, writer) = self.open.take().ok_or_else(not_open)?;
        intake.finish()?;
        let report = match writer {
            Writer::Files(files) => files.finish(&self.abilities)?,
            Writer::Piece(piece) => Report { content: piece.finish()?, ..Report::default() },
        };
        Ok(report.to_json())
    }
}

/// Writes whole files, one after the other, each with its metadata before it is closed.
struct FileWriter {
    scanner: Scanner,
    files: Files,
}

struct Files {
    gate: Gate,
    report: Report,
    current: Option<(Entry, HollowFile<OwnedFd>)>,
}

impl FileWriter {
    fn new(gate: Gate) -> Self {
        Self { scanner: Scanner::default(), files: Files { gate, report: Report::default(), current: None } }
    }

    /// Headers make files, data fills them.
    fn write(&mut self, beneath: &mut Beneath, abilities: &Abilities, raw: &[u8]) -> Result<()> {
        let files = &mut self.files;
        self.scanner.feed(raw, &mut |scan, found| match found {
            Found::Entry(entry) => {
                files.seal(abilities)?;
                files.gate.admit(&entry, scan)?;
                files.begin(beneath, abilities, entry)
            }
            Found::Data(data) => match &mut files.current {
                Some((entry, file)) => file.write(data).writing(&entry.path),
                None => Err(files.gate.refusal("it has data that belong to no file")),
            },
        })
    }

    /// All bytes have come and their digest is right: give the last file its metadata.
    fn finish(mut self, abilities: &Abilities) -> Result<Report> {
        if !self.scanner.between_entries() {
            return Err(self.files.gate.refusal("it does not end with a whole file"));
        }
        self.files.seal(abilities)?;
        self.files.gate.finish()?;
        Ok(self.files.report)
    }
}

impl Files {
    fn begin(&mut self, beneath: &mut Beneath, abilities: &Abilities, entry: Entry) -> Result<()> {
        let report = &mut self.report;
        report.files += 1;
        report.bytes += entry.size;
        report.content = report.content.plus(Content::of(&entry));
        metadata::count_skipped(&entry, abilities, &mut report.skipped)?;
        let file = beneath.replace(&entry.path).writing(&entry.path)?;
        self.current = Some((entry, HollowFile::new(file)));
        Ok(())
    }

    fn seal(&mut self, abilities: &Abilities) -> Result<()> {
        if let Some((entry, mut file)) = self.current.take() {
            file.finish().writing(&entry.path)?;
            metadata::apply_open(file.file(), &entry, abilities)?;
        }
        Ok(())
    }
}

fn not_open() -> Error {
    Error::new(Code::InvalidInput, "no segment is open")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walls;
