//! The walls around a process that parses what somebody else wrote, put up before its first thread starts.
//!
//! * Landlock: files are opened, made and removed below the given directories only, nothing is executed, and (where
//!   the kernel knows it) there is no TCP, no signal and no abstract socket out of here.
//! * seccomp: the system calls of `calls`, nothing else; no socket, no further process, no lock.
//! * no environment, no core dump, no look from outside, no new privileges.
//!
//! **They do not stop** chmod, chown, utime and setxattr outside of the directories, nor stat; below ABI 3 neither
//! truncate(2). Those calls are therefore made only through `beneath`. Walls cannot be taken down again.

use std::path::Path;

use landlock::{
    Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, ABI,
};
use rustix::process::DumpableBehavior;

use crate::error::{show, Code, Error, Result};

pub mod calls;

/// Before this (ABI 2, Linux 5.19), no file can be linked into another directory even below the root: counts as none.
const LEAST: ABI = ABI::V2;
/// Used as far as the kernel has it. ABI 3 adds truncate(2), 4 TCP, 5 ioctl of devices, 6 signals and abstract sockets.
const BEST: ABI = ABI::V6;

/// `Demanded`: nothing is done without Landlock and seccomp. `Available`: each is used where the kernel has it. `Off`:
/// for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wall {
    Demanded,
    #[default]
    Available,
    Off,
}

impl Wall {
    /// As the command line spells it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "demanded" => Some(Self::Demanded),
            "available" => Some(Self::Available),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Which walls stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub landlock: bool,
    pub seccomp: bool,
}

/// Put up all walls around the calling thread and those that it starts from here on. To be called by the only thread.
///
/// From here on files are read below `readable` and `writable`, and written below `writable` alone. Descriptors that
/// are open stay usable. `Unsupported` where a wall is demanded and the kernel has none; `InvalidInput` for a directory
/// that cannot be opened.
pub fn put_up(wall: Wall, readable: &[&Path], writable: &[&Path]) -> Result<Standing> {
    if wall == Wall::Off {
        return Ok(Standing::default());
    }
    hide()?;
    // Landlock first: the filter does not let its calls pass.
    let landlock = unless_missing(wall, "Landlock", confine(readable, writable)?)?;
    let seccomp = unless_missing(wall, "seccomp", calls::restrict())?;
    Ok(Standing { landlock, seccomp })
}

/// Not dumpable: no core file, and `/proc/PID` of this process is closed to others of the same user. Own descriptors
/// stay reachable as `/proc/self/fd/N`.
fn hide() -> Result<()> {
    let refused = |what: &str, errno| Error::new(Code::Unsupported, format!("{what}: {}", crate::error::said(errno)));
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| refused("PR_SET_DUMPABLE", e))?;
    rustix::thread::set_no_new_privs(true).map_err(|e| refused("PR_SET_NO_NEW_PRIVS", e))
}

/// A process that parses archives has no environment: what is in one (keys of a store) stands in its memory.
///
/// The parent gives an empty one; a variable in it is the parent's mistake, and named without its value. A person's own
/// use (`is_step` false) begins with a full one, which is cleared as far as it can be.
pub fn clear_environment(is_step: bool) -> Result<()> {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    if is_step && !names.is_empty() {
        let shown = names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(", ");
        return Err(Error::new(Code::InvalidInput, format!("a step has no environment, this one has {shown}")));
    }
    for name in names {
        std::env::remove_var(name);
    }
    match std::env::vars_os().next() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::new(Code::InvalidInput, format!("the variable {} cannot be removed", name.to_string_lossy())))
        }
    }
}

fn unless_missing(wall: Wall, what: &str, refusal: std::result::Result<(), String>) -> Result<bool> {
    match refusal {
        Ok(()) => Ok(true),
        Err(_) if wall == Wall::Available => Ok(false),
        Err(why) => Err(Error::new(
            Code::Unsupported,
            format!("{what}, without which nothing is unpacked on this machine: {why}"),
        )
        .hint("Linux 5.19 or later with landlock in its `lsm=` list, or a backend with containers.")),
    }
}

/// Landlock alone. The outer error is the caller's: a directory that is none. The inner one: the kernel has no Landlock.
pub fn confine(readable: &[&Path], writable: &[&Path]) -> Result<std::result::Result<(), String>> {
    let mut ruleset = match begin() {
        Ok(ruleset) => ruleset,
        Err(error) => return Ok(Err(error.to_string())),
    };
    // No rule grants EXECUTE, MAKE_SOCK or IOCTL_DEV.
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(BEST) & !(AccessFs::Execute | AccessFs::MakeSock | AccessFs::IoctlDev);
    for (path, rights) in readable.iter().map(|path| (path, read)).chain(writable.iter().map(|path| (path, write))) {
        ruleset = match allow(ruleset, path, rights)? {
            Ok(ruleset) => ruleset,
            Err(error) => return Ok(Err(error.to_string())),
        };
    }
    Ok(ruleset.restrict_self().map(|_| ()).map_err(|error| error.to_string()))
}

/// The kernel's version of Landlock, 0 where it has none, refuses it, or has less than what counts. Walls within which this
/// process was started may make it 0.
///
/// It is tried, since a filter may let only a part of the calls pass: a thread walls itself in, and ends.
pub fn landlock_abi() -> u32 {
    let tried = std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().spawn_scoped(scope, || begin().and_then(RulesetCreated::restrict_self));
        thread.ok().and_then(|thread| thread.join().ok())
    });
    match tried {
        Some(Ok(RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, kernel_abi }, .. })) => {
            kernel_abi.and_then(|abi| abi.try_into().ok()).unwrap_or(effective_abi as u32)
        }
        _ => 0,
    }
}

fn begin() -> std::result::Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(BEST))?
        .handle_access(AccessNet::from_all(BEST))?
        .scope(Scope::from_all(BEST))?
        .create()
}

type Allowed = std::result::Result<RulesetCreated, RulesetError>;

fn allow(ruleset: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<Allowed> {
    let directory = PathFd::new(path).map_err(|error| {
        let shown = show(path.as_os_str().as_encoded_bytes());
        Error::new(Code::InvalidInput, format!("{shown}: {error}")).detail("path", shown)
    })?;
    Ok(ruleset.add_rule(PathBeneath::new(directory, rights)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_are_spelt() {
        for (text, wall) in [("demanded", Wall::Demanded), ("available", Wall::Available), ("off", Wall::Off)] {
            assert_eq!(Wall::parse(text), Some(wall));
        }
        assert_eq!(Wall::parse("none"), None);
    }

    #[test]
    fn asking_for_landlock_leaves_no_wall() {
        let outside = tempfile::tempdir().unwrap();
        let found = landlock_abi();
        assert!(found == 0 || found >= LEAST as u32);
        assert_eq!(landlock_abi(), found);
        std::fs::write(outside.path().join("file"), "x").unwrap();
    }

    #[test]
    fn only_a_demanded_wall_must_stand() {
        assert!(unless_missing(Wall::Demanded, "X", Ok(())).unwrap());
        assert!(!unless_missing(Wall::Available, "X", Err("none".into())).unwrap());
        let error = unless_missing(Wall::Demanded, "X", Err("none".into())).unwrap_err();
        assert_eq!(error.code, Code::Unsupported);
    }
}
