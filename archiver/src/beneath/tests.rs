//! Whatever the name and whatever stands in the way, nothing outside the directory is touched.

use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use proptest::prelude::*;
use rustix::process::{getgid, getuid};

use super::*;

type Operation = fn(&mut Beneath, &[u8]) -> Outcome<()>;

const OPERATIONS: &[(&str, Operation)] = &[
    ("directory", |b, path| b.directory(path).map(drop)),
    ("lstat", |b, path| b.lstat(path).map(drop)),
    ("mkdir", |b, path| b.mkdir(path).map(drop)),
    ("makedirs", |b, path| b.makedirs(path).map(drop)),
    ("create", |b, path| b.create(path).map(drop)),
    ("replace", |b, path| b.replace(path).map(drop)),
    ("open_shared", |b, path| b.open_shared(path).map(drop)),
    ("open_to_read", |b, path| b.open_to_read(path).map(drop)),
    ("remove", Beneath::remove),
    ("symlink", |b, path| b.symlink(path, b"x")),
    ("readlink", |b, path| b.readlink(path).map(drop)),
    ("link", |b, path| b.link(path, b"file")),
    ("link from", |b, path| b.link(b"new", path)),
    ("mknod", |b, path| b.mknod(path, FileType::Fifo, 0o600, (0, 0))),
    ("chown", |b, path| b.chown(path, getuid().as_raw(), getgid().as_raw())),
    ("chmod", |b, path| b.chmod(path, 0o600)),
    ("utime", |b, path| b.utime(path, ONE, ONE)),
    ("setxattr", |b, path| b.setxattr(path, b"user.x", b"1")),
    ("removexattr", |b, path| b.removexattr(path, b"user.x")),
];
const ONE: Time = Time { seconds: 0, nanos: 1 };

/// A volume with a file, a directory, and links that lead out of it to a victim beside it.
struct Outside {
    dir: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir_all(volume.join("d")).unwrap();
        std::fs::write(volume.join("file"), b"").unwrap();
        symlink("..", volume.join("up")).unwrap();
        symlink("../victim", volume.join("victim-link")).unwrap();
        std::fs::create_dir(dir.path().join("victim-dir")).unwrap();
        std::fs::write(dir.path().join("victim"), b"precious").unwrap();
        Self { dir }
    }

    fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn beneath(&self) -> Beneath {
        Beneath::open(&self.volume()).unwrap()
    }

    /// What is outside: names, modes, sizes and times of change, which every touch moves.
    fn state(&self) -> Vec<(PathBuf, u32, u64, i64, i64)> {
        let mut found: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with("volume"))
            .map(|path| {
                let meta = path.symlink_metadata().unwrap();
                (path, meta.mode(), meta.size(), meta.ctime(), meta.ctime_nsec())
            })
            .collect();
        found.sort();
        found
    }
}

#[test]
fn an_unclean_name_is_refused_by_every_operation() {
    let outside = Outside::new();
    let before = outside.state();
    let endless = [&b"n/".repeat(9000)[..], b"n"].concat();
    let names: &[&[u8]] = &[
        b"/victim",
        b"..",
        b"../victim",
        b"d/../../victim",
        b"d/./x",
        b"d//x",
        b"d/",
        b"a\0b",
        &[b'n'; 256],
        &endless,
    ];
    for name in names {
        for (what, operation) in OPERATIONS {
            let Err(Fault::Unclean(error)) = operation(&mut outside.beneath(), name) else {
                panic!("{what} took {}", show(name));
            };
            assert_eq!(error.code, Code::ArchiveCorrupt);
        }
    }
    assert_eq!(outside.state(), before);
}

#[test]
fn no_operation_goes_through_a_link() {
    let outside = Outside::new();
    let before = outside.state();
    for (what, operation) in OPERATIONS {
        let fault = operation(&mut outside.beneath(), b"up/victim").unwrap_err();
        assert!(fault.is(Errno::LOOP), "{what}: {fault:?}");
    }
    assert_eq!(outside.state(), before);
}

#[test]
fn a_link_at_the_end_is_not_followed() {
    let outside = Outside::new();
    let before = outside.state();
    for (what, operation) in OPERATIONS {
        if ["create", "open_shared", "open_to_read", "chmod", "directory", "mkdir", "makedirs"].contains(what) {
            let fault = operation(&mut outside.beneath(), b"victim-link").unwrap_err();
            let is_refusal = [Errno::LOOP, Errno::EXIST, Errno::OPNOTSUPP].iter().any(|errno| fault.is(*errno));
            assert!(is_refusal, "{what}: {fault:?}");
        }
    }
    assert_eq!(outside.state(), before);
}

#[test]
fn metadata_of_a_link_are_its_own() {
    let outside = Outside::new();
    let before = outside.state();
    let mut beneath = outside.beneath();
    beneath.chown(b"victim-link", getuid().as_raw(), getgid().as_raw()).unwrap();
    beneath.utime(b"victim-link", ONE, ONE).unwrap();
    assert_eq!(beneath.lstat(b"victim-link").unwrap().unwrap().st_mtime_nsec, 1);
    beneath.replace(b"victim-link").unwrap();
    assert_eq!(outside.state(), before);
}

#[test]
fn a_mount_is_not_crossed() {
    // /proc below / stands for a mount.
    let root = fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
    assert_eq!(open_beneath(root.as_fd(), b"proc/self", OFlags::PATH, Mode::empty()).unwrap_err(), Errno::XDEV);
}

