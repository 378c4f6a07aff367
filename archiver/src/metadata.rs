//! Mode, owner, times and extended attributes of restored names, as far as the kernel lets this process set them.
//!
//! The order matters: chown clears setuid and capabilities, chmod takes away the owner's own right to write `user.*`,
//! every change moves the times. What may not be set is skipped and **counted**, never silently dropped.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{fchmod, fchown, fsetxattr, futimens, Gid, Mode, Uid, XattrFlags};

use crate::abilities::{Abilities, AttributeKind};
use crate::beneath::{timestamps, AtPath, Beneath};
use crate::entry::{Entry, Kind};
use crate::error::{show, Code, Error, Result};

/// What could not be carried, counted by kind.
pub type Skipped = BTreeMap<&'static str, u64>;

/// Count what of this entry stays behind. `Unsupported` for what every owner could set elsewhere.
pub fn count_skipped(entry: &Entry, abilities: &Abilities, skipped: &mut Skipped) -> Result<()> {
    if entry.kind == Kind::HardLink {
        return Ok(());
    }
    if !abilities.owners && (entry.uid, entry.gid) != abilities.own_ids() {
        count(skipped, "owners");
    }
    for (name, _) in &entry.xattrs {
        match AttributeKind::of(name) {
            kind if abilities.can_set(kind) => {}
            AttributeKind::User | AttributeKind::Acl => {
                let (name, path) = (show(name), show(&entry.path));
                let message = format!("this volume cannot hold the attribute {name} of {path}");
                return Err(Error::new(Code::Unsupported, message));
            }
            AttributeKind::Trusted => count(skipped, "trusted_xattrs"),
            _ => count(skipped, "security_xattrs"),
        }
    }
    Ok(())
}

/// One more of this kind.
pub fn count(skipped: &mut Skipped, kind: &'static str) {
    *skipped.entry(kind).or_default() += 1;
}

/// Give the name its metadata. What may not be set is counted in `skipped`.
pub fn apply(beneath: &mut Beneath, entry: &Entry, abilities: &Abilities, skipped: &mut Skipped) -> Result<()> {
    count_skipped(entry, abilities, skipped)?;
    set(beneath, entry, abilities)
}

/// As `apply`. What may not be set was counted before.
pub fn set(beneath: &mut Beneath, entry: &Entry, abilities: &Abilities) -> Result<()> {
    let path = &entry.path[..];
    if entry.kind == Kind::Directory {
        // By a descriptor, which takes half of what paths take.
        return apply_open(beneath.directory(path).writing(path)?, entry, abilities);
    }
    if abilities.owners {
        beneath.chown(path, entry.uid, entry.gid).writing(path)?;
    }
    for (name, value) in attributes(entry, abilities, false) {
        beneath.setxattr(path, name, value).writing(path)?;
    }
    if entry.kind != Kind::Symlink {
        beneath.chmod(path, entry.mode).writing(path)?;
    }
    for (name, value) in attributes(entry, abilities, true) {
        beneath.setxattr(path, name, value).writing(path)?;
    }
    beneath.utime(path, entry.mtime, entry.mtime).writing(path)
}

/// Give an open file or directory its metadata, as `set` does.
pub fn apply_open(file: impl AsFd, entry: &Entry, abilities: &Abilities) -> Result<()> {
    let set = || {
        if abilities.owners {
            let (uid, gid) = (Uid::from_raw_unchecked(entry.uid), Gid::from_raw_unchecked(entry.gid));
            fchown(&file, Some(uid), Some(gid))?;
        }
        for (name, value) in attributes(entry, abilities, false) {
            fsetxattr(&file, name, value, XattrFlags::empty())?;
        }
        fchmod(&file, Mode::from_raw_mode(entry.mode))?;
        for (name, value) in attributes(entry, abilities, true) {
            fsetxattr(&file, name, value, XattrFlags::empty())?;
        }
        futimens(&file, &timestamps(entry.mtime, entry.mtime))
    };
    set().writing(&entry.path)
}

/// Those that can be set. `are_late`: those that a later chown or chmod would take away.
fn attributes<'a>(
    entry: &'a Entry,
    abilities: &'a Abilities,
    are_late: bool,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    entry.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).filter(move |(name, _)| {
        let kind = AttributeKind::of(name);
        abilities.can_set(kind) && matches!(kind, AttributeKind::Acl | AttributeKind::Capability) == are_late
    })
}

#[cfg(test)]
mod tests;
