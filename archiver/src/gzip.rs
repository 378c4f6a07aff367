//! Gzip members: one for each segment, written and read in pieces, within bounds.
//!
//! Compression is the library's deflate inside our own framing: what cannot become smaller is stored without asking
//! the compressor, and both libraries get the same strictness about headers.

use std::io::{self, Write};
use std::os::fd::AsFd;

use flate2::Crc;

use crate::crc64::Crc64;
use crate::deflate::{Deflate, Flush, Inflate};
use crate::error::{Code, Error, Result};

/// Raw bytes that are compressed at a time: they fit a core's own cache.
pub const BUFFER_BYTES: usize = 512 << 10;
/// Raw bytes that a reader hands on at a time, at most.
pub const OUTPUT_BYTES: usize = 256 << 10;

const SAMPLE_BYTES: usize = 16 << 10;
/// No flags, no time; the system is unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const MAX_STORED: usize = 0xffff;
const FINAL_BLOCK: [u8; 2] = [3, 0];
const TRAILER_BYTES: usize = 8;

/// A finished member: what is known of it. `digest` is of the raw bytes, `crc64` (CRC-64/NVME) of the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    pub digest: blake3::Hash,
    pub crc64: u64,
}

/// Compresses one member. Its stored bytes go to `out` as they come.
///
/// Raw bytes gather in one buffer, files are read straight into it, and only a full one is digested and compressed.
///
/// What does not become smaller is stored: once a buffer has shrunk by less than 3 %, a sample of each next one is
/// tried first.
pub struct MemberWriter<W: Write> {
    out: Counted<W>,
    buffer: Box<[u8]>,
    used: usize,
    deflate: Deflate,
    /// For samples; made with the first one.
    sampler: Option<Deflate>,
    is_dense: bool,
    digest: blake3::Hasher,
    crc32: Crc,
    taken_bytes: u64,
    made: Vec<u8>,
}

/// Where stored bytes go; they are counted and checked on their way. The header is written with the first ones.
struct Counted<W: Write> {
    to: W,
    crc64: Crc64,
    bytes: u64,
}

impl<W: Write> Counted<W> {
    fn keep(&mut self, data: &[u8]) -> io::Result<()> {
        self.crc64.update(data);
        self.bytes += data.len() as u64;
        self.to.write_all(data)
    }
}

impl<W: Write> MemberWriter<W> {
    /// An empty member.
    pub fn new(out: W) -> Self {
        Self {
            out: Counted { to: out, crc64: Crc64::default(), bytes: 0 },
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            used: 0,
            deflate: Deflate::default(),
            sampler: None,
            is_dense: false,
            digest: blake3::Hasher::new(),
            crc32: Crc::new(),
            taken_bytes: 0,
            made: Vec::new(),
        }
    }

    /// How many raw bytes were added.
    pub fn raw_bytes(&self) -> u64 {
        self.taken_bytes + self.used as u64
    }

