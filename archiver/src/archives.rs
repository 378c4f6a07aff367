//! Archives made in memory, for tests of what reads them.

use serde_json::json;

use crate::entry::{digest_text, Content, Entry, Kind};
use crate::gzip::MemberWriter;
use crate::segment::{Path64, Piece, Segment, SegmentKind, Totals};
use crate::tar::write::header;
use crate::tar::{padding_of, END_OF_ARCHIVE};

/// What members are made of. `Large`: path, content, and how long its pieces are.
#[derive(Clone, Debug)]
pub enum Part {
    Files(Vec<(Vec<u8>, Vec<u8>)>),
    Large(Vec<u8>, Vec<u8>, usize),
    Tail(Vec<Entry>),
}

/// An archive, and what its manifest would say.
pub struct Made {
    pub stored: Vec<u8>,
    pub segments: Vec<Segment>,
}

impl Made {
    /// The stored bytes of one segment, counted from 0.
    pub fn member(&self, index: usize) -> &[u8] {
        let segment = &self.segments[index];
        &self.stored[segment.offset as usize..(segment.offset + segment.stored_bytes) as usize]
    }

    /// The archive with another member in a place, or none.
    pub fn with(&self, index: usize, member: &[u8]) -> Vec<u8> {
        let members = (0..self.segments.len()).map(|at| if at == index { member } else { self.member(at) });
        members.collect::<Vec<_>>().concat()
    }
}

/// The entry of a file.
pub fn file(path: &[u8], size: usize) -> Entry {
    Entry { mode: 0o644, size: size as u64, ..Entry::new(path, Kind::File) }
}

/// Parts, and a tail that ends with the root and its statement; tails come last.
pub fn make(parts: &[Part]) -> Made {
    let mut archive = Archive { made: Made { stored: Vec::new(), segments: Vec::new() }, totals: Totals::default() };
    for part in parts {
        match part {
            Part::Files(files) => archive.add_files(files),
            Part::Large(path, data, length) => archive.add_large(path, data, *length),
            Part::Tail(entries) => {
                let raw: Vec<u8> = entries.iter().flat_map(|entry| header(entry, None).unwrap()).collect();
                archive.add(SegmentKind::Tail, &raw, entries, None);
            }
        }
    }
    archive.finish()
}

struct Archive {
    made: Made,
    totals: Totals,
}

impl Archive {
    fn add_files(&mut self, files: &[(Vec<u8>, Vec<u8>)]) {
        let (mut raw, mut entries) = (Vec::new(), Vec::new());
        for (path, data) in files {
            let entry = file(path, data.len());
            raw.extend(header(&entry, None).unwrap());
            raw.extend_from_slice(data);
            raw.resize(raw.len() + padding_of(entry.size) as usize, 0);
            entries.push(entry);
        }
        self.add(SegmentKind::Files, &raw, &entries, None);
    }

    fn add_large(&mut self, path: &[u8], data: &[u8], length: usize) {
        let entry = file(path, data.len());
        for (index, part) in data.chunks(length).enumerate() {
            let mut raw = if index == 0 { header(&entry, None).unwrap() } else { Vec::new() };
            let piece = Piece {
                path: Path64(path.to_vec()),
                offset: (index * length) as u64,
                length: part.len() as u64,
                file_bytes: entry.size,
                header_bytes: raw.len() as u64,
                holes: Vec::new(),
            };
            raw.extend_from_slice(part);
            if index * length + part.len() == data.len() {
                raw.resize(raw.len() + padding_of(entry.size) as usize, 0);
            }
            let entries = if index == 0 { std::slice::from_ref(&entry) } else { &[] };
            self.add(SegmentKind::Large, &raw, entries, Some(piece));
        }
    }

    fn add(&mut self, kind: SegmentKind, raw: &[u8], entries: &[Entry], piece: Option<Piece>) {
        let mut writer = MemberWriter::new(Vec::new());
        writer.write(raw).unwrap();
        let (stored, packed) = writer.finish().unwrap();
        for entry in entries {
            self.count(entry);
        }
        let path = |entry: Option<&Entry>| match (&piece, entry) {
            (Some(piece), _) => piece.path.clone(),
            (None, Some(entry)) => Path64(entry.path.clone()),
            (None, None) => Path64::default(),
        };
        self.made.segments.push(Segment {
            kind,
            first: path(entries.first()),
            last: path(entries.last()),
            entries: entries.len() as u64,
            raw_bytes: packed.raw_bytes,
            digest: Some(packed.digest),
            content: entries.iter().map(Content::of).fold(Content::default(), Content::plus),
            offset: self.made.stored.len() as u64,
            stored_bytes: packed.stored_bytes,
            crc64: packed.crc64,
            piece,
        });
        self.made.stored.extend(stored);
    }

    fn count(&mut self, entry: &Entry) {
        let totals = &mut self.totals;
        totals.entries += 1;
        totals.file_bytes += entry.size;
        *match entry.kind {
            Kind::File => &mut totals.files,
            Kind::Directory => &mut totals.directories,
            Kind::Symlink => &mut totals.symlinks,
            Kind::HardLink => &mut totals.hard_links,
            _ => &mut totals.specials,
        } += 1;
    }

    fn finish(mut self) -> Made {
        let links = [Entry { target: b"a".to_vec(), mode: 0o777, ..Entry::new(*b"link", Kind::Symlink) }];
        let root = Entry { mode: 0o755, ..Entry::new(*b"", Kind::Directory) };
        let mut raw: Vec<u8> = links.iter().flat_map(|entry| header(entry, None).unwrap()).collect();
        let entries = [&links[..], std::slice::from_ref(&root)].concat();
        let before = Made { stored: Vec::new(), segments: std::mem::take(&mut self.made.segments) };
        let content = before.segments.iter().map(|segment| segment.content).chain(entries.iter().map(Content::of));
        let mut digests = blake3::Hasher::new();
        for segment in &before.segments {
            digests.update(segment.digest.unwrap().as_bytes());
        }
        for entry in &entries {
            self.count(entry);
        }
        let (counted, stated) =
            (self.totals.clone(), Totals { skipped: [("sockets".into(), 1)].into(), ..self.totals });
        self.totals = counted;
        let statement = json!({
            "format": "codehub-storage",
            "version": 1,
            "origin": {"archive_id": "a1"},
            "totals": stated,
            "content_fingerprint": content.fold(Content::default(), Content::plus).text(),
            "segments": before.segments.len(),
            "segments_digest": digest_text(&digests.finalize()),
            "last_digest": digest_text(&blake3::hash(&raw)),
        });
        raw.extend(header(&root, Some(&statement.to_string())).unwrap());
        raw.extend_from_slice(&END_OF_ARCHIVE);
        self.made.segments = before.segments;
        self.add(SegmentKind::Tail, &raw, &entries, None);
        self.made
    }
}
