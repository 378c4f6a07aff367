//! A manifest from a finished archive alone, for one whose manifest was lost.
//!
//! The archive is read once, whole, and checked against the statement in its own tail. A lost or foreign member cannot
//! go unnoticed: the statement holds a digest over the digests of all segments. Holes of sparse files are not known any
//! more; they come back as zeros.

use std::cmp::Ordering;
use std::io::Write;

use serde_json::{json, Value};

use crate::crc64::Crc64;
use crate::entry::{compare_paths, is_clean_path, Content, Entry, Kind};
use crate::error::{show, Code, Error, Result};
use crate::frames::write_frame;
use crate::gzip::MemberReader;
use crate::lanes::Lane;
use crate::segment::{Path64, Piece, Segment, SegmentKind, Totals};
use crate::statement::Statement;
use crate::tar::padding_of;
use crate::tar::read::{Found, Scanner};

/// As many as a manifest may have.
const MAX_SEGMENTS: u32 = 10_000;
/// Longer names make a run of their own.
const MAX_PATH_BYTES: usize = 4095;
const MOST: u64 = i64::MAX as u64;

/// What an archive says about itself, and was found to be true; what it holds; and how many raw bytes it has.
#[derive(Debug)]
pub struct Rebuilt {
    pub statement: Value,
    pub totals: Totals,
    pub content: Content,
    pub raw_bytes: u64,
}

/// Takes the stored bytes of a whole archive apart into segments.
#[derive(Default)]
pub struct Rebuild {
    open: Option<Open>,
    count: u32,
    stored_bytes: u64,
    tar: Tar,
    runs: Runs,
    /// Over the digests of all segments but the last one.
    digests: blake3::Hasher,
    last: Option<Last>,
}

/// Of the last segment so far.
struct Last {
    digest: blake3::Hash,
    /// Of its raw bytes before the header of its last entry.
    before: blake3::Hasher,
}

/// The raw side of the whole archive.
#[derive(Default)]
struct Tar {
    scanner: Scanner,
    raw_bytes: u64,
    file: Option<Entry>,
    file_done: u64,
    last_path: Option<Vec<u8>>,
    content: Content,
    totals: Totals,
}

/// A member that is being read. `inside`: it began in the middle of a file, of which `piece_offset` bytes were there.
struct Open {
    member: MemberReader,
    inside: bool,
    piece_offset: u64,
    crc64: Crc64,
    seen: Seen,
}

/// What was seen in a member.
struct Seen {
    entries: u64,
    files: u64,
    header_bytes: u64,
    first: Vec<u8>,
    last: Vec<u8>,
    content: Content,
    /// Of its raw bytes up to `hashed`, which is counted from the archive's begin.
    digest: blake3::Hasher,
    hashed: u64,
    /// As it was where a header began that is not read to its end.
    at_header: Option<blake3::Hasher>,
    /// As it was where the header of the last entry began.
    before: blake3::Hasher,
}

/// The last names of the runs of files: with plain paths, and with long ones. Once large files have begun, no other
/// data follows.
#[derive(Default)]
struct Runs {
    last: [Vec<u8>; 2],
    in_large: bool,
}

impl Rebuild {
    /// Take the next stored bytes; segments that are complete go to `tell`.
    pub fn feed(&mut self, mut block: &[u8], tell: &mut dyn FnMut(Segment) -> Result<()>) -> Result<()> {
        while !block.is_empty() {
            let number = self.count + 1;
            if number > MAX_SEGMENTS {
                return Err(corrupt("the archive has more members than any of ours"));
            }
            let mut open = self.open.take().unwrap_or_else(|| Open::new(&self.tar));
            let (seen, tar) = (&mut open.seen, &mut self.tar);
            let used =
                open.member.feed(block, &mut |raw| tar.take(raw, seen)).map_err(|error| error.in_segment(number))?;
            open.crc64.update(&block[..used]);
            block = &block[used..];
            if open.member.is_finished() {
                tell(self.close(open).map_err(|error| error.in_segment(number))?)?;
            } else {
                self.open = Some(open);
            }
        }
        Ok(())
    }

