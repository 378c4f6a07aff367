//! A step does not outlive the mover that started it: nobody would take its answer, and it holds the workspace's lock.
//!
//! Three ways, since each has a gap. The death signal is the kernel's own, but goes with the *thread* that spawned, and a
//! change of ids clears it (this program makes none). The pipes close with the mover, but a child of it may have
//! inherited them. And whoever loses its parent gets another one.

use std::io::{stdin, stdout};
use std::os::fd::AsFd;
use std::thread;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{getppid, set_parent_process_death_signal, Signal};

use crate::cli;
use crate::error::{said, Code, Error, Result};

const LOOK_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Little: it holds no buffer.
const STACK_BYTES: usize = 64 << 10;

/// Whether a step reads its standard input.
///
/// `Frames`: its end is how the mover says that all has come, and the step may have work left. It is the reader that
/// tells a sound end from another one. `None`: its end is the mover's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    None,
    Frames,
}

/// The first act of a step: from here on it dies with its parent. An error if that is gone already.
pub fn tie(parent: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| Error::new(Code::Unsupported, format!("PR_SET_PDEATHSIG: {}", said(errno))))?;
    // Behind the signal: a parent that dies between the two would be missed the other way round.
    if is_there(parent) {
        Ok(())
    } else {
        Err(gone())
    }
}

/// End the process when the mover is gone, whatever it does at that time. To be called when the walls stand, since a
/// thread that is there before stays outside of them.
pub fn watch(parent: Option<u32>, input: Input) -> Result<()> {
    thread::Builder::new()
        .name("watch".into())
        .stack_size(STACK_BYTES)
        .spawn(move || look(parent, input))
        .map(|_| ())
        .map_err(|error| Error::new(Code::MoverFailed, format!("no thread can be started: {error}")))
}

fn look(parent: Option<u32>, input: Input) {
    let (stdin, stdout) = (stdin(), stdout());
    loop {
        // No events asked for: what comes is the end of a pipe (HUP, ERR), or that it was none.
        let output = PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty());
        let mut both = [output, PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::empty())];
        let watched = match input {
            Input::None => &mut both[..],
            Input::Frames => &mut both[..1],
        };
        let ended = match poll(watched, Some(&LOOK_EVERY)) {
            Ok(ends) => ends > 0,
            Err(errno) => errno != Errno::INTR,
        };
        if ended || !parent.is_none_or(is_there) {
            cli::end_with(&gone());
        }
    }
}

fn is_there(parent: u32) -> bool {
    getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(parent))
}

fn gone() -> Error {
    Error::new(Code::MoverFailed, "the mover is gone, or does not listen any more")
}
