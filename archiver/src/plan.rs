//! The plan of an archive: one walk, cut into segments, the same for the same tree wherever and whenever it is made.
//!
//! It stands in a directory: spools with the entries of files, of links and specials, and of directories; the table of
//! segments; and a summary. A mover that takes over plans again and finds the same cuts; if it does not
//! (`Summary::cut_digest`), the upload must begin anew.

pub mod cut;
mod holes;
pub mod spool;
mod survey;
pub mod table;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::entry::{digest_text, Content};
use crate::error::{Code, Error, Result};
use crate::reading::VolumeReader;
use crate::segment::{Path64, Segment, SegmentKind, Totals};
use crate::sparse::find_holes;
use cut::{raw_size, relief, Cutter, Limits, Run};
use holes::Holes;
use spool::{broken, SpoolReader, Spooled};
use survey::{survey, Survey};
use table::{json, Planned, Table, TableWriter};

pub use survey::Omissions;

const FILES: &str = "files";
const LINKS: &str = "links";
const DIRECTORIES: &str = "directories";
const TABLE: &str = "table";
const SUMMARY: &str = "plan.json";

/// A plan in short. `raw_bytes` is an estimate. `cut_digest`: equal for plans with the same segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub change_fingerprint: String,
    #[serde(with = "crate::segment::content")]
    pub content_fingerprint: Content,
    pub cut_digest: String,
    pub entries: u64,
    pub files: u64,
    pub file_bytes: u64,
    pub raw_bytes: u64,
    pub data_segments: usize,
    pub totals: Totals,
}

/// What is to be archived, and how it is cut. `tail_bytes`: raw bytes of one segment of the tail.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    directory: PathBuf,
    pub limits: Limits,
    pub tail_bytes: u64,
    pub summary: Summary,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    limits: Limits,
    tail_bytes: u64,
    summary: Summary,
}

impl Plan {
    /// One that `scan` has left in a directory.
    pub fn open(directory: &Path) -> Result<Self> {
        let text = std::fs::read(directory.join(SUMMARY)).map_err(|error| broken(&error))?;
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| {
            Error::new(Code::MoverFailed, format!("the plan's directory holds no summary: {error}"))
        })?;
        let Stored { limits, tail_bytes, summary } = stored;
        Ok(Self { directory: directory.to_owned(), limits, tail_bytes, summary })
    }

    /// The segments from a number on: those with data, then those of the tail.
    pub fn segments(&self, from: u32) -> Result<Table> {
        Table::open(&self.directory.join(TABLE), from)
    }

    /// All planned files, from which `entries` reads.
    pub fn files(&self) -> Result<SpoolReader> {
        SpoolReader::open(&self.directory.join(FILES))
    }

    /// The entries of a data segment, in order.
    pub fn entries<'a>(
        &'a self,
        files: &'a mut SpoolReader,
        planned: &'a Planned,
    ) -> Result<impl Iterator<Item = Result<Spooled>> + 'a> {
        files.move_to(planned.start, planned.end)?;
        let run = match (planned.segment.kind, planned.is_far) {
            (SegmentKind::Large, _) => None,
            (_, true) => Some(Run::Far),
            (_, false) => Some(Run::Near),
        };
        let belongs = move |spooled: &Spooled| run.is_none_or(|run| self.limits.run_of(&spooled.entry) == run);
        Ok(files.filter(move |spooled| spooled.as_ref().map_or(true, belongs)))
    }

    /// The entries that are no files' and no directories', in archive order.
    pub fn links(&self) -> Result<SpoolReader> {
        SpoolReader::open(&self.directory.join(LINKS))
    }

    /// Directories, those inside before the outer.
    pub fn directories(&self) -> Result<SpoolReader> {
        SpoolReader::open(&self.directory.join(DIRECTORIES))
    }

    /// The entries of the tail: links and specials, then directories; the root is the last.
    ///
    /// A plain reader that is not root can then set the modes of directories as they come.
    pub fn tail_entries(&self) -> Result<impl Iterator<Item = Result<Spooled>>> {
        Ok(self.links()?.chain(self.directories()?))
    }
}

