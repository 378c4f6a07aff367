//! The tail: everything that is no file's data, and the archive's statement about itself.
//!
//! Symbolic links, further names of hard links and specials come first, then all directories, those inside before the
//! outer, the root at the very end. The root's extended header carries a pax `comment` with the statement: what the
//! archive was made from, and digests over all raw bytes before it. Plain readers ignore it; an archive without its
//! manifest is proven by it.

use serde::Serialize;
use serde_json::Value;

use crate::entry::{digest_text, Content};
use crate::error::{Code, Error, Result};
use crate::gzip::MemberWriter;
use crate::pack::{finish, Chunks, Taker};
use crate::plan::cut::raw_size;
use crate::plan::table::{json, Planned};
use crate::plan::{Plan, TailCuts};
use crate::segment::Totals;
use crate::tar::write::header;
use crate::tar::END_OF_ARCHIVE;

const BATCH_BYTES: usize = 1 << 18;

/// What stands in the pax comment of the archive's last entry.
///
/// `segments`: how many come before the last one. `segments_digest`: BLAKE3 over their digests (32 bytes each, in
/// order). `last_digest`: BLAKE3 of the last segment's raw bytes before the header of its last entry.
#[derive(Serialize)]
struct Statement<'a> {
    format: &'static str,
    version: u32,
    origin: &'a Value,
    totals: &'a Totals,
    #[serde(with = "crate::segment::content")]
    content_fingerprint: Content,
    segments: usize,
    segments_digest: String,
    last_digest: String,
}

/// Pack the tail's segments, one after the other, and tell them.
///
/// `origin`: what the archive says about where it comes from. `before`: the digest of each data segment, in order.
pub fn pack_tail(plan: &Plan, origin: &Value, before: &[blake3::Hash], teller: &impl Taker) -> Result<()> {
    let mut segments = plan.segments(before.len() as u32 + 1)?;
    let mut next = || segments.next().transpose()?.filter(|planned| !planned.is_data()).ok_or_else(other_tail);
    let mut digests = blake3::Hasher::new();
    for digest in before {
        digests.update(digest.as_bytes());
    }
    let (mut current, mut cuts) = (OpenSegment::new(next()?), TailCuts::new(plan.tail_bytes));
    for spooled in plan.tail_entries()? {
        let entry = spooled?.entry;
        if cuts.begins_with(raw_size(&entry)?) {
            let done = std::mem::replace(&mut current, OpenSegment::new(next()?));
            digests.update(done.close(teller)?.as_bytes());
        }
        let comment = if entry.path.is_empty() {
            let statement = Statement {
                format: "codehub-storage",
                version: 1,
                origin,
                totals: &plan.summary.totals,
                content_fingerprint: plan.summary.content_fingerprint,
                segments: current.planned.number as usize - 1,
                segments_digest: digest_text(&digests.finalize()),
                last_digest: digest_text(&current.digest.finalize()),
            };
            let text = String::from_utf8(json(&statement)?);
            Some(text.map_err(|_| Error::new(Code::MoverFailed, "the statement is no text"))?)
        } else {
            None
        };
        current.write(&header(&entry, comment.as_deref())?)?;
        teller.moved(0);
    }
    current.write(&END_OF_ARCHIVE)?;
    current.close(teller)?;
    match segments.next() {
        None => Ok(()),
        Some(_) => Err(other_tail()),
    }
}

fn other_tail() -> Error {
    Error::new(Code::MoverFailed, "the plan's table has another tail than its spools")
}

/// A tail segment that still takes entries.
struct OpenSegment {
    planned: Planned,
    member: MemberWriter<Chunks>,
    batch: Vec<u8>,
    digest: blake3::Hasher,
}

impl OpenSegment {
    fn new(planned: Planned) -> Self {
        let member = MemberWriter::new(Chunks::default());
        Self { planned, member, batch: Vec::new(), digest: blake3::Hasher::new() }
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.digest.update(data);
        self.batch.extend_from_slice(data);
        if self.batch.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Tell it; returns the digest of its raw bytes.
    fn close(mut self, teller: &impl Taker) -> Result<blake3::Hash> {
        self.flush()?;
        let member = finish(self.member, &self.planned)?;
        let digest = member.packed.digest;
        teller.moved(member.packed.raw_bytes);
        teller.tell(member)?;
        Ok(digest)
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.member.write(&self.batch);
        self.batch.clear();
        written.map_err(|error| Error::new(Code::MoverFailed, format!("the compressor: {error}")))
    }
}
