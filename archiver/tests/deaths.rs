//! The program as a process whose reader is gone or slow, or whose memory ends.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_codehub-archive");
const FILES: u64 = 24;
const FILE_BYTES: usize = 2 << 20;

/// 48 MiB that cannot be compressed, and a plan of them in segments of 4 MiB.
struct Ground {
    top: TempDir,
}

impl Ground {
    fn new() -> Self {
        let top = TempDir::new().unwrap();
        let ground = Self { top };
        fs::create_dir(ground.root()).unwrap();
        fs::create_dir(ground.plan()).unwrap();
        let mut chance = fs::File::open("/dev/urandom").unwrap();
        let mut bytes = vec![0; FILE_BYTES];
        for number in 0..FILES {
            chance.read_exact(&mut bytes).unwrap();
            fs::write(ground.root().join(number.to_string()), &bytes).unwrap();
        }
        let output = ground.step(&mut Command::new(PROGRAM), "plan", &["--out"]).arg(ground.plan()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        ground
    }

    fn root(&self) -> PathBuf {
        self.top.path().join("root")
    }

    fn plan(&self) -> PathBuf {
        self.top.path().join("plan")
    }

    fn step<'a>(&self, command: &'a mut Command, name: &str, args: &[&str]) -> &'a mut Command {
        command.arg(name).arg("--root").arg(self.root()).args(args);
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
    }

    fn pack<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let args = ["--from", "1", "--threads", "2", "--memory", "33554432", "--plan"];
        self.step(command, "pack", &args).arg(self.plan())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Most memory that a process had at a time.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_reader_that_goes_ends_it_with_one_error() {
    let ground = Ground::new();
    for is_plan in [true, false] {
        let mut command = Command::new(PROGRAM);
        let out = ground.top.path().join("out");
        let _ = fs::create_dir(&out);
        let command =
            if is_plan { ground.step(&mut command, "plan", &["--out"]).arg(&out) } else { ground.pack(&mut command) };
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let lines: Vec<_> = said(&output).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let error: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(error["error"]["code"], "MoverFailed", "{error}");
    }
}

#[test]
fn a_slow_reader_costs_no_memory() {
    let ground = Ground::new();
    let mut child = ground.pack(&mut Command::new(PROGRAM)).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    std::thread::sleep(Duration::from_secs(1)); // nothing is read
    let mut piece = vec![0; 1 << 20];
    let (mut sum, mut peak) = (0, 0);
    loop {
        let count = stdout.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        if sum < FILES * FILE_BYTES as u64 * 3 / 4 {
            peak = peak_kib(child.id());
            std::thread::sleep(Duration::from_millis(1));
        }
        sum += count as u64;
    }
    assert!(child.wait().unwrap().success());
    assert!(sum >= FILES * FILE_BYTES as u64);
    assert!(peak > 0 && peak < 32 << 10, "{peak} KiB");
}

/// Whatever it was about to do: it does not end well, and where the allocator ends it, that says why.
#[test]
fn memory_that_ends() {
    let ground = Ground::new();
    let mut ends = Vec::new();
    for mib in 7..24 {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -c 0; ulimit -v {}; exec \"$@\"", mib << 10), "sh", PROGRAM]);
        let output = ground.pack(&mut command).output().unwrap();
        if output.status.success() {
            break;
        }
        ends.push(said(&output));
    }
    assert!(ends.iter().any(|end| end.contains("memory allocation of")), "{ends:?}");
}
