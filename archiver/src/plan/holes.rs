//! The holes of large files, on disk: one file may have 65,536 of them, and there may be many such files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::spool::broken;
use super::table::Planned;
use crate::error::Result;
use crate::sparse::{holes_within, Cut, Range};

/// Which files have holes, and where these are written down.
pub struct Holes {
    path: PathBuf,
    file: BufWriter<File>,
    end: u64,
    /// By where the file stands in its spool.
    of_files: HashMap<u64, u64>,
}

/// Reads them. The last that was read is kept: the pieces of a file follow one another.
pub struct HolesReader<'a> {
    of_files: &'a HashMap<u64, u64>,
    file: BufReader<File>,
    last: Option<(u64, Vec<Range>)>,
}

impl Holes {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(|error| broken(&error))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), end: 0, of_files: HashMap::new() })
    }

    /// Those of the file that stands at `at`.
    pub fn append(&mut self, at: u64, ranges: &[Range]) -> Result<()> {
        if ranges.is_empty() {
            return Ok(());
        }
        self.of_files.insert(at, self.end);
        let mut record = (ranges.len() as u64).to_le_bytes().to_vec();
        for (offset, length) in ranges {
            record.extend_from_slice(&offset.to_le_bytes());
            record.extend_from_slice(&length.to_le_bytes());
        }
        self.end += record.len() as u64;
        self.file.write_all(&record).map_err(|error| broken(&error))
    }

    /// For readers to see.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| broken(&error))
    }

    pub fn reader(&self) -> Result<HolesReader<'_>> {
        let file = File::open(&self.path).map_err(|error| broken(&error))?;
        Ok(HolesReader { of_files: &self.of_files, file: BufReader::new(file), last: None })
    }
}

impl HolesReader<'_> {
    /// The holes of the file that stands at `at`, and where they are written down, if there are any.
    pub fn of_file(&mut self, at: u64) -> Result<(Vec<Range>, Option<u64>)> {
        let Some(holes_at) = self.of_files.get(&at).copied() else { return Ok((Vec::new(), None)) };
        Ok((self.read(holes_at)?.to_vec(), Some(holes_at)))
    }

    /// Give a piece the holes that lie in it.
    pub fn bring_in(&mut self, planned: &mut Planned) -> Result<()> {
        if let (Some(holes_at), Some(piece)) = (planned.holes_at, &mut planned.segment.piece) {
            let cut = Cut { offset: piece.offset, length: piece.length, weight: planned.weight };
            piece.holes = holes_within(self.read(holes_at)?, cut);
        }
        Ok(())
    }

    fn read(&mut self, holes_at: u64) -> Result<&[Range]> {
        let is_read = self.last.as_ref().is_some_and(|(at, _)| *at == holes_at);
        if !is_read {
            self.last = Some((holes_at, self.read_record(holes_at).map_err(|error| broken(&error))?));
        }
        Ok(self.last.as_ref().map_or(&[], |(_, ranges)| ranges))
    }

    fn read_record(&mut self, holes_at: u64) -> std::io::Result<Vec<Range>> {
        self.file.seek(SeekFrom::Start(holes_at))?;
        let count = self.number()?;
        (0..count).map(|_| Ok((self.number()?, self.number()?))).collect()
    }

    fn number(&mut self) -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
