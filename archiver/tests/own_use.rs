//! A person's own use: the program as it is started by hand, behind its walls.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn program(arguments: &[&str], at: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codehub-archive"));
    command.args(arguments).current_dir(at);
    command
}

fn run(arguments: &[&str], at: &Path) -> Output {
    program(arguments, at).output().unwrap()
}

fn said(arguments: &[&str], at: &Path) -> String {
    let output = run(arguments, at);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn there_and_back() {
    let outer = tempfile::tempdir().unwrap();
    let at = outer.path();
    fs::create_dir_all(at.join("home/src")).unwrap();
    fs::write(at.join("home/src/main.py"), "print()\n").unwrap();
    fs::write(at.join("home/notes"), "notes\n").unwrap();
    assert!(said(&["create", "home", "home.tar.gz"], at).starts_with("whole: 2 files, 2 directories, "));
    assert!(said(&["check", "home.tar.gz"], at).contains("\nmade 20"));
    assert_eq!(said(&["list", "home.tar.gz"], at), "notes\nsrc/main.py\nsrc\n.\n");
    assert_eq!(said(&["cat", "home.tar.gz", "src/main.py"], at), "print()\n");
    assert_eq!(said(&["extract", "home.tar.gz", "out"], at), "extracted and compared: 2 files, 14 bytes\n");
    assert_eq!(fs::read(at.join("out/src/main.py")).unwrap(), b"print()\n");
    let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["home", "home.tar.gz", "out"]); // nothing was left behind
}

#[test]
fn errors_are_told_to_a_person() {
    let outer = tempfile::tempdir().unwrap();
    let at = outer.path();
    fs::create_dir(at.join("home")).unwrap();
    fs::write(at.join("home/a"), "a").unwrap();
    fs::write(at.join("torn.tar.gz"), "torn").unwrap();
    for (arguments, status, words) in [
        (&["check"][..], 2, "FILE is missing"),
        (&["check", "a", "b"], 2, "unexpected"),
        (&["list", "--long", "--null", "torn.tar.gz"], 2, "--null"),
        (&["check", "nowhere"], 3, "nowhere: No such file"),
        (&["check", "home"], 3, "home: Is a directory"),
        (&["check", "torn.tar.gz"], 3, "tar -xzf"),
        (&["extract", "torn.tar.gz", "home"], 3, "tar -xzf"),
        (&["create", "home", "torn.tar.gz"], 3, "there already"),
        (&["create", "home", "home/a.tar.gz"], 3, "a part of itself"),
        (&["create", "nowhere", "a.tar.gz"], 3, "nowhere: No such file"),
    ] {
        let output = run(arguments, at);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.starts_with("codehub-archive: ") && text.contains(words), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(fs::read(at.join("torn.tar.gz")).unwrap(), b"torn");
    said(&["create", "home", "home.tar.gz"], at);
    let output = run(&["extract", "home.tar.gz", "home"], at);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Name an empty directory"));
}

#[test]
fn whoever_has_read_enough_may_go() {
    let outer = tempfile::tempdir().unwrap();
    let at = outer.path();
    fs::create_dir(at.join("home")).unwrap();
    for number in 0..5000 {
        fs::write(at.join(format!("home/{number:0100}")), "").unwrap();
    }
    said(&["create", "home", "home.tar.gz"], at);
    let mut child =
        program(&["list", "home.tar.gz"], at).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

#[test]
fn an_unsafe_name_is_not_extracted() {
    let outer = tempfile::tempdir().unwrap();
    let at = outer.path();
    fs::create_dir(at.join("in")).unwrap();
    fs::write(at.join("victim"), "untouched").unwrap();
    let tar = Command::new("tar").args(["-C", "in", "-Pczf", "evil.tar.gz", "../victim"]).current_dir(at).status();
    assert!(tar.unwrap().success());
    fs::remove_file(at.join("victim")).unwrap();
    assert_eq!(run(&["extract", "evil.tar.gz", "out"], at).status.code(), Some(3));
    assert!(!at.join("victim").exists());
    assert_eq!(fs::read_dir(at.join("out")).unwrap().count(), 0);
}
