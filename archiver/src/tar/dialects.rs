//! Tar headers as all the world writes them: v7, ustar, GNU (long names, sparse), POSIX pax with its sparse forms.
//!
//! Only foreign archives need this; ours are read by `read`. It trusts nothing: every number has a range, every record a
//! length limit, and what this reader cannot carry is refused instead of guessed. It shares no code with `read`, whose
//! limits and allowances are others. Errors: `ArchiveCorrupt`, `Unsupported`.

use std::collections::BTreeMap;

use super::{padding_of, read, BLOCK, XATTR_PREFIX};
use crate::entry::{Entry, Kind, Time, NAME_MAX};
use crate::error::{show, Code, Error, Result};

mod numbers;
mod sparse;

use numbers::{check_sum, decimal, number, seconds, time};

/// What one system call takes. A stranger's archive gets no longer names.
const PATH_MAX: usize = 4096;
/// The kernel's own limit on what attributes and names of one file can need stays below this.
const RECORD_LIMIT: u64 = 1 << 20;
/// Of all global headers together: every entry gets a copy of what they say.
const GLOBAL_LIMIT: u64 = 1 << 16;
const SIZE_LIMIT: u64 = 1 << 62;
const ID_LIMIT: u64 = (1 << 32) - 2;
const ACL: &[u8] = b"SCHILY.acl.";
const DEVICE_RECORD: &[u8] = b"SCHILY.dev";
/// Of a device that is none for sure; see `Member`.
const NO_WHITEOUT: (u32, u32) = (0xfff, 0xf_ffff);

/// The records of pax headers.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;
/// A tar block.
type Block = [u8; BLOCK as usize];

/// Where headers come from.
pub trait Source {
    /// Exactly that many bytes of the stream, or an error.
    fn take(&mut self, length: u64) -> Result<Vec<u8>>;

    /// The next block.
    fn block(&mut self) -> Result<Block> {
        Ok(self.take(BLOCK)?.try_into().expect("as many bytes as were asked for"))
    }
}

/// One entry of a foreign archive. Its path is normalised (root: empty).
///
/// `stored` bytes of data follow in the stream, then padding. `extents` (offset, length) say where they belong in the
/// file; for a plain file it is one extent. `has_acl`: it carries an ACL as text, which we do not read. The numbers of a
/// device are 0/0 where it is a whiteout for sure; those of others are not read.
#[derive(Debug, PartialEq)]
pub struct Member {
    pub entry: Entry,
    pub stored: u64,
    pub extents: Vec<(u64, u64)>,
    pub has_acl: bool,
}

/// Reads the headers of a stream, one entry after the other.
#[derive(Default)]
pub struct Members {
    shared: Records,
    global_bytes: u64,
    pending: Pending,
}

