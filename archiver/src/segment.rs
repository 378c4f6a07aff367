//! Segments as plan, manifest and parent tell them: JSON.
//!
//! A segment is one gzip member of the archive. Those with data come first (runs of whole regular files, or one piece
//! of a large file), the tail last. The manifest is JSON that somebody with access to the bucket may have changed, so
//! what is read here has limits; whether segments fit one another is for the parent to check.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::entry::{digest_text, parse_digest, Content, LONGEST_PATH};
use crate::error::{Code, Error, Result};

/// Above 65,536, which is what this writer notes of one file.
const MOST_HOLES: usize = 1 << 20;
const MOST: u64 = i64::MAX as u64;

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// A run of whole regular files.
    #[default]
    Files,
    /// A piece of one large file.
    Large,
    /// All that is no regular file.
    Tail,
}

/// A name of arbitrary bytes; in JSON standard base64 with padding. Not longer than `LONGEST_PATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path64(pub Vec<u8>);

/// Which bytes of its large file a segment carries.
///
/// The first piece's member opens with the file's tar header (`header_bytes` raw bytes), the last one's ends with the
/// padding to 512. `file_bytes` is the size of the whole file. `holes`: (offset, length) in the file, to be made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub path: Path64,
    #[serde(deserialize_with = "count")]
    pub offset: u64,
    #[serde(deserialize_with = "count")]
    pub length: u64,
    #[serde(deserialize_with = "count")]
    pub file_bytes: u64,
    #[serde(default, deserialize_with = "count")]
    pub header_bytes: u64,
    #[serde(default, deserialize_with = "holes")]
    pub holes: Vec<(u64, u64)>,
}

/// One gzip member.
///
/// `first` and `last` are paths in it; of a piece both are that of its file. `entries` counts headers: 0 for pieces
/// after the first. `raw_bytes`, `digest` and `content` are of the raw side; `offset`, `stored_bytes` and `crc64`
/// (CRC-64/NVME) of the stored one. A plan does not know yet what packing finds: there `digest` is `None`, and the
/// others are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub kind: SegmentKind,
    #[serde(default)]
    pub first: Path64,
    #[serde(default)]
    pub last: Path64,
    #[serde(deserialize_with = "count")]
    pub entries: u64,
    #[serde(default, deserialize_with = "count")]
    pub raw_bytes: u64,
    #[serde(default, with = "digest", skip_serializing_if = "Option::is_none")]
    pub digest: Option<blake3::Hash>,
    #[serde(default, with = "content")]
    pub content: Content,
    #[serde(default, deserialize_with = "count")]
    pub offset: u64,
    #[serde(default, deserialize_with = "count")]
    pub stored_bytes: u64,
    #[serde(default, with = "crc64")]
    pub crc64: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<Piece>,
}

impl Segment {
    /// From a frame of the parent. `InvalidInput` for what is none.
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::deserialize(value)
            .map_err(|error| Error::new(Code::InvalidInput, format!("a segment cannot be read: {error}")))
    }

    /// As frames and the plan's table hold it.
    #[allow(clippy::missing_panics_doc)] // it does not
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a segment has text for keys and nothing else that JSON cannot hold")
    }
}

/// Counts over the whole tree. `skipped` counts by kind what an archive does not carry (sockets, devices).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    #[serde(deserialize_with = "count")]
    pub entries: u64,
    #[serde(deserialize_with = "count")]
    pub files: u64,
    #[serde(deserialize_with = "count")]
    pub directories: u64,
    #[serde(deserialize_with = "count")]
    pub symlinks: u64,
    #[serde(deserialize_with = "count")]
    pub hard_links: u64,
    #[serde(deserialize_with = "count")]
    pub specials: u64,
    #[serde(deserialize_with = "count")]
    pub file_bytes: u64,
    #[serde(deserialize_with = "count")]
    pub raw_bytes: u64,
    #[serde(deserialize_with = "count")]
    pub stored_bytes: u64,
    pub skipped: BTreeMap<String, u64>,
}

impl Serialize for Path64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Path64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        if text.len() > 4 * (LONGEST_PATH / 3 + 1) {
            return Err(D::Error::custom("a path is too long"));
        }
        STANDARD.decode(text.as_bytes()).map(Self).map_err(|_| D::Error::custom("a path is no base64"))
    }
}

