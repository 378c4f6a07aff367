//! One piece of a large file, written at its offset; holes are left out, so they become holes again.
//!
//! Pieces of one file run side by side. Metadata come once, after all of them: a write strips capabilities.

use std::os::fd::OwnedFd;

use rustix::fs::ftruncate;

use crate::beneath::{write_all, AtPath, Beneath};
use crate::entry::{Content, Entry, Kind};
use crate::error::{show, Error, Result};
use crate::hollow::is_zero;
use crate::segment::Piece;
use crate::tar::padding_of;
use crate::tar::read::{Found, Scanner};

/// Takes the raw bytes of one piece in order.
pub struct PieceWriter {
    number: u32,
    piece: Piece,
    file: OwnedFd,
    scanner: Scanner,
    header_left: u64,
    entry: Option<Entry>,
    at: u64,
    end: u64,
    padding: u64,
    /// The next hole that may matter.
    hole: usize,
}

impl PieceWriter {
    /// The file is made, if no other piece has done that.
    pub fn open(beneath: &mut Beneath, number: u32, mut piece: Piece) -> Result<Self> {
        let end = piece.offset + piece.length; // below 2^64: each is below 2^63
        if end > piece.file_bytes || (piece.header_bytes > 0) != (piece.offset == 0) {
            return Err(Error::corrupt_segment(number, "its piece contradicts itself"));
        }
        let path = &piece.path.0;
        let file = beneath.open_shared(path).writing(path)?;
        piece.holes.sort_unstable();
        Ok(Self {
            number,
            file,
            scanner: Scanner::default(),
            header_left: piece.header_bytes,
            entry: None,
            at: piece.offset,
            end,
            padding: if end == piece.file_bytes { padding_of(end) } else { 0 },
            hole: 0,
            piece,
        })
    }

    /// Header first (of the first piece), then data, then padding (of the last).
    pub fn write(&mut self, raw: &[u8]) -> Result<()> {
        let mut data = raw;
        if self.header_left > 0 {
            data = self.take_header(data)?;
        }
        while !data.is_empty() && self.at < self.end {
            data = self.take_data(data)?;
        }
        if data.len() as u64 > self.padding || !is_zero(data) {
            return Err(self.corrupt("it holds more than its piece of the file"));
        }
        self.padding -= data.len() as u64;
        Ok(())
    }

    /// All bytes have come; the file gets its full length, which a hole at its end would not give it. Returns the
    /// content of its header.
    pub fn finish(self) -> Result<Content> {
        if self.header_left > 0 || self.at != self.end || self.padding > 0 {
            return Err(self.corrupt("it holds less than its piece of the file"));
        }
        if self.end == self.piece.file_bytes {
            ftruncate(&self.file, self.end).writing(&self.piece.path.0)?;
        }
        Ok(self.entry.as_ref().map(Content::of).unwrap_or_default())
    }

    fn take_header<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8]> {
        let (header, rest) = data.split_at(data.len().min(usize::try_from(self.header_left).unwrap_or(usize::MAX)));
        self.header_left -= header.len() as u64;
        let entry = &mut self.entry;
        self.scanner.feed(header, &mut |_, found| {
            if let Found::Entry(found) = found {
                *entry = Some(found);
            }
            Ok(())
        })?;
        if self.header_left == 0 {
            check_header(self.entry.as_ref(), &self.piece).map_err(|why| self.corrupt(&why))?;
        }
        Ok(rest)
    }

    /// Write up to the next hole, or pass over a hole's zeros.
    fn take_data<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8]> {
        let holes = &self.piece.holes;
        while holes.get(self.hole).is_some_and(|(start, length)| start + length <= self.at) {
            self.hole += 1;
        }
        let (start, length) = holes.get(self.hole).copied().unwrap_or((self.end, 0));
        let is_inside = start <= self.at;
        let until = if is_inside { start + length } else { start };
        let step = usize::try_from(until.min(self.end) - self.at).unwrap_or(usize::MAX);
        let (run, rest) = data.split_at(data.len().min(step));
        if !is_inside {
            write_all(&self.file, run, self.at).writing(&self.piece.path.0)?;
        } else if !is_zero(run) {
            let path = show(&self.piece.path.0);
            return Err(self.corrupt(&format!("there are data where the manifest sees a hole in {path}")));
        }
        self.at += run.len() as u64;
        Ok(rest)
    }

    fn corrupt(&self, why: &str) -> Error {
        Error::corrupt_segment(self.number, why)
    }
}

/// Why this is not the header of the piece's file.
pub fn check_header(entry: Option<&Entry>, piece: &Piece) -> std::result::Result<(), String> {
    let path = &piece.path.0;
    let is_its = |entry: &Entry| entry.path == *path && entry.kind == Kind::File && entry.size == piece.file_bytes;
    match entry {
        Some(entry) if is_its(entry) => Ok(()),
        Some(_) => Err(format!("its header is not that of {}", show(path))),
        None => Err(format!("it has no header of {}", show(path))),
    }
}