/// What earlier headers said about the next entry.
#[derive(Default, PartialEq)]
struct Pending {
    records: Records,
    sparse: Vec<(u64, u64)>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Members {
    /// The next entry, `None` at the end-of-archive blocks. Between two calls the caller takes `stored` bytes and
    /// padding.
    pub fn next(&mut self, source: &mut impl Source) -> Result<Option<Member>> {
        loop {
            let block = source.block()?;
            if is_zero(&block) {
                return self.end(source);
            }
            check_sum(&block)?;
            let (flag, size) = (block[156], number(&block[124..136], "size", SIZE_LIMIT)?);
            match flag {
                b'x' | b'X' | b'g' | b'L' | b'K' => self.extend(flag, size, source)?,
                b'V' => self.pending = Pending::default(), // the volume's label
                _ => {
                    let kind = kind_of(flag)?;
                    let pending = std::mem::take(&mut self.pending);
                    let mut records = self.shared.clone();
                    records.extend(pending.records.clone());
                    return Header { block: &block, flag, records, pending }.member(kind, size, source).map(Some);
                }
            }
        }
    }

    fn end(&self, source: &mut impl Source) -> Result<Option<Member>> {
        if !is_zero(&source.block()?) {
            return Err(corrupt("the archive has a lone zero block in its middle"));
        }
        if self.pending != Pending::default() {
            return Err(corrupt("the archive ends behind an extended header"));
        }
        Ok(None)
    }

    fn extend(&mut self, flag: u8, size: u64, source: &mut impl Source) -> Result<()> {
        if flag == b'g' {
            self.global_bytes = self.global_bytes.saturating_add(size);
            if self.global_bytes > GLOBAL_LIMIT {
                return Err(corrupt(format!("the archive has global headers of {} bytes", self.global_bytes)));
            }
        }
        if size > RECORD_LIMIT {
            return Err(corrupt(format!("the archive has an extended header of {size} bytes")));
        }
        let mut data = source.take(size + padding_of(size))?;
        data.truncate(size as usize);
        match flag {
            b'L' => self.pending.path = Some(until_nul(&data).to_vec()),
            b'K' => self.pending.link = Some(until_nul(&data).to_vec()),
            b'g' => {
                let (records, sparse) = parse_records(&data)?;
                let is_of_one = |key: &Vec<u8>| {
                    matches!(&key[..], b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse")
                };
                if !sparse.is_empty() || records.keys().any(is_of_one) {
                    return Err(corrupt("a global header names a single file"));
                }
                self.shared.extend(records);
            }
            _ => (self.pending.records, self.pending.sparse) = parse_records(&data)?,
        }
        Ok(())
    }
}

/// A header block, and all that was said about it before.
struct Header<'a> {
    block: &'a Block,
    flag: u8,
    records: Records,
    pending: Pending,
}

impl Header<'_> {
    fn member(&self, mut kind: Kind, size: u64, source: &mut impl Source) -> Result<Member> {
        let size = self.record(b"size").map_or(Ok(size), |text| decimal(text, SIZE_LIMIT))?;
        let (name, link) = self.names();
        if kind == Kind::File && name.ends_with(b"/") && self.flag != b'S' {
            kind = Kind::Directory;
        }
        let (mut extents, mut real_size, mut stored) = (Vec::new(), 0, 0);
        if kind == Kind::File {
            (extents, real_size, stored) = self.map(size, source)?;
        }
        let target = match kind {
            Kind::HardLink => normal_path(&link)?,
            Kind::Symlink if link.is_empty() || link.contains(&0) || link.len() >= PATH_MAX => {
                return Err(corrupt(format!("the symbolic link {} has no possible target", show(&name))));
            }
            Kind::Symlink => link,
            _ => Vec::new(),
        };
        let entry = Entry {
            kind,
            mode: number(&self.block[100..108], "mode", 1 << 32)? as u32 & 0o7777,
            uid: self.id(b"uid", 108)?,
            gid: self.id(b"gid", 116)?,
            size: real_size,
            mtime: self.mtime()?,
            target,
            device: if kind.is_device() { self.device() } else { (0, 0) },
            xattrs: self.attributes()?,
            ..Entry::new(normal_path(&name)?, kind)
        };
        Ok(Member { entry, stored, extents, has_acl: self.records.keys().any(|key| key.starts_with(ACL)) })
    }

    /// A record that is there and not empty.
    fn record(&self, key: &[u8]) -> Option<&[u8]> {
        self.records.get(key).map(|value| &value[..]).filter(|value| !value.is_empty())
    }

    /// Name and link target: pax wins over GNU long names, these over the header.
    fn names(&self) -> (Vec<u8>, Vec<u8>) {
        let mut own = until_nul(&self.block[..100]).to_vec();
        let prefix = until_nul(&self.block[345..500]);
        if &self.block[257..263] == b"ustar\0" && !prefix.is_empty() {
            own = [prefix, b"/", &own[..]].concat();
        }
        let long = |name: &Option<Vec<u8>>| name.clone().filter(|name| !name.is_empty());
        let name = self.record(b"GNU.sparse.name").or(self.record(b"path")).map(<[u8]>::to_vec);
        let name = name.or_else(|| long(&self.pending.path)).unwrap_or(own);
        let link = self.record(b"linkpath").map(<[u8]>::to_vec).or_else(|| long(&self.pending.link));
        (name, link.unwrap_or_else(|| until_nul(&self.block[157..257]).to_vec()))
    }

    fn id(&self, key: &[u8], at: usize) -> Result<u32> {
        let field = &self.block[at..at + 8];
        let what = if key == b"uid" { "uid" } else { "gid" };
        let id = self.record(key).map_or_else(|| number(field, what, ID_LIMIT), |text| decimal(text, ID_LIMIT))?;
        Ok(u32::try_from(id).expect("the limit is below"))
    }

    fn mtime(&self) -> Result<Time> {
        match self.record(b"mtime") {
            Some(text) => time(text),
            None => Ok(Time { seconds: seconds(&self.block[136..148])?, nanos: 0 }),
        }
    }