    /// Add raw bytes. Errors are those of `out`.
    pub fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let step = data.len().min(BUFFER_BYTES - self.used);
            self.buffer[self.used..self.used + step].copy_from_slice(&data[..step]);
            self.advance(step)?;
            data = &data[step..];
        }
        Ok(())
    }

    /// Add as many zeros, as a hole has them.
    pub fn write_zeros(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let room = BUFFER_BYTES - self.used;
            let step = usize::try_from(length).map_or(room, |length| length.min(room));
            self.buffer[self.used..self.used + step].fill(0);
            self.advance(step)?;
            length -= step as u64;
        }
        Ok(())
    }

    /// Add `length` bytes of a file from `offset` on; returns how many there were, fewer only at its end.
    pub fn write_from(&mut self, file: &impl AsFd, length: u64, offset: u64) -> io::Result<u64> {
        let mut done = 0;
        while done < length {
            let room = BUFFER_BYTES - self.used;
            let step = usize::try_from(length - done).map_or(room, |left| left.min(room));
            let into = &mut self.buffer[self.used..self.used + step];
            let count = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *into, offset + done))?;
            if count == 0 {
                break;
            }
            self.advance(count)?;
            done += count as u64;
        }
        Ok(done)
    }

    /// End the member. Returns where it went, and what is known of it.
    pub fn finish(mut self) -> io::Result<(W, Packed)> {
        self.take()?;
        self.begin()?;
        self.compress(0, Flush::Sync)?;
        self.out.keep(&FINAL_BLOCK)?;
        let mut trailer = [0; TRAILER_BYTES];
        trailer[..4].copy_from_slice(&self.crc32.sum().to_le_bytes());
        trailer[4..].copy_from_slice(&(self.taken_bytes as u32).to_le_bytes());
        self.out.keep(&trailer)?;
        let packed = Packed {
            raw_bytes: self.taken_bytes,
            stored_bytes: self.out.bytes,
            digest: self.digest.finalize(),
            crc64: self.out.crc64.sum(),
        };
        Ok((self.out.to, packed))
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.out.bytes == 0 {
            self.out.keep(&HEADER)
        } else {
            Ok(())
        }
    }

    fn advance(&mut self, count: usize) -> io::Result<()> {
        self.used += count;
        if self.used == BUFFER_BYTES {
            self.take()
        } else {
            Ok(())
        }
    }

    /// Digest and compress what has gathered.
    fn take(&mut self) -> io::Result<()> {
        let count = std::mem::take(&mut self.used);
        if count == 0 {
            return Ok(());
        }
        self.begin()?;
        let raw = &self.buffer[..count];
        self.digest.update(raw);
        self.crc32.update(raw);
        self.taken_bytes += count as u64;
        if self.is_dense && !self.is_worth_it(count.min(SAMPLE_BYTES)) {
            // What is compressed later must not refer to what came before these blocks.
            self.compress(0, Flush::Full)?;
            return self.store(count);
        }
        let before = self.out.bytes;
        self.compress(count, Flush::No)?;
        self.is_dense = !shrinks(count, (self.out.bytes - before) as usize);
        Ok(())
    }

    /// Compress the first bytes of the buffer.
    fn compress(&mut self, count: usize, flush: Flush) -> io::Result<()> {
        self.made.clear();
        self.deflate.compress(&self.buffer[..count], flush, &mut self.made);
        self.out.keep(&self.made)
    }

    /// Whether a sample shrinks.
    fn is_worth_it(&mut self, count: usize) -> bool {
        let sampler = self.sampler.get_or_insert_with(Deflate::default);
        sampler.reset();
        self.made.clear();
        sampler.compress(&self.buffer[..count], Flush::Sync, &mut self.made);
        shrinks(count, self.made.len())
    }

    fn store(&mut self, count: usize) -> io::Result<()> {
        for block in self.buffer[..count].chunks(MAX_STORED) {
            let length = block.len() as u16;
            let mut head = [0; 5];
            head[1..3].copy_from_slice(&length.to_le_bytes());
            head[3..].copy_from_slice(&(!length).to_le_bytes());
            self.out.keep(&head)?;
            self.out.keep(block)?;
        }
        Ok(())
    }
}

/// Whether compressing is worth it: 3 % and more.
fn shrinks(raw: usize, made: usize) -> bool {
    made * 100 <= raw * 97
}

/// Inflates exactly one member, never more than `raw_limit` bytes, and never much at a time.
///
/// CRC and length in the member's trailer are checked. Errors are `ArchiveCorrupt` without the segment's number, and
/// those of the sink; after one the reader is used up.
pub struct MemberReader {
    stage: Stage,
    header: Header,
    inflate: Inflate,
    room: Box<[u8]>,
    crc32: Crc,
    trailer: Vec<u8>,
    raw_limit: Option<u64>,
    raw_bytes: u64,
    stored_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Body,
    Trailer,
    End,
}

impl MemberReader {
    /// At the begin of a member.
    pub fn new(raw_limit: Option<u64>) -> Self {
        Self {
            stage: Stage::Header,
            header: Header::default(),
            inflate: Inflate::default(),
            room: vec![0; OUTPUT_BYTES].into_boxed_slice(),
            crc32: Crc::new(),
            trailer: Vec::new(),
            raw_limit,
            raw_bytes: 0,
            stored_bytes: 0,
        }
    }

