use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{symlink, PermissionsExt as _};

use super::*;
use crate::error::Code;
use crate::sparse::{cut_file, find_holes, holes_within};
use crate::trees::{as_nobody, behind_landlock, new_tree, set_mtime, set_xattr, special, write};
use crate::walk::{walk, WalkOptions};

fn entry_of(root: &Path, path: &[u8]) -> Entry {
    let mut walked = walk(root, WalkOptions { xattrs: true, ..WalkOptions::default() });
    walked.find_map(|entry| entry.ok().filter(|entry| entry.path == path)).unwrap()
}

fn inflate(member: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(member).read_to_end(&mut raw).unwrap();
    raw
}

#[test]
fn pieces_make_the_file() {
    use std::os::unix::fs::FileExt as _;
    let (_outer, tree) = new_tree();
    let bytes = |count: usize| (0..count).map(|at| (at * at % 251) as u8).collect::<Vec<_>>();
    write(&tree, "f", bytes(10_000));
    fs::OpenOptions::new().write(true).open(tree.join("f")).unwrap().write_all_at(&bytes(7_001), 400_000).unwrap();
    let data = fs::read(tree.join("f")).unwrap();
    let entry = entry_of(&tree, b"f");
    let mut reader = VolumeReader::open(&tree).unwrap();
    let holes = reader.with_file(&entry, |file| Ok(find_holes(file, entry.size).unwrap())).unwrap();
    let (mut raw, mut told) = (Vec::new(), 0);
    for cut in cut_file(entry.size, &holes, 5000, 100).unwrap() {
        let mut member = MemberWriter::new(Vec::new());
        let holes = holes_within(&holes, cut);
        let piece = Piece { offset: cut.offset, length: cut.length, holes, ..Piece::default() };
        reader.write_piece(&entry, &piece, &mut member, &mut |bytes| told += bytes).unwrap();
        raw.extend(inflate(&member.finish().unwrap().0));
    }
    let padding = vec![0; padding_of(entry.size) as usize];
    assert!(raw == [header(&entry, None).unwrap(), data, padding].concat());
    assert!(told >= entry.size);
}

type Change = fn(&Path);

#[test]
fn a_file_that_is_no_longer_as_planned() {
    let changes: [(&str, Change); 9] = [
        ("rewritten", |root| {
            let entry = entry_of(root, b"d/f");
            write(root, "d/f", [b'y'; 3000]);
            set_mtime(&root.join("d/f"), entry.mtime.seconds, entry.mtime.nanos.into());
        }),
        ("shrinks", |root| fs::File::options().write(true).open(root.join("d/f")).unwrap().set_len(10).unwrap()),
        ("attribute", |root| assert!(set_xattr(&root.join("d/f"), "user.new", b""))),
        ("mode", |root| fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("gone", |root| fs::remove_file(root.join("d/f")).unwrap()),
        ("replaced", |root| {
            fs::rename(root.join("d/f"), root.join("other")).unwrap();
            write(root, "d/f", [b'x'; 3000]);
        }),
        ("link", |root| {
            fs::rename(root.join("d/f"), root.join("d/other")).unwrap();
            symlink("other", root.join("d/f")).unwrap();
        }),
        // It does not hold us up.
        ("FIFO", |root| {
            fs::remove_file(root.join("d/f")).unwrap();
            assert!(special(root, "d/f", rustix::fs::FileType::Fifo, (0, 0)));
        }),
        // No component of a path is followed out of the volume.
        ("directory that becomes a link", |root| {
            fs::rename(root.join("d"), root.parent().unwrap().join("outside")).unwrap();
            symlink("../outside", root.join("d")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let (_outer, tree) = new_tree();
        write(&tree, "d/f", [b'x'; 3000]);
        let entry = entry_of(&tree, b"d/f");
        let read = |reader: &mut VolumeReader| {
            let mut member = MemberWriter::new(Vec::new());
            reader.write_file(&entry, &mut member, &mut |_| ())?;
            let piece = Piece { length: 3000, ..Piece::default() };
            reader.write_piece(&entry, &piece, &mut member, &mut |_| ())
        };
        read(&mut VolumeReader::open(&tree).unwrap()).unwrap();
        change(&tree);
        let error = read(&mut VolumeReader::open(&tree).unwrap()).unwrap_err();
        assert_eq!((error.code, &error.details["path"]), (Code::VolumeChanged, &"d/f".into()), "{what}: {error}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_read() {
    let changes: [(&str, Change); 5] = [
        ("shrinks", |root| fs::File::options().write(true).open(root.join("b")).unwrap().set_len(1500).unwrap()),
        ("grows", |root| write(root, "b", [b'b'; 3000])),
        ("other bytes", |root| write(root, "b", [b'c'; 2000])),
        ("other mode", |root| fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("vanishes", |root| fs::remove_file(root.join("b")).unwrap()),
    ];
    for (what, change) in changes {
        let (_outer, tree) = new_tree();
        write(&tree, "b", [b'b'; 2000]);
        let entry = entry_of(&tree, b"b");
        let mut reader = VolumeReader::open(&tree).unwrap();
        let mut member = MemberWriter::new(Vec::new());
        let read = reader.with_file(&entry, |file| {
            copy(file, &entry, 0, 1000, &mut member, &mut |_| ())?;
            change(&tree);
            copy(file, &entry, 1000, 2000, &mut member, &mut |_| ())
        });
        let error = read.unwrap_err();
        assert_eq!((error.code, &error.details["path"]), (Code::VolumeChanged, &"b".into()), "{what}");
    }
}

/// Its directory was open already, so the way to it is not looked for again.
#[test]
fn a_file_that_is_moved_away_from_behind_landlock() {
    let changes: [(&str, Change); 3] = [
        ("moved", |root| fs::rename(root.join("d"), root.parent().unwrap().join("outside")).unwrap()),
        ("replaced by a link", |root| {
            fs::rename(root.join("d"), root.parent().unwrap().join("outside")).unwrap();
            symlink("../outside", root.join("d")).unwrap();
        }),
        ("replaced by another", |root| {
            fs::rename(root.join("d"), root.parent().unwrap().join("outside")).unwrap();
            write(root, "d/f", [b'x'; 3000]);
        }),
    ];
    for (what, change) in changes {
        let (_outer, tree) = new_tree();
        write(&tree, "d/f", [b'x'; 3000]);
        let entry = entry_of(&tree, b"d/f");
        let read = |pause: &dyn Fn()| {
            let mut reader = VolumeReader::open(&tree).unwrap();
            reader.with_file(&entry, |_| Ok(())).unwrap();
            pause();
            reader.with_file(&entry, |_| Ok(())).unwrap_err()
        };
        let error = behind_landlock(&tree, read, || change(&tree));
        assert_eq!((error.code, &error.details["path"]), (Code::VolumeChanged, &"d/f".into()), "{what}: {error}");
    }
}

/// By its mode, to somebody who is not root.
#[test]
fn a_file_that_cannot_be_read() {
    let (_outer, tree) = new_tree();
    fs::set_permissions(tree.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    write(&tree, "d/f", "x");
    let entry = entry_of(&tree, b"d/f");
    fs::set_permissions(tree.join("d/f"), fs::Permissions::from_mode(0o0)).unwrap();
    let read = || VolumeReader::open(&tree).unwrap().with_file(&entry, |_| Ok(())).unwrap_err();
    let error = as_nobody(read);
    assert_eq!((error.code, &error.details["path"]), (Code::VolumeUnreadable, &"d/f".into()), "{error}");
}