    /// 0/0 where the header says exactly that: it has the fields, both are noughts, and no record says otherwise.
    ///
    /// Numbers too large for the fields are written to records by star and bsdtar, which leave a part of them in the
    /// field.
    fn device(&self) -> (u32, u32) {
        let is_nought = |field: &[u8]| {
            let blanks = field.iter().take_while(|byte| **byte == b' ').count();
            let digits = field[blanks..].iter().take_while(|byte| **byte == b'0').count();
            digits > 0 && field[blanks + digits..].iter().all(|byte| matches!(byte, b' ' | 0))
        };
        let block = self.block;
        let has_none = !self.records.keys().any(|key| key.starts_with(DEVICE_RECORD));
        let is_whiteout =
            &block[257..262] == b"ustar" && is_nought(&block[329..337]) && is_nought(&block[337..345]) && has_none;
        if is_whiteout {
            (0, 0)
        } else {
            NO_WHITEOUT
        }
    }

    /// Extended attributes, their names unescaped as GNU tar escapes them.
    fn attributes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = BTreeMap::new();
        for (key, value) in &self.records {
            if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                found.insert(replace(&replace(name, b"%3D", b'='), b"%25", b'%'), value.clone());
            }
        }
        if found.keys().any(|name| name.contains(&0) || name.is_empty() || name.len() > NAME_MAX) {
            return Err(corrupt("an extended attribute has an impossible name"));
        }
        Ok(found.into_iter().collect())
    }
}

/// `ArchiveCorrupt` with this message.
pub fn corrupt(message: impl Into<String>) -> Error {
    Error::new(Code::ArchiveCorrupt, message)
}

/// A name as other tars write it, without `./`, doubled and trailing slashes; the root is empty.
///
/// `ArchiveCorrupt` for absolute names, `..`, NUL, and names that no system call takes.
pub fn normal_path(name: &[u8]) -> Result<Vec<u8>> {
    let parts: Vec<_> = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if name.is_empty() || name.starts_with(b"/") || parts.contains(&&b".."[..]) || name.contains(&0) {
        let shown = if name.is_empty() { String::new() } else { show(name) };
        return Err(corrupt(format!("the archive holds the unsafe name '{shown}'")));
    }
    let path = parts.join(&b'/');
    if path.len() >= PATH_MAX || parts.iter().any(|part| part.len() > NAME_MAX) {
        return Err(corrupt(format!("the archive holds the overlong name {}", show(name))));
    }
    Ok(path)
}

fn kind_of(flag: u8) -> Result<Kind> {
    if flag == b'S' {
        return Ok(Kind::File); // of GNU, with holes
    }
    read::kind_of(flag).ok_or_else(|| {
        Error::new(Code::Unsupported, format!("the archive has an entry of the unknown type '{}'", show(&[flag])))
    })
}

/// pax records, and apart the pairs of GNU sparse format 0.0, whose keys repeat.
fn parse_records(mut data: &[u8]) -> Result<(Records, Vec<(u64, u64)>)> {
    let (mut records, mut offsets, mut lengths) = (Records::new(), Vec::new(), Vec::new());
    while !data.is_empty() {
        let (key, value, rest) = take_record(data).ok_or_else(|| corrupt("a pax header cannot be read"))?;
        match key {
            b"GNU.sparse.offset" => offsets.push(decimal(value, SIZE_LIMIT)?),
            b"GNU.sparse.numbytes" => lengths.push(decimal(value, SIZE_LIMIT)?),
            _ => {
                records.insert(key.to_vec(), value.to_vec());
            }
        }
        data = rest;
    }
    if offsets.len() != lengths.len() || offsets.len() > sparse::LIMIT {
        return Err(corrupt("a sparse map cannot be read"));
    }
    Ok((records, offsets.into_iter().zip(lengths).collect()))
}

/// Key, value and what follows: `LENGTH KEY=VALUE\n`.
fn take_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(12).position(|byte| *byte == b' ')?;
    let digits = std::str::from_utf8(&data[..space]).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let end = digits?.parse().ok().filter(|end| *end > space + 1 && *end <= data.len())?;
    let record = data[space + 1..end].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&record[..equals], &record[equals + 1..], &data[end..]))
}

fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn replace(text: &[u8], escape: &[u8], by: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let is_escape = text[at..].starts_with(escape);
        out.push(if is_escape { by } else { text[at] });
        at += if is_escape { escape.len() } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests;
