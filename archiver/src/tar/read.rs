//! Tar streams as they are read, whoever wrote them in our dialect.

use std::collections::BTreeMap;

use super::fields::{decimal, device, id, number, parse_records, parse_time, text, unescape};
use super::{padding_of, BLOCK, EXTENSION, MAX_EXTENSION_BYTES, NAME_BYTES, XATTR_PREFIX};
use crate::entry::{Entry, Kind, Time, NAME_MAX};
use crate::error::{Code, Error, Result};

const BLOCK_BYTES: usize = BLOCK as usize;
const GLOBAL: u8 = b'g';
const LONG_NAME: u8 = b'L';
const LONG_LINK: u8 = b'K';

/// Pax records by their keys.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where a scanner is, as its sink sees it.
///
/// `position`: bytes consumed. `entry_offset`: where the last entry's header (with its extension) began. `data_offset`:
/// where its data begins. `header`: the bytes between these two. `records`: its pax records.
#[derive(Debug, Default)]
pub struct Scan {
    pub position: u64,
    pub entry_offset: u64,
    pub data_offset: u64,
    pub header: Vec<u8>,
    pub records: Records,
}

/// What a scanner tells.
#[derive(Debug)]
pub enum Found<'a> {
    Entry(Entry),
    Data(&'a [u8]),
}

/// Who is told.
pub type Sink<'a> = &'a mut dyn FnMut(&Scan, Found) -> Result<()>;

/// Reads a tar stream that arrives in pieces of any size.
///
/// `feed` tells each `Entry` and then its data; nothing announces the end of an entry but the next one. Names come as
/// stored, without a leading `./` and trailing `/`; whether they are clean is for the caller to ask
/// (`entry::is_clean_path`). Errors are `ArchiveCorrupt` without the segment's number, and those of the sink; after one
/// the scanner is used up.
#[derive(Default)]
pub struct Scanner {
    scan: Scan,
    end_offset: Option<u64>,
    /// Of an incomplete block.
    buffer: Vec<u8>,
    data_left: u64,
    skip_left: u64,
    extension: Extension,
    announced: u64,
    announced_for_all: u64,
    pending: Records,
    globals: Records,
    in_entry: bool,
}

/// The extended header that is being read; `left` counts its padding too.
#[derive(Default)]
struct Extension {
    flag: u8,
    left: u64,
    size: usize,
    bytes: Vec<u8>,
}

impl Scanner {
    /// At the begin of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where it is.
    pub fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Where the end-of-archive blocks begin; `None` before they were seen.
    pub fn end_offset(&self) -> Option<u64> {
        self.end_offset
    }

    /// Bytes of an incomplete block that were fed but not consumed yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Where the header began of which some bytes were fed, but not all.
    pub fn header_start(&self) -> Option<u64> {
        match (self.in_entry, self.buffer.is_empty()) {
            (true, _) => Some(self.scan.entry_offset),
            (false, false) => Some(self.scan.position),
            (false, true) => None,
        }
    }

    /// True once two end-of-archive blocks were seen.
    pub fn ended(&self) -> bool {
        self.end_offset.is_some_and(|offset| self.scan.position - offset >= 2 * BLOCK)
    }

    /// True where a tar stream may be cut: no header, data or padding is outstanding.
    pub fn between_entries(&self) -> bool {
        self.buffer.is_empty()
            && self.data_left == 0
            && self.skip_left == 0
            && self.extension.left == 0
            && !self.in_entry
            && self.end_offset.is_none_or(|offset| self.scan.position == offset)
    }

