//! Tries one thing behind one wall, for `tests/walls.rs`: `try_wall WALL INSIDE OUTSIDE ATTEMPT`.
//!
//! Prints `done`, or `refused: ` and the error. WALL: none, landlock, read-only, nothing, seccomp, all.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use codehub_archive::sandbox::{self, Wall};
use rustix::fs::{
    chmodat, chownat, copy_file_range, fallocate, fdatasync, flock, fsetxattr, getxattr, linkat, listxattr, lsetxattr,
    mkfifoat, mknodat, openat2, renameat, statx, symlinkat, syncfs, utimensat, AtFlags, FallocateFlags, FileType,
    FlockOperation, Mode, OFlags, ResolveFlags, SeekFrom, StatxFlags, Timespec, Timestamps, XattrFlags, CWD,
};

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let [_, wall, inside, outside, attempt] = &args[..] else { panic!("four arguments") };
    let (inside, outside) = (Path::new(inside), Path::new(outside));
    match &wall[..] {
        "none" => {}
        "landlock" => sandbox::confine(&[], &[inside]).unwrap().unwrap(),
        "read-only" => sandbox::confine(&[inside], &[]).unwrap().unwrap(),
        "nothing" => sandbox::confine(&[], &[]).unwrap().unwrap(),
        "seccomp" => sandbox::calls::restrict().unwrap(),
        "all" => {
            let standing = sandbox::put_up(Wall::Demanded, &[], &[inside]).unwrap();
            assert!(standing.landlock && standing.seccomp);
        }
        other => panic!("no wall {other}"),
    }
    match attempt_of(attempt, inside, outside) {
        Ok(()) => println!("done"),
        Err(error) => println!("refused: {error}"),
    }
}

fn attempt_of(attempt: &str, inside: &Path, outside: &Path) -> io::Result<()> {
    let (victim, mine) = (outside.join("victim"), inside.join("mine"));
    match attempt {
        "read a file" => fs::read(victim).map(|_| ()),
        "list a directory" => fs::read_dir(outside).map(|_| ()),
        "read an environment" => fs::read("/proc/self/environ").map(|_| ()),
        "read the system" => fs::read("/etc/passwd").map(|_| ()),
        "write a file" => fs::write(outside.join("new"), "x"),
        "overwrite a file" => File::options().write(true).open(victim).map(|_| ()),
        "truncate a file" => File::options().write(true).truncate(true).open(victim).map(|_| ()),
        "remove a file" => fs::remove_file(victim),
        "rename a file" => fs::rename(&victim, outside.join("other")),
        "move a file in" => fs::rename(victim, mine),
        "link a file in" => fs::hard_link(victim, mine),
        "make a directory" => fs::create_dir(outside.join("new")),
        "remove a directory" => fs::remove_dir(outside.join("empty")),
        "make a symbolic link" => std::os::unix::fs::symlink("x", outside.join("new")),
        "make a FIFO" => Ok(mkfifoat(CWD, outside.join("new"), Mode::RUSR)?),
        "write through a link" => fs::write(inside.join("link/new"), "x"),
        "make a socket file" => UnixListener::bind(inside.join("socket")).map(|_| ()),
        "socket" => UnixDatagram::unbound().map(|_| ()),
        "socketpair" => UnixStream::pair().map(|_| ()),
        "connect" => std::net::TcpStream::connect("127.0.0.1:9").map(|_| ()),
        "spawn" => Command::new("/bin/true").status().map(|_| ()),
        "execve" => Err(Command::new("/bin/true").exec()),
        "lock" => Ok(flock(File::open(inside)?, FlockOperation::NonBlockingLockExclusive)?),
        "unlock" => Ok(flock(File::open(inside)?, FlockOperation::Unlock)?),
        "become another" => {
            Ok(rustix::process::kill_process(rustix::process::getppid().unwrap(), rustix::process::Signal::CONT)?)
        }
        "change directory" => std::env::set_current_dir("/"),
        "write inside" => fs::write(&mine, "x").and_then(|()| fs::read(mine)).map(|_| ()),
        "read inside" => fs::read(inside.join("there")).map(|_| ()),
        "restore" => restore(inside),
        "threads" => threads(),
        "panic" => panic!("on purpose"),
        other => panic!("no attempt {other}"),
    }
}

