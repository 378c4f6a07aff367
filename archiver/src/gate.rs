//! The first wall of a restore: what may pass from a data segment to its writer.
//!
//! Only regular files with clean relative names, in the order and range that the manifest states for the segment, under
//! headers of exactly the one form that archives of ours have. A header that two readers could understand in two ways
//! is refused, whatever it says.

use std::cmp::Ordering;

use crate::beneath::check_clean;
use crate::entry::{compare_paths, Entry, Kind};
use crate::error::{show, Error, Result};
use crate::segment::Segment;
use crate::tar::read::Scan;
use crate::tar::{padding_of, BLOCK, XATTR_PREFIX};

const BLOCK_BYTES: usize = BLOCK as usize;
const RECORDS: [&[u8]; 5] = [b"path", b"size", b"uid", b"gid", b"mtime"];
const FILE: u8 = b'0';
const EXTENSION: u8 = b'x';

/// Says yes to each entry of one data segment, or returns `ArchiveCorrupt`.
pub struct Gate {
    number: u32,
    first: Vec<u8>,
    last: Vec<u8>,
    entries: u64,
    /// The path before; empty before the first.
    previous: Vec<u8>,
    count: u64,
    /// Where the data of the entry before ends, with its padding.
    clear_until: u64,
}

impl Gate {
    /// Before the first entry of this segment.
    pub fn new(number: u32, segment: &Segment) -> Result<Self> {
        let gate = Self {
            number,
            first: segment.first.0.clone(),
            last: segment.last.0.clone(),
            entries: segment.entries,
            previous: Vec::new(),
            count: 0,
            clear_until: 0,
        };
        for path in [&gate.first, &gate.last] {
            check_clean(path).map_err(|error| gate.refusal(error.message))?;
        }
        Ok(gate)
    }

    /// A regular file, cleanly named, next in order, within the segment's range, whose header is one of ours. `scan` has
    /// just found it.
    pub fn admit(&mut self, entry: &Entry, scan: &Scan) -> Result<()> {
        #[cfg(test)]
        if crate::down::now().gate {
            return Ok(());
        }
        let path = &entry.path;
        // Nothing may stand between two entries: what no entry owns, nobody would have looked at.
        if scan.entry_offset != self.clear_until || !is_our_header(entry, scan) {
            return Err(self.refusal(format!("{} has a header that no archive of ours has", show(path))));
        }
        if entry.kind != Kind::File {
            return Err(self.refusal(format!("{} is no regular file", show(path))));
        }
        check_clean(path).map_err(|error| self.refusal(error.message))?;
        let is_within = compare_paths(&self.first, path) != Ordering::Greater
            && compare_paths(path, &self.last) != Ordering::Greater;
        let is_next = self.count == 0 || compare_paths(&self.previous, path) == Ordering::Less;
        if !is_within || !is_next {
            return Err(self.refusal(format!("{} does not belong there", show(path))));
        }
        self.previous.clone_from(path);
        self.count += 1;
        self.clear_until = scan.data_offset + entry.size + padding_of(entry.size);
        Ok(())
    }

    /// All entries that the manifest counts have come.
    pub fn finish(&self) -> Result<()> {
        #[cfg(test)]
        if crate::down::now().gate {
            return Ok(());
        }
        if self.count != self.entries || (self.count > 0 && self.previous != self.last) {
            return Err(self.refusal(format!("it holds {} entries instead of {}", self.count, self.entries)));
        }
        Ok(())
    }

    /// `ArchiveCorrupt`, naming the segment.
    pub fn refusal(&self, why: impl std::fmt::Display) -> Error {
        Error::corrupt_segment(self.number, why)
    }
}

/// One ustar block, or one pax extension and then the block; only the records that we write; and the name as it stands
/// there: the scanner takes a leading `./` away, which no file of ours has.
fn is_our_header(entry: &Entry, scan: &Scan) -> bool {
    let Some((extension, block)) = scan.header.split_last_chunk::<BLOCK_BYTES>() else { return false };
    if !(is_our_extension(extension, scan) && block[156] == FILE && is_our_block(block)) {
        return false;
    }
    if let Some(path) = scan.records.get(&b"path"[..]) {
        return *path == entry.path;
    }
    let (name, prefix) = (up_to_nul(&block[..100]), up_to_nul(&block[345..500]));
    if prefix.is_empty() {
        return entry.path == name;
    }
    entry.path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(b"/")) == Some(name)
}

fn is_our_extension(extension: &[u8], scan: &Scan) -> bool {
    let Some((block, body)) = extension.split_first_chunk::<BLOCK_BYTES>() else {
        return extension.is_empty() && scan.records.is_empty();
    };
    if block[156] != EXTENSION || !is_our_block(block) {
        return false;
    }
    let size = block[124..135].iter().fold(0, |size, digit| size << 3 | u64::from(digit & 7));
    // The sum shows a record that comes twice, or is written otherwise.
    let records: u64 = scan.records.iter().map(|(key, value)| record_bytes(key, value)).sum();
    body.len() as u64 == size + padding_of(size)
        && size == records
        && body[size as usize..].iter().all(|byte| *byte == 0)
        && scan.records.iter().all(|(key, value)| key.starts_with(XATTR_PREFIX) || is_plain(key, value))
}

/// The one form of a ustar block that we write, but for names in both fields: POSIX magic, octal digits up to the NUL
/// of each field, no link, no names of users, no device.
fn is_our_block(block: &[u8; BLOCK_BYTES]) -> bool {
    let is_octal = |field: &[u8], end: &[u8]| {
        field.strip_suffix(end).is_some_and(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'7')))
    };
    let is_empty = |field: &[u8]| field.iter().all(|byte| *byte == 0);
    let is_text = |field: &[u8]| is_empty(&field[up_to_nul(field).len()..]);
    block[0] != 0
        && is_text(&block[..100])
        && is_octal(&block[100..108], b"\0") // mode
        && is_octal(&block[108..116], b"\0") // uid
        && is_octal(&block[116..124], b"\0") // gid
        && is_octal(&block[124..136], b"\0") // size
        && is_octal(&block[136..148], b"\0") // mtime
        && is_octal(&block[148..156], b"\0 ") // checksum
        && matches!(block[156], FILE | EXTENSION)
        && is_empty(&block[157..257]) // link
        && block[257..265] == *b"ustar\x0000"
        && is_empty(&block[265..329]) // names of user and group
        && [&block[329..337], &block[337..345]].iter().all(|field| is_empty(field) || *field == b"0000000\0") // device
        && is_text(&block[345..500])
        && is_empty(&block[500..])
}

fn is_plain(key: &[u8], value: &[u8]) -> bool {
    RECORDS.contains(&key) && !value.is_empty() && !value.contains(&0)
}

fn up_to_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The length of a record as we write it.
fn record_bytes(key: &[u8], value: &[u8]) -> u64 {
    let digits = |number: u64| u64::from(number.checked_ilog10().unwrap_or(0)) + 1;
    let rest = (key.len() + value.len() + 3) as u64;
    let length = rest + digits(rest);
    rest + digits(length)
}

#[cfg(test)]
mod tests;
