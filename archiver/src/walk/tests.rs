use std::fs;
use std::os::unix::fs::{symlink, MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use super::*;
use crate::trees::{
    as_nobody, behind_landlock, is_root, make_deep, make_rich_tree, new_tree, set_mtime, set_xattr, special, write,
};

fn entries(root: &Path, xattrs: bool) -> Result<Vec<Entry>> {
    walk(root, WalkOptions { xattrs, ..WalkOptions::default() }).collect()
}

fn paths(root: &Path) -> Vec<String> {
    entries(root, false).unwrap().into_iter().map(|entry| String::from_utf8(entry.path).unwrap()).collect()
}

fn change_of(root: &Path) -> String {
    change_fingerprint(root, WalkOptions::default(), &mut |_| ()).unwrap()
}

fn code_and_path(error: &Error) -> (Code, &str) {
    (error.code, error.details["path"].as_str().unwrap())
}

#[test]
fn archive_order() {
    let (_outer, tree) = new_tree();
    for name in ["a/x", "a.b/x", "a b", "B", "ab/c/d", "ab/c-"] {
        write(&tree, name, name);
    }
    let order = ["", "B", "a", "a/x", "a b", "a.b", "a.b/x", "ab", "ab/c", "ab/c/d", "ab/c-"];
    assert_eq!(paths(&tree), order);
}

#[test]
fn hard_links_name_the_first() {
    let (outer, tree) = new_tree();
    write(&tree, "z", "data");
    write(&tree, "outside too", "data");
    fs::hard_link(tree.join("outside too"), outer.path().join("outside")).unwrap();
    fs::create_dir(tree.join("a")).unwrap();
    assert!(special(&tree, "p1", FileType::Fifo, (0, 0)));
    for (name, further) in [("z", "m"), ("z", "a/first"), ("p1", "p0")] {
        fs::hard_link(tree.join(name), tree.join(further)).unwrap();
    }
    let found: HashMap<_, _> =
        entries(&tree, true).unwrap().into_iter().map(|entry| (entry.path, (entry.kind, entry.target))).collect();
    assert_eq!(found[&b"a/first"[..]], (Kind::File, vec![]));
    assert_eq!(found[&b"m"[..]], (Kind::HardLink, b"a/first".to_vec()));
    assert_eq!(found[&b"z"[..]], (Kind::HardLink, b"a/first".to_vec()));
    assert_eq!(found[&b"p0"[..]], (Kind::Fifo, vec![]));
    assert_eq!(found[&b"p1"[..]], (Kind::HardLink, b"p0".to_vec()));
    assert_eq!(found[&b"outside too"[..]], (Kind::File, vec![]));
}

#[test]
fn every_kind_comes_with_its_metadata() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let found: HashMap<_, _> =
        entries(&tree, true).unwrap().into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    let plain = fs::symlink_metadata(tree.join("plain.txt")).unwrap();
    let entry = &found[&b"a/third-name"[..]];
    assert_eq!((entry.kind, entry.mode, entry.size), (Kind::File, plain.mode() & 0o7777, 6));
    assert_eq!((entry.inode, entry.ctime.seconds), (plain.ino(), plain.ctime()));
    assert_eq!(entry.mtime, Time { seconds: 1_234_567_890, nanos: 123_456_789 });
    let names: Vec<_> = entry.xattrs.iter().map(|pair| &pair.0[..]).collect();
    assert_eq!(names, [&b"user.a%3Db=c"[..], b"user.comment", b"user.empty"]);
    assert_eq!(entry.xattrs[1].1, b"with = and \n and \0 in it");
    assert_eq!(found[&b"large.bin"[..]].xattrs[0].1.len(), 2000);
    assert_eq!(found[&b"empty"[..]].mtime, Time { seconds: -315_619_200, nanos: 123_456_789 });
    assert_eq!(found[&b"empty"[..]].mode, 0o4711);
    assert_eq!(found[&b"longlink"[..]].target.len(), 4095);
    assert_eq!(found[&b"socket"[..]].kind, Kind::Socket);
    assert_eq!(found[&b"emptydir"[..]].xattrs, [(b"user.dir".to_vec(), b"on a directory".to_vec())]);
    assert_eq!(found.len(), entries(&tree, false).unwrap().len());
}

#[test]
fn attributes_of_any_size() {
    let (_outer, tree) = new_tree();
    write(&tree, "many", "");
    let room: Vec<_> = (0..60).filter(|n| set_xattr(&tree.join("many"), &format!("user.{n:03}"), b"value")).collect();
    let found = entries(&tree, true).unwrap();
    assert_eq!(found[1].xattrs.len(), room.len());
    assert!(room.len() > 30, "more than what is asked for at first");
}