    /// Take the next bytes; entries and data go to `sink` in order.
    pub fn feed(&mut self, mut data: &[u8], sink: Sink) -> Result<()> {
        while !data.is_empty() {
            if self.data_left > 0 {
                let part = self.advance(&mut data, self.data_left);
                self.data_left -= part.len() as u64;
                sink(&self.scan, Found::Data(part))?;
            } else if self.skip_left > 0 {
                let part = self.advance(&mut data, self.skip_left);
                self.skip_left -= part.len() as u64;
            } else if self.extension.left > 0 {
                let part = self.advance(&mut data, self.extension.left);
                self.extension.bytes.extend_from_slice(part);
                self.extension.left -= part.len() as u64;
                if self.extension.left == 0 {
                    self.take_extension()?;
                }
            } else if let Some((block, rest)) = data.split_first_chunk().filter(|_| self.buffer.is_empty()) {
                data = rest;
                self.take_block(block, sink)?;
            } else {
                let (part, rest) = data.split_at(data.len().min(BLOCK_BYTES - self.buffer.len()));
                self.buffer.extend_from_slice(part);
                data = rest;
                if let Ok(block) = <[u8; BLOCK_BYTES]>::try_from(&self.buffer[..]) {
                    self.buffer.clear();
                    self.take_block(&block, sink)?;
                }
            }
        }
        Ok(())
    }

    /// Fails if the stream stopped within an entry, or lacks the end blocks that it needs.
    pub fn finish(&self, need_end: bool) -> Result<()> {
        if need_end && !self.ended() {
            return Err(broken("the tar stream has no end-of-archive blocks: it was cut short"));
        }
        if !need_end && !self.between_entries() && !self.ended() {
            return Err(broken("the tar stream stops within an entry"));
        }
        Ok(())
    }