/// Tells where a segment of the tail ends that may hold `goal` raw bytes.
pub struct TailCuts {
    goal: u64,
    weight: u64,
}

impl TailCuts {
    pub fn new(goal: u64) -> Self {
        Self { goal, weight: 0 }
    }

    /// The tail's next entry takes so many raw bytes. True: another segment than the first begins with it.
    pub fn begins_with(&mut self, raw: u64) -> bool {
        let begins = self.weight > 0 && self.weight + raw > self.goal;
        self.weight = if begins { raw } else { self.weight + raw };
        begins
    }
}

/// Walk the tree below `root` and cut it. `out` is an empty directory of the caller, in which the plan is left.
///
/// `progress` gets the number of entries now and then. Errors: those of `walk`, and `ArchiveTooLarge`.
pub fn scan(root: &Path, out: &Path, limits: &Limits, progress: &mut dyn FnMut(u64)) -> Result<Plan> {
    let mut found = survey(root, out, limits, progress)?;
    let holes = find_all_holes(root, out, &mut found, progress)?;
    let (limits, data) = cut_files(out, limits, &mut found, &holes, progress)?;
    let (tail_bytes, tail) = cut_tail(out, &limits, &found)?;
    let mut content = found.tail_content;
    let mut table = TableWriter::create(&out.join(TABLE))?;
    let data_segments = data.len();
    let mut holes = holes.reader()?;
    for (number, mut planned) in (1..).zip(data.into_iter().chain(tail)) {
        planned.number = number;
        if planned.is_data() {
            content = content.plus(planned.segment.content);
        }
        holes.bring_in(&mut planned)?;
        table.append(&planned)?;
        progress(found.totals.entries);
    }
    let Survey { totals, raw_bytes, change_fingerprint, .. } = found;
    let summary = Summary {
        change_fingerprint,
        content_fingerprint: content,
        cut_digest: cut_digest(table.finish()?, content),
        entries: totals.entries,
        files: totals.files,
        file_bytes: totals.file_bytes,
        raw_bytes: u64::try_from(raw_bytes).unwrap_or(u64::MAX),
        data_segments,
        totals,
    };
    let stored = Stored { limits, tail_bytes, summary };
    std::fs::write(out.join(SUMMARY), json(&stored)?).map_err(|error| broken(&error))?;
    Plan::open(out)
}

/// `content`: that of the whole archive, so that what is left out makes a difference too.
fn cut_digest(table: blake3::Hash, content: Content) -> String {
    let mut digest = blake3::Hasher::new();
    digest.update(table.as_bytes()).update(content.text().as_bytes());
    digest_text(&digest.finalize())
}

/// Write down the holes of large files. Corrects the weight of the whole.
fn find_all_holes(root: &Path, out: &Path, found: &mut Survey, progress: &mut dyn FnMut(u64)) -> Result<Holes> {
    let mut holes = Holes::create(&out.join("holes"))?;
    if found.large.is_empty() {
        return Ok(holes);
    }
    let mut reader = VolumeReader::open(root)?;
    let mut files = SpoolReader::open(&out.join(FILES))?;
    for (at, end) in &found.large {
        files.move_to(*at, *end)?;
        let Some(spooled) = files.next().transpose()? else { continue };
        let size = spooled.entry.size;
        let ranges = reader.with_file(&spooled.entry, |file| {
            find_holes(file, size).map_err(|errno| Error::reading(&spooled.entry.path, errno))
        })?;
        found.weight -= u128::from(relief(size, &ranges));
        holes.append(*at, &ranges)?;
        progress(found.totals.entries);
    }
    holes.flush()?;
    Ok(holes)
}