    /// True once the trailer was read and found right.
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::End
    }

    /// Raw bytes that were handed on.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Stored bytes of the member that were fed so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Take stored bytes; raw ones go to `sink` in pieces of at most 256 KiB. Returns how many belong to the member:
    /// fewer than there are only at its end.
    pub fn feed(&mut self, data: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<usize> {
        if self.is_finished() && !data.is_empty() {
            return Err(corrupt("bytes after the end of the gzip member"));
        }
        let mut at = 0;
        if self.stage == Stage::Header {
            at += self.header.feed(data)?;
            if self.header.is_whole() {
                self.stage = Stage::Body;
            }
        }
        if self.stage == Stage::Body {
            at += self.inflate(&data[at..], sink)?;
        }
        if self.stage == Stage::Trailer {
            let step = (data.len() - at).min(TRAILER_BYTES - self.trailer.len());
            self.trailer.extend_from_slice(&data[at..at + step]);
            at += step;
            if self.trailer.len() == TRAILER_BYTES {
                self.check_trailer()?;
                self.stage = Stage::End;
            }
        }
        self.stored_bytes += at as u64;
        Ok(at)
    }

    /// As `feed`, where nothing may stand behind the member.
    pub fn feed_all(&mut self, data: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let used = self.feed(data, sink)?;
        if used < data.len() {
            return Err(corrupt(format!("{} bytes after the end of the gzip member", data.len() - used)));
        }
        Ok(())
    }

    /// Fails unless the whole member was seen.
    pub fn finish(&self) -> Result<()> {
        if self.is_finished() {
            return Ok(());
        }
        Err(corrupt(format!("the gzip member ends early, after {} stored bytes", self.stored_bytes)))
    }

    fn inflate(&mut self, data: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<usize> {
        let mut at = 0;
        loop {
            let step = self.inflate.inflate(&data[at..], &mut self.room).map_err(|error| cannot(error.0))?;
            at += step.used;
            self.raw_bytes += step.made as u64;
            if let Some(limit) = self.raw_limit.filter(|limit| self.raw_bytes > *limit) {
                let what = format!("a gzip member inflates to more than the {limit} bytes it should have");
                return Err(corrupt(what));
            }
            if step.made > 0 {
                let raw = &self.room[..step.made];
                self.crc32.update(raw);
                sink(raw)?;
            }
            if step.is_at_end {
                self.trailer = step.taken_along;
                self.stage = Stage::Trailer;
                return Ok(at);
            }
            if step.made < self.room.len() {
                if at == data.len() {
                    return Ok(at);
                }
                if step.made == 0 && step.used == 0 {
                    return Err(cannot("it does not get on"));
                }
            }
        }
    }

    fn check_trailer(&self) -> Result<()> {
        let (crc, length) = self.trailer.split_at(TRAILER_BYTES / 2);
        if crc != self.crc32.sum().to_le_bytes() {
            return Err(cannot("its checksum is wrong"));
        }
        if length != (self.raw_bytes as u32).to_le_bytes() {
            return Err(cannot("its length is wrong"));
        }
        Ok(())
    }
}

/// The header of a member (RFC 1952), whoever wrote it. Fields are passed over; a header's own checksum is checked.
#[derive(Default)]
struct Header {
    field: Field,
    flags: u8,
    crc: Crc,
    /// Bytes of the present field that came; of all of them but names.
    count: usize,
    extra: u16,
    stated: u16,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    #[default]
    Fixed,
    ExtraLength,
    Extra,
    Name,
    Comment,
    Sum,
    End,
}

const HAS_SUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

impl Header {
    fn is_whole(&self) -> bool {
        self.field == Field::End
    }

    /// Take what belongs to the header; returns how much that is.
    fn feed(&mut self, data: &[u8]) -> Result<usize> {
        for (at, byte) in data.iter().enumerate() {
            if self.is_whole() {
                return Ok(at);
            }
            self.take(*byte)?;
        }
        Ok(data.len())
    }

    fn take(&mut self, byte: u8) -> Result<()> {
        if self.field != Field::Sum {
            self.crc.update(&[byte]);
        }
        let at = self.count;
        self.count += 1;
        match self.field {
            Field::Fixed => {
                if at < 3 && byte != HEADER[at] {
                    return Err(cannot("it has no gzip header"));
                }
                if at == 3 {
                    self.flags = byte;
                    if byte & RESERVED != 0 {
                        return Err(cannot("its header has unknown flags"));
                    }
                }
                if self.count == HEADER.len() {
                    self.next();
                }
            }
            Field::ExtraLength => {
                self.extra |= u16::from(byte) << (8 * at);
                if self.count == 2 {
                    self.next();
                }
            }
            Field::Extra => {
                if self.count == usize::from(self.extra) {
                    self.next();
                }
            }
            Field::Name | Field::Comment => {
                if byte == 0 {
                    self.next();
                }
            }
            Field::Sum => {
                self.stated |= u16::from(byte) << (8 * at);
                if self.count == 2 {
                    if self.stated != self.crc.sum() as u16 {
                        return Err(cannot("the checksum of its header is wrong"));
                    }
                    self.next();
                }
            }
            Field::End => {}
        }
        Ok(())
    }

    /// On to the next field that there is.
    fn next(&mut self) {
        self.count = 0;
        let is_there = |field: Field| match field {
            Field::Fixed => false,
            Field::ExtraLength => self.flags & HAS_EXTRA != 0,
            Field::Extra => self.flags & HAS_EXTRA != 0 && self.extra > 0,
            Field::Name => self.flags & HAS_NAME != 0,
            Field::Comment => self.flags & HAS_COMMENT != 0,
            Field::Sum => self.flags & HAS_SUM != 0,
            Field::End => true,
        };
        let order = [Field::ExtraLength, Field::Extra, Field::Name, Field::Comment, Field::Sum, Field::End];
        let next = order.into_iter().find(|field| *field > self.field && is_there(*field));
        self.field = next.unwrap_or(Field::End);
    }
}

fn cannot(why: &str) -> Error {
    corrupt(format!("a gzip member cannot be inflated: {why}"))
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(Code::ArchiveCorrupt, what)
}

#[cfg(test)]
mod tests;
