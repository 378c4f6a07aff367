//! Restore a `tar.gz` that we did not make: one stream, one thread, nothing taken on trust.
//!
//! Files and directories come first, links last, so no link exists while files are written; every path goes through
//! `beneath`. The end-of-archive blocks must be there: without them a truncated archive looks whole. Left out and
//! counted: devices other than whiteouts, setuid and setgid of files, attributes other than `user.*`.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::path::Path;

use rustix::fs::{fstat, fstatvfs, ftruncate, Dir, FileType};
use rustix::io::Errno;

use crate::abilities::{Abilities, AttributeKind};
use crate::beneath::{split_name, write_all, AtPath, Beneath, Outcome};
use crate::entry::{Entry, Kind, Time};
use crate::error::{show, Code, Error, Result};
use crate::foreign_stream::{Bound, TarStream};
use crate::links::{hand_nothing_down, omitted};
use crate::metadata::{self, Skipped};
use crate::tar::dialects::{corrupt, Member, Members};
use crate::tar::padding_of;

mod late;

use late::Late;

const SET_IDS: u32 = 0o6000;
/// Of kinds that a report tells apart. Attributes have name spaces, and the archive chooses their names.
const MOST_KINDS: usize = 32;
const LONGEST_KIND: usize = 16;

/// What a foreign archive may expand to. `max_bytes` of its tar stream: by default what is free.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_bytes: Option<u64>,
    pub max_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: None, max_entries: 10_000_000 }
    }
}

/// `bytes` of file content; `skipped` counts by kind what could not be carried.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    pub files: u64,
    pub bytes: u64,
    pub skipped: BTreeMap<String, u64>,
}

/// Fill the empty directory `root` from the stored bytes that `chunks` gives; the caller syncs and hands out.
///
/// `spool` is an empty directory for temporary files. `progress` is called now and then.
/// `VolumeConflict` if something is there; `ArchiveCorrupt`, `ArchiveTooLarge`, `NoSpace`, `Unsupported`.
pub fn restore(
    root: &Path,
    spool: &Path,
    limits: Limits,
    chunks: impl FnMut() -> Result<Option<Vec<u8>>>,
    progress: &mut dyn FnMut() -> Result<()>,
) -> Result<Report> {
    let mut beneath = Beneath::open(root).writing(b"")?;
    demand_empty(&beneath, root)?;
    hand_nothing_down(&mut beneath)?;
    let space = fstatvfs(beneath.root()).writing(b"")?;
    let bound = bound_of(limits, space.f_bavail.saturating_mul(space.f_frsize));
    // Whatever this process may do: a stranger's archive makes no device.
    let mut abilities = Abilities::probe(&mut beneath)?;
    abilities.devices = false;
    let home = Home::of(&beneath)?;
    let extraction = Extraction {
        beneath,
        stream: TarStream::new(chunks, bound),
        entries_left: limits.max_entries,
        limits,
        abilities,
        home,
        report: Report::default(),
        skipped: Skipped::new(),
        targets: Targets::default(),
        directories: Late::create(spool.join("foreign-directories"))?,
        links: Late::create(spool.join("foreign-links"))?,
        progress,
    };
    extraction.run()
}

/// A new ext4 brings `lost+found`.
fn demand_empty(beneath: &Beneath, root: &Path) -> Result<()> {
    for found in Dir::read_from(beneath.root()).writing(b"")? {
        let name = found.writing(b"")?;
        if !matches!(name.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            let shown = show(root.as_os_str().as_encoded_bytes());
            return Err(Error::new(Code::VolumeConflict, format!("{shown} is not empty")));
        }
    }
    Ok(())
}

fn bound_of(limits: Limits, free: u64) -> Bound {
    match limits.max_bytes {
        Some(limit) if limit <= free => Bound { limit, code: Code::ArchiveTooLarge },
        _ => Bound { limit: free, code: Code::NoSpace },
    }
}

