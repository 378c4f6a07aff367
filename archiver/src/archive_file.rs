//! An archive as one file: proven whole, then read segment by segment, with no manifest and nobody to feed it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use crate::entry::Content;
use crate::error::{show, Code, Error, Result};
use crate::intake::Intake;
use crate::lanes::{lock, Lane};
use crate::rebuild::Rebuild;
use crate::segment::{Segment, SegmentKind, Totals};
use crate::tar::read::{Found, Scanner};

const CHUNK_BYTES: usize = 1 << 17;

/// Every byte of it has been read once, and it is what its tail states. It may not change after that: what is read a
/// second time is checked again, segment by segment.
pub struct ArchiveFile {
    file: File,
    segments: Vec<Segment>,
    pub totals: Totals,
    pub content: Content,
    /// Where it comes from, as it says itself: anybody could have written that.
    pub origin: Value,
}

/// Open it. To be done before the walls stand, which leave no way to it.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::InvalidInput, format!("{}: {error}", show(path.as_os_str().as_encoded_bytes())))
}

impl ArchiveFile {
    /// Read all of it. `ArchiveCorrupt` unless it is whole and one of ours.
    pub fn prove(file: File, path: &Path) -> Result<Self> {
        let (mut rebuild, mut segments) = (Rebuild::default(), Vec::new());
        let (mut chunk, mut at) = (vec![0; CHUNK_BYTES], 0);
        let strange = |error: Error| match (error.code, &error.hint) {
            (Code::ArchiveCorrupt, None) => error.hint("If another program made it, `tar -xzf` reads it."),
            _ => error,
        };
        loop {
            let count = match file.read_at(&mut chunk, at) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(path, &error)),
            };
            at += count as u64;
            let mut keep = |segment| {
                segments.push(segment);
                Ok(())
            };
            rebuild.feed(&chunk[..count], &mut keep).map_err(strange)?;
        }
        let mut proven = rebuild.finish().map_err(strange)?;
        let origin = proven.statement["origin"].take();
        Ok(Self { file, segments, totals: proven.totals, content: proven.content, origin })
    }

    /// Numbers of the segments with files' data.
    pub fn data(&self) -> Range<u32> {
        1..self.tail().start
    }

    /// Numbers of the tail's segments.
    pub fn tail(&self) -> Range<u32> {
        let data = self.segments.iter().take_while(|segment| segment.kind != SegmentKind::Tail).count();
        data as u32 + 1..self.segments.len() as u32 + 1
    }

    /// By its number, which counts from 1.
    pub fn segment(&self, number: u32) -> &Segment {
        &self.segments[number as usize - 1]
    }

    /// Bytes of the whole file.
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.stored_bytes).sum()
    }

    /// What these consecutive segments hold, in order. Their bytes are proven once more, each segment's at its end.
    pub fn scan(&self, numbers: Range<u32>, take: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let mut scanner = Scanner::new();
        for number in numbers {
            let mut intake = Intake::new(number, self.segment(number).clone());
            self.each_chunk(number, &mut |stored| {
                intake.feed(stored, &mut |raw| scanner.feed(raw, &mut |_, found| take(found)))
            })?;
            intake.finish()?;
        }
        Ok(())
    }

    /// One segment to a lane; returns what that answers.
    pub fn feed(&self, number: u32, lane: &mut dyn Lane) -> Result<Value> {
        lane.open(number, self.segment(number).clone(), number as usize == self.segments.len())?;
        self.each_chunk(number, &mut |stored| lane.data(stored))?;
        lane.close()
    }

    /// These segments to lanes, so many at once; `answered` gets what each is answered. The first error ends it.
    pub fn feed_lanes(
        &self,
        numbers: Range<u32>,
        threads: usize,
        make: impl Fn() -> Result<Box<dyn Lane>> + Sync,
        answered: impl Fn(Value) + Sync,
    ) -> Result<()> {
        let (next, failed) = (AtomicU32::new(numbers.start), Mutex::new(None));
        let work = || -> Result<()> {
            let mut lane = make()?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end || lock(&failed).is_some() {
                    return Ok(());
                }
                answered(self.feed(number, &mut *lane)?);
            }
        };
        let run = || {
            if let Err(error) = work() {
                lock(&failed).get_or_insert(error);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads.max(1) {
                scope.spawn(run);
            }
            run();
        });
        failed.into_inner().ok().flatten().map_or(Ok(()), Err)
    }

    fn each_chunk(&self, number: u32, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let segment = self.segment(number);
        let (mut at, end) = (segment.offset, segment.offset + segment.stored_bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        while at < end {
            let size = chunk.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            self.file.read_exact_at(&mut chunk[..size], at).map_err(|error| {
                Error::new(Code::ArchiveCorrupt, format!("segment {number} cannot be read again: {error}"))
            })?;
            take(&chunk[..size])?;
            at += size as u64;
        }
        Ok(())
    }
}
