use std::fs;
use std::path::{Path, PathBuf};

use super::cat::cat;
use super::create::create;
use super::extract::extract;
use super::list::{list, Form};
use crate::archive_file::{open, ArchiveFile};
use crate::archives::{make, Part};
use crate::entry::{Entry, Kind};
use crate::error::{Code, Error, Result};
use crate::trees::{make_rich_tree, new_tree, write};
use crate::walk::content_fingerprint;

fn prove(path: &Path) -> Result<ArchiveFile> {
    ArchiveFile::prove(open(path)?, path)
}

/// An archive of the tree, in the directory beside it.
fn archive_of(tree: &Path) -> (PathBuf, ArchiveFile) {
    let outer = tree.parent().unwrap();
    let (work, target) = (outer.join("work"), outer.join("home.tar.gz"));
    fs::create_dir(&work).unwrap();
    create(tree, &work, &target, 2).unwrap();
    let proven = prove(&target).unwrap();
    (target, proven)
}

fn data(archive: &ArchiveFile, path: &[u8]) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    cat(archive, path, &mut output).map(|()| output)
}

/// An archive of parts, as a file of its own.
fn file_of(parts: &[Part]) -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("made.tar.gz");
    fs::write(&path, make(parts).stored).unwrap();
    (outer, path)
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let (outer, tree) = new_tree();
    make_rich_tree(&tree);
    fs::remove_file(tree.join("socket")).unwrap(); // no archive has one
    let (_, archive) = archive_of(&tree);
    let out = outer.path().join("out");
    fs::create_dir(&out).unwrap();
    extract(&archive, &out, 3).unwrap();
    let content = |root: &Path| content_fingerprint(root, &mut |_| ()).unwrap();
    assert_eq!(content(&out), content(&tree));
    assert_eq!(content(&out), archive.content);
    assert_eq!(fs::read(out.join("plain.txt")).unwrap(), b"hello\n");
}

#[test]
fn a_file_is_found_by_each_of_its_names() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    write(&tree, "huge", vec![7; 20 << 20]);
    let (_, archive) = archive_of(&tree);
    assert!(archive.data().filter(|number| archive.segment(*number).piece.is_some()).count() > 1);
    for name in ["plain.txt", "./plain.txt", "zz-second-name", "a/third-name", "huge", "sparse.bin", "empty", "a.b/x"] {
        assert!(data(&archive, name.as_bytes()).unwrap() == fs::read(tree.join(name)).unwrap(), "{name}");
    }
    for (name, said) in [
        ("link", "is a symbolic link to plain.txt"),
        ("emptydir", "is no regular file"),
        ("fifo", "is no regular file"),
        ("plain", "is not in the archive"),
        ("", "is no regular file"),
    ] {
        let error = data(&archive, name.as_bytes()).unwrap_err();
        assert!(error.message.contains(said) && error.hint.is_some(), "{name}: {error}");
    }
}

#[test]
fn names_are_those_of_the_tree() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let (_, archive) = archive_of(&tree);
    let listed = |form| {
        let mut output = Vec::new();
        list(&archive, form, &mut output).unwrap();
        output
    };
    let exact = listed(Form::Null);
    let names: Vec<_> = exact.split(|byte| *byte == 0).collect();
    assert!(names.contains(&&b"\xff\xfe not utf-8"[..]) && names.contains(&&b"."[..]));
    assert_eq!(names.len() as u64, archive.totals.entries + 1); // nothing is behind the last NUL
    let lines = String::from_utf8(listed(Form::Long)).unwrap();
    assert_eq!(lines.lines().count() as u64, archive.totals.entries);
    assert!(lines.contains(" zz-second-name link to "));
}

#[test]
fn no_changed_byte_passes() {
    let files =
        |names: &[&str]| Part::Files(names.iter().map(|name| (name.as_bytes().to_vec(), vec![b'x'; 99])).collect());
    let tail = Part::Tail(vec![Entry { mode: 0o700, ..Entry::new("d", Kind::Directory) }]);
    let (_outer, path) = file_of(&[files(&["a", "b"]), files(&["c"]), tail]);
    let whole = fs::read(&path).unwrap();
    prove(&path).unwrap();
    let refused = |bytes: &[u8]| -> Error {
        fs::write(&path, bytes).unwrap();
        prove(&path).err().unwrap()
    };
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        // What gzip does not use (time, system, bits behind the last code) nothing states, and it changes no data.
        match prove(&path) {
            Err(error) => assert_eq!(error.code, Code::ArchiveCorrupt, "at {at}"),
            Ok(same) => assert_eq!(data(&same, b"a").unwrap(), [b'x'; 99], "at {at}"),
        }
        assert_eq!(refused(&whole[..at]).code, Code::ArchiveCorrupt, "cut at {at}");
    }
    assert_eq!(refused(&[&whole[..], &whole[..]].concat()).code, Code::ArchiveCorrupt);
    assert!(refused(b"no archive").hint.unwrap().contains("tar -xzf"));
}

#[test]
fn what_changes_after_the_proof_is_refused() {
    let (_outer, path) = file_of(&[Part::Files(vec![(b"a".to_vec(), b"x".repeat(5000))])]);
    let archive = prove(&path).unwrap();
    let mut changed = fs::read(&path).unwrap();
    changed[40] ^= 1;
    fs::write(&path, &changed).unwrap();
    let out = tempfile::tempdir().unwrap();
    assert_eq!(extract(&archive, out.path(), 1).unwrap_err().code, Code::ArchiveCorrupt);
    assert_eq!(data(&archive, b"a").unwrap_err().code, Code::ArchiveCorrupt);
    fs::write(&path, &changed[..30]).unwrap();
    assert_eq!(data(&archive, b"a").unwrap_err().code, Code::ArchiveCorrupt);
}

#[test]
fn a_directory_with_a_file_in_it_stays_as_it_is() {
    let (_outer, path) = file_of(&[Part::Files(vec![(b"a".to_vec(), b"new".to_vec())])]);
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("a"), "old").unwrap();
    assert_eq!(extract(&prove(&path).unwrap(), out.path(), 1).unwrap_err().code, Code::VolumeConflict);
    assert_eq!(fs::read(out.path().join("a")).unwrap(), b"old");
}

#[test]
fn nothing_is_replaced_by_what_is_created() {
    let (outer, tree) = new_tree();
    write(&tree, "a", "x");
    let (work, target) = (outer.path().join("work"), outer.path().join("home.tar.gz"));
    fs::create_dir(&work).unwrap();
    fs::write(&target, "theirs").unwrap();
    assert_eq!(create(&tree, &work, &target, 1).err().unwrap().code, Code::InvalidInput);
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
}

#[test]
fn a_true_statement_does_not_help_what_reaches_out() {
    let file = |path: &str| Part::Files(vec![(path.as_bytes().to_vec(), b"evil".to_vec())]);
    let link = |target: &[u8]| Part::Tail(vec![Entry { target: target.to_vec(), ..Entry::new("d", Kind::Symlink) }]);
    for parts in [
        vec![file("../victim")],
        vec![file("/victim")],
        vec![file("d/../../victim")],
        vec![file("d/victim"), link(b"..")],
        vec![file("d/victim"), link(b"/")],
    ] {
        let (outer, path) = file_of(&parts);
        let out = outer.path().join("out");
        fs::create_dir(&out).unwrap();
        let error = prove(&path).and_then(|archive| extract(&archive, &out, 1)).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt, "{error}");
        assert!(!outer.path().join("victim").exists() && !Path::new("/victim").exists(), "{error}");
    }
}