/// What directories get that the archive does not list.
struct Home {
    uid: u32,
    gid: u32,
    mtime: Time,
}

impl Home {
    fn of(beneath: &Beneath) -> Result<Self> {
        let root = fstat(beneath.root()).writing(b"")?;
        let mtime = Time { seconds: root.st_mtime, nanos: root.st_mtime_nsec as u32 };
        Ok(Self { uid: root.st_uid, gid: root.st_gid, mtime })
    }
}

/// Names that hard links lead to, and which of them were left out. Hashes, under a key that no archive knows: an archive
/// may have millions.
#[derive(Default)]
struct Targets {
    key: RandomState,
    wanted: HashSet<u64>,
    left_out: HashMap<u64, &'static str>,
}

impl Targets {
    fn want(&mut self, path: &[u8]) {
        self.wanted.insert(self.key.hash_one(path));
    }

    fn is_wanted(&self, path: &[u8]) -> bool {
        self.wanted.contains(&self.key.hash_one(path))
    }

    /// Remember it where an archive has further names of it.
    fn leave_out(&mut self, path: &[u8], kind: &'static str) {
        let hash = self.key.hash_one(path);
        if self.wanted.contains(&hash) {
            self.left_out.insert(hash, kind);
        }
    }

    fn left_out(&self, path: &[u8]) -> Option<&'static str> {
        self.left_out.get(&self.key.hash_one(path)).copied()
    }
}

/// One pass over the archive, then the links, then the directories' metadata.
struct Extraction<'a, C> {
    beneath: Beneath,
    stream: TarStream<C>,
    entries_left: u64,
    limits: Limits,
    abilities: Abilities,
    home: Home,
    report: Report,
    skipped: Skipped,
    targets: Targets,
    directories: Late,
    links: Late,
    progress: &'a mut dyn FnMut() -> Result<()>,
}