    /// All bytes are in: is it what its tail states?
    pub fn finish(self) -> Result<Rebuilt> {
        let Self { open: None, last: Some(last), tar, .. } = self else {
            return Err(corrupt("the archive ends within a segment"));
        };
        tar.scanner.finish(true)?;
        let stated = Statement::read(tar.scanner.scan(), tar.last_path == Some(Vec::new()))?;
        stated.check_last(&last.before)?;
        stated.check(u64::from(self.count) - 1, &self.digests, tar.content)?;
        stated.check_counts(&tar.totals)?;
        Ok(Rebuilt { statement: stated.all, totals: tar.totals, content: tar.content, raw_bytes: tar.raw_bytes })
    }

    /// The segment that a finished member is.
    fn close(&mut self, done: Open) -> Result<Segment> {
        let seen = done.seen;
        let raw_bytes = done.member.raw_bytes();
        let digest = seen.digest.finalize();
        let mut segment = Segment {
            kind: if seen.files > 0 { SegmentKind::Files } else { SegmentKind::Tail },
            first: Path64(seen.first),
            last: Path64(seen.last),
            entries: seen.entries,
            raw_bytes,
            digest: Some(digest),
            content: seen.content,
            offset: self.stored_bytes,
            stored_bytes: done.member.stored_bytes(),
            crc64: done.crc64.sum(),
            piece: None,
        };
        let is_torn = done.inside || (seen.files > 0 && !self.tar.scanner.between_entries());
        if is_torn && seen.entries > u64::from(!done.inside) {
            return Err(corrupt("a piece of a file and other entries in one gzip member"));
        }
        if !is_torn && (seen.entries == 0 || (seen.files != 0 && seen.files != seen.entries)) {
            return Err(corrupt("files and what is none are mixed"));
        }
        if is_torn || (seen.files == 1 && self.runs.has_no_room_for(&segment.first.0)) {
            let file = self.tar.file.as_ref().ok_or_else(|| corrupt("a piece of no file"))?;
            let header_bytes = if done.inside { 0 } else { seen.header_bytes };
            let padding = if self.tar.file_done == file.size { padding_of(file.size) } else { 0 };
            let path = Path64(file.path.clone());
            segment.kind = SegmentKind::Large;
            (segment.first, segment.last) = (path.clone(), path.clone());
            segment.piece = Some(Piece {
                path,
                offset: done.piece_offset,
                length: raw_bytes
                    .checked_sub(header_bytes + padding)
                    .ok_or_else(|| corrupt("it ends within the padding of a file"))?,
                file_bytes: file.size,
                header_bytes,
                holes: Vec::new(),
            });
        }
        self.runs.add(&segment);
        self.count += 1;
        self.stored_bytes += segment.stored_bytes;
        if let Some(earlier) = self.last.replace(Last { digest, before: seen.before }) {
            self.digests.update(earlier.digest.as_bytes());
        }
        Ok(segment)
    }
}

impl Open {
    fn new(tar: &Tar) -> Self {
        let inside = !tar.scanner.between_entries();
        let seen = Seen {
            entries: 0,
            files: 0,
            header_bytes: 0,
            first: Vec::new(),
            last: Vec::new(),
            content: Content::default(),
            digest: blake3::Hasher::new(),
            hashed: tar.raw_bytes,
            at_header: None,
            before: blake3::Hasher::new(),
        };
        let piece_offset = if inside { tar.file_done } else { 0 };
        Self { member: MemberReader::new(None), inside, piece_offset, crc64: Crc64::default(), seen }
    }
}

impl Tar {
    /// The next raw bytes, which are of the member of which `seen` is kept.
    fn take(&mut self, raw: &[u8], seen: &mut Seen) -> Result<()> {
        let base = self.raw_bytes;
        self.raw_bytes += raw.len() as u64;
        let Self { scanner, file, file_done, last_path, content, totals, .. } = self;
        scanner.feed(raw, &mut |scan, found| {
            let entry = match found {
                Found::Entry(entry) => entry,
                Found::Data(data) => {
                    *file_done += data.len() as u64;
                    return Ok(());
                }
            };
            if !entry.path.is_empty() && !is_clean_path(&entry.path) {
                return Err(corrupt(format!("the archive holds the unsafe name {}", show(&entry.path))));
            }
            seen.header_begins(scan.entry_offset, raw, base);
            seen.before = seen.at_header.take().ok_or_else(|| corrupt("a header begins in the member before"))?;
            seen.header_bytes = scan.data_offset - scan.entry_offset;
            let share = seen.take(&entry);
            *content = content.plus(share);
            *last_path = Some(entry.path.clone());
            count(totals, &entry)?;
            *file_done = 0;
            *file = Some(entry);
            Ok(())
        })?;
        if let Some(start) = scanner.header_start() {
            seen.header_begins(start, raw, base);
        }
        seen.hash_to(self.raw_bytes, raw, base);
        Ok(())
    }
}

