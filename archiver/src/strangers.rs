//! For tests: tar headers that no honest tool writes, and gzip files around them.

use std::io::Write as _;

use flate2::write::GzEncoder;
use flate2::Compression;

/// The end-of-archive blocks.
pub const END: [u8; 1024] = [0; 1024];

/// Fields of a header, as they stand there.
#[derive(Clone)]
pub struct Header {
    pub name: Vec<u8>,
    pub kind: u8,
    pub size: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: Vec<u8>,
    pub ids: Vec<u8>,
    pub mtime: Vec<u8>,
    pub magic: Vec<u8>,
    pub prefix: Vec<u8>,
    pub device: Vec<u8>,
    pub checksum: Option<[u8; 8]>,
}

/// A header of this kind, everything else plain.
pub fn header(name: &str, kind: u8) -> Header {
    Header {
        name: name.into(),
        kind,
        size: octal(0),
        link: Vec::new(),
        mode: b"0000644\0".to_vec(),
        ids: b"0000000\0".repeat(2),
        mtime: octal(0),
        magic: b"ustar\x0000".to_vec(),
        prefix: Vec::new(),
        device: b"0000000\0".repeat(2),
        checksum: None,
    }
}

impl Header {
    /// Its block, with a right checksum unless one is given.
    pub fn block(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let fields: [(usize, &[u8]); 11] = [
            (0, &self.name),
            (100, &self.mode),
            (108, &self.ids),
            (124, &self.size),
            (136, &self.mtime),
            (148, b"        "),
            (156, &[self.kind]),
            (157, &self.link),
            (257, &self.magic),
            (329, &self.device),
            (345, &self.prefix),
        ];
        for (at, field) in fields {
            block[at..at + field.len()].copy_from_slice(field);
        }
        seal(&mut block);
        if let Some(checksum) = self.checksum {
            block[148..156].copy_from_slice(&checksum);
        }
        block
    }
}

/// Write the right checksum.
pub fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A number of a size or time field.
pub fn octal(number: u64) -> Vec<u8> {
    format!("{number:011o}\0").into_bytes()
}

/// A number as GNU tar writes it where octal digits do not suffice, or it is negative.
pub fn base256(number: i128, width: usize) -> Vec<u8> {
    let mut field = number.to_be_bytes()[16 - width..].to_vec();
    field[0] = if number < 0 { 0xff } else { 0x80 };
    field
}

/// File data, filled up to whole blocks.
pub fn data(content: &[u8]) -> Vec<u8> {
    let mut data = content.to_vec();
    data.resize(content.len().next_multiple_of(512), 0);
    data
}

/// A regular file.
pub fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let size = octal(content.len() as u64);
    [Header { size, ..header(name, b'0') }.block(), data(content)].concat()
}

/// A header without data behind it.
pub fn node(name: &str, kind: u8, link: &str) -> Vec<u8> {
    Header { link: link.into(), ..header(name, kind) }.block()
}

/// An extended header with these bytes as its records.
pub fn extended(kind: u8, records: &[u8]) -> Vec<u8> {
    [Header { size: octal(records.len() as u64), ..header("./PaxHeaders/x", kind) }.block(), data(records)].concat()
}

/// An extended header of right records.
pub fn pax_of(kind: u8, pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut records = Vec::new();
    for (key, value) in pairs {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        records.extend([format!("{length} {key}=").as_bytes(), value, b"\n"].concat());
    }
    extended(kind, &records)
}

/// The same, for the next entry.
pub fn pax(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    pax_of(b'x', pairs)
}

/// GNU's extension for a long name, or (`K`) a long link target.
pub fn long_name(kind: u8, name: &[u8]) -> Vec<u8> {
    extended(kind, &[name, b"\0"].concat())
}

/// A gzip member.
pub fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut member = GzEncoder::new(Vec::new(), Compression::fast());
    member.write_all(raw).unwrap();
    member.finish().unwrap()
}
