//! Sparse files, in the four forms that GNU tar has had.

use super::numbers::{decimal, number};
use super::{corrupt, Block, Header, Source, BLOCK, SIZE_LIMIT};
use crate::error::{Code, Error, Result};

/// Pieces of one file.
pub const LIMIT: usize = 100_000;
/// Of a number in a map that stands in the data.
const LONGEST_LINE: usize = 32;

/// Pieces (offset, length), size of the file, and bytes of data that follow in the stream.
type Map = (Vec<(u64, u64)>, u64, u64);

impl Header<'_> {
    /// Where the data of this file belong. Takes what of its header still stands in the stream.
    pub fn map(&self, size: u64, source: &mut impl Source) -> Result<Map> {
        if self.flag == b'S' {
            let pairs = old_gnu(self.block, source)?;
            return checked(pairs, number(&self.block[483..495], "size", SIZE_LIMIT)?, size);
        }
        let stated = |key: &[u8]| decimal(self.records.get(key).map_or(b"", |value| value), SIZE_LIMIT);
        match self.records.get(&b"GNU.sparse.major"[..]).map(|major| &major[..]) {
            Some(b"1") => {
                let (pairs, used) = in_data(size, source)?;
                return checked(pairs, stated(b"GNU.sparse.realsize")?, size - used);
            }
            Some(_) => {
                return Err(Error::new(Code::Unsupported, "the archive has a sparse file in an unknown format"));
            }
            None => {}
        }
        let pairs = match self.record(b"GNU.sparse.map") {
            Some(map) => in_record(map)?,
            None => self.pending.sparse.clone(),
        };
        if !pairs.is_empty() || self.records.contains_key(&b"GNU.sparse.size"[..]) {
            return checked(pairs, stated(b"GNU.sparse.size")?, size);
        }
        Ok((vec![(0, size)], size, size))
    }
}

/// A sparse map, if it is in order, inside the file, and as long as the data that follows.
fn checked(pairs: Vec<(u64, u64)>, real_size: u64, stored: u64) -> Result<Map> {
    let (mut end, mut sum) = (0, 0);
    for (offset, length) in &pairs {
        if *offset < end {
            return Err(corrupt("the pieces of a sparse file overlap"));
        }
        end = offset + length; // each at most 2^62
        sum += u128::from(*length);
    }
    if end > real_size || sum != u128::from(stored) {
        return Err(corrupt("a sparse file contradicts its map"));
    }
    Ok((pairs, real_size, stored))
}

/// The type `S` map: four pairs in the header, 21 in each block behind it.
fn old_gnu(header: &Block, source: &mut impl Source) -> Result<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    let mut add = |field: &[u8]| -> Result<usize> {
        for pair in field.chunks_exact(24).filter(|pair| pair[0] != 0 || pair[12] != 0) {
            pairs.push((number(&pair[..12], "offset", SIZE_LIMIT)?, number(&pair[12..], "length", SIZE_LIMIT)?));
        }
        Ok(pairs.len())
    };
    add(&header[386..386 + 4 * 24])?;
    let mut has_more = header[482] != 0;
    while has_more {
        let block = source.block()?;
        if add(&block[..21 * 24])? > LIMIT {
            return Err(too_long());
        }
        has_more = block[504] != 0;
    }
    Ok(pairs)
}

/// The format 0.1 map: pairs in one record, between commas.
fn in_record(map: &[u8]) -> Result<Vec<(u64, u64)>> {
    let numbers = map.split(|byte| *byte == b',').map(|text| decimal(text, SIZE_LIMIT)).collect::<Result<Vec<_>>>()?;
    if numbers.len() % 2 != 0 {
        return Err(unreadable());
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// The format 1.0 map: decimal lines at the head of the data, filled up to whole blocks; and how long all that is.
fn in_data(size: u64, source: &mut impl Source) -> Result<(Vec<(u64, u64)>, u64)> {
    let (mut text, mut used) = (Vec::new(), 0);
    let mut line = |used: &mut u64| -> Result<u64> {
        loop {
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let number = decimal(&text[..end], SIZE_LIMIT)?;
                text.drain(..=end);
                return Ok(number);
            }
            if text.len() > LONGEST_LINE || *used + BLOCK > size {
                return Err(unreadable());
            }
            text.extend_from_slice(&source.block()?);
            *used += BLOCK;
        }
    };
    let count = line(&mut used)?;
    if count > LIMIT as u64 {
        return Err(too_long());
    }
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((line(&mut used)?, line(&mut used)?));
    }
    Ok((pairs, used))
}

fn unreadable() -> Error {
    corrupt("a sparse map cannot be read")
}

fn too_long() -> Error {
    corrupt("a sparse map is too long")
}
