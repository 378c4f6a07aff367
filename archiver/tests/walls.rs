//! Each wall alone, with all others down, and then all together: what it stops, and what must still work.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Names of attempts that leave the directory; Landlock is what stops them.
const OUTSIDE: [&str; 16] = [
    "read a file",
    "list a directory",
    "read an environment",
    "read the system",
    "write a file",
    "overwrite a file",
    "truncate a file",
    "remove a file",
    "rename a file",
    "move a file in",
    "link a file in",
    "make a directory",
    "remove a directory",
    "make a symbolic link",
    "make a FIFO",
    "write through a link",
];
/// Names of attempts that reach other processes, or what is shared with them; seccomp stops them.
const CALLS: [&str; 9] =
    ["socket", "socketpair", "connect", "spawn", "execve", "lock", "unlock", "become another", "change directory"];

/// `cargo test` builds the examples beside the program; `cargo test --test walls` alone does not.
fn program(name: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_codehub-archive")).with_file_name("examples").join(name);
    assert!(program.exists(), "`cargo build --examples` has to come first");
    program
}

struct Ground {
    top: TempDir,
}

impl Ground {
    fn new() -> Self {
        let top = TempDir::new().unwrap();
        fs::create_dir_all(top.path().join("inside")).unwrap();
        fs::create_dir_all(top.path().join("outside/empty")).unwrap();
        fs::write(top.path().join("inside/there"), "there").unwrap();
        fs::write(top.path().join("outside/victim"), "untouched").unwrap();
        symlink("../outside", top.path().join("inside/link")).unwrap();
        Self { top }
    }

    fn attempt(&self, wall: &str, attempt: &str) -> String {
        let (inside, outside) = (self.top.path().join("inside"), self.top.path().join("outside"));
        let mut command = Command::new(program("try_wall"));
        command.arg(wall).arg(inside).arg(outside).arg(attempt).env_clear();
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{attempt} behind {wall}: {}", String::from_utf8_lossy(&output.stderr));
        told.trim().to_owned()
    }

    fn is_untouched(&self) -> bool {
        let outside = self.top.path().join("outside");
        let names = fs::read_dir(&outside).unwrap().count();
        names == 2 && fs::read(outside.join("victim")).unwrap() == b"untouched"
    }
}

/// On a kernel without Landlock there is nothing to test; CI has one with it.
fn has_landlock() -> bool {
    let output = Command::new(program("try_wall")).args(["nothing", "/", "/", "threads"]).output().unwrap();
    let found = output.status.success() || !String::from_utf8_lossy(&output.stderr).contains("not supported");
    assert!(found || std::env::var_os("CI").is_none(), "no Landlock: the walls go untested");
    found
}

fn is_refused(told: &str) -> bool {
    ["Permission denied", "Operation not permitted", "cross-device"].iter().any(|why| told.contains(why))
}

#[test]
fn without_walls_each_attempt_works() {
    for attempt in OUTSIDE.iter().chain(&CALLS) {
        let told = Ground::new().attempt("none", attempt);
        // Nobody listens at that port; execve leaves no word.
        assert!(told == "done" || told.contains("Connection refused") || told.is_empty(), "{attempt}: {told}");
    }
}

#[test]
fn landlock_alone_keeps_all_inside() {
    if !has_landlock() {
        return;
    }
    for wall in ["landlock", "read-only", "nothing"] {
        for attempt in OUTSIDE {
            let ground = Ground::new();
            let told = ground.attempt(wall, attempt);
            assert!(is_refused(&told), "{attempt} behind {wall}: {told}");
            assert!(ground.is_untouched(), "{attempt} behind {wall}");
        }
    }
    let expected = [("landlock", true, true), ("read-only", true, false), ("nothing", false, false)];
    for (wall, may_read, may_write) in expected {
        let told = ["read inside", "write inside"].map(|attempt| Ground::new().attempt(wall, attempt) == "done");
        assert_eq!(told, [may_read, may_write], "{wall}");
    }
    assert!(is_refused(&Ground::new().attempt("landlock", "execve")));
    assert!(is_refused(&Ground::new().attempt("landlock", "make a socket file")));
    assert_eq!(Ground::new().attempt("landlock", "restore"), "done");
}