impl Seen {
    /// Returns the entry's share in the content.
    fn take(&mut self, entry: &Entry) -> Content {
        if self.entries == 0 {
            self.first.clone_from(&entry.path);
        }
        self.last.clone_from(&entry.path);
        self.entries += 1;
        self.files += u64::from(entry.kind == Kind::File);
        let share = Content::of(entry);
        self.content = self.content.plus(share);
        share
    }

    /// Keep the digest of what is before `start`, unless that was in an earlier piece: then it was kept there.
    fn header_begins(&mut self, start: u64, raw: &[u8], base: u64) {
        if start >= self.hashed {
            self.hash_to(start, raw, base);
            self.at_header = Some(self.digest.clone());
        }
    }

    /// `raw` begins at `base`.
    fn hash_to(&mut self, end: u64, raw: &[u8], base: u64) {
        self.digest.update(&raw[(self.hashed - base) as usize..(end - base) as usize]);
        self.hashed = end;
    }
}

impl Runs {
    /// Whether a file that has a member for itself must be a large one. If it need not, it may still have been: nothing
    /// in the archive tells, and to readers it is the same. But the ranges of names of `files` segments do not overlap,
    /// so one that stands behind its run is none of it.
    fn has_no_room_for(&self, path: &[u8]) -> bool {
        let last = &self.last[Self::of(path)];
        self.in_large || (!last.is_empty() && compare_paths(path, last) != Ordering::Greater)
    }

    fn add(&mut self, segment: &Segment) {
        match segment.kind {
            SegmentKind::Files => self.last[Self::of(&segment.first.0)].clone_from(&segment.last.0),
            SegmentKind::Large => self.in_large = true,
            SegmentKind::Tail => {}
        }
    }

    fn of(path: &[u8]) -> usize {
        usize::from(path.len() > MAX_PATH_BYTES)
    }
}

fn count(totals: &mut Totals, entry: &Entry) -> Result<()> {
    let counter = match entry.kind {
        Kind::File => &mut totals.files,
        Kind::Directory => &mut totals.directories,
        Kind::Symlink => &mut totals.symlinks,
        Kind::HardLink => &mut totals.hard_links,
        Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket => &mut totals.specials,
    };
    *counter += 1;
    totals.entries += 1;
    totals.file_bytes = totals
        .file_bytes
        .checked_add(entry.size)
        .filter(|sum| *sum <= MOST)
        .ok_or_else(|| corrupt("its files are said to have more bytes than anybody can count"))?;
    Ok(())
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(Code::ArchiveCorrupt, what)
}

/// An archive as frames bring it: stream 0. Segments are told as they are complete, and proven by the statement that
/// comes last.
pub struct Rebuilder<W: Write + Send> {
    rebuild: Option<Rebuild>,
    output: W,
}

impl<W: Write + Send> Rebuilder<W> {
    /// Telling to `output`.
    pub fn new(output: W) -> Self {
        Self { rebuild: Some(Rebuild::default()), output }
    }
}

impl<W: Write + Send> Lane for Rebuilder<W> {
    fn open(&mut self, _number: u32, _segment: Segment, _is_last: bool) -> Result<()> {
        Err(Error::new(Code::InvalidInput, "an archive is one stream, without segments"))
    }

    fn data(&mut self, payload: &[u8]) -> Result<()> {
        let Some(rebuild) = &mut self.rebuild else { return Ok(()) };
        let output = &mut self.output;
        rebuild.feed(payload, &mut |segment| write_frame(output, json!({"segment": segment.to_json()}), b""))
    }

    fn close(&mut self) -> Result<Value> {
        if let Some(rebuild) = self.rebuild.take() {
            let rebuilt = rebuild.finish()?;
            let line = json!({"statement": rebuilt.statement, "raw_bytes": rebuilt.raw_bytes});
            write_frame(&mut self.output, line, b"")?;
        }
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests;
