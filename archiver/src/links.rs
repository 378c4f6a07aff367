//! Making what is in the tail: directories before any file, links and specials after all of them, directories' metadata
//! last.
//!
//! Each step may run again after it was cut off: what is there and right stays.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use rustix::fs::{makedev, statat, unlinkat, AtFlags, Dir, FileType};
use rustix::io::Errno;

use crate::abilities::Abilities;
use crate::beneath::{AtPath, Beneath, Outcome};
use crate::entry::{Content, Entry, Kind, ACL_ACCESS, ACL_DEFAULT};
use crate::error::{show, Code, Error, Result};
use crate::metadata::{self, Skipped};

/// An empty directory, 0700, that hands no default ACL and no group down. `VolumeConflict` if it holds any file.
///
/// Directories may be there: an attempt that was cut off has made them. A new ext4 brings `lost+found`; it goes.
pub fn prepare_root(beneath: &mut Beneath, name: &str) -> Result<()> {
    match unlinkat(beneath.root(), "lost+found", AtFlags::REMOVEDIR) {
        Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ACCESS | Errno::PERM) => {}
        outcome => outcome.writing(b"lost+found")?,
    }
    demand_directories_only(beneath, name)?;
    hand_nothing_down(beneath)?;
    beneath.removexattr(b"", ACL_ACCESS).writing(b"")?;
    beneath.chmod(b"", 0o700).writing(b"")
}

/// No default ACL on the root: whatever is made below would inherit it, and hand its rights to others.
pub fn hand_nothing_down(beneath: &mut Beneath) -> Result<()> {
    beneath.removexattr(b"", ACL_DEFAULT).writing(b"")
}

/// The directory, 0700, and those above it; its metadata come last of all. Other kinds are passed over.
pub fn make_directory(beneath: &mut Beneath, entry: &Entry) -> Result<()> {
    if entry.kind == Kind::Directory {
        beneath.makedirs(&entry.path).writing(&entry.path)?;
    }
    Ok(())
}

/// Makes links and specials and gives directories their metadata, in the tail's order.
///
/// What this process may not make (devices, whiteouts), together with further names of it, is counted, and added up as
/// content, so that the comparison knows what cannot be there.
pub struct TailMaker {
    beneath: Beneath,
    abilities: Abilities,
    skipped: Skipped,
    left_out: LeftOut,
}

impl TailMaker {
    /// Below the root of `beneath`.
    pub fn new(beneath: Beneath, abilities: Abilities) -> Self {
        let left_out = LeftOut::new(&abilities);
        Self { beneath, abilities, skipped: Skipped::new(), left_out }
    }

    /// What was not carried so far, by kind.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// The content of what this process could not make.
    pub fn left_out(&self) -> Content {
        self.left_out.content
    }

    /// One entry of the tail.
    pub fn make(&mut self, entry: &Entry) -> Result<()> {
        if let Some(kind) = self.left_out.takes(entry) {
            metadata::count(&mut self.skipped, kind);
            return Ok(());
        }
        metadata::count_skipped(entry, &self.abilities, &mut self.skipped)?;
        self.again_if_denied(entry, Self::make_once)
    }

    /// Metadata of a large file that is whole: its pieces set none, since they come in any order.
    pub fn finish_file(&mut self, entry: &Entry) -> Result<()> {
        metadata::count_skipped(entry, &self.abilities, &mut self.skipped)?;
        self.again_if_denied(entry, |this, entry| metadata::set(&mut this.beneath, entry, &this.abilities))
    }

    /// An attempt before this one may have given directories their modes, and these may keep even their owner out. They
    /// get them again: in the tail directories come last, and the outer ones behind those within.
    fn again_if_denied(&mut self, entry: &Entry, step: impl Fn(&mut Self, &Entry) -> Result<()>) -> Result<()> {
        match step(self, entry) {
            Err(error) if error.code == Code::AccessDenied && !self.abilities.is_root() => {
                for path in [&entry.path, &entry.target] {
                    if entry.kind != Kind::Symlink || path == &entry.path {
                        let _ = self.beneath.open_way(path); // what fails, fails again below
                    }
                }
                step(self, entry)
            }
            outcome => outcome,
        }
    }

