//! What an archive says about itself, in the pax `comment` of its very last entry, the root.
//!
//! A manifest may have been changed along with the archive; this has to be changed too before they agree again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{json, Value};

use crate::entry::{parse_digest, Content};
use crate::error::{Code, Error, Result};
use crate::segment::Totals;
use crate::tar::read::Scan;

const NEWEST: u64 = 1;

/// The fields as `tail` writes them.
#[derive(Debug, Deserialize)]
pub struct Statement {
    format: String,
    version: u64,
    totals: Totals,
    #[serde(with = "crate::segment::content")]
    content_fingerprint: Content,
    segments: u64,
    segments_digest: String,
    last_digest: String,
    /// As it stands there.
    #[serde(skip)]
    pub all: Value,
}

impl Statement {
    /// From the records of an archive's last entry; `None` if there is none of ours. `Unsupported` for a later version.
    pub fn find(last: &Scan, is_root: bool) -> Result<Option<Self>> {
        let comment = last.records.get(&b"comment"[..]).filter(|_| is_root);
        let read = comment.and_then(|comment| {
            let all = serde_json::from_slice::<Value>(comment).ok()?;
            let read = Self::deserialize(&all).ok().filter(|read| read.format == "codehub-storage")?;
            Some(Self { all, ..read })
        });
        match read {
            Some(Self { version, .. }) if version > NEWEST => {
                Err(Error::new(Code::Unsupported, format!("the archive is of the later version {version}")))
            }
            read => Ok(read),
        }
    }

    /// As `find`; `ArchiveCorrupt` if there is none of ours.
    pub fn read(last: &Scan, is_root: bool) -> Result<Self> {
        Self::find(last, is_root)?.ok_or_else(|| corrupt("the archive ends without a statement of ours"))
    }

    /// What a parent compares with its manifest. It is short, whatever an archive states.
    pub fn to_compare(&self) -> Value {
        json!({
            "totals": Totals { skipped: BTreeMap::new(), ..self.totals.clone() },
            "content_fingerprint": self.content_fingerprint.text(),
            "segments": self.segments,
        })
    }

    /// How many segments come before the last one, the digest over theirs, and the content of all: as stated?
    pub fn check(&self, before: u64, digests: &blake3::Hasher, content: Content) -> Result<()> {
        as_stated("number of segments", self.segments == before)?;
        as_stated("digest of segments", parse_digest(&self.segments_digest) == Some(digests.finalize()))?;
        as_stated("content fingerprint", self.content_fingerprint == content)
    }

    /// Of the last segment's raw bytes before the header of the last entry: as stated?
    pub fn check_last(&self, before: &blake3::Hasher) -> Result<()> {
        as_stated("digest of the last segment", parse_digest(&self.last_digest) == Some(before.finalize()))
    }

    /// All counts but that of what was skipped: as stated?
    pub fn check_counts(&self, found: &Totals) -> Result<()> {
        as_stated("counts", Totals { skipped: found.skipped.clone(), ..self.totals.clone() } == *found)
    }
}

fn as_stated(what: &str, is_so: bool) -> Result<()> {
    if is_so {
        return Ok(());
    }
    Err(corrupt(format!("the {what} is not what the archive's tail states")))
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(Code::ArchiveCorrupt, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(comment: &str, is_root: bool) -> Result<Option<Statement>> {
        let records = [(b"comment".to_vec(), comment.as_bytes().to_vec())].into();
        Statement::find(&Scan { records, ..Scan::default() }, is_root)
    }

    fn stated(format: &str, version: u64) -> String {
        json!({
            "format": format,
            "version": version,
            "totals": {},
            "content_fingerprint": "",
            "segments": 0,
            "segments_digest": "",
            "last_digest": "",
        })
        .to_string()
    }

    #[test]
    fn ours_is_told_from_others() {
        assert!(find(&stated("codehub-storage", 1), true).unwrap().is_some());
        for (comment, is_root) in
            [(stated("codehub-storage", 1), false), (stated("other", 9), true), ("x".into(), true), ("{}".into(), true)]
        {
            assert!(find(&comment, is_root).unwrap().is_none(), "{comment}");
        }
        assert_eq!(find(&stated("codehub-storage", 2), true).unwrap_err().code, Code::Unsupported);
    }
}
