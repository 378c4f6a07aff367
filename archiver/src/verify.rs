//! The proof: a finished archive is read back whole, and every byte of it is what was meant to be stored.
//!
//! Only that justifies the deletion of a volume. A HEAD proves nothing: stores have been seen to answer the right
//! checksum for bytes that had rotted, and the full size for objects that lacked parts.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};

use serde_json::{json, Value};

use crate::crc64::{self, Crc64};
use crate::entry::{digest_text, is_clean_path, Content, Entry, Kind};
use crate::error::{Code, Error, Result};
use crate::frames::write_frame;
use crate::gzip::MemberReader;
use crate::lanes::{lock, run_lanes, Lane};
use crate::segment::{Segment, SegmentKind};
use crate::statement::Statement;
use crate::tar::read::{Found, Scanner};

/// What a segment holds. `bytes` are those of its files' contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub content: Content,
    pub files: u64,
    pub bytes: u64,
}

/// Checks one segment as its stored bytes come in: their length and CRC-64, the gzip trailer, raw length and digest,
/// and its tar headers against what the walk saw. Errors are `ArchiveCorrupt` and name the segment.
pub struct SegmentCheck {
    number: u32,
    segment: Segment,
    is_last: bool,
    member: MemberReader,
    stored: Crc64,
    stored_bytes: u64,
    raw: Raw,
}

/// The raw side.
struct Raw {
    kind: SegmentKind,
    digest: blake3::Hasher,
    scanner: Scanner,
    scan_left: u64,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    entries: u64,
    first: Vec<u8>,
    last: Vec<u8>,
    checked: Checked,
}

impl SegmentCheck {
    /// `is_last`: it is the archive's last segment, which has the end-of-archive blocks.
    pub fn new(number: u32, segment: Segment, is_last: bool) -> Self {
        let raw = Raw {
            kind: segment.kind,
            digest: blake3::Hasher::new(),
            scanner: Scanner::new(),
            scan_left: segment.piece.as_ref().map_or(segment.raw_bytes, |piece| piece.header_bytes),
            seen: Seen::default(),
        };
        let member = MemberReader::new(Some(segment.raw_bytes));
        Self { number, segment, is_last, member, stored: Crc64::default(), stored_bytes: 0, raw }
    }

    /// Take the next stored bytes.
    pub fn feed(&mut self, block: &[u8]) -> Result<()> {
        self.stored.update(block);
        self.stored_bytes += block.len() as u64;
        let raw = &mut self.raw;
        self.member.feed_all(block, &mut |data| raw.take(data)).map_err(|error| error.in_segment(self.number))
    }

    /// All bytes are in: do they make the segment? Returns what it holds.
    pub fn finish(self) -> Result<Checked> {
        let number = self.number;
        self.check().map_err(|error| error.in_segment(number))
    }

    fn check(self) -> Result<Checked> {
        let Self { segment, raw, .. } = self;
        self.member.finish()?;
        if segment.piece.is_none() {
            raw.scanner.finish(self.is_last)?;
        }
        if !self.is_last && raw.scanner.end_offset().is_some() {
            return Err(corrupt("end-of-archive blocks before the end"));
        }
        let Seen { entries, first, last, mut checked } = raw.seen;
        same("stored length", &self.stored_bytes, &segment.stored_bytes)?;
        same("CRC-64", &crc64::text(self.stored.sum()), &crc64::text(segment.crc64))?;
        same("length", &self.member.raw_bytes(), &segment.raw_bytes)?;
        let stated = segment.digest.as_ref().map(digest_text).unwrap_or_default();
        same("digest", &digest_text(&raw.digest.finalize()), &stated)?;
        same("number of entries", &entries, &segment.entries)?;
        same("content fingerprint", &checked.content.text(), &segment.content.text())?;
        if entries > 0 && (first, last) != (segment.first.0, segment.last.0) {
            return Err(corrupt("its first and last path are not those stated"));
        }
        if let Some(piece) = segment.piece {
            checked.bytes = piece.length;
        }
        Ok(checked)
    }
}

impl Raw {
    /// What the last entry states about the archive.
    fn statement(&self) -> Result<Statement> {
        Statement::read(self.scanner.scan(), self.seen.last.is_empty())
    }

