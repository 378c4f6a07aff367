//! The steps of a restore one after the other, and what may have gone wrong with the tree behind them.

use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::fs::FileType;

use super::*;
use crate::beneath::Beneath;
use crate::commands::compare;
use crate::commands::directories::{directories, Need};
use crate::commands::finish::finish;
use crate::entry::{Content, Entry, Kind};
use crate::hostile::{data, entry, file_entry, honest, tail, told, Forged};
use crate::lanes::run_lanes;
use crate::segment::{Path64, Piece};
use crate::tar::write::header;
use crate::unpack::Unpacker;

type Change = fn(&Path);

struct Archive {
    data: Vec<Forged>,
    tail: Forged,
    content: Content,
}

/// `mode` is that of a directory with files.
fn archive_of(mode: u32) -> Archive {
    let link = |path: &[u8], kind, target: &[u8]| Entry { target: target.to_vec(), ..entry(path, kind) };
    let small = [file_entry(b"d/a", 1), file_entry(b"d/b", 1)];
    let mut big = file_entry(b"d/big", 700);
    big.xattrs = vec![(b"user.x".to_vec(), b"1".to_vec())];
    let head = header(&big, None).unwrap();
    let piece = |offset: u64, length: u64, header_bytes: u64| Piece {
        path: Path64(b"d/big".to_vec()),
        offset,
        length,
        file_bytes: 700,
        header_bytes,
        ..Piece::default()
    };
    let data_segments = vec![
        honest(&[(small[0].clone(), &b"a"[..]), (small[1].clone(), b"b")]),
        Forged::piece(&[&head[..], &[1; 512]].concat(), piece(0, 512, head.len() as u64)),
        Forged::piece(&data(&[2; 188])[..512], piece(512, 188, 0)),
    ];
    let late = [
        link(b"name", Kind::HardLink, b"d/a"),
        link(b"soft", Kind::Symlink, b"x"),
        entry(b"pipe", Kind::Fifo),
        Entry { mode: 0, ..entry(b"gone", Kind::CharacterDevice) },
        Entry { mode: 0o500, ..entry(b"d/e", Kind::Directory) },
        Entry { mode, ..entry(b"d", Kind::Directory) },
    ];
    let root = entry(b"", Kind::Directory);
    let all = small.iter().chain([&big]).chain(&late).chain([&root]);
    let content = all.fold(Content::default(), |sum, entry| sum.plus(Content::of(entry)));
    Archive { data: data_segments, tail: tail(&late), content }
}

fn archive() -> Archive {
    archive_of(0o750)
}

fn frames<'a>(of: impl IntoIterator<Item = &'a Forged>) -> Vec<u8> {
    (1..).zip(of).flat_map(|(number, forged)| forged.frames(number)).collect()
}

/// All steps, each `times` times. Returns what `finish` told.
fn restore(root: &Path, archive: &Archive, times: usize) -> Value {
    let volume = Volume::new(root);
    let mut output = Vec::new();
    for _ in 0..times {
        directories(root, "v", Need::default(), &frames([&archive.tail])[..], &mut output).unwrap();
    }
    let abilities = Abilities::from_json(&told(&output).last().unwrap()["abilities"]).unwrap();
    for _ in 0..times {
        let lane = || Ok(Box::new(Unpacker::new(root, abilities.clone())?) as Box<dyn Lane>);
        run_lanes(&frames(&archive.data)[..], Vec::new(), 4, lane).unwrap();
    }
    for _ in 0..times {
        output.clear();
        let input = frames([&archive.data[1], &archive.tail]);
        finish(volume.open().unwrap(), abilities.clone(), &input[..], &mut output).unwrap();
    }
    told(&output).pop().unwrap()
}

fn differs(root: &Path, archive: &Archive) -> Value {
    let volume = Volume::new(root);
    let mut output = Vec::new();
    let input = frames(archive.data.iter().chain([&archive.tail]));
    differences(&volume, volume.abilities().unwrap(), &input[..], &mut output).unwrap();
    told(&output).pop().unwrap()["differs"].take()
}

fn content(root: &Path) -> Value {
    let mut output = Vec::new();
    compare::compare(root, &Abilities::default(), &mut output).unwrap();
    told(&output).pop().unwrap()["content"].take()
}

#[test]
fn a_tree_is_restored_by_the_steps_and_each_may_be_repeated() {
    let archive = archive();
    for times in 1..3 {
        let dir = tempfile::tempdir().unwrap();
        let finished = restore(dir.path(), &archive, times);
        let report = &finished["report"];
        assert_eq!((report["files"].as_u64(), report["bytes"].as_u64()), (Some(1), Some(700)));
        assert_eq!(report["skipped"], json!({}));
        assert_eq!(report["left_out"], Content::default().text());
        assert_eq!(content(dir.path()), archive.content.text());
        assert_eq!(differs(dir.path(), &archive), Value::Null);
        let big = [&[1; 512][..], &[2; 188]].concat();
        assert_eq!(std::fs::read(dir.path().join("d/big")).unwrap(), big);
    }
}