#[test]
fn paths_far_beyond_path_max_can_be_made_and_used() {
    let outside = Outside::new();
    let path = vec!["n".repeat(200); 60].join("/").into_bytes();
    let file = [&path[..], b"/file"].concat();
    let mut beneath = outside.beneath();
    assert_eq!(beneath.makedirs(&path).unwrap().len(), 60);
    assert_eq!(beneath.makedirs(&path).unwrap().len(), 0);
    let mut beneath = outside.beneath(); // nothing kept: the whole way in stretches
    drop(beneath.create(&file).unwrap());
    beneath.chmod(&file, 0o640).unwrap();
    beneath.utime(&file, ONE, ONE).unwrap();
    beneath.setxattr(&file, b"user.x", b"1").unwrap();
    let found = outside.beneath().lstat(&file).unwrap().unwrap();
    assert_eq!((found.st_mode & 0o7777, found.st_mtime_nsec), (0o640, 1));
    // The standard library could not remove it.
    for length in (0..=path.len()).rev().filter(|length| *length == path.len() || path[*length] == b'/') {
        beneath.remove(&file).ok();
        let (parent, name) = beneath.split(&path[..length]).unwrap();
        fs::unlinkat(parent, name, AtFlags::REMOVEDIR).unwrap();
    }
}

#[test]
fn kept_directories_are_bounded_and_the_last_used_stay() {
    let outside = Outside::new();
    let mut beneath = outside.beneath();
    for number in 0..100 {
        let path = format!("many/{number}");
        beneath.makedirs(path.as_bytes()).unwrap();
        drop(beneath.create(format!("{path}/f").as_bytes()).unwrap());
        assert!(beneath.kept.len() <= KEPT_DIRECTORIES);
    }
    assert_eq!(beneath.kept.last().unwrap().0, b"many/99");
    beneath.directory(b"many/80").unwrap();
    assert_eq!(beneath.kept.last().unwrap().0, b"many/80");
    let mut paths: Vec<_> = beneath.kept.iter().map(|(path, _)| path.clone()).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), KEPT_DIRECTORIES);
}

#[test]
fn a_step_that_is_repeated_finds_its_directories_and_a_file_in_their_place_is_a_contradiction() {
    let outside = Outside::new();
    let mut beneath = outside.beneath();
    assert!(!beneath.mkdir(b"d").unwrap());
    assert!(beneath.mkdir(b"new").unwrap());
    assert_eq!(std::fs::metadata(outside.volume().join("new")).unwrap().permissions().mode() & 0o777, 0o700);
    for name in [&b"file"[..], b"up"] {
        assert!(beneath.mkdir(name).unwrap_err().is(Errno::EXIST));
        assert!(beneath.makedirs(name).unwrap_err().is(Errno::EXIST));
    }
    assert!(beneath.makedirs(b"file/below").unwrap_err().is(Errno::NOTDIR));
    assert_eq!(beneath.makedirs(b"d/e/f").unwrap(), [b"d/e".to_vec(), b"d/e/f".to_vec()]);
}

#[test]
fn a_shared_file_is_a_regular_one_and_waits_for_nobody() {
    let outside = Outside::new();
    let mut beneath = outside.beneath();
    drop(beneath.open_shared(b"shared").unwrap());
    write_all(beneath.open_shared(b"shared").unwrap(), b"two", 2).unwrap();
    assert_eq!(std::fs::read(outside.volume().join("shared")).unwrap(), b"\0\0two");
    beneath.mknod(b"fifo", FileType::Fifo, 0o600, (0, 0)).unwrap();
    assert!(beneath.open_shared(b"fifo").unwrap_err().is(Errno::NXIO));
    let _reader = beneath.open_to_read(b"fifo").unwrap();
    assert!(beneath.open_shared(b"fifo").unwrap_err().is(Errno::EXIST));
}

#[test]
fn the_root_is_no_link() {
    let outside = Outside::new();
    assert!(Beneath::open(&outside.volume().join("up")).is_err());
}

#[test]
fn the_empty_name_is_the_root_where_it_may_be() {
    let outside = Outside::new();
    let mut beneath = outside.beneath();
    beneath.chmod(b"", 0o710).unwrap();
    beneath.utime(b"", ONE, ONE).unwrap();
    beneath.chown(b"", getuid().as_raw(), getgid().as_raw()).unwrap();
    beneath.setxattr(b"", b"user.x", b"1").unwrap();
    beneath.removexattr(b"", b"user.x").unwrap();
    beneath.removexattr(b"", b"user.x").unwrap();
    let meta = std::fs::metadata(outside.volume()).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.mtime_nsec()), (0o710, 1));
    assert!(beneath.create(b"").is_err());
    assert!(beneath.remove(b"").is_err());
}

proptest! {
    #[test]
    fn stretches_are_the_path(lengths in proptest::collection::vec(1usize..=NAME_MAX, 1..80)) {
        let path = lengths.iter().map(|length| "n".repeat(*length)).collect::<Vec<_>>().join("/").into_bytes();
        let (mut rest, mut stretches) = (&path[..], Vec::new());
        while !rest.is_empty() {
            let (stretch, after) = take_stretch(rest);
            prop_assert!(stretch.len() <= STRETCH);
            stretches.push(stretch);
            rest = after;
        }
        prop_assert_eq!(stretches.join(&b'/'), path);
    }
}
