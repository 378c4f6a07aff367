//! The tar stream inside a foreign gzip file: of one member or many, bounded, and complete or an error.

use crate::error::{Code, Error, Result};
use crate::gzip::MemberReader;
use crate::tar::dialects::{corrupt, Source};

/// Stored bytes that are inflated at a time: a thousand times as many may come out, and they are held.
const SLICE: usize = 4 << 10;

/// How many raw bytes may come, and which error says that more came.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub limit: u64,
    pub code: Code,
}

/// The tar stream inside a gzip stream. `chunks` gives the next stored bytes, `None` at their end.
///
/// Ends that come early are `ArchiveCorrupt`.
pub struct TarStream<C> {
    members: Members<C>,
    bound: Bound,
    raw: Vec<u8>,
    /// Of `raw`, what was taken.
    at: usize,
    raw_bytes: u64,
}

impl<C: FnMut() -> Result<Option<Vec<u8>>>> TarStream<C> {
    /// At its start.
    pub fn new(chunks: C, bound: Bound) -> Self {
        let members = Members { chunks, chunk: Vec::new(), at: 0, stage: Stage::Begin };
        Self { members, bound, raw: Vec::new(), at: 0, raw_bytes: 0 }
    }

    /// Hand on the next `length` bytes, in pieces.
    pub fn pass(&mut self, mut length: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while length > 0 {
            if self.at == self.raw.len() && !self.more()? {
                return Err(corrupt("the archive ends early: it has no end-of-archive blocks"));
            }
            let left = &self.raw[self.at..];
            let piece = &left[..usize::try_from(length).map_or(left.len(), |length| length.min(left.len()))];
            sink(piece)?;
            self.at += piece.len();
            length -= piece.len() as u64;
        }
        Ok(())
    }

    /// Pass over bytes.
    pub fn skip(&mut self, length: u64) -> Result<()> {
        self.pass(length, &mut |_| Ok(()))
    }

    /// Behind the end-of-archive blocks only zeros may come, up to a sound end of the gzip stream.
    pub fn end(&mut self) -> Result<()> {
        loop {
            if self.raw[self.at..].iter().any(|byte| *byte != 0) {
                return Err(corrupt("bytes come after the end of the archive: two archives in one file, or damage"));
            }
            if !self.more()? {
                return Ok(());
            }
        }
    }

    /// The next raw bytes; false at the end of them.
    fn more(&mut self) -> Result<bool> {
        self.raw.clear();
        self.at = 0;
        let (raw, raw_bytes, bound) = (&mut self.raw, &mut self.raw_bytes, self.bound);
        self.members.step(&mut |piece| {
            *raw_bytes += piece.len() as u64;
            if *raw_bytes > bound.limit {
                return Err(Error::new(bound.code, format!("the archive expands to more than {} bytes", bound.limit)));
            }
            raw.extend_from_slice(piece);
            Ok(())
        })
    }
}

impl<C: FnMut() -> Result<Option<Vec<u8>>>> Source for TarStream<C> {
    /// For headers.
    fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut taken = Vec::new();
        self.pass(length, &mut |piece| {
            taken.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(taken)
    }
}

/// All members, one behind the other; zeros may fill up the end.
struct Members<C> {
    chunks: C,
    chunk: Vec<u8>,
    /// Of `chunk`, what was taken.
    at: usize,
    stage: Stage,
}

enum Stage {
    /// No member has come: there must be one.
    Begin,
    Member(Box<MemberReader>),
    /// Behind a member.
    Between,
    /// A zero stood between: only zeros may follow. Whether a member would, must not hang on where chunks begin.
    Filling,
}

impl<C: FnMut() -> Result<Option<Vec<u8>>>> Members<C> {
    /// Inflate the next stored bytes. False at a sound end.
    fn step(&mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        while self.at == self.chunk.len() {
            let Some(chunk) = (self.chunks)()? else { return self.end() };
            (self.chunk, self.at) = (chunk, 0);
        }
        let rest = &self.chunk[self.at..];
        let slice = &rest[..rest.len().min(SLICE)];
        if matches!(self.stage, Stage::Between | Stage::Filling) && slice[0] == 0 {
            if slice.iter().any(|byte| *byte != 0) {
                return Err(corrupt("bytes come after the end of the gzip stream"));
            }
            self.stage = Stage::Filling;
            self.at += slice.len();
            return Ok(true);
        }
        match &mut self.stage {
            Stage::Filling => return Err(corrupt("bytes come after the end of the gzip stream")),
            Stage::Begin | Stage::Between => self.stage = Stage::Member(Box::new(MemberReader::new(None))),
            Stage::Member(_) => {}
        }
        if let Stage::Member(reader) = &mut self.stage {
            self.at += reader.feed(slice, sink)?;
            if reader.is_finished() {
                self.stage = Stage::Between;
            }
        }
        Ok(true)
    }

    fn end(&self) -> Result<bool> {
        match self.stage {
            Stage::Between | Stage::Filling => Ok(false),
            Stage::Begin => Err(corrupt("the archive is empty")),
            Stage::Member(_) => Err(corrupt("the archive ends early, within a gzip member")),
        }
    }
}

#[cfg(test)]
mod tests;
