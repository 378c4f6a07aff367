use std::os::unix::fs::{symlink, MetadataExt};
use std::path::Path;

use super::*;
use crate::beneath::split_name;
use crate::entry::Time;

type Make = fn(&Path);

fn beneath(root: &Path) -> Beneath {
    Beneath::open(root).unwrap()
}

fn maker(root: &Path) -> TailMaker {
    let abilities = Abilities::probe(&mut beneath(root)).unwrap();
    TailMaker::new(beneath(root), abilities)
}

fn own(path: &[u8], kind: Kind) -> Entry {
    let (uid, gid) = Abilities::default().own_ids();
    Entry { uid, gid, mode: 0o755, mtime: Time { seconds: 1, nanos: 2 }, ..Entry::new(path, kind) }
}

fn link_to(path: &[u8], kind: Kind, target: &[u8]) -> Entry {
    Entry { target: target.to_vec(), ..own(path, kind) }
}

#[test]
fn what_is_no_directory_is_a_conflict() {
    // A link to a directory too: writers would go through it.
    let things: [(&str, Make); 5] = [
        ("file", |at| std::fs::write(at, b"").unwrap()),
        ("fifo", |at| {
            let (parent, name) = (at.parent().unwrap(), at.file_name().unwrap());
            beneath(parent).mknod(name.as_encoded_bytes(), FileType::Fifo, 0o600, (0, 0)).unwrap();
        }),
        ("link to nothing", |at| symlink("nothing", at).unwrap()),
        ("link to a directory inside", |at| symlink(".", at).unwrap()),
        ("link to a directory outside", |at| symlink("/usr", at).unwrap()),
    ];
    for (what, make) in things {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        make(&dir.path().join("a/b/x"));
        let error = prepare_root(&mut beneath(dir.path()), "the volume").unwrap_err();
        assert_eq!(error.code, Code::VolumeConflict, "{what}");
        assert!(error.message.contains("a/b/x"), "{what}: {}", error.message);
    }
}

#[test]
fn directories_of_an_earlier_attempt_may_be_of_any_depth() {
    let dir = tempfile::tempdir().unwrap();
    let mut beneath = beneath(dir.path());
    let path = vec!["d"; 1500].join("/").into_bytes();
    beneath.makedirs(&path).unwrap();
    prepare_root(&mut beneath, "the volume").unwrap();
    let mut at = &path[..]; // the standard library could not remove it
    while !at.is_empty() {
        let (parent, name) = beneath.split(at).unwrap();
        unlinkat(parent, name, AtFlags::REMOVEDIR).unwrap();
        at = split_name(at).0;
    }
}

#[test]
fn a_prepared_root_is_private_and_hands_nothing_down() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    let acl: &[u8] = &[
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 7, 0, 0, 0, 4, 0, 7, 0, 255, 255, 255, 255, 16, 0, 7,
        0, 255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255,
    ];
    let mut beneath = beneath(dir.path());
    beneath.chmod(b"", 0o2777).unwrap();
    beneath.setxattr(b"", ACL_DEFAULT, acl).unwrap();
    beneath.setxattr(b"", ACL_ACCESS, acl).unwrap();
    prepare_root(&mut beneath, "the volume").unwrap();
    assert_eq!(std::fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    beneath.mkdir(b"d").unwrap();
    let mut list = [0; 100];
    for name in ["", "d"] {
        assert_eq!(rustix::fs::listxattr(dir.path().join(name), &mut list[..]).unwrap(), 0, "{name}");
    }
}

#[test]
fn a_tail_is_made_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let tail = [
        link_to(b"d/l", Kind::Symlink, b"/etc/passwd"),
        link_to(b"d/l2", Kind::HardLink, b"d/l"),
        link_to(b"name", Kind::HardLink, b"file"),
        own(b"pipe", Kind::Fifo),
        Entry { mode: 0, ..own(b"gone", Kind::CharacterDevice) },
        Entry { mode: 0o500, ..own(b"d", Kind::Directory) },
        own(b"", Kind::Directory),
    ];
    make_directory(&mut beneath(dir.path()), &tail[5]).unwrap();
    for _ in 0..2 {
        let mut maker = maker(dir.path());
        for entry in &tail {
            maker.make(entry).unwrap();
        }
        assert_eq!((maker.skipped(), maker.left_out()), (&Skipped::new(), Content::default()));
        let stat = |name: &str| dir.path().join(name).symlink_metadata().unwrap();
        assert_eq!(stat("d/l").ino(), stat("d/l2").ino());
        assert_eq!((stat("name").ino(), stat("name").nlink()), (stat("file").ino(), 2));
        assert_eq!((stat("d").mode() & 0o7777, stat("d").mtime_nsec()), (0o500, 2));
        assert_eq!((stat("").mode() & 0o7777, stat("").mtime()), (0o755, 1));
        assert_eq!(std::fs::read_link(dir.path().join("d/l")).unwrap(), Path::new("/etc/passwd"));
    }
}

