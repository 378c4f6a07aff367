//! File operations that cannot leave one directory, whatever the names say.
//!
//! A restore writes names that somebody else chose. Every parent directory is resolved by `openat2` with
//! `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, and the last component is used only with calls that do not follow a
//! link. Names are bytes.

use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    self, Access, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::entry::{is_clean_path, Time, LONGEST_PATH, NAME_MAX};
use crate::error::{show, Code, Error, Result};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// `NONBLOCK`: a FIFO in the file's place is an error and does not wait for a reader.
const SHARED_FILE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);
const READ_FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const PINNED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);
const OWNER_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Paths longer than `PATH_MAX` are resolved in stretches of at most this many bytes.
const STRETCH: usize = 4000;
const KEPT_DIRECTORIES: usize = 32;

/// Why a call failed: the kernel's error, or `ArchiveCorrupt` for a name that no call was made for.
#[derive(Debug)]
pub enum Fault {
    Kernel(Errno),
    Unclean(Error),
}

impl Fault {
    /// True for this error of the kernel.
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Kernel(found) if *found == errno)
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Unclean(error)
    }
}

/// What the methods of `Beneath` return.
pub type Outcome<T> = std::result::Result<T, Fault>;

/// Translates errors of the kernel into those of this program, by what was done at `path`.
pub trait AtPath<T> {
    /// It was written.
    fn writing(self, path: &[u8]) -> Result<T>;
    /// It was read, and is part of a volume that must not change.
    fn reading(self, path: &[u8]) -> Result<T>;
}

impl<T> AtPath<T> for Outcome<T> {
    fn writing(self, path: &[u8]) -> Result<T> {
        self.map_err(|fault| match fault {
            Fault::Kernel(errno) => Error::writing(path, errno),
            Fault::Unclean(error) => error,
        })
    }

    fn reading(self, path: &[u8]) -> Result<T> {
        self.map_err(|fault| match fault {
            Fault::Kernel(errno) => Error::reading(path, errno),
            Fault::Unclean(error) => error,
        })
    }
}

impl<T> AtPath<T> for rustix::io::Result<T> {
    fn writing(self, path: &[u8]) -> Result<T> {
        self.map_err(|errno| Error::writing(path, errno))
    }

    fn reading(self, path: &[u8]) -> Result<T> {
        self.map_err(|errno| Error::reading(path, errno))
    }
}

/// A descriptor of `path` below the open `directory`. `XDEV` and `LOOP` for a way out or a link.
///
/// It crosses no mount either: a volume is one file system.
pub fn open_beneath(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    #[cfg(test)]
    if crate::down::now().beneath {
        return fs::openat(directory, path, flags | OFlags::CLOEXEC, mode);
    }
    loop {
        match fs::openat2(directory, path, flags | OFlags::CLOEXEC, mode, RESOLVE) {
            // AGAIN: a rename somewhere on the machine raced with the kernel's check; it asks to be called again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// As `Error::reading`, of a name that could not be opened to be read, and had this inode when it was found.
///
/// Landlock says `ACCESS` of all that was moved out of the root, as a mode does; `faccessat` knows modes alone. So
/// what it lets pass has moved.
pub fn opening_error(at: BorrowedFd<'_>, name: impl Arg + Copy, path: &[u8], inode: u64, errno: Errno) -> Error {
    if errno != Errno::ACCESS {
        return Error::reading(path, errno);
    }
    let is_it = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| found.st_ino == inode);
    let refusal = fs::accessat(at, name, Access::READ_OK, AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW);
    Error::reading(path, if is_it && refusal.is_err() { errno } else { Errno::NOENT })
}

/// `ArchiveCorrupt` for a relative name that no archive of a directory contains.
///
/// Refused: empty, absolute, `.`, `..`, empty components, NUL, components beyond 255 bytes, endless ones.
pub fn check_clean(path: &[u8]) -> Result<()> {
    if is_clean_path(path) {
        return Ok(());
    }
    let message = if path.len() > LONGEST_PATH {
        format!("the archive holds an endless name: {}...", show(&path[..NAME_MAX]))
    } else {
        format!("the archive holds the unsafe name '{}'", if path.is_empty() { String::new() } else { show(path) })
    };
    Err(Error::new(Code::ArchiveCorrupt, message))
}

/// As `check_clean`, for the methods of `Beneath`: whoever calls them has asked before, or not.
fn check_own(path: &[u8]) -> Result<()> {
    #[cfg(test)]
    if crate::down::now().beneath {
        return Ok(());
    }
    check_clean(path)
}

/// All of `data` at `offset`.
pub fn write_all(file: impl AsFd, mut data: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !data.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&file, data, offset))?;
        data = &data[written..];
        offset += written as u64;
    }
    Ok(())
}

