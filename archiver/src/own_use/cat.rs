//! `cat`: one file of an archive. Nothing of it is said before the whole archive is proven.

use std::cmp::Ordering;
use std::io::{stdout, BufWriter, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::{flush, operands, say};
use crate::archive_file::{open, ArchiveFile};
use crate::cli::settle;
use crate::entry::{compare_paths, Kind};
use crate::error::{show, Code, Error, Result};
use crate::parent::Input;
use crate::segment::SegmentKind;
use crate::tar::read::Found;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let [file, wanted] = operands(args, ["FILE", "PATH"], |_| false)?;
    let path = PathBuf::from(file);
    let wanted = wanted.into_vec();
    let file = open(&path)?;
    settle(&[], &[], Input::None)?;
    cat(&ArchiveFile::prove(file, &path)?, &wanted, &mut BufWriter::new(stdout().lock()))
}

/// `wanted` as `list` shows it; a leading `./` is passed over.
pub(super) fn cat(archive: &ArchiveFile, wanted: &[u8], output: &mut impl Write) -> Result<()> {
    let wanted = wanted.strip_prefix(b"./").unwrap_or(wanted);
    if write_file(archive, wanted, output)? {
        return flush(output);
    }
    let mut other = None;
    archive.scan(archive.tail(), &mut |found| {
        match found {
            Found::Entry(entry) if entry.path == wanted => other = Some(entry),
            _ => {}
        }
        Ok(())
    })?;
    let refused = |why: String, hint: &str| Err(Error::new(Code::InvalidInput, why).hint(hint));
    match other {
        Some(entry) if entry.kind == Kind::HardLink && write_file(archive, &entry.target, output)? => flush(output),
        Some(entry) if entry.kind == Kind::Symlink => refused(
            format!("{} is a symbolic link to {}", show(wanted), show(&entry.target)),
            "Name the file that it leads to.",
        ),
        Some(_) => refused(format!("{} is no regular file", show(wanted)), "`extract` brings back all of it."),
        None => refused(format!("{} is not in the archive", show(wanted)), "`list` shows the names that are."),
    }
}

/// The data of a regular file; false where none has that name.
fn write_file(archive: &ArchiveFile, wanted: &[u8], output: &mut impl Write) -> Result<bool> {
    for range in candidates(archive, wanted) {
        let (mut is_here, mut was_here) = (false, false);
        archive.scan(range, &mut |found| match found {
            Found::Entry(entry) => {
                is_here = entry.path == wanted;
                was_here |= is_here;
                Ok(())
            }
            Found::Data(data) if is_here => say(output, data),
            Found::Data(_) => Ok(()),
        })?;
        if was_here {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs of segments that may hold it: those whose range of names has it, or all pieces of a large file.
fn candidates(archive: &ArchiveFile, wanted: &[u8]) -> Vec<Range<u32>> {
    let mut ranges = Vec::<Range<u32>>::new();
    for number in archive.data() {
        let segment = archive.segment(number);
        let is_within = compare_paths(&segment.first.0, wanted) != Ordering::Greater
            && compare_paths(wanted, &segment.last.0) != Ordering::Greater;
        let is_piece = segment.kind == SegmentKind::Large;
        match ranges.last_mut() {
            Some(last) if is_within && is_piece && last.end == number => last.end += 1,
            _ if is_within => ranges.push(number..number + 1),
            _ => {}
        }
    }
    ranges
}