/// Numbers that every reader can hold; sums of two do not overflow.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if number > MOST {
        return Err(D::Error::custom("a number is too large"));
    }
    Ok(number)
}

fn holes<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<(u64, u64)>, D::Error> {
    let holes = Vec::<(u64, u64)>::deserialize(deserializer)?;
    if holes.len() > MOST_HOLES || holes.iter().any(|(offset, length)| *offset > MOST || *length > MOST) {
        return Err(D::Error::custom("impossible holes"));
    }
    Ok(holes)
}

/// An optional BLAKE3 digest: text with `b3:` in front, absent or empty before it is known.
mod digest {
    use super::{digest_text, parse_digest, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    #[allow(clippy::ref_option)] // serde's form
    pub fn serialize<S: Serializer>(value: &Option<blake3::Hash>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.as_ref().map(digest_text).unwrap_or_default())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<blake3::Hash>, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        parse_digest(&text).map(Some).ok_or_else(|| D::Error::custom("a digest is none"))
    }
}

/// A content fingerprint as `Content::text` has it; absent or empty: that of nothing.
pub mod content {
    use super::{Content, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
    pub fn serialize<S: Serializer>(value: &Content, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.text())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Content::default());
        }
        Content::parse(&text).ok_or_else(|| D::Error::custom("a content fingerprint is none"))
    }
}

/// 16 hex digits; absent or empty: 0.
mod crc64 {
    use super::{Deserialize, Deserializer, Serializer};
    use crate::crc64;
    use serde::de::Error as _;

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crc64::text(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(0);
        }
        crc64::parse(&text).ok_or_else(|| D::Error::custom("a checksum is none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn segments_come_back() {
        let segment = Segment {
            kind: SegmentKind::Large,
            first: Path64(b"a/\xff".to_vec()),
            last: Path64(b"a/\xff".to_vec()),
            entries: 1,
            raw_bytes: 1536,
            digest: Some(blake3::hash(b"x")),
            content: Content { base: 1, ids: 2, privileged: 3 },
            offset: 7,
            stored_bytes: 99,
            crc64: 0xab,
            piece: Some(Piece { holes: vec![(0, 4096)], file_bytes: 9, ..Piece::default() }),
        };
        let json = segment.to_json();
        assert_eq!(json["first"], "YS//");
        assert_eq!(json["kind"], "large");
        assert_eq!(json["crc64"], "00000000000000ab");
        assert_eq!(json["piece"]["holes"], json!([[0, 4096]]));
        assert_eq!(Segment::from_json(&json).unwrap(), segment);
    }

    #[test]
    fn a_plan_knows_less() {
        let segment = Segment::from_json(&json!({"kind": "tail", "entries": 2, "later": true})).unwrap();
        assert_eq!(segment, Segment { kind: SegmentKind::Tail, entries: 2, ..Segment::default() });
        assert!(segment.to_json().get("digest").is_none());
        assert!(segment.to_json().get("piece").is_none());
    }

    #[test]
    fn what_is_no_segment() {
        let path = "A".repeat(4 * (LONGEST_PATH / 3 + 2));
        for (key, value) in [
            ("kind", json!("Files")),
            ("entries", json!(-1)),
            ("entries", json!(1.5)),
            ("raw_bytes", json!(1u64 << 63)),
            ("first", json!("YQ")),
            ("first", json!("Y Q=")),
            ("first", json!(path)),
            ("digest", json!("b3:00")),
            ("content", json!("0")),
            ("crc64", json!("xyz")),
            ("crc64", json!("+0000000000000ab")),
            ("piece", json!({"path": "", "offset": 0, "length": 0, "file_bytes": -1})),
            ("piece", json!({"path": "", "offset": 0, "length": 0, "file_bytes": 1, "holes": [[0]]})),
        ] {
            let mut json = json!({"kind": "files", "entries": 1});
            json[key] = value;
            assert_eq!(Segment::from_json(&json).unwrap_err().code, Code::InvalidInput, "{key}");
        }
    }

    #[test]
    fn totals_have_defaults() {
        let totals: Totals = serde_json::from_value(json!({"files": 3, "skipped": {"sockets": 1}})).unwrap();
        assert_eq!((totals.files, totals.entries, totals.skipped["sockets"]), (3, 0, 1));
        assert!(serde_json::from_value::<Totals>(json!({"files": u64::MAX})).is_err());
    }
}
