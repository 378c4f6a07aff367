//! One streaming walk over a tree, in archive order, from which plan and fingerprints are made.
//!
//! The order is bytewise by path component, a directory before what it holds. Memory: the names in the directories that
//! are open, and the hard-link groups of which names are still outstanding. The walk opens directories only, never
//! follows a link, and never leaves the file system that it started on.

mod attributes;
mod names;

use std::collections::hash_map::{Entry as Slot, HashMap};
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::beneath::opening_error;
use crate::entry::{put_change, Content, Entry, Kind, Time, LONGEST_PATH};
use crate::error::{show, Code, Error, Result};
use crate::mounts::{nested_mount, refuse_mounts_below};
use attributes::Attributes;
use names::{Listing, Names};

/// Deeper than that the outer directories are closed, and found again through `..`.
pub const MAX_OPEN_DIRECTORIES: usize = 64;

const ROOT: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = ROOT.union(OFlags::NOFOLLOW);
const BATCH_BYTES: usize = 1 << 16;

/// How to walk. `xattrs`: entries bear their extended attributes. `held`: files that somebody has, by device and inode,
/// and who; a walk that meets one ends with `VolumeInUse`.
#[derive(Debug, Default)]
pub struct WalkOptions {
    pub xattrs: bool,
    pub held: HashMap<(u64, u64), String>,
}

/// Every name below `root` in archive order, the root (path empty) first. It ends after an error.
///
/// The first name of a hard-link group comes as what it is, further ones as `HardLink`; a socket, which no archive
/// holds, comes as one under each of its names. Errors: `VolumeUnreadable` and `VolumeChanged`, naming the path,
/// `Unsupported` for a file system that is mounted below the root and for paths beyond `LONGEST_PATH`, `VolumeInUse`
/// for what is held.
pub fn walk(root: &Path, options: WalkOptions) -> Walk {
    Walk {
        root: root.to_owned(),
        options,
        state: State::Before,
        path: Vec::new(),
        open: Vec::new(),
        groups: HashMap::new(),
        listing: Listing::new(),
        attributes: Attributes::new(),
    }
}

/// The state of one walk, see `walk`.
pub struct Walk {
    root: PathBuf,
    options: WalkOptions,
    state: State,
    /// Of the innermost directory, or of the one that is entered next.
    path: Vec<u8>,
    open: Vec<Directory>,
    /// By device and inode: the first name, and how many are still to come.
    groups: HashMap<(u64, u64), (Vec<u8>, u32)>,
    listing: Listing,
    attributes: Attributes,
}

enum State {
    Before,
    /// The entry that was returned last is a directory, with this inode.
    Entering(u64),
    Inside,
    Over,
}

struct Directory {
    fd: Option<OwnedFd>,
    identity: (u64, u64),
    /// Bytes of the walk's path.
    path_length: usize,
    names: Names,
}

impl Iterator for Walk {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if !matches!(step, Some(Ok(_))) {
            self.state = State::Over;
            self.open.clear();
        }
        step
    }
}

impl Walk {
    fn step(&mut self) -> Result<Option<Entry>> {
        match self.state {
            State::Over => return Ok(None),
            State::Before => {
                self.state = State::Inside;
                return self.enter_root().map(Some);
            }
            State::Entering(inode) => {
                self.state = State::Inside;
                self.enter(inode)?;
            }
            State::Inside => {}
        }
        loop {
            let Some(directory) = self.open.last_mut() else { return Ok(None) };
            if directory.names.advance() {
                let entry = self.look()?;
                if entry.kind == Kind::Directory {
                    self.path.clear();
                    self.path.extend_from_slice(&entry.path);
                    self.state = State::Entering(entry.inode);
                }
                return Ok(Some(entry));
            }
            self.leave()?;
        }
    }

    fn enter_root(&mut self) -> Result<Entry> {
        let reading = |errno| Error::reading(b"", errno);
        let fd = rustix::fs::open(&self.root, ROOT, Mode::empty()).map_err(reading)?;
        let status = status_of(fd.as_fd(), c"").map_err(reading)?;
        self.check_unused(b"", &status)?;
        refuse_mounts_below(&fd)?;
        let names = self.listing.read(fd.as_fd()).map_err(reading)?;
        let mut entry = entry_of(Vec::new(), Kind::Directory, &status);
        if self.options.xattrs {
            entry.xattrs = self.attributes.of_open(fd.as_fd()).map_err(reading)?;
        }
        self.attributes.stand_in(fd.as_fd());
        self.open.push(Directory { fd: Some(fd), identity: identity_of(&status), path_length: 0, names });
        Ok(entry)
    }