    fn make_once(&mut self, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        match entry.kind {
            Kind::HardLink => return self.link(entry),
            Kind::Directory => {}
            _ => match self.make_node(entry) {
                // An earlier attempt made it: then it stays, with all its names. Anything else there is in the way.
                Err(fault) if fault.is(Errno::EXIST) && self.is_there(entry).writing(path)? => {}
                outcome => outcome.writing(path)?,
            },
        }
        metadata::set(&mut self.beneath, entry, &self.abilities)
    }

    fn link(&mut self, entry: &Entry) -> Result<()> {
        let Err(fault) = self.beneath.link(&entry.path, &entry.target) else { return Ok(()) };
        let target = self.beneath.lstat(&entry.target).writing(&entry.target)?;
        let is_directory = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
        let Some(target) = target.filter(|target| !is_directory(target.st_mode)) else {
            let message = format!("the hard link {} leads to no file", show(&entry.path));
            return Err(Error::new(Code::ArchiveCorrupt, message));
        };
        let there = self.beneath.lstat(&entry.path).writing(&entry.path)?;
        if there.is_some_and(|there| (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino)) {
            return Ok(());
        }
        Err(fault).writing(&entry.path)
    }

    fn make_node(&mut self, entry: &Entry) -> Outcome<()> {
        match node_type(entry.kind) {
            FileType::Symlink => self.beneath.symlink(&entry.path, &entry.target),
            kind => self.beneath.mknod(&entry.path, kind, 0o600, entry.device),
        }
    }

    fn is_there(&mut self, entry: &Entry) -> Outcome<bool> {
        let Some(there) = self.beneath.lstat(&entry.path)? else { return Ok(false) };
        if FileType::from_raw_mode(there.st_mode) != node_type(entry.kind) {
            return Ok(false);
        }
        if entry.kind == Kind::Symlink {
            return Ok(self.beneath.readlink(&entry.path)? == entry.target);
        }
        Ok(!entry.kind.is_device() || there.st_rdev == makedev(entry.device.0, entry.device.1))
    }
}

/// `devices` or `whiteouts` for one that this process may not make, as what is skipped is counted.
pub fn omitted(entry: &Entry, abilities: &Abilities) -> Option<&'static str> {
    if !entry.kind.is_device() {
        return None;
    }
    if entry.is_whiteout() {
        return if abilities.whiteouts { None } else { Some("whiteouts") };
    }
    if abilities.devices {
        None
    } else {
        Some("devices")
    }
}

/// Which entries of the tail cannot be made here. To be asked in order.
pub struct LeftOut {
    abilities: Abilities,
    names: HashMap<Vec<u8>, &'static str>,
    /// The sum over them.
    pub content: Content,
}

impl LeftOut {
    /// For a process of these abilities.
    pub fn new(abilities: &Abilities) -> Self {
        Self { abilities: abilities.clone(), names: HashMap::new(), content: Content::default() }
    }

    /// `devices` or `whiteouts` where none may be made, also for a further name of one; `None`: make it.
    pub fn takes(&mut self, entry: &Entry) -> Option<&'static str> {
        let kind = match entry.kind {
            Kind::HardLink => self.names.get(&entry.target).copied(),
            _ => omitted(entry, &self.abilities),
        }?;
        self.names.insert(entry.path.clone(), kind);
        self.content = self.content.plus(Content::of(entry));
        Some(kind)
    }
}

/// Of the kinds that `TailMaker` makes.
fn node_type(kind: Kind) -> FileType {
    match kind {
        Kind::Symlink => FileType::Symlink,
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        // No such entry gets here: `TailReader` lets no file pass, and no archive has a socket.
        Kind::File | Kind::HardLink | Kind::Directory | Kind::Socket => FileType::Unknown,
    }
}

/// Links count as files, whatever they lead to; the directories may be as deep as they like.
fn demand_directories_only(beneath: &mut Beneath, name: &str) -> Result<()> {
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        for (found, is_directory) in list(beneath.directory(&path).writing(&path)?).writing(&path)? {
            let below = if path.is_empty() { found } else { [&path[..], b"/", &found].concat() };
            if !is_directory {
                let message = format!("{name} is not empty: {} is there", show(&below));
                return Err(Error::new(Code::VolumeConflict, message));
            }
            pending.push(below);
        }
    }
    Ok(())
}

/// Names in a directory, and whether each is one.
fn list(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<(Vec<u8>, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            known => known,
        };
        found.push((name.to_vec(), kind == FileType::Directory));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
