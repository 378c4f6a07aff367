//! `extract`: all of an archive into a directory, and then the directory compared with it.
//!
//! What the service does in several processes this does in one: the walls are the same, but the comparison is the word
//! of a process that has read the archive.

use std::fs::{create_dir, File};
use std::io::{stdout, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use super::{flush, operands, say};
use crate::abilities::Abilities;
use crate::archive_file::{open, ArchiveFile};
use crate::beneath::{AtPath, Beneath};
use crate::cli::{cpus, settle};
use crate::commands::differences::Looker;
use crate::commands::directories::{Maker, Need};
use crate::commands::finish::Finisher;
use crate::entry::Content;
use crate::error::{show, Code, Error, Result};
use crate::lanes::lock;
use crate::metadata::Skipped;
use crate::mounts;
use crate::parent::Input;
use crate::segment::SegmentKind;
use crate::unpack::Unpacker;
use crate::walk::content_fingerprint;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let [path, root] = operands(args, ["FILE", "DIR"], |_| false)?.map(PathBuf::from);
    let file = open(&path)?;
    make(&root)?;
    mounts::keep_open()?;
    settle(&[], &[&root], Input::None)?;
    let archive = ArchiveFile::prove(file, &path)?;
    let extracted = extract(&archive, &root, cpus());
    let skipped = extracted.map_err(|error| match (error.code, &error.hint) {
        (Code::VolumeConflict, _) => error.hint("Name an empty directory, or one that is not there yet."),
        (_, None) => error.hint("What the directory holds now is not whole: remove it, and begin again."),
        _ => error,
    })?;
    let mut output = stdout().lock();
    let (files, bytes) = (archive.totals.files, archive.totals.file_bytes);
    say(&mut output, format!("extracted and compared: {files} files, {bytes} bytes\n").as_bytes())?;
    for (kind, count) in skipped {
        say(&mut output, format!("could not be set or made here: {count} {kind}\n").as_bytes())?;
    }
    flush(&mut output)
}

fn make(root: &Path) -> Result<()> {
    match create_dir(root) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            let shown = show(root.as_os_str().as_encoded_bytes());
            Err(Error::new(Code::InvalidInput, format!("{shown}: {error}")))
        }
        _ => Ok(()),
    }
}

/// Returns what this process could not set or make, by kind. `VolumeConflict` where something is there already.
pub(super) fn extract(archive: &ArchiveFile, root: &Path, threads: usize) -> Result<Skipped> {
    let shown = show(root.as_os_str().as_encoded_bytes());
    let found = &archive.totals;
    let need = Need {
        bytes: 0, // of holes nothing is known here
        inodes: found.files + found.directories + found.symlinks + found.specials,
        directories: found.directories,
    };
    let (mut maker, abilities) = Maker::begin(root, &shown, need)?;
    for number in archive.tail() {
        archive.feed(number, &mut maker)?;
    }
    maker.finish()?;

    let skipped = Mutex::new(Skipped::new());
    let make = || Ok(Box::new(Unpacker::new(root, abilities.clone())?) as Box<dyn crate::lanes::Lane>);
    archive.feed_lanes(archive.data(), threads, make, |report| add(&mut lock(&skipped), &report["skipped"]))?;

    let mut finisher = Finisher::new(Beneath::open(root).writing(b"")?, abilities.clone());
    for number in archive.data().filter(|number| is_first_piece(archive, *number)).chain(archive.tail()) {
        archive.feed(number, &mut finisher)?;
    }
    finisher.demand_end()?;
    let mut skipped = skipped.into_inner().unwrap_or_default();
    for (kind, count) in finisher.maker.skipped() {
        *skipped.entry(kind).or_default() += count;
    }

    let there = content_fingerprint(root, &mut |_| ())?.plus(finisher.maker.left_out());
    if !agree(archive.content, there, &abilities) {
        return Err(difference(archive, root, abilities));
    }
    let directory = File::open(root).map_err(|error| Error::new(Code::BackendUnavailable, error.to_string()))?;
    rustix::fs::syncfs(&directory).writing(b"")?;
    Ok(skipped)
}

/// Equal as far as this process may set what was archived.
fn agree(archived: Content, there: Content, abilities: &Abilities) -> bool {
    archived.base == there.base
        && (!abilities.owners || archived.ids == there.ids)
        && (!abilities.all_privileged() || archived.privileged == there.privileged)
}

fn is_first_piece(archive: &ArchiveFile, number: u32) -> bool {
    let segment = archive.segment(number);
    segment.kind == SegmentKind::Large && segment.piece.as_ref().is_some_and(|piece| piece.offset == 0)
}

/// Which path was not extracted as archived.
fn difference(archive: &ArchiveFile, root: &Path, abilities: Abilities) -> Error {
    let found = || {
        let mut looker = Looker::new(Beneath::open(root).writing(b"")?, abilities);
        for number in archive.data().chain(archive.tail()) {
            archive.feed(number, &mut looker)?;
        }
        looker.finish(root, &mut |_| ())
    };
    match found() {
        Ok(Some(found)) => {
            let message = format!("{} was not extracted as archived: {}", show(&found.path), found.why);
            Error::new(Code::ArchiveCorrupt, message)
        }
        Ok(None) => Error::new(Code::ArchiveCorrupt, "what was extracted is not what was archived"),
        Err(error) => error,
    }
}

fn add(skipped: &mut Skipped, said: &Value) {
    for (kind, count) in said.as_object().into_iter().flatten() {
        let known = ["owners", "trusted_xattrs", "security_xattrs"].into_iter().find(|known| known == kind);
        *skipped.entry(known.unwrap_or("others")).or_default() += count.as_u64().unwrap_or(0);
    }
}