    /// The entry of the innermost directory's current name.
    fn look(&mut self) -> Result<Entry> {
        let Some(Directory { fd: Some(fd), names, .. }) = self.open.last() else { return Err(lost()) };
        let name = names.current();
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.to_bytes().len());
        if !self.path.is_empty() {
            path.extend_from_slice(&self.path);
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        if path.len() > LONGEST_PATH {
            return Err(too_deep(&path));
        }
        let status = status_of(fd.as_fd(), name).map_err(|errno| Error::reading(&path, errno))?;
        if !self.options.held.is_empty() {
            self.check_unused(&path, &status)?;
        }
        // Even one that came after the list of mounts was read.
        if status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(nested_mount(&path));
        }
        let kind = kind_of(&status)
            .ok_or_else(|| Error::new(Code::VolumeUnreadable, format!("{}: of no known kind", show(&path))))?;
        if status.stx_nlink > 1 && !matches!(kind, Kind::Directory | Kind::Socket) {
            if let Some(first) = first_name(&mut self.groups, &path, &status) {
                return Ok(Entry { target: first, ..entry_of(path, Kind::HardLink, &status) });
            }
        }
        let mut entry = entry_of(path, kind, &status);
        let rest = (|| {
            if kind == Kind::Symlink {
                entry.target = rustix::fs::readlinkat(fd, name, Vec::new())?.into_bytes();
            }
            if self.options.xattrs {
                entry.xattrs = self.attributes.of_name(name)?;
            }
            Ok(())
        })();
        rest.map_err(|errno| Error::reading(&entry.path, errno))?;
        Ok(entry)
    }

    fn check_unused(&self, path: &[u8], status: &Statx) -> Result<()> {
        match self.options.held.get(&identity_of(status)) {
            None => Ok(()),
            Some(holder) => {
                let message = format!("{} is used by {holder}", show(path));
                let error = Error::new(Code::VolumeInUse, message).detail("path", show(path));
                Err(error.detail("users", vec![holder.clone()]))
            }
        }
    }

    /// Open the directory at the walk's path, which must still be what was returned.
    fn enter(&mut self, inode: u64) -> Result<()> {
        let reading = |errno| Error::reading(&self.path, errno);
        let Some(Directory { fd: Some(parent), identity, path_length, .. }) = self.open.last() else {
            return Err(lost());
        };
        let name = &self.path[if *path_length == 0 { 0 } else { path_length + 1 }..];
        let fd = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty());
        let fd = fd.map_err(|errno| opening_error(parent.as_fd(), name, &self.path, inode, errno))?;
        let status = status_of(fd.as_fd(), c"").map_err(reading)?;
        if identity_of(&status).0 != identity.0 {
            return Err(nested_mount(&self.path));
        }
        if status.stx_ino != inode {
            return Err(Error::changed(&self.path, "was replaced while it was read"));
        }
        let names = self.listing.read(fd.as_fd()).map_err(reading)?;
        self.attributes.stand_in(fd.as_fd());
        let path_length = self.path.len();
        self.open.push(Directory { fd: Some(fd), identity: identity_of(&status), path_length, names });
        if let Some(outer) = self.open.len().checked_sub(MAX_OPEN_DIRECTORIES + 1) {
            self.open[outer].fd = None;
        }
        Ok(())
    }

    /// The innermost directory has no more names.
    fn leave(&mut self) -> Result<()> {
        let Some(Directory { fd: Some(left), .. }) = self.open.pop() else { return Err(lost()) };
        let Some(parent) = self.open.last_mut() else { return Ok(()) };
        self.path.truncate(parent.path_length);
        if parent.fd.is_none() {
            let reading = |errno| Error::reading(&self.path, errno);
            let fd = rustix::fs::openat(&left, c"..", DIRECTORY, Mode::empty());
            let inode = parent.identity.1;
            let fd = fd.map_err(|errno| opening_error(left.as_fd(), c"..", &self.path, inode, errno))?;
            if identity_of(&status_of(fd.as_fd(), c"").map_err(reading)?) != parent.identity {
                return Err(Error::changed(&self.path, "was moved while it was read"));
            }
            parent.fd = Some(fd);
        }
        if let Some(fd) = &parent.fd {
            self.attributes.stand_in(fd.as_fd());
        }
        Ok(())
    }
}

