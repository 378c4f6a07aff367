//! What this process may set on a file system, found by trying: rights, name spaces and mount options all count.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use rustix::fs::{fchown, fremovexattr, fsetxattr, fstat, FileType, Gid, Uid, XattrFlags};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use serde_json::{json, Value};

use crate::beneath::{AtPath, Beneath, Outcome};
use crate::entry::{Time, ACL_ACCESS, ACL_DEFAULT};
use crate::error::{Code, Error, Result};

const CAPABILITY: &[u8] = b"security.capability";
/// Version 2, and no capability in it.
const EMPTY_CAPABILITY: &[u8] = &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Version 2: owner `rw-`, group `r--`, others `---`.
const MINIMAL_ACL: &[u8] = &[
    2, 0, 0, 0, //
    1, 0, 6, 0, 255, 255, 255, 255, //
    4, 0, 4, 0, 255, 255, 255, 255, //
    32, 0, 0, 0, 255, 255, 255, 255,
];
const NOBODY: u32 = 65534;

/// Kinds of extended attributes: who may set one differs between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeKind {
    User,
    Acl,
    Trusted,
    Capability,
    Security,
    /// Of a file system's own. Never set.
    Other,
}

/// With the names that JSON has for them, and an attribute to try.
const PROBES: &[(AttributeKind, &str, &[u8], &[u8])] = &[
    (AttributeKind::User, "user", b"user.codehub-probe", b"1"),
    (AttributeKind::Acl, "acl", ACL_ACCESS, MINIMAL_ACL),
    (AttributeKind::Trusted, "trusted", b"trusted.codehub-probe", b"1"),
    (AttributeKind::Capability, "capability", CAPABILITY, EMPTY_CAPABILITY),
    (AttributeKind::Security, "security", b"security.codehub-probe", b"1"),
];

impl AttributeKind {
    /// The kind of the attribute of this name.
    pub fn of(name: &[u8]) -> Self {
        match name {
            CAPABILITY => Self::Capability,
            ACL_ACCESS | ACL_DEFAULT => Self::Acl,
            _ if name.starts_with(b"user.") => Self::User,
            _ if name.starts_with(b"trusted.") => Self::Trusted,
            _ if name.starts_with(b"security.") => Self::Security,
            _ => Self::Other,
        }
    }
}

/// What this process may set: owners, devices, whiteouts, and kinds of extended attributes.
///
/// A whiteout is a device that any user may make since Linux 5.8, and on an overlay file system nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    pub owners: bool,
    pub devices: bool,
    pub whiteouts: bool,
    kinds: Vec<AttributeKind>,
}