#[test]
fn deeper_than_directories_are_kept_open() {
    let (_outer, tree) = new_tree();
    let levels = MAX_OPEN_DIRECTORIES * 6;
    make_deep(&tree, levels, &"d".repeat(20));
    let found = entries(&tree, true).unwrap();
    assert_eq!(found.len(), 1 + 3 * levels);
    assert!(found.iter().any(|entry| entry.path.len() > 4096));
}

#[test]
fn no_more_directories_are_open_than_allowed() {
    let (_outer, tree) = new_tree();
    make_deep(&tree, MAX_OPEN_DIRECTORIES * 2, "d");
    let mut walked = walk(&tree, WalkOptions::default());
    while let Some(entry) = walked.next() {
        entry.unwrap();
        assert!(walked.open.iter().filter(|directory| directory.fd.is_some()).count() <= MAX_OPEN_DIRECTORIES);
    }
}

#[test]
fn deeper_than_an_archive_can_say() {
    let (_outer, tree) = new_tree();
    make_deep(&tree, LONGEST_PATH / 201 + 1, &"d".repeat(200));
    let error = entries(&tree, false).unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
    assert!(error.details["path"].as_str().unwrap().starts_with("ddd"));
}

#[test]
fn nested_mounts_are_refused() {
    let (outer, tree) = new_tree();
    let inner = tree.join("in ner");
    fs::create_dir(&inner).unwrap();
    let bind = outer.path().to_str().unwrap().to_owned();
    for options in [["-t", "tmpfs", "none"], ["-n", "--bind", &bind]] {
        if !is_root() || !Command::new("mount").args(options).arg(&inner).output().unwrap().status.success() {
            assert!(std::env::var_os("CI").is_none(), "CI may mount");
            return; // not allowed here
        }
        let listed = entries(&tree, false);
        let mut walked = walk(&tree, WalkOptions::default());
        walked.state = State::Inside; // as if it came after the list was read
        let fd = rustix::fs::open(&tree, ROOT, Mode::empty()).unwrap();
        let identity = identity_of(&status_of(fd.as_fd(), c"").unwrap());
        let names = walked.listing.read(fd.as_fd()).unwrap();
        walked.open.push(Directory { fd: Some(fd), identity, path_length: 0, names });
        let met = walked.next().unwrap();
        drop(walked);
        assert!(Command::new("umount").arg(&inner).status().unwrap().success());
        assert_eq!(code_and_path(&listed.unwrap_err()), (Code::Unsupported, "in ner"));
        assert_eq!(code_and_path(&met.unwrap_err()), (Code::Unsupported, "in ner"));
    }
}

#[test]
fn a_directory_that_vanishes_or_becomes_a_link() {
    for becomes_link in [false, true] {
        let (_outer, tree) = new_tree();
        fs::create_dir(tree.join("a")).unwrap();
        let mut steps = walk(&tree, WalkOptions::default());
        assert_eq!(steps.next().unwrap().unwrap().path, b"");
        assert_eq!(steps.next().unwrap().unwrap().path, b"a");
        fs::remove_dir(tree.join("a")).unwrap();
        if becomes_link {
            symlink("/etc", tree.join("a")).unwrap();
        }
        assert_eq!(code_and_path(&steps.next().unwrap().unwrap_err()), (Code::VolumeChanged, "a"));
        assert!(steps.next().is_none());
    }
}

#[test]
fn a_directory_that_is_moved_away_while_it_is_deep_below() {
    let (outer, tree) = new_tree();
    make_deep(&tree, MAX_OPEN_DIRECTORIES + 4, "d");
    let mut steps = walk(&tree, WalkOptions::default());
    let deepest = 2 * (MAX_OPEN_DIRECTORIES + 4) + 1;
    assert!(steps.by_ref().take(deepest).all(|entry| entry.is_ok()));
    // Then the way up, through `..`, no longer leads where it came from.
    fs::rename(tree.join("d/d"), outer.path().join("moved")).unwrap();
    let error = steps.find_map(Result::err).unwrap();
    assert_eq!(code_and_path(&error), (Code::VolumeChanged, "d"));
}

