//! Trees for tests: with everything that a home may hold.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{symlink, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, CWD};

/// A directory of this test, and `tree` in it.
pub fn new_tree() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let tree = outer.path().join("tree");
    fs::create_dir(&tree).unwrap();
    (outer, tree)
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What `read` returns in a thread that Landlock holds in `root`; where it pauses, `change` is made from outside.
///
/// Without Landlock in this kernel it is a thread as any other.
pub fn behind_landlock<T: Send>(root: &Path, read: impl FnOnce(&dyn Fn()) -> T + Send, change: impl FnOnce()) -> T {
    let (paused, pauses) = mpsc::channel();
    let (changed, changes) = mpsc::channel();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            crate::mounts::keep_open().unwrap();
            let _ = crate::sandbox::confine(&[root], &[]).unwrap();
            read(&|| {
                paused.send(()).unwrap();
                changes.recv().unwrap();
            })
        });
        pauses.recv().unwrap();
        change();
        changed.send(()).unwrap();
        reader.join().unwrap()
    })
}

/// In a thread that is an ordinary user's, if this process is root's.
pub fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let become_it = || {
        if is_root() {
            let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        }
        act()
    };
    std::thread::scope(|scope| scope.spawn(become_it).join().unwrap())
}

/// A file with its parent directories.
pub fn write(root: &Path, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) {
    let path = below(root, name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
}

pub fn below(root: &Path, name: impl AsRef<[u8]>) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(name.as_ref()))
}

/// A FIFO, a socket or a device.
pub fn special(root: &Path, name: &str, kind: FileType, device: (u32, u32)) -> bool {
    let device = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o620), device).is_ok()
}

pub fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).is_ok()
}

/// A sparse file of this size, with some data at these offsets.
pub fn sparse(path: &Path, size: u64, islands: &[u64]) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    for at in islands {
        file.write_all_at(b"island", *at).unwrap();
    }
}

/// Names, kinds, times, attributes and links that have broken archivers before. `root` exists and is empty.
pub fn make_rich_tree(root: &Path) {
    write(root, "plain.txt", "hello\n");
    write(root, "empty", "");
    write(root, "-rf --checkpoint=1", "a name that looks like an option");
    write(root, "new\nline \\n 'quote' \"", "newline");
    write(root, b"\xff\xfe not utf-8", "bytes");
    write(root, "\u{fc}n\u{ef}-\u{1f600}", "unicode");
    write(root, [b'n'; 255], "as long as a name may be");
    write(root, format!("deep/{}file", format!("{}/", "d".repeat(60)).repeat(5)), "a path beyond ustar");
    write(root, "a/x", "order: a/x before a.b/x, and both after a");
    write(root, "a.b/x", "order");
    fs::create_dir(root.join("emptydir")).unwrap();
    write(root, "closed/inside", "in a directory without write permission");
    for (target, name) in
        [("plain.txt", "link"), ("/nonexistent/absolute", "dangling"), ("../../etc/passwd", "outward")]
    {
        symlink(target, root.join(name)).unwrap();
    }
    symlink("t/".repeat(2047) + "t", root.join("longlink")).unwrap();
    assert!(special(root, "fifo", FileType::Fifo, (0, 0)));
    assert!(special(root, "socket", FileType::Socket, (0, 0)));
    for (name, further) in
        [("plain.txt", "zz-second-name"), ("plain.txt", "a/third-name"), ("fifo", "zz-fifo"), ("link", "zz-link")]
    {
        fs::hard_link(root.join(name), root.join(further)).unwrap();
    }
    write(root, "middle.bin", (0..=255u8).collect::<Vec<_>>().repeat(150));
    write(root, "large.bin", blake3::hash(b"seed").as_bytes().repeat(4000));
    fs::hard_link(root.join("large.bin"), root.join("zz-large-again")).unwrap();
    sparse(&root.join("sparse.bin"), 3 << 20, &[1 << 20]);
    set_modes_and_attributes(root);
    for (name, seconds, nanos) in [
        ("plain.txt", 1_234_567_890, 123_456_789),
        ("empty", -315_619_200, 123_456_789),
        ("middle.bin", 7_258_118_400, 500_000_000),
        ("link", 0, 999_999_999),
        ("closed", 42, 42),
        ("", 1_600_000_000, 1),
    ] {
        set_mtime(&root.join(name), seconds, nanos);
    }
}

fn set_modes_and_attributes(root: &Path) {
    for (name, mode) in [("empty", 0o4711), ("middle.bin", 0o400), ("emptydir", 0o1777)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let plain = root.join("plain.txt");
    assert!(set_xattr(&plain, "user.comment", b"with = and \n and \0 in it"));
    assert!(set_xattr(&plain, "user.a%3Db=c", b"percent and equals in the name"));
    assert!(set_xattr(&plain, "user.empty", b""));
    assert!(set_xattr(&root.join("large.bin"), "user.large", &[b'x'; 2000]));
    assert!(set_xattr(&root.join("emptydir"), "user.dir", b"on a directory"));
    if is_root() {
        std::os::unix::fs::lchown(root.join("a/x"), Some(3_000_000), Some(2_500_000)).unwrap();
        set_xattr(&root.join("a/x"), "trusted.overlay", b"y");
        set_xattr(&root.join("zz-link"), "trusted.onlink", b"z");
    }
}

/// A chain of directories, each with a file before and a link behind the next one.
pub fn make_deep(root: &Path, levels: usize, name: &str) {
    use rustix::fs::{mkdirat, open, openat, symlinkat, OFlags};
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = open(root, directory, Mode::empty()).unwrap();
    for level in 0..levels {
        openat(&at, "a", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        symlinkat("a", &at, format!("z{level}")).unwrap();
        mkdirat(&at, name, Mode::RWXU).unwrap();
        at = openat(&at, name, directory, Mode::empty()).unwrap();
    }
}
