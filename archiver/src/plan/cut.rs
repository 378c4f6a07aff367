//! How a tree is cut into segments: limits, the cuts, and what they weigh. Same files, same cuts.
//!
//! Data segments come in three runs, each in archive order: files, files whose path no plain tool can open, and pieces
//! of large files. Large files stand behind the others so that they do not tear runs of small ones apart, which would
//! leave many segments too short.

use serde::{Deserialize, Serialize};

use super::spool::Spooled;
use super::table::Planned;
use crate::entry::{Content, Entry, Kind};
use crate::error::{show, Code, Error, Result};
use crate::segment::{Path64, Piece, Segment, SegmentKind};
use crate::sparse::{cut_file, weight_of, Range};
use crate::tar::{padding_of, write::header, BLOCK, MAX_EXTENSION_BYTES};

pub const MIB: u64 = 1 << 20;
/// Longer names cannot be passed to the kernel whole, so plain tools cannot make them.
const MAX_PATH_BYTES: usize = 4095;

/// How a tree is cut. The same limits are needed to come to the same plan.
///
/// `segment_bytes`: raw bytes that a segment aims at; it ends between half and 5/4 of that. Larger trees get larger
/// segments, up to `max_segment_bytes`, so that there are at most `max_segments` with data and `max_tail_segments`
/// without; beyond is `ArchiveTooLarge`. Files of at least `large_from` (default: 3/4 of a segment) stand alone.
/// `allow_devices`: all go into the archive, instead of whiteouts alone while others are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub segment_bytes: u64,
    /// Raw. One such segment, if it cannot be compressed, still fits the memory that is there for packing.
    pub max_segment_bytes: u64,
    pub max_segments: usize,
    pub max_tail_segments: usize,
    pub large_from: Option<u64>,
    pub allow_devices: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: 4 * MIB,
            max_segment_bytes: 120 * MIB,
            max_segments: 9_000,
            max_tail_segments: 1_000,
            large_from: None,
            allow_devices: false,
        }
    }
}

/// The three runs of data segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Near,
    Far,
    Large,
}

impl Limits {
    /// Which run of segments a file belongs to.
    pub fn run_of(&self, entry: &Entry) -> Run {
        let large_from = self.large_from.unwrap_or(self.segment_bytes / 4 * 3 + self.segment_bytes % 4 * 3 / 4);
        if entry.size >= large_from {
            Run::Large
        } else if is_far(entry) {
            Run::Far
        } else {
            Run::Near
        }
    }

    /// `goal` and what is tried after it, ending with the most.
    pub fn next_goal(&self, goal: u64) -> Option<u64> {
        let next = goal.saturating_add(goal / 4).max(goal + 1);
        (goal < self.max_segment_bytes).then(|| next.min(self.max_segment_bytes))
    }

    /// `ArchiveTooLarge` for a tree that takes about so many bytes.
    pub fn too_large(&self, weight: u128) -> Error {
        let largest = (self.max_segments as u64).saturating_mul(self.max_segment_bytes);
        let message = format!(
            "the volume holds about {weight} bytes; one archive takes {} segments of at most {} bytes, {largest} in all",
            self.max_segments, self.max_segment_bytes
        );
        let weight = u64::try_from(weight).unwrap_or(u64::MAX);
        Error::new(Code::ArchiveTooLarge, message).detail("bytes", weight).detail("limit_bytes", largest)
    }
}

/// True for a file whose path no plain tool can open.
pub fn is_far(entry: &Entry) -> bool {
    entry.kind == Kind::File && entry.path.len() > MAX_PATH_BYTES
}

/// About how many raw bytes an entry takes; deterministic. `Unsupported` for attributes beyond any header.
pub fn raw_size(entry: &Entry) -> Result<u64> {
    let mut extension = 64 + (entry.path.len() + entry.target.len()) as u64;
    if !entry.xattrs.is_empty() {
        extension += entry.xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64 + 32).sum::<u64>();
        if extension > MAX_EXTENSION_BYTES {
            let what = "more extended attributes than an archive can carry";
            let message = format!("{}: {what}", show(&entry.path));
            return Err(Error::new(Code::Unsupported, message).detail("path", show(&entry.path)));
        }
    }
    Ok(2 * BLOCK + extension + padding_of(extension) + entry.size + padding_of(entry.size))
}