/// The data segments, and the limits that led to few enough of them.
///
/// The survey has cut all files but the large ones with the limits that are wished for: mostly that is enough.
fn cut_files(
    out: &Path,
    wished: &Limits,
    found: &mut Survey,
    holes: &Holes,
    progress: &mut dyn FnMut(u64),
) -> Result<(Limits, Vec<Planned>)> {
    let weight = found.weight;
    let per_segment = weight / (wished.max_segments as u128).max(1);
    if per_segment > u128::from(wished.max_segment_bytes) {
        return Err(wished.too_large(weight));
    }
    let mut goal = Some(wished.segment_bytes.max(per_segment as u64));
    while let Some(segment_bytes) = goal {
        let limits = Limits { segment_bytes, ..wished.clone() };
        let cutter = match found.cutter.take().filter(|_| segment_bytes == wished.segment_bytes) {
            Some(cutter) => cutter,
            None => cut_again(out, &limits, &mut found.large, found.totals.entries, progress)?,
        };
        if let Some(segments) = add_large(out, cutter, &found.large, holes)? {
            return Ok((limits, segments));
        }
        goal = limits.next_goal(segment_bytes);
    }
    Err(wished.too_large(weight))
}

/// With larger segments, fewer files are large ones.
fn cut_again(
    out: &Path,
    limits: &Limits,
    large: &mut Vec<(u64, u64)>,
    entries: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Cutter> {
    let mut cutter = Cutter::new(limits.clone());
    large.clear();
    let mut files = SpoolReader::open(&out.join(FILES))?;
    while let Some(spooled) = files.next().transpose()? {
        let (raw, end) = (raw_size(&spooled.entry)?, files.position());
        if !cutter.add(spooled.at, end, &spooled.entry, &spooled.content, raw) {
            large.push((spooled.at, end));
        }
        progress(entries);
    }
    Ok(cutter)
}

fn add_large(out: &Path, mut cutter: Cutter, large: &[(u64, u64)], holes: &Holes) -> Result<Option<Vec<Planned>>> {
    let mut files = SpoolReader::open(&out.join(FILES))?;
    let mut holes = holes.reader()?;
    for (at, end) in large {
        files.move_to(*at, *end)?;
        if let Some(spooled) = files.next().transpose()? {
            let (ranges, holes_at) = holes.of_file(*at)?;
            cutter.add_large(&spooled, *end, &ranges, holes_at)?;
        }
    }
    Ok(cutter.finish())
}

/// Raw bytes of one segment of the tail, and these segments.
fn cut_tail(out: &Path, limits: &Limits, found: &Survey) -> Result<(u64, Vec<Planned>)> {
    let per_segment = found.tail_weight / (limits.max_tail_segments as u64).max(1);
    let mut goal = Some(limits.segment_bytes.max(per_segment));
    while let Some(tail_bytes) = goal {
        let mut cuts = TailCuts::new(tail_bytes);
        let mut segments: Vec<Planned> = Vec::new();
        for spooled in SpoolReader::open(&out.join(LINKS))?.chain(SpoolReader::open(&out.join(DIRECTORIES))?) {
            let Spooled { entry, content, .. } = spooled?;
            let raw = raw_size(&entry)?;
            if cuts.begins_with(raw) || segments.is_empty() {
                if segments.len() == limits.max_tail_segments {
                    segments.clear();
                    break;
                }
                let segment =
                    Segment { kind: SegmentKind::Tail, first: Path64(entry.path.clone()), ..Segment::default() };
                segments.push(Planned { segment, ..Planned::default() });
            }
            if let Some(Planned { weight, segment, .. }) = segments.last_mut() {
                *weight += raw;
                segment.last = Path64(entry.path);
                segment.entries += 1;
                segment.content = segment.content.plus(content);
            }
        }
        if !segments.is_empty() {
            return Ok((tail_bytes, segments));
        }
        goal = limits.next_goal(tail_bytes);
    }
    Err(Error::new(Code::ArchiveTooLarge, "the names of the volume alone are more than one archive takes")
        .detail("bytes", found.tail_weight))
}

#[cfg(test)]
pub(crate) mod tests;