/// Where Landlock stands, what was moved out of the root is refused as a closed directory is.
#[test]
fn a_directory_that_is_moved_away_from_behind_landlock() {
    for (levels, returned, moved) in
        [(2, 4, "d"), (2, 2, "d"), (MAX_OPEN_DIRECTORIES + 4, 2 * MAX_OPEN_DIRECTORIES, "d/d")]
    {
        let (outer, tree) = new_tree();
        make_deep(&tree, levels, "d");
        let error = behind_landlock(
            &tree,
            |pause| {
                let mut steps = walk(&tree, WalkOptions::default());
                assert!(steps.by_ref().take(returned).all(|entry| entry.is_ok()));
                pause();
                steps.find_map(Result::err).unwrap()
            },
            || fs::rename(tree.join(moved), outer.path().join("moved")).unwrap(),
        );
        assert_eq!(error.code, Code::VolumeChanged, "{returned}: {error}");
    }
}

#[test]
fn no_volume() {
    let (_outer, tree) = new_tree();
    assert_eq!(entries(&tree.join("nothing"), false).unwrap_err().code, Code::VolumeChanged);
    write(&tree, "file", "");
    assert_eq!(entries(&tree.join("file"), false).unwrap_err().code, Code::VolumeChanged);
}

#[test]
fn what_cannot_be_read_is_named() {
    let (outer, tree) = new_tree();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(tree.join("closed")).unwrap();
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let error = as_nobody(|| entries(&tree, false).unwrap_err());
    assert_eq!(code_and_path(&error), (Code::VolumeUnreadable, "closed"));
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn the_change_fingerprint_sees_what_moves() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 9] = [
        ("new", |root| write(root, "new", "")),
        ("mode", |root| fs::set_permissions(root.join("plain.txt"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("time", |root| set_mtime(&root.join("plain.txt"), 5, 5)),
        ("attribute", |root| assert!(set_xattr(&root.join("plain.txt"), "user.new", b"x"))),
        ("renamed", |root| fs::rename(root.join("plain.txt"), root.join("renamed")).unwrap()),
        ("socket", |root| fs::remove_file(root.join("socket")).unwrap()),
        ("link", |root| fs::hard_link(root.join("empty"), root.join("more")).unwrap()),
        ("fifo", |root| fs::remove_file(root.join("fifo")).unwrap()),
        ("rewritten, with its old size and time", |root| {
            let before = fs::metadata(root.join("plain.txt")).unwrap();
            write(root, "plain.txt", "HELLO\n");
            set_mtime(&root.join("plain.txt"), before.mtime(), before.mtime_nsec());
        }),
    ];
    for (what, change) in changes {
        let (_outer, tree) = new_tree();
        make_rich_tree(&tree);
        let before = change_of(&tree);
        assert_eq!(change_of(&tree), before);
        change(&tree);
        assert_ne!(change_of(&tree), before, "{what}");
    }
}

#[test]
fn whatever_somebody_has_ends_the_walk() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let all = entries(&tree, false).unwrap();
    let device = fs::metadata(&tree).unwrap().dev();
    for entry in &all {
        let held = HashMap::from([
            ((device, entry.inode), "pid 1 (somebody)".to_owned()),
            ((device + 1, all[0].inode), "else".to_owned()),
        ]);
        let error = change_fingerprint(&tree, WalkOptions { xattrs: false, held }, &mut |_| ()).unwrap_err();
        assert_eq!(error.code, Code::VolumeInUse);
        assert!(error.message.ends_with("is used by pid 1 (somebody)"), "{error}");
        assert_eq!(error.details["users"][0], "pid 1 (somebody)");
        let is_it = |each: &Entry| error.details["path"] == show(&each.path) && each.inode == entry.inode;
        assert!(all.iter().any(is_it), "{error}");
    }
    let held = HashMap::from([((device + 1, all[0].inode), "else".to_owned())]);
    let free = change_fingerprint(&tree, WalkOptions { xattrs: false, held }, &mut |_| ()).unwrap();
    assert_eq!(free, change_of(&tree));
}

#[test]
fn the_content_fingerprint_survives_a_copy() {
    let (outer, tree) = new_tree();
    make_rich_tree(&tree);
    let copy = outer.path().join("copy");
    assert!(Command::new("cp").arg("-aT").args([&tree, &copy]).status().unwrap().success());
    let content = |root: &Path| content_fingerprint(root, &mut |_| ()).unwrap();
    assert_eq!(content(&copy), content(&tree));
    assert_ne!(change_of(&copy), change_of(&tree));
    write(&copy, "more", "");
    assert_ne!(content(&copy), content(&tree));
}
