//! The checks of `fuzz/` without its tools: mutations of sound bytes, from one seed, for `FUZZ_SECONDS` each (default 1).
//!
//! A panic is a broken promise; what was given last is kept in the directory of temporary files.

use std::panic::{catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use codehub_archive::entry::{Entry, Kind};
use codehub_archive::gzip::MemberWriter;
use codehub_archive::segment::Segment;
use codehub_archive::tar::write::header;
use codehub_archive::tar::END_OF_ARCHIVE;

#[path = "../fuzz/checks/foreign.rs"]
mod foreign;
#[path = "../fuzz/checks/frames.rs"]
mod frames;
#[path = "../fuzz/checks/gzip.rs"]
mod gzip;
#[path = "../fuzz/checks/rebuild.rs"]
mod rebuild;
#[path = "../fuzz/checks/segment.rs"]
mod segment;
#[path = "../fuzz/checks/tar.rs"]
mod tar;

const LONGEST: usize = 1 << 16;
/// What parsers of these formats look for.
const WORDS: [&[u8]; 12] = [
    b"\x1f\x8b\x08\0",
    b"ustar\0",
    b"00",
    b"ustar  \0",
    b"path=",
    b"\n30 mtime=1.5\n",
    b"GNU.sparse.major=1\n",
    b"../",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"{\"bytes\":",
    b"77777777777",
];

/// xorshift: as good as it must be, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// One of the seeds with up to eight changes.
    fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            let at = self.below(data.len() + 1);
            match self.below(7) {
                0 if at < data.len() => data[at] ^= 1 << self.below(8),
                1 if at < data.len() => data[at] = self.below(256) as u8,
                2 => data.truncate(at),
                3 => drop(data.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
                4 => {
                    let word = WORDS[self.below(WORDS.len())];
                    let end = data.len().min(at + word.len());
                    data[at..end].copy_from_slice(&word[..end - at]);
                }
                5 => {
                    // Another seed's blocks, or its own again.
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() / 512 + 1) * 512;
                    let blocks = other[from..].iter().take(512 * (1 + self.below(4))).copied();
                    let at = at / 512 * 512;
                    drop(data.splice(at..at, blocks));
                }
                _ => {
                    let end = (at + self.below(512)).min(data.len());
                    data.drain(at..end);
                }
            }
        }
        data.truncate(LONGEST);
        data
    }
}

fn hold(name: &str, check: fn(&[u8]), seeds: &[Vec<u8>]) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (start, mut chance, mut count) = (Instant::now(), Chance(0x9e37_79b9_7f4a_7c15), 0_u64);
    for seed in seeds {
        check(seed);
    }
    while start.elapsed() < Duration::from_secs(seconds) {
        let data = chance.mutated(seeds);
        if let Err(panic) = catch_unwind(|| check(&data)) {
            let kept = std::env::temp_dir().join(format!("codehub-archive-{name}.bin"));
            std::fs::write(&kept, &data).unwrap();
            println!("{name}: broken by {}", kept.display());
            resume_unwind(panic);
        }
        count += 1;
    }
    println!("{name}: {count} examples");
}

fn entries() -> Vec<Entry> {
    let long = "directory/".repeat(30) + "file";
    let attributes = vec![(b"user.a=b".to_vec(), b"\0value\n".to_vec())];
    vec![
        Entry { mode: 0o755, ..Entry::new(*b"a", Kind::Directory) },
        Entry { size: 5, xattrs: attributes, ..Entry::new(*b"a/file", Kind::File) },
        Entry { size: 5, ..Entry::new(long.into_bytes(), Kind::File) },
        Entry { target: b"a/file".to_vec(), ..Entry::new(*b"a/link", Kind::HardLink) },
        Entry { target: vec![b't'; 300], ..Entry::new(*b"soft", Kind::Symlink) },
        Entry::new(*b"pipe", Kind::Fifo),
    ]
}

/// Raw archives: whole, of one entry each, and with the records of GNU's sparse files.
fn raw() -> Vec<Vec<u8>> {
    let mut each: Vec<Vec<u8>> = Vec::new();
    for entry in entries() {
        let mut bytes = header(&entry, None).unwrap();
        if entry.size > 0 {
            bytes.extend(b"bytes");
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        each.push(bytes);
    }
    let whole = [each.concat(), END_OF_ARCHIVE.to_vec()].concat();
    each.push(whole);
    each
}

fn members() -> Vec<Vec<u8>> {
    let pack = |bytes: &Vec<u8>| {
        let mut writer = MemberWriter::new(Vec::new());
        writer.write(bytes).unwrap();
        writer.finish().unwrap().0
    };
    raw().iter().map(pack).collect()
}

#[test]
fn tar_streams() {
    hold("tar", tar::check, &raw());
}

#[test]
fn foreign_archives() {
    hold("foreign", foreign::check, &raw());
}

#[test]
fn rebuilt_archives() {
    hold("rebuild", rebuild::check, &raw());
}

#[test]
fn gzip_members() {
    hold("gzip", gzip::check, &members());
}

#[test]
fn frames_of_the_parent() {
    let frame: &[u8] = b"{\"open\":{\"number\":1}}\n{\"data\":1,\"bytes\":4}\nfull{\"close\":1}\n";
    hold("frames", frames::check, &[frame.to_vec()]);
}

#[test]
fn segments() {
    let json = Segment::default().to_json().to_string().into_bytes();
    let seeds: Vec<_> = members().into_iter().map(|member| [&json[..], b"\n", &member].concat()).collect();
    hold("segment", segment::check, &seeds);
}
