//! The table of segments: a line of JSON for each, in order. Each step that comes later reads the lines that it needs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::spool::broken;
use crate::error::{Code, Error, Result};
use crate::segment::{Segment, SegmentKind};

/// A piece with 65,536 holes takes about 3 MiB.
const LONGEST_LINE: u64 = 64 << 20;

/// One segment, and what it is made from: the entries that stand in `[start, end)` of its spool.
///
/// Of these the ones of its run (`is_far`: paths that no plain tool can open), or the one file that it is a piece of.
/// `weight`: raw bytes that it takes about, holes counted as what they compress to. Numbers count from 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub number: u32,
    pub start: u64,
    pub end: u64,
    pub weight: u64,
    pub is_far: bool,
    pub segment: Segment,
    /// While it is cut: where the holes of its file are written down, which only the table's line brings in.
    #[serde(skip)]
    pub holes_at: Option<u64>,
}

impl Planned {
    /// True for what is no tail.
    pub fn is_data(&self) -> bool {
        self.segment.kind != SegmentKind::Tail
    }
}

/// Writes the table, and digests what decides about the archive: segments, their runs and holes.
pub struct TableWriter {
    file: BufWriter<File>,
    digest: blake3::Hasher,
}

impl TableWriter {
    /// A new table.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(|error| broken(&error))?;
        Ok(Self { file: BufWriter::new(file), digest: blake3::Hasher::new() })
    }

    /// The next segment.
    pub fn append(&mut self, planned: &Planned) -> Result<()> {
        self.digest.update(&[u8::from(planned.is_far)]);
        self.digest.update(&json(&planned.segment)?);
        let mut line = json(planned)?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| broken(&error))
    }

    /// Equal for tables with the same segments.
    pub fn finish(mut self) -> Result<blake3::Hash> {
        self.file.flush().map_err(|error| broken(&error))?;
        Ok(self.digest.finalize())
    }
}

/// Reads the segments from a number on, one at a time. It ends after an error.
pub struct Table {
    file: BufReader<File>,
    /// How many lines were read.
    seen: u32,
    has_failed: bool,
}

impl Table {
    /// From segment `from` on, which counts from 1.
    pub fn open(path: &Path, from: u32) -> Result<Self> {
        let file = File::open(path).map_err(|error| broken(&error))?;
        let mut table = Self { file: BufReader::new(file), seen: 0, has_failed: false };
        while table.seen + 1 < from {
            if table.line()?.is_none() {
                break;
            }
        }
        Ok(table)
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.file).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|error| broken(&error))?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => {
                self.seen += 1;
                Ok(Some(line))
            }
            Some(_) => Err(no_table()),
        }
    }

    fn read(&mut self) -> Result<Option<Planned>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let planned: Planned = serde_json::from_slice(&line).map_err(|_| no_table())?;
        if planned.number != self.seen {
            return Err(no_table());
        }
        Ok(Some(planned))
    }
}

impl Iterator for Table {
    type Item = Result<Planned>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.read().transpose();
        self.has_failed = matches!(next, Some(Err(_)));
        next
    }
}

/// As a line of JSON without its end.
pub fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Code::MoverFailed, format!("the plan: {error}")))
}

fn no_table() -> Error {
    Error::new(Code::MoverFailed, "the plan's directory holds no table of segments")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Path64, Piece};
    use crate::trees::new_tree;

    #[test]
    fn lines_come_back_from_any_number() {
        let (outer, _) = new_tree();
        let path = outer.path().join("table");
        let mut writer = TableWriter::create(&path).unwrap();
        let all: Vec<_> = (1..=5)
            .map(|number| {
                let piece = Piece { path: Path64(b"a\xff".to_vec()), holes: vec![(0, 4096)], ..Piece::default() };
                let segment = Segment { entries: 1, piece: Some(piece), ..Segment::default() };
                Planned { number, start: 7, end: 9, weight: 3, is_far: number == 2, segment, holes_at: None }
            })
            .collect();
        for planned in &all {
            writer.append(planned).unwrap();
        }
        writer.finish().unwrap();
        for from in [1, 2, 5, 6, 9] {
            let read: Vec<_> = Table::open(&path, from).unwrap().collect::<Result<_>>().unwrap();
            assert_eq!(read, all.get(from as usize - 1..).unwrap_or_default());
        }
        for torn in [&b"{}\n"[..], b"{\"number\": 1", b"[]\n"] {
            std::fs::write(&path, torn).unwrap();
            let mut table = Table::open(&path, 1).unwrap();
            assert_eq!(table.next().unwrap().unwrap_err().code, Code::MoverFailed);
            assert!(table.next().is_none());
        }
    }
}
