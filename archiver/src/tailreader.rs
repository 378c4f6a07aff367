//! Reading the tail: entries that are no files, handed on one by one as they stream past.

use serde_json::Value;

use crate::beneath::check_clean;
use crate::entry::{Entry, Kind};
use crate::error::{show, Code, Error, Result};
use crate::intake::{in_segment, Intake};
use crate::segment::{Segment, SegmentKind};
use crate::statement::Statement;
use crate::tar::read::{Found, Scanner};

/// Takes all tail segments in turn.
///
/// `ArchiveCorrupt` for files, unclean names, links that come after directories, and a tail without its end.
#[derive(Default)]
pub struct TailReader {
    scanner: Scanner,
    in_directories: bool,
    at_root: bool,
    intake: Option<Intake>,
    number: u32,
}

impl TailReader {
    /// The next tail segment begins.
    pub fn open(&mut self, number: u32, segment: Segment) -> Result<()> {
        if segment.kind != SegmentKind::Tail {
            return Err(Error::new(Code::InvalidInput, format!("segment {number} is none of the tail")));
        }
        self.number = number;
        self.intake = Some(Intake::new(number, segment));
        Ok(())
    }

    /// Its next stored bytes; `on_entry` gets the entries in them.
    pub fn data(&mut self, stored: &[u8], on_entry: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
        let Self { scanner, in_directories, at_root, intake, .. } = self;
        let intake = intake.as_mut().ok_or_else(not_open)?;
        intake.feed(stored, &mut |raw| {
            read(scanner, in_directories, raw, &mut |entry| {
                *at_root = entry.path.is_empty();
                on_entry(entry)
            })
        })
    }

    /// All of it came.
    pub fn close(&mut self) -> Result<()> {
        self.intake.take().ok_or_else(not_open)?.finish()
    }

    /// All tail segments have come, and with them the end of the archive.
    pub fn finish(&self) -> Result<()> {
        if self.scanner.ended() {
            return Ok(());
        }
        let error = Error::new(Code::ArchiveCorrupt, "the tail has no end-of-archive blocks");
        Err(if self.number == 0 { error } else { in_segment(error, self.number) })
    }

    /// What the last entry states about the archive, to be compared; `Null` if that is no statement of ours.
    pub fn statement(&self) -> Result<Value> {
        Ok(Statement::find(self.scanner.scan(), self.at_root)?.map_or(Value::Null, |stated| stated.to_compare()))
    }
}

fn read(
    scanner: &mut Scanner,
    in_directories: &mut bool,
    raw: &[u8],
    on_entry: &mut dyn FnMut(&Entry) -> Result<()>,
) -> Result<()> {
    scanner.feed(raw, &mut |_, found| match found {
        Found::Entry(entry) => {
            check(&entry, in_directories)?;
            on_entry(&entry)
        }
        Found::Data(_) => Ok(()), // what has data is a file, and was refused
    })
}

fn check(entry: &Entry, in_directories: &mut bool) -> Result<()> {
    let corrupt = |why: &str| Err(Error::new(Code::ArchiveCorrupt, format!("{} {why}", show(&entry.path))));
    if !entry.path.is_empty() || entry.kind != Kind::Directory {
        check_clean(&entry.path)?;
    }
    if entry.target.contains(&0) {
        return corrupt("leads to an impossible name");
    }
    if entry.kind == Kind::Directory {
        *in_directories = true;
    } else if entry.kind == Kind::File || *in_directories {
        return corrupt("does not belong into the tail");
    }
    Ok(())
}

