//! Entries on disk, in order: what a plan knows of a million files without holding it in memory.
//!
//! Written by one process, read by those after it, of the same program. Numbers are little endian.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::entry::{Content, Entry, Kind, Time};
use crate::error::{Code, Error, Result};

const BUFFER_BYTES: usize = 1 << 17;
/// Beyond what any entry takes: it has a path, a target, and less than 64 KiB of names with values of 64 KiB.
const MAX_RECORD: usize = 1 << 30;

/// An entry, its content fingerprint, and where in the spool it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Spooled {
    pub at: u64,
    pub entry: Entry,
    pub content: Content,
}

/// Writes entries one behind the other.
pub struct SpoolWriter {
    file: BufWriter<File>,
    record: Vec<u8>,
    end: u64,
}

impl SpoolWriter {
    /// A new file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(|error| broken(&error))?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER_BYTES, file), record: Vec::new(), end: 0 })
    }

    /// Write an entry; returns where it stands.
    pub fn append(&mut self, entry: &Entry, content: &Content) -> Result<u64> {
        let record = &mut self.record;
        record.clear();
        record.extend_from_slice(&[0; 4]);
        put_entry(record, entry);
        record.extend_from_slice(&content.base.to_le_bytes());
        record.extend_from_slice(&content.ids.to_le_bytes());
        record.extend_from_slice(&content.privileged.to_le_bytes());
        let length = (record.len() - 4) as u32;
        record[..4].copy_from_slice(&length.to_le_bytes());
        self.file.write_all(record).map_err(|error| broken(&error))?;
        let at = self.end;
        self.end += record.len() as u64;
        Ok(at)
    }

    /// Where the next one will stand.
    pub fn position(&self) -> u64 {
        self.end
    }

    /// All is written, for readers to see.
    pub fn finish(mut self) -> Result<()> {
        self.file.flush().map_err(|error| broken(&error))
    }
}

/// Reads entries in order. It ends after an error.
pub struct SpoolReader {
    file: BufReader<File>,
    record: Vec<u8>,
    at: u64,
    end: u64,
}

impl SpoolReader {
    /// All that stand there.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_range(path, 0, u64::MAX)
    }

    /// Those that stand in `[start, end)`.
    pub fn open_range(path: &Path, start: u64, end: u64) -> Result<Self> {
        let file = File::open(path).map_err(|error| broken(&error))?;
        let mut reader = Self { file: BufReader::with_capacity(BUFFER_BYTES, file), record: Vec::new(), at: 0, end };
        reader.move_to(start, end)?;
        Ok(reader)
    }

    /// Go on with those that stand in `[start, end)`.
    pub fn move_to(&mut self, start: u64, end: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(start)).map_err(|error| broken(&error))?;
        (self.at, self.end) = (start, end);
        Ok(())
    }

    /// Where the next one stands.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn read(&mut self) -> Result<Option<Spooled>> {
        if self.at >= self.end || self.file.is_at_end()? {
            return Ok(None);
        }
        let mut prefix = [0; 4];
        self.file.read_exact(&mut prefix).map_err(|error| broken(&error))?;
        let length = u32::from_le_bytes(prefix) as usize;
        if length > MAX_RECORD {
            return Err(torn());
        }
        self.record.resize(length, 0);
        self.file.read_exact(&mut self.record).map_err(|error| broken(&error))?;
        let at = self.at;
        self.at += 4 + length as u64;
        let mut fields = Fields(&self.record);
        let entry = take_entry(&mut fields).ok_or_else(torn)?;
        let content = take_content(&mut fields).filter(|_| fields.0.is_empty()).ok_or_else(torn)?;
        Ok(Some(Spooled { at, entry, content }))
    }
}

impl Iterator for SpoolReader {
    type Item = Result<Spooled>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        if matches!(next, Some(Err(_))) {
            self.end = 0;
        }
        next
    }
}

trait IsAtEnd {
    fn is_at_end(&mut self) -> Result<bool>;
}

impl IsAtEnd for BufReader<File> {
    fn is_at_end(&mut self) -> Result<bool> {
        use std::io::BufRead as _;
        self.fill_buf().map(<[u8]>::is_empty).map_err(|error| broken(&error))
    }
}