/// The calls of everything that the steps do.
fn restore(inside: &Path) -> io::Result<()> {
    let root = File::open(inside)?;
    let how = |flags| {
        openat2(
            &root,
            "there",
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    };
    let there = File::from(how(OFlags::RDWR)?);
    let pinned = how(OFlags::PATH)?;
    let proc = |fd: &dyn std::os::fd::AsRawFd| CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    chmodat(CWD, proc(&pinned), Mode::from_raw_mode(0o640), AtFlags::empty())?;
    fs::create_dir_all(inside.join("a/b"))?;
    let mut file = File::options().write(true).read(true).create_new(true).mode(0o600).open(inside.join("a/f"))?;
    file.write_all(b"hello")?;
    file.write_all_at(b"hello", 1 << 20)?;
    file.seek(io::SeekFrom::Start(0))?;
    file.read_exact(&mut [0; 5])?;
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0))?, 4096);
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(4096))?, 1 << 20);
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 21)?;
    file.set_len(1 << 19)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    let _ = copy_file_range(&there, None, &file, None, 1);
    statx(&root, "a", AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    rustix::fs::fstatvfs(&root)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential)?;
    linkat(&root, "a/f", &root, "g", AtFlags::empty())?;
    renameat(&root, "g", &root, "h")?;
    symlinkat("/etc", &root, "s")?;
    mkfifoat(&root, "p", Mode::RUSR)?;
    let _ = mknodat(&root, "w", FileType::CharacterDevice, Mode::RUSR, 0);
    let times = Timestamps { last_access: Timespec::default(), last_modification: Timespec { tv_sec: 7, tv_nsec: 9 } };
    utimensat(&root, "s", &times, AtFlags::SYMLINK_NOFOLLOW)?;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    chownat(&root, "s", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    let unknown = |result: rustix::io::Result<()>| match result {
        Err(errno) if errno != rustix::io::Errno::OPNOTSUPP => Err(errno),
        _ => Ok(()),
    };
    unknown(fsetxattr(&file, "user.x", b"1", XattrFlags::empty()))?;
    unknown(lsetxattr(proc(&file), "user.y", b"1", XattrFlags::empty()).or(Ok(())))?;
    listxattr(inside.join("a/f"), &mut [0; 1000])?;
    unknown(getxattr(inside.join("a/f"), "user.x", &mut [0; 1000]).map(|_| ()))?;
    assert_eq!(fs::read_link(inside.join("s"))?, Path::new("/etc"));
    assert!(fs::read_dir(inside)?.count() >= 6);
    file.sync_all()?;
    fdatasync(&file)?;
    syncfs(&root)?;
    fs::remove_file(inside.join("h"))?;
    io::copy(&mut File::open(inside.join("a/f"))?, &mut File::create(inside.join("c"))?)?;
    fs::remove_dir(inside.join("a/b"))?;
    let _ = file.try_clone()?;
    threads()
}

/// Threads, their memory, their waiting; `HashMap` asks for chance.
fn threads() -> io::Result<()> {
    let threads: Vec<_> = (0..8)
        .map(|number| {
            thread::Builder::new().name(format!("lane {number}")).spawn(move || {
                let mut map = std::collections::HashMap::new();
                for at in 0..64 {
                    map.insert(at, vec![1_u8; (at + number + 1) << 16]);
                    thread::sleep(std::time::Duration::from_micros(50));
                }
                map.values().map(Vec::len).sum::<usize>()
            })
        })
        .collect::<Result<_, _>>()?;
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread broke"))?;
    }
    thread::available_parallelism()?;
    Ok(())
}
