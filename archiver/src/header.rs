//! The tar header at the head of a large file's first piece; what comes behind it is not looked at.

use crate::entry::Entry;
use crate::error::{Code, Error, Result};
use crate::gzip::MemberReader;
use crate::intake::in_segment;
use crate::piece::check_header;
use crate::segment::{Piece, Segment};
use crate::tar::read::{Found, Scanner};

/// Takes stored bytes until it has the header.
pub struct HeaderReader {
    number: u32,
    piece: Piece,
    member: MemberReader,
    scanner: Scanner,
    entry: Option<Entry>,
}

impl HeaderReader {
    /// `InvalidInput` for a segment that is no first piece.
    pub fn new(number: u32, segment: Segment) -> Result<Self> {
        let (raw_bytes, piece) = (segment.raw_bytes, segment.piece);
        let piece = piece.filter(|piece| piece.offset == 0).ok_or_else(|| {
            Error::new(Code::InvalidInput, format!("segment {number} is not the first piece of a file"))
        })?;
        let member = MemberReader::new(Some(raw_bytes));
        Ok(Self { number, piece, member, scanner: Scanner::default(), entry: None })
    }

    /// The next stored bytes.
    pub fn feed(&mut self, stored: &[u8]) -> Result<()> {
        if self.entry.is_some() {
            return Ok(());
        }
        let Self { member, scanner, entry, .. } = self;
        let taken = member.feed_all(stored, &mut |raw| {
            if entry.is_some() {
                return Ok(()); // the rest of the piece, which is data of the file
            }
            scanner.feed(raw, &mut |_, found| {
                if let (Found::Entry(found), None) = (found, &entry) {
                    *entry = Some(found);
                }
                Ok(())
            })
        });
        taken.map_err(|error| in_segment(error, self.number))
    }

    /// `ArchiveCorrupt` where none came, or another file's.
    pub fn finish(self) -> Result<Entry> {
        let corrupt = |why: String| Error::corrupt_segment(self.number, why);
        check_header(self.entry.as_ref(), &self.piece).map_err(corrupt)?;
        self.entry.ok_or_else(|| corrupt("it has no header".into()))
    }
}