/// Each tail is refused, and a victim outside stays as it is.
#[test]
fn hostile_tails_are_refused() {
    let fifo = |path| own(path, Kind::Fifo);
    let device = |path, device| Entry { device, ..own(path, Kind::CharacterDevice) };
    let soft = |path, target| link_to(path, Kind::Symlink, target);
    let hard = |path, target| link_to(path, Kind::HardLink, target);
    let out = b"../../victim";
    let tails: Vec<Vec<Entry>> = vec![
        vec![soft(b"../evil", b"x")],
        vec![soft(b"/tmp/evil", b"x")],
        vec![hard(b"../evil", b"good")],
        vec![hard(b"h", out)],
        vec![hard(b"h", b"/etc/passwd")],
        vec![soft(b"a", b".."), hard(b"h", b"a/victim")],
        vec![soft(b"a", b".."), hard(b"a/new", b"good")],
        vec![hard(b"h", b"missing")],
        vec![hard(b"h", b"d")],
        vec![hard(b"h", b"")],
        vec![hard(b"h", b"h")],
        vec![soft(b"l", b"x"), hard(b"good", b"l")],
        vec![soft(b"good", b"..")],
        vec![soft(b"d", b"..")],
        vec![soft(b"", b"..")],
        vec![soft(b"out", b".."), soft(b"out/evil", b"x")],
        vec![soft(b"no/evil", b"x")],
        vec![soft(b"l", b"x"), soft(b"l", b"y")],
        vec![soft(b"l", b"")],
        vec![soft(b"l", &[b'x'; 4096])],
        vec![fifo(b"good")],
        vec![fifo(b"../p")],
        vec![soft(b"out", b".."), fifo(b"out/p")],
        vec![device(b"../d", (1, 3))],
        vec![device(b"../d", (0, 0))],
        vec![device(b"good", (0, 0))],
        vec![fifo(b"p"), device(b"p", (0, 0))],
        vec![device(b"n", (0, 0)), device(b"n", (1, 3))],
        vec![own(b"../open", Kind::Directory)],
        vec![soft(b"out", b".."), own(b"out", Kind::Directory)],
        vec![own(b"good", Kind::Directory)],
    ];
    for tail in tails {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir_all(volume.join("d")).unwrap();
        std::fs::create_dir(dir.path().join("open")).unwrap();
        std::fs::write(dir.path().join("victim"), b"precious").unwrap();
        std::fs::write(volume.join("good"), b"good").unwrap();
        let state = || {
            ["victim", "open"].map(|name| {
                let meta = dir.path().join(name).symlink_metadata().unwrap();
                (meta.mode(), meta.nlink(), meta.ctime(), meta.ctime_nsec())
            })
        };
        let (before, names) = (state(), std::fs::read_dir(dir.path()).unwrap().count());
        let abilities = Abilities::probe(&mut beneath(&volume)).unwrap();
        if tail.iter().any(|entry| omitted(entry, &abilities).is_some()) {
            continue;
        }
        let mut maker = TailMaker::new(beneath(&volume), abilities);
        let error = tail.iter().find_map(|entry| maker.make(entry).err());
        let shown: Vec<_> = tail.iter().map(|entry| show(&entry.path)).collect();
        assert_eq!(error.map(|error| error.code), Some(Code::ArchiveCorrupt), "{shown:?}");
        assert_eq!(state(), before, "{shown:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), names, "{shown:?}");
        assert_eq!(std::fs::read(volume.join("good")).unwrap(), b"good");
    }
}

#[test]
fn a_hostile_directory_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("good"), b"").unwrap();
    symlink("..", volume.join("out")).unwrap();
    for path in [&b"/tmp/evil"[..], b"../evil", b"./a/./b", b"a//b", b"..", b"good", b"good/d", b"out/b", b"a\0b"] {
        let error = make_directory(&mut beneath(&volume), &own(path, Kind::Directory)).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt, "{}", show(path));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn devices_are_left_out_with_all_their_names() {
    let mut left_out = LeftOut::new(&Abilities::default());
    let device = Entry { device: (1, 3), ..own(b"null", Kind::CharacterDevice) };
    let disk = own(b"disk", Kind::BlockDevice); // 0/0, and no whiteout
    let gone = own(b"gone", Kind::CharacterDevice);
    let names = [
        link_to(b"a", Kind::HardLink, b"null"),
        link_to(b"b", Kind::HardLink, b"a"),
        link_to(b"c", Kind::HardLink, b"gone"),
    ];
    assert_eq!(left_out.takes(&own(b"pipe", Kind::Fifo)), None);
    assert_eq!(left_out.content, Content::default());
    let all = [&device, &disk, &gone, &names[0], &names[1], &names[2]];
    let kinds = all.map(|entry| left_out.takes(entry).unwrap());
    assert_eq!(kinds, ["devices", "devices", "whiteouts", "devices", "devices", "whiteouts"]);
    assert_eq!(left_out.takes(&link_to(b"x", Kind::HardLink, b"file")), None);
    let sum = all.iter().fold(Content::default(), |sum, entry| sum.plus(Content::of(entry)));
    assert_eq!(left_out.content, sum);
}

#[test]
fn a_way_that_is_barred_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut beneath = beneath(dir.path());
    beneath.makedirs(b"a/b/c").unwrap();
    for path in [&b"a/b/c"[..], b"a/b", b"a"] {
        beneath.chmod(path, 0).unwrap();
    }
    beneath.open_way(b"a/b/c").unwrap();
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o700, 0o700, 0));
}