impl<C: FnMut() -> Result<Option<Vec<u8>>>> Extraction<'_, C> {
    /// All of it. Links and directories wait on disk: an archive may have millions.
    fn run(mut self) -> Result<Report> {
        let mut members = Members::default();
        while let Some(member) = members.next(&mut self.stream)? {
            self.count()?;
            self.member(member)?;
            (self.progress)()?;
        }
        self.stream.end()?;
        self.finish()
    }

    /// An entry, or a directory that none announced: a name of 4 KiB can make two thousand of those.
    fn count(&mut self) -> Result<()> {
        self.entries_left = self.entries_left.checked_sub(1).ok_or_else(|| {
            let most = self.limits.max_entries;
            Error::new(Code::ArchiveTooLarge, format!("the archive has more than {most} entries"))
        })?;
        Ok(())
    }

    fn member(&mut self, member: Member) -> Result<()> {
        let Member { entry, stored, extents, has_acl } = member;
        let entry = self.carried(entry, has_acl);
        if entry.path.is_empty() && entry.kind != Kind::Directory {
            return Err(corrupt("the archive's root is no directory"));
        }
        match entry.kind {
            Kind::Directory => {
                self.make_directories(&entry.path, true)?;
                self.directories.append(&entry)
            }
            Kind::File => self.file(&entry, stored, &extents),
            Kind::Fifo => self.node(&entry, FileType::Fifo),
            Kind::CharacterDevice if omitted(&entry, &self.abilities).is_none() => {
                self.node(&entry, FileType::CharacterDevice)
            }
            _ => {
                if entry.kind == Kind::HardLink {
                    self.targets.want(&entry.target);
                }
                self.links.append(&entry)
            }
        }
    }

    /// The entry without what a stranger's archive may not give; counted.
    fn carried(&mut self, mut entry: Entry, has_acl: bool) -> Entry {
        if has_acl {
            self.skip("acls");
        }
        let can_set = self.abilities.can_set(AttributeKind::User) && entry.kind != Kind::Symlink;
        for (name, value) in std::mem::take(&mut entry.xattrs) {
            if name.starts_with(b"user.") && can_set {
                entry.xattrs.push((name, value));
            } else {
                let kind = self.kind_of(&name);
                self.skip(&kind);
            }
        }
        if entry.mode & SET_IDS != 0 && entry.kind == Kind::File {
            self.skip("setuid");
            entry.mode &= !SET_IDS;
        }
        entry
    }

    fn skip(&mut self, kind: &str) {
        *self.report.skipped.entry(kind.to_owned()).or_default() += 1;
    }

    /// By name space: `trusted_xattrs`. Those that are none, or too many, have one kind together.
    fn kind_of(&self, name: &[u8]) -> String {
        let space = name.split(|byte| *byte == b'.').next().unwrap_or_default();
        let is_plain = space.len() <= LONGEST_KIND && space.iter().all(u8::is_ascii_alphanumeric);
        let kind = format!("{}_xattrs", String::from_utf8_lossy(space));
        let known = &self.report.skipped;
        if is_plain && (known.len() < MOST_KINDS || known.contains_key(&kind)) {
            kind
        } else {
            "other_xattrs".into()
        }
    }

    fn file(&mut self, entry: &Entry, stored: u64, extents: &[(u64, u64)]) -> Result<()> {
        let path = &entry.path;
        self.make_room(path)?;
        let file = self.beneath.create(path).writing(path)?;
        for (offset, length) in extents {
            let mut at = *offset;
            self.stream.pass(*length, &mut |piece| {
                write_all(&file, piece, at).writing(path)?;
                at += piece.len() as u64;
                Ok(())
            })?;
        }
        ftruncate(&file, entry.size).writing(path)?;
        self.stream.skip(padding_of(stored))?;
        metadata::count_skipped(entry, &self.abilities, &mut self.skipped)?;
        metadata::apply_open(&file, entry, &self.abilities)?;
        self.report.files += 1;
        self.report.bytes = self.report.bytes.saturating_add(entry.size); // holes of a stranger's
        Ok(())
    }

    /// A FIFO or a whiteout.
    fn node(&mut self, entry: &Entry, kind: FileType) -> Result<()> {
        self.make_room(&entry.path)?;
        self.beneath.mknod(&entry.path, kind, 0o600, (0, 0)).writing(&entry.path)?;
        metadata::apply(&mut self.beneath, entry, &self.abilities, &mut self.skipped)
    }

    /// The directories above, and no file of that name: a later entry replaces an earlier one, as in every tar.
    fn make_room(&mut self, path: &[u8]) -> Result<()> {
        self.make_directories(split_name(path).0, false)?;
        if self.beneath.lstat(path).writing(path)?.is_none() {
            return Ok(());
        }
        if self.targets.is_wanted(path) {
            return Err(corrupt(format!("{} comes again after a hard link to it", show(path))));
        }
        self.beneath.remove(path).writing(path)
    }

    /// Directories that the archive does not list get the home's owner; if it lists them later, that counts.
    fn make_directories(&mut self, path: &[u8], announced: bool) -> Result<()> {
        if self.is_open_directory(path).writing(path)? {
            return Ok(());
        }
        for made in self.beneath.makedirs(path).writing(path)? {
            if !(announced && made == path) {
                self.count()?;
            }
            let entry = Entry {
                mode: 0o755,
                uid: self.home.uid,
                gid: self.home.gid,
                mtime: self.home.mtime,
                ..Entry::new(made, Kind::Directory)
            };
            self.directories.append(&entry)?;
        }
        Ok(())
    }

    /// Nearly always it is there, and open.
    fn is_open_directory(&mut self, path: &[u8]) -> Outcome<bool> {
        match self.beneath.directory(path) {
            Ok(_) => Ok(true),
            Err(fault) if fault.is(Errno::NOENT) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

#[cfg(test)]
mod tests;
