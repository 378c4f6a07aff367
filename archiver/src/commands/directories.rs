//! `directories`: the first step of a restore. It demands an empty volume with room enough, and makes all directories.
//!
//! Fed with the tail's segments, in order. Tells the abilities that later steps need (`--abilities`), and how many
//! directories it made.

use std::io::{stdin, stdout, BufRead, Write};
use std::path::Path;

use rustix::fs::fstatvfs;
use serde_json::{json, Value};

use crate::abilities::Abilities;
use crate::beneath::{AtPath, Beneath};
use crate::cli::{required, settle};
use crate::entry::Kind;
use crate::error::{Code, Error, Result};
use crate::frames::write_frame;
use crate::lanes::{run_in_order, Lane};
use crate::links::{make_directory, prepare_root};
use crate::parent::Input;
use crate::segment::Segment;
use crate::tailreader::TailReader;
use crate::volume::{number, Volume};

/// What the archive needs, expanded: bytes without holes, and inodes. 0: not asked.
///
/// Slack of the last blocks is not counted, so a volume as full as its source is not refused; the writers still meet
/// `NoSpace` where this was too friendly. `directories`: of these, each takes a block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    pub bytes: u64,
    pub inodes: u64,
    pub directories: u64,
}

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let (mut name, mut need) = (None, Need::default());
    let volume = Volume::parse(args, |option, value| {
        match option {
            "name" => name = Some(value.to_string_lossy().into_owned()),
            "need-bytes" => need.bytes = number(option, value)?,
            "need-inodes" => need.inodes = number(option, value)?,
            "need-directories" => need.directories = number(option, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let name = required(name, "name")?;
    settle(&[], &[&volume.root], Input::Frames)?;
    directories(&volume.root, &name, need, stdin().lock(), stdout().lock())
}

pub(super) fn directories(
    root: &Path,
    name: &str,
    need: Need,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<()> {
    let (mut maker, abilities) = Maker::begin(root, name, need)?;
    run_in_order(input, &mut output, &mut maker)?;
    let report = json!({"directories": maker.finish()?});
    write_frame(&mut output, json!({"report": report, "abilities": abilities.to_json()}), b"")
}

/// The most that a new directory is charged with: a block of ext4.
const DIRECTORY_BYTES: u64 = 4096;

/// `NoSpace` if the file system cannot hold it. Asked before a byte is written: then a full volume is an answer, not an
/// accident.
fn demand_room(beneath: &Beneath, name: &str, need: Need) -> Result<()> {
    let space = fstatvfs(beneath.root()).writing(b"")?;
    let demand = |what: &str, needed: u64, free: u64| {
        if needed <= free {
            return Ok(());
        }
        let message = format!("the archive needs {needed} {what} and {name} has {free}");
        Err(Error::new(Code::NoSpace, message).detail("what", what).detail("needed", needed).detail("free", free))
    };
    // What a network's file system calls a block may be of 1 MiB or 4, and a directory there takes none.
    let directory_bytes = space.f_frsize.min(DIRECTORY_BYTES);
    let needed = need.bytes.saturating_add(need.directories.saturating_mul(directory_bytes));
    demand("bytes", needed, space.f_bavail.saturating_mul(space.f_frsize))?;
    if space.f_files == 0 {
        return Ok(()); // btrfs and others make inodes as they go
    }
    demand("inodes", need.inodes, space.f_favail)
}

/// Takes the tail's segments, in order.
pub(crate) struct Maker {
    beneath: Beneath,
    reader: TailReader,
    directories: u64,
}

impl Maker {
    /// In a volume that is empty and has room, or this is an error; with what may be set there.
    pub(crate) fn begin(root: &Path, name: &str, need: Need) -> Result<(Self, Abilities)> {
        let mut beneath = Beneath::open(root).writing(b"")?;
        demand_room(&beneath, name, need)?;
        prepare_root(&mut beneath, name)?;
        let abilities = Abilities::probe(&mut beneath)?;
        Ok((Self { beneath, reader: TailReader::default(), directories: 0 }, abilities))
    }

    /// All of the tail came; returns how many directories there are.
    pub(crate) fn finish(&self) -> Result<u64> {
        self.reader.finish()?;
        Ok(self.directories)
    }
}

impl Lane for Maker {
    fn open(&mut self, number: u32, segment: Segment, _is_last: bool) -> Result<()> {
        self.reader.open(number, segment)
    }

    fn data(&mut self, payload: &[u8]) -> Result<()> {
        let Self { beneath, reader, directories } = self;
        reader.data(payload, &mut |entry| {
            *directories += u64::from(entry.kind == Kind::Directory);
            make_directory(beneath, entry)
        })
    }

    fn close(&mut self) -> Result<Value> {
        self.reader.close()?;
        Ok(json!({}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::{entry, tail, Forged};

    fn run_with(root: &Path, need: Need, tail: &Forged) -> Result<Vec<Value>> {
        let mut output = Vec::new();
        directories(root, "the volume", need, &tail.frames(1)[..], &mut output)?;
        Ok(crate::hostile::told(&output))
    }

    #[test]
    fn directories_are_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let tail = tail(&[entry(b"a/b/c", Kind::Directory), entry(b"a/b", Kind::Directory)]);
        for _ in 0..2 {
            let told = run_with(dir.path(), Need::default(), &tail).unwrap();
            let last = told.last().unwrap();
            assert_eq!(last["report"]["directories"], 3);
            Abilities::from_json(&last["abilities"]).unwrap();
            assert!(dir.path().join("a/b/c").is_dir());
        }
        std::fs::write(dir.path().join("a/x"), b"").unwrap();
        assert_eq!(run_with(dir.path(), Need::default(), &tail).unwrap_err().code, Code::VolumeConflict);
    }

    #[test]
    fn a_volume_without_room_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let tail = tail(&[entry(b"a", Kind::Directory)]);
        for need in [
            Need { bytes: 1 << 60, ..Need::default() },
            Need { directories: 1 << 60, ..Need::default() },
            Need { inodes: 1 << 60, ..Need::default() },
        ] {
            let error = run_with(dir.path(), need, &tail).unwrap_err();
            assert_eq!(error.code, Code::NoSpace);
            assert!(error.details["needed"].as_u64() > error.details["free"].as_u64());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        run_with(dir.path(), Need { bytes: 1, inodes: 1, directories: 1 }, &tail).unwrap();
    }

    #[test]
    fn a_tail_without_an_end_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        for raw in [&b""[..], &[0; 512]] {
            let tail = Forged::new("tail", raw, b"", b"", 0);
            let error = run_with(dir.path(), Need::default(), &tail).unwrap_err();
            assert_eq!((error.code, error.details["segment"].as_u64()), (Code::ArchiveCorrupt, Some(1)));
        }
        let mut output = Vec::new();
        let error = directories(dir.path(), "v", Need::default(), &b""[..], &mut output).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt);
    }
}