fn not_open() -> Error {
    Error::new(Code::InvalidInput, "no segment of the tail is open")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archives;
    use crate::hostile::{entry, file, long_name, octal, pax, tail, Block, Forged};
    use crate::tar::write::header;
    use crate::tar::END_OF_ARCHIVE;

    fn read_tail(forged: &Forged) -> Result<Vec<Entry>> {
        let (mut reader, mut found) = (TailReader::default(), Vec::new());
        reader.open(9, forged.segment.clone())?;
        for payload in forged.stored.chunks(100) {
            reader.data(payload, &mut |entry| {
                found.push(entry.clone());
                Ok(())
            })?;
        }
        reader.close()?;
        reader.finish()?;
        Ok(found)
    }

    #[test]
    fn an_honest_tail_comes_in_order() {
        let link = Entry { target: b"x".to_vec(), ..entry(b"l", Kind::Symlink) };
        let of = [link, entry(b"d", Kind::Directory)];
        let found = read_tail(&tail(&of)).unwrap();
        assert_eq!(found, [&of[..], &[entry(b"", Kind::Directory)]].concat());
    }

    #[test]
    fn what_does_not_belong_into_a_tail_is_corrupt() {
        let root = header(&entry(b"", Kind::Directory), None).unwrap();
        let of = |kind: u8, name: &'static [u8]| Block { name, kind, ..Block::default() };
        let behind = |head: Vec<u8>| [&head[..], &root, &END_OF_ARCHIVE].concat();
        let directory = of(b'5', b"d").bytes();
        for (what, raw) in [
            ("absolute directory", behind(of(b'5', b"/tmp/evil").bytes())),
            ("directory outside", behind(of(b'5', b"../evil").bytes())),
            ("parent alone", behind(of(b'5', b"..").bytes())),
            ("dot component", behind(of(b'5', b"./a/./b").bytes())),
            ("empty component", behind(of(b'5', b"a//b").bytes())),
            ("NUL in a name", behind([pax(&[(b"path", b"a\0b")], b'x'), directory.clone()].concat())),
            ("NUL in a target", behind([pax(&[(b"linkpath", b"x\0y")], b'x'), of(b'2', b"l").bytes()].concat())),
            ("overlong component", behind([pax(&[(b"path", &[b'n'; 256])], b'x'), directory.clone()].concat())),
            ("endless path", behind([pax(&[(b"path", &b"n/".repeat(1_000_000))], b'x'), directory.clone()].concat())),
            ("link after a directory", behind([directory.clone(), of(b'2', b"l").bytes()].concat())),
            ("link over the root", behind(Block { link: b"..", ..of(b'2', b"./") }.bytes())),
            ("link behind the root", [&root[..], &of(b'2', b"l").bytes(), &END_OF_ARCHIVE].concat()),
            ("a file", behind(file(b"f", b"evil"))),
            ("unknown type", behind(of(b'Q', b"f").bytes())),
            ("GNU sparse file", behind(of(b'S', b"f").bytes())),
            ("GNU long name out", behind([long_name(b"../../evil", b'L'), directory.clone()].concat())),
            ("global path", behind([pax(&[(b"path", b"../../evil")], b'g'), directory.clone()].concat())),
            ("extended header of a gigabyte", behind(Block { size: octal(1 << 30), ..of(b'x', b"x") }.bytes())),
            ("wrong checksum", behind(Block { checksum: Some(b"0000000\0"), ..of(b'5', b"d") }.bytes())),
            (
                "owner below zero",
                behind(Block { ids: [b"\xff\xff\xff\xff\xff\xff\xff\xfe"; 2], ..of(b'5', b"d") }.bytes()),
            ),
            ("device that is no number", behind(Block { device: b"sda     ", ..of(b'4', b"d") }.bytes())),
            ("no end", root.clone()),
            ("half an end", [&root[..], &[0; 512]].concat()),
            ("more behind the end", [&root[..], &END_OF_ARCHIVE, &file(b"f", b"")].concat()),
            ("cut in a header", root[..300].to_vec()),
            ("nothing", Vec::new()),
        ] {
            match read_tail(&Forged::new("tail", &raw, b"", b"", 1)) {
                Ok(found) => panic!("{what}: {found:?}"),
                Err(error) => {
                    assert_eq!(error.code, Code::ArchiveCorrupt, "{what}: {}", error.message);
                    assert_eq!(error.details["segment"], 9, "{what}");
                }
            }
        }
    }

    #[test]
    fn data_segments_are_wrong_input() {
        let made = archives::make(&[]);
        let mut reader = TailReader::default();
        reader.open(1, made.segments[0].clone()).unwrap();
        reader.data(made.member(0), &mut |_| Ok(())).unwrap();
        reader.close().unwrap();
        reader.finish().unwrap();
        assert_eq!(reader.statement().unwrap()["segments"], 0);
        assert_eq!(reader.close().unwrap_err().code, Code::InvalidInput);
        assert_eq!(reader.open(2, Segment::default()).unwrap_err().code, Code::InvalidInput);
    }
}