impl Abilities {
    /// True if an extended attribute of that kind can be set.
    pub fn can_set(&self, kind: AttributeKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// True if no privileged attribute needs to be skipped.
    pub fn all_privileged(&self) -> bool {
        [AttributeKind::Trusted, AttributeKind::Capability, AttributeKind::Security]
            .into_iter()
            .all(|kind| self.can_set(kind))
    }

    /// Owner and group of what this process makes.
    pub fn own_ids(&self) -> (u32, u32) {
        (geteuid().as_raw(), getegid().as_raw())
    }

    /// True where permissions keep this process out of nothing.
    pub fn is_root(&self) -> bool {
        geteuid().is_root()
    }

    /// As frames and `--abilities` hold it. `all_privileged` is for who reads it.
    pub fn to_json(&self) -> Value {
        let kinds = PROBES.iter().filter(|(kind, ..)| self.can_set(*kind)).map(|(_, name, ..)| *name);
        json!({
            "owners": self.owners,
            "devices": self.devices,
            "whiteouts": self.whiteouts,
            "xattrs": kinds.collect::<Vec<_>>(),
            "all_privileged": self.all_privileged(),
        })
    }

    /// The inverse of `to_json`. `InvalidInput` for what is none.
    pub fn from_json(value: &Value) -> Result<Self> {
        let flag = |name: &str| value.get(name).and_then(Value::as_bool);
        let read = || {
            let xattrs = value.get("xattrs")?.as_array()?;
            let kind_of = |name: &Value| PROBES.iter().find(|(_, known, ..)| name == known).map(|(kind, ..)| *kind);
            Some(Self {
                owners: flag("owners")?,
                devices: flag("devices")?,
                whiteouts: flag("whiteouts")?,
                kinds: xattrs.iter().map(kind_of).collect::<Option<_>>()?,
            })
        };
        read().ok_or_else(|| Error::new(Code::InvalidInput, "these are no abilities"))
    }

    /// Try each on a file of this very file system. The root keeps its times.
    pub fn probe(beneath: &mut Beneath) -> Result<Self> {
        let random = RandomState::new().build_hasher().finish(); // its keys are; no archive knows the name
        let name = format!(".codehub-probe-{random:016x}");
        let name = name.as_bytes();
        let root = fstat(beneath.root()).writing(b"")?;
        let found = match probe(beneath, name) {
            // An attempt before this one, or the archive itself, took the owner's right to make files in the root.
            Err(fault) if fault.is(Errno::ACCESS) => {
                beneath.chmod(b"", 0o700).writing(b"")?;
                let found = probe(beneath, name);
                beneath.chmod(b"", root.st_mode & 0o7777).writing(b"")?;
                found
            }
            found => found,
        };
        let found = found.writing(name)?;
        let time = |seconds, nanos: u64| Time { seconds, nanos: nanos as u32 };
        let (atime, mtime) = (time(root.st_atime, root.st_atime_nsec), time(root.st_mtime, root.st_mtime_nsec));
        beneath.utime(b"", atime, mtime).writing(b"")?;
        Ok(found)
    }
}

fn probe(beneath: &mut Beneath, name: &[u8]) -> Outcome<Abilities> {
    let file = beneath.create(name)?;
    beneath.remove(name)?;
    let mut kinds = Vec::new();
    for (kind, _, key, value) in PROBES {
        if fsetxattr(&file, *key, value, XattrFlags::empty()).is_ok() {
            kinds.push(*kind);
        }
        // Some file systems hold one block of attributes for a file, and the next has to fit.
        let _ = fremovexattr(&file, *key);
    }
    let somebody_else = if geteuid().is_root() { NOBODY } else { 0 };
    let (uid, gid) = (Uid::from_raw_unchecked(somebody_else), Gid::from_raw_unchecked(somebody_else));
    let owners = fchown(&file, Some(uid), Some(gid)).is_ok();
    let devices = beneath.mknod(name, FileType::CharacterDevice, 0o600, (1, 3)).is_ok();
    beneath.remove(name)?;
    let whiteouts = beneath.mknod(name, FileType::CharacterDevice, 0o600, (0, 0)).is_ok();
    beneath.remove(name)?;
    Ok(Abilities { owners, devices, whiteouts, kinds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_root_may_do_is_found_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let before = std::fs::metadata(dir.path()).unwrap();
        let found = Abilities::probe(&mut Beneath::open(dir.path()).unwrap()).unwrap();
        let after = std::fs::metadata(dir.path()).unwrap();
        assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(found.owners, geteuid().is_root());
        assert!(!found.can_set(AttributeKind::Other));
    }

    #[test]
    fn a_root_that_may_not_be_written_to_is_probed_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut beneath = Beneath::open(dir.path()).unwrap();
        let expected = Abilities::probe(&mut beneath).unwrap();
        beneath.chmod(b"", 0o500).unwrap();
        assert_eq!(Abilities::probe(&mut beneath).unwrap(), expected);
        assert_eq!(std::fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o500);
    }

    #[test]
    fn abilities_come_back_from_json() {
        let some = Abilities {
            owners: true,
            kinds: vec![AttributeKind::User, AttributeKind::Capability],
            ..Abilities::default()
        };
        assert_eq!(Abilities::from_json(&some.to_json()).unwrap(), some);
        assert!(!some.all_privileged());
        for bad in [json!(null), json!({"owners": true}), json!({"xattrs": ["every"]})] {
            assert!(Abilities::from_json(&bad).is_err());
        }
        let unknown = json!({"owners": true, "devices": true, "whiteouts": true, "xattrs": ["every"]});
        assert!(Abilities::from_json(&unknown).is_err());
    }

    #[test]
    fn attributes_have_kinds() {
        for (name, kind) in [
            (&b"user.x"[..], AttributeKind::User),
            (b"trusted.overlay.opaque", AttributeKind::Trusted),
            (b"security.capability", AttributeKind::Capability),
            (b"security.selinux", AttributeKind::Security),
            (b"system.posix_acl_default", AttributeKind::Acl),
            (b"system.nfs4_acl", AttributeKind::Other),
            (b"", AttributeKind::Other),
        ] {
            assert_eq!(AttributeKind::of(name), kind);
        }
    }
}