#[test]
fn seccomp_alone_reaches_nobody() {
    for attempt in CALLS {
        let told = Ground::new().attempt("seccomp", attempt);
        assert!(told.contains("Operation not permitted"), "{attempt}: {told}");
    }
    for attempt in ["restore", "threads", "write inside"] {
        assert_eq!(Ground::new().attempt("seccomp", attempt), "done");
    }
}

#[test]
fn behind_all_walls_a_restore_works() {
    if !has_landlock() {
        return;
    }
    for attempt in OUTSIDE.iter().chain(&CALLS) {
        let ground = Ground::new();
        assert!(is_refused(&ground.attempt("all", attempt)), "{attempt}");
        assert!(ground.is_untouched(), "{attempt}");
    }
    for attempt in ["restore", "threads", "write inside", "read inside"] {
        assert_eq!(Ground::new().attempt("all", attempt), "done");
    }
}

fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codehub-archive"));
    command.args(args).env_clear().stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_no_command_says_so() {
    for args in [&["sing"][..], &[], &["--sing"], &["--parent"], &["--wall", "paper"]] {
        let output = tool(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(told(&output).contains("--help"), "{args:?}");
    }
    for args in [["--help"], ["--version"]] {
        let output = tool(&args).output().unwrap();
        assert!(output.status.success() && output.stdout.starts_with(b"codehub-archive "), "{args:?}");
    }
}

#[test]
fn a_step_has_no_environment_and_its_own_parent() {
    let own = std::process::id().to_string();
    assert!(tool(&["--version", "--parent", &own]).output().unwrap().status.success());
    let output = tool(&["--version", "--parent", &own]).env("AWS_SECRET_ACCESS_KEY", "hush").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(told(&output).contains("AWS_SECRET_ACCESS_KEY") && !told(&output).contains("hush"));
    let output = tool(&["--version", "--parent", "1"]).output().unwrap();
    assert!(told(&output).contains("MoverFailed") || own == "1");
    let output = tool(&["--version", "--lock-fd", "99"]).output().unwrap();
    assert!(told(&output).contains("--lock-fd"));
}

#[test]
fn what_the_machine_has_is_asked_before_the_walls_stand() {
    let ground = Ground::new();
    let inside = ground.top.path().join("inside");
    let inside = inside.to_str().unwrap();
    for (wall, has_abilities) in [("available", true), ("off", true), ("available", false)] {
        let args = ["probe", "--wall", wall, "--root", inside];
        let output = tool(if has_abilities { &args } else { &args[..3] }).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["landlock_abi"].as_u64() > Some(1), has_landlock(), "{found}");
        assert_eq!(found["openat2"], true);
        assert_eq!(found["abilities"]["owners"].is_boolean(), has_abilities, "{found}");
    }
    assert_eq!(fs::read_dir(inside).unwrap().count(), 2);
}

/// `watched` with these pipes: ends when `close` lets one of them go.
fn ends_when(input: &str, close: impl FnOnce(&mut std::process::Child)) -> Option<i32> {
    let parent = std::process::id().to_string();
    let mut child = Command::new(program("watched"))
        .args([&parent[..], input])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    close(&mut child);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn a_step_ends_with_its_pipes() {
    assert_eq!(ends_when("none", |child| drop(child.stdin.take())), Some(3));
    assert_eq!(ends_when("none", |child| drop(child.stdout.take())), Some(3));
    assert_eq!(ends_when("frames", |child| drop(child.stdout.take())), Some(3));
}

#[test]
fn a_step_with_input_outlives_its_end() {
    assert_eq!(ends_when("frames", |child| drop(child.stdin.take())), None);
}

#[test]
fn a_step_dies_with_its_parent() {
    // The parent's parent holds all pipes, so they tell nothing.
    let mut child = Command::new(program("watched"))
        .arg("parent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 16];
    stdout.read_exact(&mut line).unwrap();
    let step: u32 = String::from_utf8_lossy(&line).trim().parse().unwrap();
    let is_there = || fs::read_to_string(format!("/proc/{step}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(is_there());
    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    while is_there() {
        assert!(start.elapsed() < Duration::from_secs(5), "it lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}
