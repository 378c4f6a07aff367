//! A step that does nothing, for `tests/walls.rs`: `watched PARENT none|frames`, or `watched parent`, which starts one.

#![allow(clippy::zombie_processes)] // not waited for: the test kills this process first

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use codehub_archive::parent::{tie, watch, Input};
use codehub_archive::sandbox::{put_up, Wall};

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args[0] == "parent" {
        let own = std::process::id().to_string();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&own[..], "frames"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        println!("{:15}", child.id());
    } else {
        tie(args[0].parse().unwrap()).unwrap();
        put_up(Wall::Available, &[], &[]).unwrap();
        let input = if args[1] == "none" { Input::None } else { Input::Frames };
        watch(args[0].parse().ok(), input).unwrap();
        std::io::stdout().write_all(b"!").unwrap();
        std::io::stdout().flush().unwrap();
    }
    std::thread::sleep(Duration::from_secs(30));
}