    /// At most `most` of the next bytes, which count as consumed.
    fn advance<'a>(&mut self, data: &mut &'a [u8], most: u64) -> &'a [u8] {
        let step = usize::try_from(most).map_or(data.len(), |most| most.min(data.len()));
        let (part, rest) = data.split_at(step);
        *data = rest;
        self.scan.position += step as u64;
        part
    }

    fn take_block(&mut self, block: &[u8; BLOCK_BYTES], sink: Sink) -> Result<()> {
        let start = self.scan.position;
        self.scan.position += BLOCK;
        let is_empty = block.iter().all(|byte| *byte == 0);
        if self.end_offset.is_some() {
            return if is_empty { Ok(()) } else { Err(broken("bytes after the end-of-archive blocks")) };
        }
        if is_empty {
            if self.in_entry {
                return Err(broken("an extended header without the entry that it belongs to"));
            }
            self.end_offset = Some(start);
            return Ok(());
        }
        if !self.in_entry {
            self.scan.entry_offset = start;
            self.in_entry = true;
            self.scan.header.clear();
        }
        self.scan.header.extend_from_slice(block);
        check_sum(block)?;
        let flag = block[156];
        if matches!(flag, EXTENSION | GLOBAL | LONG_NAME | LONG_LINK) {
            return self.begin_extension(flag, number(&block[124..136])?);
        }
        let entry = self.take_header(block, flag)?;
        sink(&self.scan, Found::Entry(entry))
    }

    fn begin_extension(&mut self, flag: u8, size: u64) -> Result<()> {
        self.announced = self.announced.saturating_add(size);
        if size == 0 || self.announced > MAX_EXTENSION_BYTES {
            return Err(broken(format!("extended headers of {} bytes for one entry", self.announced)));
        }
        if flag == GLOBAL {
            self.announced_for_all += size;
        }
        // Room comes with the bytes: an announced size alone takes no memory.
        self.extension = Extension { flag, left: size + padding_of(size), size: size as usize, bytes: Vec::new() };
        Ok(())
    }

    fn take_extension(&mut self) -> Result<()> {
        let Extension { flag, size, bytes, .. } = std::mem::take(&mut self.extension);
        self.scan.header.extend_from_slice(&bytes);
        let raw = &bytes[..size];
        match flag {
            EXTENSION => parse_records(raw, &mut self.pending)?,
            GLOBAL => {
                parse_records(raw, &mut self.globals)?;
                self.in_entry = !self.pending.is_empty();
            }
            _ => {
                let key: &[u8] = if flag == LONG_NAME { b"path" } else { b"linkpath" };
                self.pending.insert(key.to_vec(), text(raw).to_vec());
            }
        }
        Ok(())
    }

    fn take_header(&mut self, block: &[u8; BLOCK_BYTES], flag: u8) -> Result<Entry> {
        let mut records = std::mem::take(&mut self.pending);
        for (key, value) in &self.globals {
            records.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self.announced = self.announced_for_all;
        self.scan.records = records;
        let records = &self.scan.records;
        let kind = kind_of(flag).filter(|_| !records.keys().any(|key| key.starts_with(b"GNU.sparse.")));
        let Some(mut kind) = kind else {
            let what = format!("a tar entry of a kind that is not supported (type flag {flag})");
            return Err(broken(what));
        };
        let record = |key: &[u8]| records.get(key).map(Vec::as_slice).filter(|value| !value.is_empty());
        let path = record(b"path").map_or_else(|| stored_path(block), <[u8]>::to_vec);
        if kind == Kind::File && path.ends_with(b"/") {
            kind = Kind::Directory;
        }
        let size = record(b"size").map_or_else(|| number(&block[124..136]), decimal)?;
        let target = record(b"linkpath").unwrap_or_else(|| text(&block[157..257]));
        let mtime = match record(b"mtime") {
            Some(value) => parse_time(value)?,
            None => Time { seconds: super::fields::seconds(&block[136..148])?, nanos: 0 },
        };
        let mut entry = Entry::new(plain(&path), kind);
        entry.mode = (number(&block[100..108])? & 0o7777) as u32;
        entry.uid = id(record(b"uid"), &block[108..116])?;
        entry.gid = id(record(b"gid"), &block[116..124])?;
        entry.mtime = mtime;
        match kind {
            Kind::File => entry.size = size,
            Kind::HardLink => entry.target = plain(target).to_vec(),
            Kind::Symlink => entry.target = target.to_vec(),
            Kind::CharacterDevice | Kind::BlockDevice => {
                entry.device = (device(&block[329..337])?, device(&block[337..345])?);
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        entry.xattrs = attributes(records)?;
        self.data_left = entry.size;
        self.skip_left = padding_of(entry.size);
        self.in_entry = false;
        self.scan.data_offset = self.scan.position;
        Ok(entry)
    }
}

/// What a type flag says, in every dialect.
pub(super) fn kind_of(flag: u8) -> Option<Kind> {
    Some(match flag {
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return None,
    })
}

/// The name in the header itself, with its prefix.
fn stored_path(block: &[u8; BLOCK_BYTES]) -> Vec<u8> {
    let name = text(&block[..NAME_BYTES]);
    if &block[257..263] == b"ustar\0" && block[345] != 0 {
        return [text(&block[345..500]), name].join(&b'/');
    }
    name.to_vec()
}

/// Without a leading `./` and a trailing `/`; that of the root is empty.
fn plain(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = name.strip_prefix(b"./") {
        let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
        name = &rest[slashes..];
    }
    while name.len() > 1 && name.ends_with(b"/") {
        name = &name[..name.len() - 1];
    }
    if name == b"." {
        b""
    } else {
        name
    }
}

fn attributes(records: &Records) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    for (key, value) in records {
        let Some(name) = key.strip_prefix(XATTR_PREFIX) else { continue };
        let name = unescape(name);
        if name.contains(&0) || name.is_empty() || name.len() > NAME_MAX {
            return Err(broken("an extended attribute with an impossible name"));
        }
        found.push((name, value.clone()));
    }
    found.sort();
    Ok(found)
}

/// The sum of all bytes, the field itself counted as spaces.
fn check_sum(block: &[u8; BLOCK_BYTES]) -> Result<()> {
    let sum = |part: &[u8]| part.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let total = sum(block) - sum(&block[148..156]) + 8 * u64::from(b' ');
    let stated = number(if block[155] == b' ' { &block[148..155] } else { &block[148..156] })?;
    if stated != total {
        return Err(broken("the checksum of a tar header is wrong"));
    }
    Ok(())
}

fn broken(what: impl Into<String>) -> Error {
    Error::new(Code::ArchiveCorrupt, what)
}

#[cfg(test)]
mod tests;