/// The path of its directory (empty: the root), and its last component.
pub fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|byte| *byte == b'/').map_or((&[], path), |at| (&path[..at], &path[at + 1..]))
}

/// One directory and what is below it. For one thread: parents are kept open and reused.
///
/// The empty name is the directory itself where a method says so.
pub struct Beneath {
    root: OwnedFd,
    /// By path, the one that was used last at the end.
    kept: Vec<(Vec<u8>, OwnedFd)>,
}

impl Beneath {
    /// The directory `root` itself must be no link.
    pub fn open(root: &Path) -> rustix::io::Result<Self> {
        let root = fs::open(root, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { root, kept: Vec::new() })
    }

    /// The directory itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// An open descriptor of the directory `path` (empty: the root).
    pub fn directory(&mut self, path: &[u8]) -> Outcome<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if let Some(at) = self.kept.iter().rposition(|(kept, _)| kept == path) {
            self.kept[at..].rotate_left(1);
        } else {
            check_own(path)?;
            let fd = self.open_far(path, DIRECTORY)?;
            if self.kept.len() == KEPT_DIRECTORIES {
                self.kept.remove(0);
            }
            self.kept.push((path.to_vec(), fd));
        }
        Ok(self.kept[self.kept.len() - 1].1.as_fd())
    }

    /// The open parent of `path` and its last component.
    pub fn split<'path>(&mut self, path: &'path [u8]) -> Outcome<(BorrowedFd<'_>, &'path [u8])> {
        check_own(path)?;
        let (parent, name) = split_name(path);
        Ok((self.directory(parent)?, name))
    }

    /// From its parent, if that is open: a chain of directories that is made from the top takes one step for each.
    fn open_far(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let (parent, name) = split_name(path);
        if let Some((_, parent)) = self.kept.iter().rev().find(|(kept, _)| kept == parent) {
            return open_beneath(parent.as_fd(), name, flags, Mode::empty());
        }
        let (mut at, mut rest) = (None::<OwnedFd>, path);
        loop {
            let (stretch, after) = take_stretch(rest);
            let from = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            let fd = open_beneath(from, stretch, if after.is_empty() { flags } else { DIRECTORY }, Mode::empty())?;
            if after.is_empty() {
                return Ok(fd);
            }
            (at, rest) = (Some(fd), after);
        }
    }

    /// What is there, links not followed; `None` where nothing is.
    pub fn lstat(&mut self, path: &[u8]) -> Outcome<Option<Stat>> {
        let (parent, name) = match self.split(path) {
            Err(fault) if fault.is(Errno::NOENT) => return Ok(None),
            outcome => outcome?,
        };
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            outcome => Ok(Some(outcome?)),
        }
    }

    /// Make a directory, 0700; true if it was missing. Anything else under that name is `EXIST`.
    pub fn mkdir(&mut self, path: &[u8]) -> Outcome<bool> {
        let (parent, name) = self.split(path)?;
        match fs::mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let there = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
                if is_directory {
                    Ok(false)
                } else {
                    Err(Errno::EXIST.into())
                }
            }
            outcome => Ok(outcome.map(|()| true)?),
        }
    }

    /// Make a directory and those above it, 0700; answers those that were missing, from the top.
    pub fn makedirs(&mut self, path: &[u8]) -> Outcome<Vec<Vec<u8>>> {
        let (mut at, mut missing, mut made) = (path, Vec::new(), Vec::new());
        while !at.is_empty() {
            match self.mkdir(at) {
                Err(fault) if fault.is(Errno::NOENT) => missing.push(at.len()),
                outcome => {
                    if outcome? {
                        made.push(at.to_vec());
                    }
                    break;
                }
            }
            at = split_name(at).0;
        }
        for length in missing.into_iter().rev() {
            if self.mkdir(&path[..length])? {
                made.push(path[..length].to_vec());
            }
        }
        Ok(made)
    }

    /// Give the directories on the way to `path` 0700, from the root on: their modes may keep even their owner out.
    pub fn open_way(&mut self, path: &[u8]) -> Outcome<()> {
        self.chmod(b"", 0o700)?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends {
            self.chmod(&path[..end], 0o700)?;
        }
        Ok(())
    }

    /// A new regular file, 0600, open for writing. `EXIST` if the name is taken.
    pub fn create(&mut self, path: &[u8]) -> Outcome<OwnedFd> {
        let (parent, name) = self.split(path)?;
        Ok(fs::openat(parent, name, NEW_FILE, OWNER_FILE)?)
    }

    /// As `create`, instead of what a former attempt left under that name.
    pub fn replace(&mut self, path: &[u8]) -> Outcome<OwnedFd> {
        match self.create(path) {
            Err(fault) if fault.is(Errno::EXIST) => {
                self.remove(path)?;
                self.create(path)
            }
            outcome => outcome,
        }
    }

    /// A regular file open for writing, made if missing: pieces of one file are written side by side.
    pub fn open_shared(&mut self, path: &[u8]) -> Outcome<OwnedFd> {
        let (parent, name) = self.split(path)?;
        let file = open_beneath(parent, name, SHARED_FILE, OWNER_FILE)?;
        if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::EXIST.into());
        }
        Ok(file)
    }

    /// What is under that name, open for reading; whether it is a regular file is for the caller to ask.
    ///
    /// `LOOP` for a link, `NXIO` for a socket, `XDEV` for something that is mounted there.
    pub fn open_to_read(&mut self, path: &[u8]) -> Outcome<OwnedFd> {
        let (parent, name) = self.split(path)?;
        Ok(open_beneath(parent, name, READ_FILE, Mode::empty())?)
    }

    /// Remove a name that is no directory. Missing is fine.
    pub fn remove(&mut self, path: &[u8]) -> Outcome<()> {
        let (parent, name) = self.split(path)?;
        match fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Make a symbolic link; its target is text to us and never followed.
    pub fn symlink(&mut self, path: &[u8], target: &[u8]) -> Outcome<()> {
        let (parent, name) = self.split(path)?;
        Ok(fs::symlinkat(target, parent, name)?)
    }

    /// The target of a symbolic link.
    pub fn readlink(&mut self, path: &[u8]) -> Outcome<Vec<u8>> {
        let (parent, name) = self.split(path)?;
        Ok(fs::readlinkat(parent, name, Vec::new())?.into_bytes())
    }

    /// Make `path` a further name of `target`, which is a name below the root as well.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Outcome<()> {
        let (parent, old_name) = self.split(target)?;
        let old_parent = rustix::io::fcntl_dupfd_cloexec(parent, 0)?;
        let (parent, name) = self.split(path)?;
        Ok(fs::linkat(old_parent, old_name, parent, name, AtFlags::empty())?) // links are not followed
    }

    /// Make a FIFO or a device of this mode.
    pub fn mknod(&mut self, path: &[u8], kind: FileType, mode: u32, device: (u32, u32)) -> Outcome<()> {
        let (parent, name) = self.split(path)?;
        let device = fs::makedev(device.0, device.1);
        Ok(fs::mknodat(parent, name, kind, Mode::from_raw_mode(mode), device)?)
    }

    /// Set the owner, links not followed (empty name: the root).
    pub fn chown(&mut self, path: &[u8], uid: u32, gid: u32) -> Outcome<()> {
        let (uid, gid) = (Some(Uid::from_raw_unchecked(uid)), Some(Gid::from_raw_unchecked(gid)));
        if path.is_empty() {
            return Ok(fs::fchown(&self.root, uid, gid)?);
        }
        let (parent, name) = self.split(path)?;
        Ok(fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Set the mode of anything but a symbolic link (empty name: the root).
    pub fn chmod(&mut self, path: &[u8], mode: u32) -> Outcome<()> {
        let mode = Mode::from_raw_mode(mode);
        if path.is_empty() {
            return Ok(fs::fchmod(&self.root, mode)?);
        }
        // Exactly one inode, opened without following it; that of a link has no mode, the kernel says OPNOTSUPP.
        let (parent, name) = self.split(path)?;
        let pinned = open_beneath(parent, name, PINNED, Mode::empty())?;
        Ok(fs::chmod(format!("/proc/self/fd/{}", pinned.as_raw_fd()), mode)?)
    }

    /// Set both times, links not followed (empty name: the root).
    pub fn utime(&mut self, path: &[u8], atime: Time, mtime: Time) -> Outcome<()> {
        let times = timestamps(atime, mtime);
        if path.is_empty() {
            return Ok(fs::futimens(&self.root, &times)?);
        }
        let (parent, name) = self.split(path)?;
        Ok(fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Set one extended attribute, links not followed (empty name: the root).
    pub fn setxattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Outcome<()> {
        if path.is_empty() {
            return Ok(fs::fsetxattr(&self.root, name, value, XattrFlags::empty())?);
        }
        Ok(fs::lsetxattr(self.handle(path)?, name, value, XattrFlags::empty())?)
    }

    /// The names of its extended attributes, each with a NUL behind it; how many bytes they are.
    pub fn listxattr(&mut self, path: &[u8], list: &mut [u8]) -> Outcome<usize> {
        if path.is_empty() {
            return Ok(fs::flistxattr(&self.root, list)?);
        }
        Ok(fs::llistxattr(self.handle(path)?, list)?)
    }

    /// The value of one extended attribute; how many bytes it is.
    pub fn getxattr(&mut self, path: &[u8], name: &[u8], value: &mut [u8]) -> Outcome<usize> {
        if path.is_empty() {
            return Ok(fs::fgetxattr(&self.root, name, value)?);
        }
        Ok(fs::lgetxattr(self.handle(path)?, name, value)?)
    }

    /// Remove one extended attribute. Missing, or a file system without such, is fine.
    pub fn removexattr(&mut self, path: &[u8], name: &[u8]) -> Outcome<()> {
        let outcome = if path.is_empty() {
            fs::fremovexattr(&self.root, name)
        } else {
            fs::lremovexattr(self.handle(path)?, name)
        };
        match outcome {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// A path for calls that take no directory descriptor: its parent is pinned, its last component is not followed.
    fn handle(&mut self, path: &[u8]) -> Outcome<Vec<u8>> {
        let (parent, name) = self.split(path)?;
        let mut handle = Vec::with_capacity(32 + name.len());
        let _ = write!(handle, "/proc/self/fd/{}/", parent.as_raw_fd()); // into memory: does not fail
        handle.extend_from_slice(name);
        Ok(handle)
    }
}

/// As the calls that set times take them.
pub fn timestamps(atime: Time, mtime: Time) -> Timestamps {
    let spec = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
    Timestamps { last_access: spec(atime), last_modification: spec(mtime) }
}

/// As many leading components as one system call takes, and the rest.
fn take_stretch(path: &[u8]) -> (&[u8], &[u8]) {
    let cut = if path.len() > STRETCH { path[..STRETCH].iter().rposition(|byte| *byte == b'/') } else { None };
    cut.map_or((path, &[]), |at| (&path[..at], &path[at + 1..]))
}

#[cfg(test)]
mod tests;