    fn take(&mut self, data: &[u8]) -> Result<()> {
        self.digest.update(data);
        if self.scan_left == 0 {
            return Ok(());
        }
        let step = usize::try_from(self.scan_left).map_or(data.len(), |left| left.min(data.len()));
        self.scan_left -= step as u64;
        let (kind, seen) = (self.kind, &mut self.seen);
        self.scanner.feed(&data[..step], &mut |_, found| match found {
            Found::Entry(entry) => seen.take(kind, entry),
            Found::Data(_) => Ok(()),
        })
    }
}

impl Seen {
    fn take(&mut self, kind: SegmentKind, entry: Entry) -> Result<()> {
        let is_file = entry.kind == Kind::File;
        if is_file == (kind == SegmentKind::Tail) {
            return Err(corrupt("files and what is none are mixed"));
        }
        if !entry.path.is_empty() && !is_clean_path(&entry.path) {
            return Err(corrupt("a name leads out of the volume"));
        }
        self.entries += 1;
        self.checked.files += u64::from(is_file);
        self.checked.bytes = self.checked.bytes.saturating_add(entry.size);
        self.checked.content = self.checked.content.plus(Content::of(&entry));
        if self.entries == 1 {
            self.first.clone_from(&entry.path);
        }
        self.last = entry.path;
        Ok(())
    }
}

/// Check the segments that frames bring, several at once, then that they are those that the tail states. That is
/// told last, or `null` where the archive's last segment was not among them.
pub fn verify(input: impl BufRead, mut output: impl Write + Send, threads: usize) -> Result<()> {
    let whole = Arc::new(Mutex::new(Whole::default()));
    run_lanes(input, &mut output, threads, || Ok(Box::new(Verifier { whole: whole.clone(), open: None })))?;
    let statement = lock(&whole).check()?;
    write_frame(&mut output, json!({ "statement": statement }), b"")
}

/// What is known of the segments that were read, and what the last one states of all.
#[derive(Default)]
struct Whole {
    segments: BTreeMap<u32, (blake3::Hash, Content)>,
    last: Option<(u32, Statement)>,
}

impl Whole {
    fn check(&self) -> Result<Value> {
        let Some((last, stated)) = &self.last else { return Ok(Value::Null) };
        let (mut digests, mut content) = (blake3::Hasher::new(), Content::default());
        for (number, (digest, share)) in &self.segments {
            content = content.plus(*share);
            if number != last {
                digests.update(digest.as_bytes());
            }
        }
        stated.check(self.segments.len() as u64 - 1, &digests, content)?;
        Ok(stated.to_compare())
    }
}

/// A lane: one segment after the other.
struct Verifier {
    whole: Arc<Mutex<Whole>>,
    open: Option<SegmentCheck>,
}

impl Lane for Verifier {
    fn open(&mut self, number: u32, segment: Segment, is_last: bool) -> Result<()> {
        self.open = Some(SegmentCheck::new(number, segment, is_last));
        Ok(())
    }

    fn data(&mut self, payload: &[u8]) -> Result<()> {
        self.open.as_mut().ok_or_else(not_open)?.feed(payload)
    }

    fn close(&mut self) -> Result<Value> {
        let check = self.open.take().ok_or_else(not_open)?;
        let (number, digest) = (check.number, check.raw.digest.finalize());
        let stated = check.is_last.then(|| check.raw.statement());
        let checked = check.finish()?;
        let last = stated.transpose()?;
        let mut whole = lock(&self.whole);
        whole.segments.insert(number, (digest, checked.content));
        if let Some(stated) = last {
            whole.last = Some((number, stated));
        }
        Ok(json!({
            "content": checked.content.text(),
            "files": checked.files,
            "bytes": checked.bytes,
            "skipped": {},
        }))
    }
}

fn same<T: PartialEq + Display>(what: &str, found: &T, stated: &T) -> Result<()> {
    if found == stated {
        return Ok(());
    }
    Err(corrupt(format!("its {what} is {found}, not {stated}")))
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(Code::ArchiveCorrupt, what)
}

fn not_open() -> Error {
    Error::new(Code::InvalidInput, "no segment is open")
}

#[cfg(test)]
mod tests;