/// The change fingerprint: one BLAKE3 over all names in archive order.
#[derive(Default)]
pub struct ChangeDigest {
    digest: blake3::Hasher,
    batch: Vec<u8>,
}

impl ChangeDigest {
    /// Take the next entry.
    pub fn add(&mut self, entry: &Entry) {
        put_change(&mut self.batch, entry);
        if self.batch.len() >= BATCH_BYTES {
            self.digest.update(&self.batch);
            self.batch.clear();
        }
    }

    /// As summaries and records hold it.
    pub fn text(mut self) -> String {
        self.digest.update(&self.batch);
        crate::entry::digest_text(&self.digest.finalize())
    }
}

/// Did anything move? A walk without extended attributes; comparable under one volume uid only. Errors: `walk`.
///
/// `progress` gets the number of each entry.
pub fn change_fingerprint(root: &Path, options: WalkOptions, progress: &mut dyn FnMut(u64)) -> Result<String> {
    let mut digest = ChangeDigest::default();
    for (number, entry) in (1..).zip(walk(root, WalkOptions { xattrs: false, ..options })) {
        digest.add(&entry?);
        progress(number);
    }
    Ok(digest.text())
}

/// What the tree holds, for a comparison with what an archive says: sockets, which none holds, count. Errors: `walk`.
pub fn content_fingerprint(root: &Path, progress: &mut dyn FnMut(u64)) -> Result<Content> {
    let mut total = Content::default();
    for (number, entry) in (1..).zip(walk(root, WalkOptions { xattrs: true, ..WalkOptions::default() })) {
        total = total.plus(Content::of(&entry?));
        progress(number);
    }
    Ok(total)
}

/// The first name of this file's group, or `None` if this is it.
fn first_name(groups: &mut HashMap<(u64, u64), (Vec<u8>, u32)>, path: &[u8], status: &Statx) -> Option<Vec<u8>> {
    match groups.entry(identity_of(status)) {
        Slot::Vacant(slot) => {
            slot.insert((path.to_vec(), status.stx_nlink - 1));
            None
        }
        Slot::Occupied(mut slot) if slot.get().1 > 1 => {
            slot.get_mut().1 -= 1;
            Some(slot.get().0.clone())
        }
        Slot::Occupied(slot) => Some(slot.remove().0),
    }
}

/// Of a name in an open directory, a link not followed; of the directory itself where the name is empty.
fn status_of(directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)
}

/// Device and inode, the device as `st_dev` has it.
fn identity_of(status: &Statx) -> (u64, u64) {
    (rustix::fs::makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino)
}

fn kind_of(status: &Statx) -> Option<Kind> {
    Some(match FileType::from_raw_mode(status.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Unknown => return None,
    })
}

fn entry_of(path: Vec<u8>, kind: Kind, status: &Statx) -> Entry {
    let (mtime, ctime) = (status.stx_mtime, status.stx_ctime);
    Entry {
        mode: u32::from(status.stx_mode) & 0o7777,
        uid: status.stx_uid,
        gid: status.stx_gid,
        size: if kind == Kind::File { status.stx_size } else { 0 },
        mtime: Time { seconds: mtime.tv_sec, nanos: mtime.tv_nsec },
        device: if kind.is_device() { (status.stx_rdev_major, status.stx_rdev_minor) } else { (0, 0) },
        inode: status.stx_ino,
        ctime: Time { seconds: ctime.tv_sec, nanos: ctime.tv_nsec },
        ..Entry::new(path, kind)
    }
}

fn too_deep(path: &[u8]) -> Error {
    Error::new(Code::Unsupported, format!("{}: a path of more than {LONGEST_PATH} bytes", show(path)))
        .hint("Move what is so deep further up, or remove it.")
        .detail("path", show(path))
}

/// A fault of this module: the innermost directory is always open.
fn lost() -> Error {
    Error::reading(b"", Errno::BADF)
}

#[cfg(test)]
mod tests;
