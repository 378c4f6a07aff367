//! One name of a restored tree as it is there now, by its path.

use rustix::fs::{major, minor, FileType, Stat};
use rustix::io::Errno;

use crate::beneath::{Beneath, Outcome};
use crate::entry::{Entry, Kind, Time};

/// What Linux lists and holds at most.
const MOST_BYTES: usize = 64 << 10;

/// Which file a name leads to.
pub struct Identity {
    pub kind: Kind,
    /// Its device and number.
    pub inode: (u64, u64),
    pub has_more_names: bool,
}

/// What is there; `None` where nothing is.
pub fn identity_at(beneath: &mut Beneath, path: &[u8]) -> Outcome<Option<Identity>> {
    let identity_of = |stat: Stat| {
        let kind = kind_of(&stat);
        let has_more_names = stat.st_nlink > 1 && kind != Kind::Directory;
        Identity { kind, inode: (stat.st_dev, stat.st_ino), has_more_names }
    };
    Ok(stat_at(beneath, path)?.map(identity_of))
}

/// As a walk would see it, but for further names: as what they are.
pub fn entry_at(beneath: &mut Beneath, path: &[u8]) -> Outcome<Option<Entry>> {
    let Some(stat) = stat_at(beneath, path)? else { return Ok(None) };
    let kind = kind_of(&stat);
    Ok(Some(Entry {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        mtime: Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
        target: if kind == Kind::Symlink { beneath.readlink(path)? } else { Vec::new() },
        device: if kind.is_device() { (major(stat.st_rdev), minor(stat.st_rdev)) } else { (0, 0) },
        xattrs: attributes_at(beneath, path)?,
        ..Entry::new(path, kind)
    }))
}

fn stat_at(beneath: &mut Beneath, path: &[u8]) -> Outcome<Option<Stat>> {
    if path.is_empty() {
        return Ok(Some(rustix::fs::fstat(beneath.root())?));
    }
    beneath.lstat(path)
}

fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::File,
    }
}

/// Sorted by name; none where the file system has none.
fn attributes_at(beneath: &mut Beneath, path: &[u8]) -> Outcome<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = vec![0; MOST_BYTES];
    let length = match beneath.listxattr(path, &mut list) {
        Err(fault) if fault.is(Errno::OPNOTSUPP) => 0,
        outcome => outcome?,
    };
    let mut found = Vec::new();
    let mut value = if length > 0 { vec![0; MOST_BYTES] } else { Vec::new() };
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = beneath.getxattr(path, name, &mut value)?;
        found.push((name.to_vec(), value[..length].to_vec()));
    }
    found.sort();
    Ok(found)
}