/// An error on the plan's own files.
pub fn broken(error: &std::io::Error) -> Error {
    Error::new(Code::MoverFailed, format!("the plan's directory: {error}"))
}

fn torn() -> Error {
    Error::new(Code::MoverFailed, "the plan's directory holds no plan of this program")
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(entry.kind as u8);
    for number in [entry.mode, entry.uid, entry.gid, entry.device.0, entry.device.1] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&entry.size.to_le_bytes());
    out.extend_from_slice(&entry.inode.to_le_bytes());
    for time in [entry.mtime, entry.ctime] {
        out.extend_from_slice(&time.seconds.to_le_bytes());
        out.extend_from_slice(&time.nanos.to_le_bytes());
    }
    put_bytes(out, &entry.path);
    put_bytes(out, &entry.target);
    out.extend_from_slice(&(entry.xattrs.len() as u32).to_le_bytes());
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

fn take_entry(fields: &mut Fields<'_>) -> Option<Entry> {
    let kind = kind_of(fields.take(1)?[0])?;
    let (mode, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let device = (fields.u32()?, fields.u32()?);
    let (size, inode) = (fields.u64()?, fields.u64()?);
    let (mtime, ctime) = (fields.time()?, fields.time()?);
    let path = fields.bytes()?;
    let target = fields.bytes()?;
    let xattrs = (0..fields.u32()?).map(|_| Some((fields.bytes()?, fields.bytes()?))).collect::<Option<_>>()?;
    Some(Entry { path, kind, mode, uid, gid, size, mtime, target, device, xattrs, inode, ctime })
}

fn take_content(fields: &mut Fields<'_>) -> Option<Content> {
    let base = u128::from_le_bytes(fields.take(16)?.try_into().ok()?);
    Some(Content { base, ids: fields.u64()?, privileged: fields.u64()? })
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn kind_of(byte: u8) -> Option<Kind> {
    use Kind::{BlockDevice, CharacterDevice, Directory, Fifo, File, HardLink, Socket, Symlink};
    let kinds = [File, HardLink, Symlink, CharacterDevice, BlockDevice, Directory, Fifo, Socket];
    kinds.into_iter().find(|kind| *kind as u8 == byte)
}

/// What is left of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn time(&mut self) -> Option<Time> {
        let seconds = i64::from_le_bytes(self.take(8)?.try_into().ok()?);
        Some(Time { seconds, nanos: self.u32()? })
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.u32()? as usize;
        Some(self.take(length)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::{make_rich_tree, new_tree};
    use crate::walk::{walk, WalkOptions};

    #[test]
    fn entries_come_back_from_anywhere() {
        let (outer, tree) = new_tree();
        make_rich_tree(&tree);
        let path = outer.path().join("spool");
        let mut writer = SpoolWriter::create(&path).unwrap();
        let mut all = Vec::new();
        for entry in walk(&tree, WalkOptions { xattrs: true, ..WalkOptions::default() }) {
            let entry = entry.unwrap();
            let content = Content::of(&entry);
            let at = writer.append(&entry, &content).unwrap();
            all.push(Spooled { at, entry, content });
        }
        writer.finish().unwrap();
        assert!(SpoolWriter::create(&path).is_err());
        assert_eq!(SpoolReader::open(&path).unwrap().collect::<Result<Vec<_>>>().unwrap(), all);
        let some = SpoolReader::open_range(&path, all[3].at, all[5].at).unwrap();
        assert_eq!(some.collect::<Result<Vec<_>>>().unwrap(), all[3..5]);
    }

    #[test]
    fn what_is_torn_is_an_error() {
        let (outer, _) = new_tree();
        let path = outer.path().join("spool");
        let mut writer = SpoolWriter::create(&path).unwrap();
        writer.append(&Entry::new(*b"a", Kind::File), &Content::default()).unwrap();
        writer.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 1..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = SpoolReader::open(&path).unwrap().next().unwrap().unwrap_err();
            assert_eq!(error.code, Code::MoverFailed);
        }
        let mut other = whole.clone();
        other[4] = 9;
        std::fs::write(&path, &other).unwrap();
        let mut reader = SpoolReader::open(&path).unwrap();
        assert!(reader.next().unwrap().is_err());
        assert!(reader.next().is_none());
    }
}