/// Cuts files, given in archive order, into the three runs of segments.
pub struct Cutter {
    limits: Limits,
    /// Of the near and of the far run: the segment that still takes files.
    open: [Option<Planned>; 2],
    runs: [Vec<Planned>; 3],
    /// There are more than are allowed, so none are kept.
    is_overfull: bool,
}

impl Cutter {
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: [None, None], runs: Default::default(), is_overfull: false }
    }

    /// The next file, which stands at `spooled.at`, before `end`, and takes `raw` bytes. False: it is large, and for
    /// `add_large` when all others were added.
    pub fn add(&mut self, at: u64, end: u64, entry: &Entry, content: &Content, raw: u64) -> bool {
        let run = self.limits.run_of(entry);
        if run == Run::Large {
            return false;
        }
        let goal = self.limits.segment_bytes;
        let slot = &mut self.open[run as usize];
        if slot.as_ref().is_some_and(|open| open.weight.saturating_add(raw) > goal && open.weight >= goal / 2) {
            let done = slot.take();
            self.runs[run as usize].extend(done);
            self.bound();
        }
        let open = self.open[run as usize].get_or_insert_with(|| {
            let first = Path64(entry.path.clone());
            let segment = Segment { kind: SegmentKind::Files, first, ..Segment::default() };
            Planned { start: at, is_far: run == Run::Far, segment, ..Planned::default() }
        });
        open.segment.last.0.clear();
        open.segment.last.0.extend_from_slice(&entry.path);
        open.end = end;
        open.weight = open.weight.saturating_add(raw);
        open.segment.entries += 1;
        open.segment.content = open.segment.content.plus(*content);
        true
    }

    /// A large file. Its pieces bear no holes yet: `holes_at` says where these are written down.
    pub fn add_large(&mut self, spooled: &Spooled, end: u64, holes: &[Range], holes_at: Option<u64>) -> Result<()> {
        let Spooled { at, entry, content } = spooled;
        let room = self.limits.max_segments.saturating_sub(self.count());
        let Some(cuts) = cut_file(entry.size, holes, self.limits.segment_bytes, room) else {
            self.is_overfull = true;
            self.bound();
            return Ok(());
        };
        for cut in cuts {
            let is_first = cut.offset == 0;
            let is_last = cut.offset + cut.length == entry.size;
            let header_bytes = if is_first { header(entry, None)?.len() as u64 } else { 0 };
            let path = Path64(entry.path.clone());
            let piece = Piece {
                path: path.clone(),
                offset: cut.offset,
                length: cut.length,
                file_bytes: entry.size,
                header_bytes,
                holes: Vec::new(),
            };
            let segment = Segment {
                kind: SegmentKind::Large,
                first: path.clone(),
                last: path,
                entries: u64::from(is_first),
                raw_bytes: header_bytes + cut.length + if is_last { padding_of(entry.size) } else { 0 },
                content: if is_first { *content } else { Content::default() },
                piece: Some(piece),
                ..Segment::default()
            };
            let planned = Planned { start: *at, end, weight: cut.weight, segment, holes_at, ..Planned::default() };
            self.runs[Run::Large as usize].push(planned);
        }
        Ok(())
    }

    /// All segments, numbered; `None` where there are more than are allowed.
    pub fn finish(mut self) -> Option<Vec<Planned>> {
        for run in [Run::Near, Run::Far] {
            let done = self.open[run as usize].take();
            self.runs[run as usize].extend(done);
        }
        self.bound();
        if self.is_overfull {
            return None;
        }
        let mut all: Vec<_> = self.runs.into_iter().flatten().collect();
        for (number, planned) in (1..).zip(&mut all) {
            planned.number = number;
        }
        Some(all)
    }

    fn count(&self) -> usize {
        self.runs.iter().map(Vec::len).sum::<usize>() + self.open.iter().flatten().count()
    }

    fn bound(&mut self) {
        if self.is_overfull || self.runs.iter().map(Vec::len).sum::<usize>() > self.limits.max_segments {
            self.is_overfull = true;
            self.runs = Default::default();
        }
    }
}

/// What large files weigh less than their size, for the weight of a whole tree.
pub fn relief(size: u64, holes: &[Range]) -> u64 {
    size - weight_of(size, holes)
}
