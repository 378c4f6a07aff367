//! `probe`: what this machine lets a step do.
//!
//! One frame: `landlock_abi` (0: none that counts), `openat2` (without it nothing is restored), and with `--root` the
//! `abilities`, found by trying on that directory, behind the walls. Where there is no `openat2` nobody can try, and
//! they are left out.

use std::io::{stdout, Write};
use std::path::Path;

use lexopt::Arg::Long;
use rustix::fs::{Mode, OFlags, CWD};
use rustix::io::Errno;
use serde_json::json;

use super::plan::flush;
use crate::abilities::Abilities;
use crate::beneath::{open_beneath, AtPath, Beneath};
use crate::cli::settle;
use crate::error::Result;
use crate::frames::write_frame;
use crate::parent::Input;
use crate::sandbox::landlock_abi;

/// The command.
pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut root = None;
    while let Some(arg) = args.next()? {
        match arg {
            Long("root") => root = Some(args.value()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let root = root.as_ref().map(Path::new);
    // Behind the walls neither can be asked for.
    let kernel = Kernel { landlock_abi: landlock_abi(), openat2: has_openat2() };
    settle(&[], root.as_slice(), Input::None)?;
    answer(kernel, root, stdout().lock())
}

#[derive(Clone, Copy)]
struct Kernel {
    landlock_abi: u32,
    openat2: bool,
}

fn answer(kernel: Kernel, root: Option<&Path>, mut output: impl Write) -> Result<()> {
    let Kernel { landlock_abi, openat2 } = kernel;
    let mut found = json!({"landlock_abi": landlock_abi, "openat2": openat2});
    if let Some(root) = root.filter(|_| openat2) {
        found["abilities"] = Abilities::probe(&mut Beneath::open(root).writing(b"")?)?.to_json();
    }
    write_frame(&mut output, found, b"").and_then(|()| flush(&mut output))
}

/// False where the kernel does not know it (gVisor, before 5.6), or a filter of the container's refuses it.
fn has_openat2() -> bool {
    let outcome = open_beneath(CWD, b".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    !matches!(outcome, Err(Errno::NOSYS | Errno::PERM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::told;

    fn found(openat2: bool, root: Option<&Path>) -> serde_json::Value {
        let mut output = Vec::new();
        answer(Kernel { landlock_abi: 3, openat2 }, root, &mut output).unwrap();
        let told = told(&output);
        assert_eq!(told.len(), 1);
        told.into_iter().next().unwrap()
    }

    #[test]
    fn abilities_are_told_of_a_root() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(found(true, None), json!({"landlock_abi": 3, "openat2": true}));
        let with_root = found(true, Some(dir.path()));
        let expected = Abilities::probe(&mut Beneath::open(dir.path()).unwrap()).unwrap();
        assert_eq!(Abilities::from_json(&with_root["abilities"]).unwrap(), expected);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_openat2_nobody_tries() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(found(false, Some(dir.path())), json!({"landlock_abi": 3, "openat2": false}));
    }

    #[test]
    fn a_root_that_is_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Kernel { landlock_abi: 0, openat2: true };
        assert!(answer(kernel, Some(&dir.path().join("absent")), Vec::new()).is_err());
    }
}
