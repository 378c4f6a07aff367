//! The stored bytes of one segment on their way in: inflated and handed on as they come, and proven at the end.

use crate::crc64::Crc64;
use crate::error::{Code, Error, Result};
use crate::gzip::MemberReader;
use crate::segment::Segment;

/// Takes the stored bytes of one segment; its raw ones are proven when `finish` says so, and not before.
pub struct Intake {
    number: u32,
    segment: Segment,
    member: MemberReader,
    digest: blake3::Hasher,
    crc64: Crc64,
    stored_bytes: u64,
}

impl Intake {
    /// At the segment's begin.
    pub fn new(number: u32, segment: Segment) -> Self {
        let member = MemberReader::new(Some(segment.raw_bytes));
        let (digest, crc64) = (blake3::Hasher::new(), Crc64::default());
        Self { number, segment, member, digest, crc64, stored_bytes: 0 }
    }

    /// Which segment it is; counts from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What the manifest says of it.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The next stored bytes; raw ones go to `sink`. `ArchiveCorrupt` names the segment, the sink's as well.
    pub fn feed(&mut self, stored: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.crc64.update(stored);
        self.stored_bytes += stored.len() as u64;
        let digest = &mut self.digest;
        let taken = self.member.feed_all(stored, &mut |raw| {
            digest.update(raw);
            sink(raw)
        });
        taken.map_err(|error| in_segment(error, self.number))
    }

    /// All bytes have come: `ArchiveCorrupt` unless they are those that the manifest names.
    pub fn finish(&self) -> Result<()> {
        self.member.finish().map_err(|error| in_segment(error, self.number))?;
        let segment = &self.segment;
        let found = (self.member.raw_bytes(), self.stored_bytes, self.crc64.sum(), Some(self.digest.finalize()));
        if found != (segment.raw_bytes, segment.stored_bytes, segment.crc64, segment.digest) {
            return Err(Error::corrupt_segment(self.number, "its bytes are not those that were archived"));
        }
        Ok(())
    }
}

/// `ArchiveCorrupt` that names no segment yet names this one; other errors stay as they are.
pub fn in_segment(error: Error, number: u32) -> Error {
    if error.code != Code::ArchiveCorrupt || error.details.contains_key("segment") {
        return error;
    }
    Error { details: error.details, hint: error.hint, ..Error::corrupt_segment(number, error.message) }
        .detail("segment", number)
}
