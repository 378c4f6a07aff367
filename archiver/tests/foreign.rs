//! The commands `foreign` and `check-foreign`, as the mover runs them: frames in, a report or an error out, behind all
//! walls.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use flate2::write::GzEncoder;
use flate2::Compression;
use serde_json::Value;
use tempfile::TempDir;

/// A tar with one file `f` of the content `evil`, and its end.
fn archive() -> Vec<u8> {
    let mut block = vec![0; 512];
    for (at, field) in [
        (0, &b"f"[..]),
        (100, b"0000644\x000000000\x000000000\0"),
        (124, b"00000000004\x0000000000007\0        0"),
        (257, b"ustar\x0000"),
    ] {
        block[at..at + field.len()].copy_from_slice(field);
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&[&block[..], b"evil", &[0; 508 + 1024]].concat()).unwrap();
    gzip.finish().unwrap()
}

fn foreign(ground: &TempDir, input: &[u8], more: &[&str]) -> Output {
    for name in ["volume", "spool"] {
        let _ = fs::create_dir(ground.path().join(name));
    }
    let (root, spool) = (ground.path().join("volume"), ground.path().join("spool"));
    let own = ["--root", root.to_str().unwrap(), "--spool", spool.to_str().unwrap()];
    fed("foreign", &[&own[..], more].concat(), input)
}

fn fed(command: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_codehub-archive"))
        .args([command, "--parent", &std::process::id().to_string()])
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input); // a step that fails stops listening
    child.wait_with_output().unwrap()
}

fn framed(stored: &[u8]) -> Vec<u8> {
    let head = format!("{{\"data\":0,\"bytes\":{}}}\n", stored.len());
    [head.as_bytes(), stored, b"{\"close\":0}\n"].concat()
}

fn error_of(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["error"].take()
}

#[test]
fn an_archive_is_restored_and_reported() {
    let ground = TempDir::new().unwrap();
    let output = foreign(&ground, &framed(&archive()), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["report"]["files"], &told["report"]["bytes"]), (&1.into(), &4.into()));
    assert_eq!(fs::read(ground.path().join("volume/f")).unwrap(), b"evil");
    assert_eq!(fs::read_dir(ground.path().join("spool")).unwrap().count(), 0);
}

#[test]
fn faults_are_typed() {
    let stored = archive();
    for (input, more, code) in [
        (framed(b"no gzip"), &[][..], "ArchiveCorrupt"),
        (framed(&stored[..stored.len() - 1]), &[], "ArchiveCorrupt"),
        (framed(&stored), &["--max-bytes", "100"], "ArchiveTooLarge"),
        (framed(&stored), &["--max-entries", "0"], "ArchiveTooLarge"),
        (framed(&stored)[..stored.len()].to_vec(), &[], "MoverFailed"),
        (b"{\"data\":0}\n".to_vec(), &[], "InvalidInput"),
        (b"no frame\n".to_vec(), &[], "InvalidInput"),
    ] {
        let error = error_of(&foreign(&TempDir::new().unwrap(), &input, more));
        assert_eq!(error["code"], code, "{error}");
    }
}

#[test]
fn a_wrong_command_line_says_what_is_wrong() {
    let output = foreign(&TempDir::new().unwrap(), b"", &["--max-bytes", "many"]);
    assert_eq!(output.status.code(), Some(2));
    let output = foreign(&TempDir::new().unwrap(), b"", &["--sing"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--sing"));
}

#[test]
fn an_archive_is_checked_and_reported() {
    let output = fed("check-foreign", &[], &framed(&archive()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told, serde_json::json!({"report": {"files": 1, "bytes": 4}}));
}

#[test]
fn faults_of_a_checked_archive_are_typed() {
    let stored = archive();
    for (input, code) in [
        (framed(b"no gzip"), "ArchiveCorrupt"),
        (framed(b""), "ArchiveCorrupt"),
        (framed(&stored[..stored.len() - 1]), "ArchiveCorrupt"),
        (framed(&stored)[..stored.len()].to_vec(), "MoverFailed"),
        (b"{\"data\":0}\n".to_vec(), "InvalidInput"),
    ] {
        let error = error_of(&fed("check-foreign", &[], &input));
        assert_eq!(error["code"], code, "{error}");
    }
    assert_eq!(fed("check-foreign", &["--root", "/tmp"], b"").status.code(), Some(2));
}
