use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::FileType;
use rustix::process::geteuid;
use serde_json::json;

use super::*;
use crate::entry::{Time, ACL_ACCESS, ACL_DEFAULT};

/// Owner `rwx`, user 7 `r-x`, group `r-x`, mask `r-x`, others `---`.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 7, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 5, 0,
    255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const MTIME: Time = Time { seconds: -5, nanos: 123_456_789 };

fn pair(name: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (name.to_vec(), value.to_vec())
}

fn nothing() -> Abilities {
    Abilities::default()
}

fn of_any_owner() -> Abilities {
    let json = json!({"owners": false, "devices": false, "whiteouts": true, "xattrs": ["user", "acl"]});
    Abilities::from_json(&json).unwrap()
}

fn xattr(path: &std::path::Path, name: &[u8]) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn everything_comes_back_in_whatever_order_it_would_take_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut beneath = Beneath::open(dir.path()).unwrap();
    let abilities = Abilities::probe(&mut beneath).unwrap();
    let is_root = geteuid().is_root();
    let mut xattrs = vec![pair(b"user.x", b"1"), pair(ACL_ACCESS, ACL)];
    if is_root {
        xattrs.extend([pair(b"security.capability", CAPABILITY), pair(b"trusted.x", b"\0")]);
    }
    // Mode as the ACL's mask has it; user.* would not be settable after it without rights.
    let (uid, gid) = if is_root { (1234, 4321) } else { abilities.own_ids() };
    let of = |path: &[u8], kind: Kind, mode: u32, xattrs: &[(Vec<u8>, Vec<u8>)]| Entry {
        mode,
        uid,
        gid,
        mtime: MTIME,
        xattrs: xattrs.to_vec(),
        ..Entry::new(path, kind)
    };
    drop(beneath.create(b"file").unwrap());
    beneath.mkdir(b"dir").unwrap();
    beneath.symlink(b"link", b"nowhere").unwrap();
    beneath.mknod(b"fifo", FileType::Fifo, 0o600, (0, 0)).unwrap();
    let directory_xattrs = [pair(b"user.x", b"1"), pair(ACL_DEFAULT, ACL)];
    let mut skipped = Skipped::new();
    for entry in [
        of(b"file", Kind::File, 0o4750, &xattrs),
        of(b"dir", Kind::Directory, 0o3550, &directory_xattrs),
        of(b"link", Kind::Symlink, 0o777, &[]),
        of(b"fifo", Kind::Fifo, 0o4640, &[]),
    ] {
        apply(&mut beneath, &entry, &abilities, &mut skipped).unwrap();
        let path = dir.path().join(std::str::from_utf8(&entry.path).unwrap());
        let found = path.symlink_metadata().unwrap();
        assert_eq!((found.mtime(), found.mtime_nsec()), (-5, 123_456_789));
        assert_eq!((found.uid(), found.gid()), (uid, gid));
        if entry.kind != Kind::Symlink {
            assert_eq!(found.permissions().mode() & 0o7777, entry.mode, "{}", show(&entry.path));
        }
        for (name, value) in &entry.xattrs {
            assert_eq!(xattr(&path, name).as_deref(), Some(&value[..]), "{}", show(name));
        }
    }
    assert_eq!(skipped, Skipped::new());
}

#[test]
fn what_may_not_be_set_is_counted() {
    let mut skipped = Skipped::new();
    let somebody = Entry { uid: 77, ..Entry::new(*b"x", Kind::File) };
    let xattrs = vec![
        pair(b"security.capability", CAPABILITY),
        pair(b"security.x", b"1"),
        pair(b"system.nfs4_acl", b"1"),
        pair(b"trusted.x", b"1"),
        pair(b"user.x", b"1"),
    ];
    let entry = Entry { xattrs, ..somebody.clone() };
    count_skipped(&entry, &of_any_owner(), &mut skipped).unwrap();
    assert_eq!(skipped, Skipped::from([("owners", 1), ("security_xattrs", 3), ("trusted_xattrs", 1)]));
    count_skipped(&Entry { kind: Kind::HardLink, ..entry.clone() }, &nothing(), &mut skipped).unwrap();
    let (uid, gid) = nothing().own_ids();
    count_skipped(&Entry { uid, gid, ..Entry::new(*b"x", Kind::File) }, &nothing(), &mut skipped).unwrap();
    assert_eq!(skipped.values().sum::<u64>(), 5);
}

#[test]
fn what_every_owner_could_set_elsewhere_is_an_error() {
    for name in [&b"user.x"[..], ACL_ACCESS, ACL_DEFAULT] {
        let entry = Entry { xattrs: vec![pair(name, b"")], ..Entry::new(*b"a", Kind::File) };
        let error = count_skipped(&entry, &nothing(), &mut Skipped::new()).unwrap_err();
        assert_eq!(error.code, Code::Unsupported);
    }
}

#[test]
fn an_attribute_that_no_link_can_have_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let mut beneath = Beneath::open(dir.path()).unwrap();
    let abilities = Abilities::probe(&mut beneath).unwrap();
    beneath.symlink(b"l", b"x").unwrap();
    let (uid, gid) = abilities.own_ids();
    let entry = Entry { uid, gid, xattrs: vec![pair(b"user.x", b"1")], ..Entry::new(*b"l", Kind::Symlink) };
    let error = apply(&mut beneath, &entry, &abilities, &mut Skipped::new()).unwrap_err();
    assert_eq!(error.code, Code::AccessDenied);
}
