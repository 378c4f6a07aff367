//! For tests: archives that no honest tool writes. Raw tar headers, and segments around arbitrary bytes.

use serde_json::{json, Value};

use crate::abilities::Abilities;
use crate::entry::{Content, Entry, Kind, Time};
use crate::frames::write_frame;
use crate::gzip::MemberWriter;
use crate::segment::{Path64, Piece, Segment, SegmentKind};
use crate::tar::write::header;
use crate::tar::{padding_of, END_OF_ARCHIVE};

/// One header block with anything in it; its checksum is right unless one is given.
#[derive(Clone)]
pub struct Block<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub size: [u8; 12],
    pub link: &'a [u8],
    pub mode: &'a [u8; 8],
    pub ids: [&'a [u8; 8]; 2],
    pub mtime: [u8; 12],
    pub magic: &'a [u8; 8],
    pub prefix: &'a [u8],
    pub device: &'a [u8; 8],
    pub checksum: Option<&'a [u8; 8]>,
}

impl Default for Block<'_> {
    fn default() -> Self {
        Self {
            name: b"f",
            kind: b'0',
            size: octal(0),
            link: b"",
            mode: b"0000644\0",
            ids: [b"0000000\0"; 2],
            mtime: octal(0),
            magic: b"ustar\x0000",
            prefix: b"",
            device: b"0000000\0",
            checksum: None,
        }
    }
}

impl Block<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let mut raw = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, self.name);
        put(100, self.mode);
        put(108, self.ids[0]);
        put(116, self.ids[1]);
        put(124, &self.size);
        put(136, &self.mtime);
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, self.link);
        put(257, self.magic);
        put(329, self.device);
        put(337, self.device);
        put(345, self.prefix);
        let sum: u32 = raw.iter().map(|byte| u32::from(*byte)).sum();
        let right = format!("{sum:06o}\0 ");
        raw[148..156].copy_from_slice(self.checksum.map_or(right.as_bytes(), |given| &given[..]));
        raw
    }
}

/// The field of a size or time.
pub fn octal(number: u64) -> [u8; 12] {
    format!("{number:011o}\0").into_bytes().try_into().unwrap()
}

/// File data, filled up to whole blocks.
pub fn data(content: &[u8]) -> Vec<u8> {
    [content, &vec![0; padding_of(content.len() as u64) as usize]].concat()
}

/// A regular file.
pub fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    [Block { name, size: octal(content.len() as u64), ..Block::default() }.bytes(), data(content)].concat()
}

/// An extended header whose records have right lengths.
pub fn pax(pairs: &[(&[u8], &[u8])], kind: u8) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in pairs {
        let mut length = key.len() + value.len() + 3;
        while length != key.len() + value.len() + 3 + length.to_string().len() {
            length = key.len() + value.len() + 3 + length.to_string().len();
        }
        body.extend([length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat());
    }
    let block = Block { name: b"./PaxHeaders/x", kind, size: octal(body.len() as u64), ..Block::default() };
    [block.bytes(), data(&body)].concat()
}

/// GNU's extension for a long name, or (`K`) a long link target.
pub fn long_name(name: &[u8], kind: u8) -> Vec<u8> {
    let size = octal(name.len() as u64 + 1);
    [Block { name: b"././@LongLink", kind, size, ..Block::default() }.bytes(), data(&[name, b"\0"].concat())].concat()
}

/// An entry of this process's own, at one second.
pub fn entry(path: &[u8], kind: Kind) -> Entry {
    let (uid, gid) = Abilities::default().own_ids();
    Entry { uid, gid, mode: 0o755, mtime: Time { seconds: 1, nanos: 0 }, ..Entry::new(path, kind) }
}

/// A regular file of this size.
pub fn file_entry(path: &[u8], size: usize) -> Entry {
    Entry { size: size as u64, mode: 0o644, ..entry(path, Kind::File) }
}

/// One segment: its raw bytes, and what the manifest shall say of it.
#[derive(Clone)]
pub struct Forged {
    pub segment: Segment,
    pub stored: Vec<u8>,
}

impl Forged {
    /// Its digests are right, whatever is in it.
    pub fn new(kind: &str, raw: &[u8], first: &[u8], last: &[u8], entries: u64) -> Self {
        let mut member = MemberWriter::new(Vec::new());
        member.write(raw).unwrap();
        let (stored, packed) = member.finish().unwrap();
        let kind = match kind {
            "files" => SegmentKind::Files,
            "large" => SegmentKind::Large,
            _ => SegmentKind::Tail,
        };
        let segment = Segment {
            kind,
            first: Path64(first.to_vec()),
            last: Path64(last.to_vec()),
            entries,
            raw_bytes: packed.raw_bytes,
            digest: Some(packed.digest),
            stored_bytes: packed.stored_bytes,
            crc64: packed.crc64,
            ..Segment::default()
        };
        Self { segment, stored }
    }

    /// A segment of one large file.
    pub fn piece(raw: &[u8], piece: Piece) -> Self {
        let path = piece.path.0.clone();
        let mut forged = Self::new("large", raw, &path, &path, u64::from(piece.offset == 0));
        forged.segment.piece = Some(piece);
        forged
    }

    /// Open, data in small payloads, close; as segment `number`.
    pub fn frames(&self, number: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let open = json!({"number": number, "segment": self.segment.to_json(), "is_last": false});
        write_frame(&mut out, json!({ "open": open }), b"").unwrap();
        for payload in self.stored.chunks(1000) {
            write_frame(&mut out, json!({ "data": number }), payload).unwrap();
        }
        write_frame(&mut out, json!({ "close": number }), b"").unwrap();
        out
    }
}

/// A data segment around `raw`.
pub fn files(raw: &[u8], first: &[u8], last: &[u8], entries: u64) -> Forged {
    Forged::new("files", raw, first, last, entries)
}

/// A data segment as we write it.
pub fn honest(of: &[(Entry, &[u8])]) -> Forged {
    let mut raw = Vec::new();
    let mut content = Content::default();
    for (entry, bytes) in of {
        raw.extend(header(entry, None).unwrap());
        raw.extend(data(bytes));
        content = content.plus(Content::of(entry));
    }
    let mut forged = files(&raw, &of[0].0.path, &of[of.len() - 1].0.path, of.len() as u64);
    forged.segment.content = content;
    forged
}

/// A tail with these entries, then the root and the end.
pub fn tail(entries: &[Entry]) -> Forged {
    let root = entry(b"", Kind::Directory);
    let mut raw: Vec<u8> = entries.iter().chain([&root]).flat_map(|entry| header(entry, None).unwrap()).collect();
    raw.extend(END_OF_ARCHIVE);
    Forged::new("tail", &raw, b"", b"", entries.len() as u64 + 1)
}

/// The lines of what a command told.
pub fn told(output: &[u8]) -> Vec<Value> {
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}