/// Something new in `d/e`, which is as it was otherwise.
fn add_to_e(root: &Path, add: fn(&mut Beneath)) {
    let mut beneath = Beneath::open(root).unwrap();
    beneath.chmod(b"d/e", 0o700).unwrap();
    add(&mut beneath);
    beneath.chmod(b"d/e", 0o500).unwrap();
    let one = crate::entry::Time { seconds: 1, nanos: 0 };
    beneath.utime(b"d/e", one, one).unwrap();
}

#[test]
fn what_went_wrong_is_named() {
    let changes: [(&str, &str, Change); 13] = [
        ("d/a", "size", |root| std::fs::write(root.join("d/a"), b"ab").unwrap()),
        ("d/b", "missing", |root| std::fs::remove_file(root.join("d/b")).unwrap()),
        ("d/b", "modification time", |root| std::fs::write(root.join("d/b"), b"x").unwrap()),
        ("d/big", "extended attributes", |root| rustix::fs::removexattr(root.join("d/big"), "user.x").unwrap()),
        ("soft", "link target", |root| {
            std::fs::remove_file(root.join("soft")).unwrap();
            symlink("y", root.join("soft")).unwrap();
        }),
        ("pipe", "type", |root| {
            std::fs::remove_file(root.join("pipe")).unwrap();
            std::fs::write(root.join("pipe"), b"").unwrap();
        }),
        ("name", "no further name of d/a", |root| {
            std::fs::remove_file(root.join("name")).unwrap();
            std::fs::write(root.join("name"), b"a").unwrap();
        }),
        ("d/b", "further name of d/a", |root| {
            std::fs::remove_file(root.join("d/b")).unwrap();
            std::fs::hard_link(root.join("d/a"), root.join("d/b")).unwrap();
        }),
        ("d/e", "mode", |root| {
            std::fs::set_permissions(root.join("d/e"), std::fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("d/e", "not in the archive", |root| add_to_e(root, |beneath| assert!(beneath.mkdir(b"d/e/new").unwrap()))),
        // No archive holds one, so none was restored.
        ("d/e", "not in the archive", |root| {
            add_to_e(root, |beneath| beneath.mknod(b"d/e/new", FileType::Socket, 0o600, (0, 0)).unwrap());
        }),
        ("", "mode", |root| std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711)).unwrap()),
        ("gone", "missing", |root| std::fs::remove_file(root.join("gone")).unwrap()),
    ];
    let archive = archive();
    for (path, why, change) in changes {
        let dir = tempfile::tempdir().unwrap();
        restore(dir.path(), &archive, 1);
        change(dir.path());
        assert_ne!(content(dir.path()), archive.content.text(), "{path}: {why}");
        let found = differs(dir.path(), &archive);
        let expected = if why == "not in the archive" { "d/e/new" } else { path };
        assert_eq!(found["path"], STANDARD.encode(expected), "{why}: {found}");
        assert!(found["why"].as_str().unwrap().contains(why), "{why}: {found}");
    }
}

#[test]
fn a_header_of_another_file_gives_no_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = archive();
    restore(dir.path(), &archive, 1);
    let piece = archive.data[1].segment.piece.clone().unwrap();
    for entry in [file_entry(b"d/a", 700), entry(b"d/big", Kind::Fifo), file_entry(b"d/big", 7)] {
        archive.data[1] = Forged::piece(&header(&entry, None).unwrap(), piece.clone());
        let volume = Volume::new(dir.path());
        let input = frames([&archive.data[1], &archive.tail]);
        let abilities = volume.abilities().unwrap();
        let error = finish(volume.open().unwrap(), abilities, &input[..], Vec::new()).unwrap_err();
        assert_eq!((error.code, error.details["segment"].as_u64()), (Code::ArchiveCorrupt, Some(1)));
    }
}

#[test]
fn directories_that_keep_their_owner_out_do_not_stop_a_repeated_step() {
    let dir = tempfile::tempdir().unwrap();
    restore(dir.path(), &archive_of(0), 2);
    let there = dir.path().join("d");
    assert_eq!(std::fs::metadata(&there).unwrap().permissions().mode() & 0o7777, 0);
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// All of this once more without root's rights, where the tests run with them.
#[test]
fn an_ordinary_user_restores_as_well() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let modules =
        ["abilities::", "beneath::", "commands::d", "gate::", "hollow::", "links::", "metadata::", "unpack::"];
    let tests = std::process::Command::new(std::env::current_exe().unwrap())
        .args(modules)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    match tests {
        // Where the build is in a directory that is closed to others.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        tests => {
            let tests = tests.unwrap();
            assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stdout));
        }
    }
}
