//! Each wall of a writer alone, with the others down, against names and links that lead out of the volume.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::tests::{lane, unpack};
use super::*;
use crate::down::{self, Down};
use crate::hostile::{data, file_entry, files};
use crate::sandbox::confine;
use crate::tar::write::header;

/// What stands in the volume before the segment comes, and the name in the segment.
type Case = (&'static str, fn(&Path), &'static [u8]);

const ABSOLUTE: &[u8] = b"/";
const CASES: [Case; 8] = [
    ("a parent", |_| (), b"../outside/new"),
    ("a parent in the middle", |_| (), b"d/../../outside/new"),
    ("a parent, to what is there", |_| (), b"../outside/victim"),
    ("an absolute name", |_| (), ABSOLUTE),
    ("a link in the middle", |root| symlink("../outside", root.join("way")).unwrap(), b"way/new"),
    ("a link, to what is there", |root| symlink("../outside", root.join("way")).unwrap(), b"way/victim"),
    (
        "a directory that became a link",
        |root| {
            fs::remove_dir(root.join("d")).unwrap();
            symlink("../outside", root.join("d")).unwrap();
        },
        b"d/new",
    ),
    (
        "a further name of a file outside",
        |root| fs::hard_link(root.with_file_name("outside").join("victim"), root.join("f")).unwrap(),
        b"f",
    ),
];

/// What is outside after the case was restored: names, and first bytes.
fn outside_after(case: &Case, walls: Down, has_landlock: bool) -> Vec<(PathBuf, Vec<u8>)> {
    let (_, plant, name) = case;
    let top = tempfile::tempdir().unwrap();
    let (root, outside) = (top.path().join("volume"), top.path().join("outside"));
    fs::create_dir_all(root.join("d")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "precious").unwrap();
    plant(&root);
    let new = outside.join("new").into_os_string().into_encoded_bytes();
    let path = if *name == ABSOLUTE { &new } else { *name };
    let raw = [header(&file_entry(path, 4), None).unwrap(), data(b"evil")].concat();
    let restore = || {
        let mut lane = lane(&root);
        if has_landlock {
            confine(&[], &[&root]).unwrap().unwrap();
        }
        down::take(walls);
        // How it ends says nothing: walls are down that would have ended it otherwise.
        let _ = unpack(&mut lane, &files(&raw, b"a", b"z", 1));
    };
    std::thread::scope(|scope| scope.spawn(restore).join().unwrap());
    let content = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    let mut found: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| content(entry.unwrap().path())).collect();
    found.sort();
    found.into_iter().map(|(path, bytes)| (path.strip_prefix(&outside).unwrap().to_owned(), bytes)).collect()
}

fn untouched() -> Vec<(PathBuf, Vec<u8>)> {
    vec![("victim".into(), b"precious".to_vec())]
}

#[test]
fn beneath_holds_without_the_gate() {
    for case in &CASES {
        let walls = Down { gate: true, beneath: false };
        assert_eq!(outside_after(case, walls, false), untouched(), "{}", case.0);
    }
}

#[test]
fn landlock_holds_without_the_gate_and_without_openat2() {
    if crate::sandbox::landlock_abi() == 0 {
        return; // on this kernel there is none
    }
    for case in &CASES {
        let walls = Down { gate: true, beneath: true };
        assert_eq!(outside_after(case, walls, true), untouched(), "{}", case.0);
    }
}

/// Names alone: links were not there before the segment, so it does not hold against them.
#[test]
fn the_gate_holds_names_without_openat2() {
    for case in &CASES[..4] {
        let walls = Down { gate: false, beneath: true };
        assert_eq!(outside_after(case, walls, false), untouched(), "{}", case.0);
    }
}

/// Or the tests above would prove nothing. A further name is replaced, not written to, by whoever writes.
#[test]
fn without_any_wall_they_do_harm() {
    for case in &CASES[..7] {
        let walls = Down { gate: true, beneath: true };
        assert_ne!(outside_after(case, walls, false), untouched(), "{}", case.0);
    }
}
