//! The command line: which step is asked for, what all steps share, and how a step ends.
//!
//! Exit status: 0 for success, 2 for a wrong command line (said as text), 3 for an error of the step, whose last line on
//! standard error is one JSON object, or for a person text. SIGPIPE is ignored (by Rust's own start), so a closed pipe is
//! an error too.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use lexopt::Arg::{Long, Short, Value};
use serde_json::json;

use crate::commands::{Command, COMMANDS};
use crate::deflate::DEFLATE;
use crate::error::{Code, Error, Result};
use crate::own_use;
use crate::parent::{self, Input};
use crate::sandbox::{self, Wall};
use crate::sys::leave_signals_to_parent;

const WRONG_COMMAND_LINE: u8 = 2;
const FAILED: u8 = 3;
/// The detail that tells a wrong command line from other wrong input.
const COMMAND_LINE: &str = "command_line";

/// What every command takes, before or behind its name.
#[derive(Debug, Default, PartialEq)]
pub struct Common {
    pub parent: Option<u32>,
    /// Held open by doing nothing with it.
    pub lock_fd: Option<u32>,
    pub wall: Wall,
}

static COMMON: OnceLock<Common> = OnceLock::new();
static CPUS: OnceLock<usize> = OnceLock::new();
/// Set where a person reads what is said.
static FOR_A_PERSON: OnceLock<()> = OnceLock::new();

/// The whole program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| end_with(&broken_at(panic.location()))));
    match begin(args.into_iter().collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end_with(&error),
    }
}

/// Print the error and end the process, whatever its other threads do.
pub fn end_with(error: &Error) -> ! {
    let mut stderr = std::io::stderr().lock();
    if error.details.contains_key(COMMAND_LINE) {
        let _ = writeln!(stderr, "codehub-archive: {}. `codehub-archive --help` says what there is.", error.message);
        std::process::exit(WRONG_COMMAND_LINE.into());
    }
    if FOR_A_PERSON.get().is_some() {
        let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("\n{hint}"));
        let _ = writeln!(stderr, "codehub-archive: {}{hint}", error.message);
    } else {
        let _ = writeln!(stderr, "{}", json!({"error": error.to_json()}));
    }
    std::process::exit(FAILED.into())
}

/// A wrong command line.
pub fn wrong(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidInput, message).detail(COMMAND_LINE, true)
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        wrong(error.to_string())
    }
}

/// The first thing that a command does when it knows its options, before it starts a thread or reads a name: from here
/// on it reads below `readable` and writes below `writable` alone, and ends when its parent does.
pub fn settle(readable: &[&Path], writable: &[&Path], input: Input) -> Result<()> {
    let common = COMMON.get_or_init(Common::default);
    CPUS.get_or_init(cpus_now); // behind the walls nobody reads the files of the cgroup
    let standing = sandbox::put_up(common.wall, readable, writable)?;
    if FOR_A_PERSON.get().is_some() && !(standing.landlock && standing.seccomp) {
        // The service is told by `probe`.
        let _ = writeln!(
            std::io::stderr(),
            "codehub-archive: this kernel lacks Landlock or seccomp, so this process is not confined; what it writes is \
             checked all the same. To end here instead: --wall demanded"
        );
    }
    // Behind the walls, or this thread would stand outside of them.
    if common.parent.is_some() {
        parent::watch(common.parent, input)?;
    }
    Ok(())
}

/// How many processors this process may use, by affinity and cgroup.
pub fn cpus() -> usize {
    *CPUS.get_or_init(cpus_now)
}

fn cpus_now() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The value of an option that must be there.
pub fn required<T>(value: Option<T>, option: &str) -> Result<T> {
    value.ok_or_else(|| wrong(format!("--{option} is missing")))
}

fn begin(args: Vec<OsString>) -> Result<()> {
    let (common, rest) = take_common(args)?;
    if let Some(parent) = common.parent {
        parent::tie(parent)?;
        leave_signals_to_parent()?;
    }
    if common.lock_fd.is_some_and(is_closed) {
        return Err(Error::new(Code::InvalidInput, "--lock-fd names no open descriptor"));
    }
    sandbox::clear_environment(common.parent.is_some())?;
    COMMON.get_or_init(|| common);
    let mut args = lexopt::Parser::from_args(rest);
    match args.next()? {
        Some(Long("version")) => print(&format!("codehub-archive {} ({DEFLATE})\n", env!("CARGO_PKG_VERSION"))),
        Some(Long("help") | Short('h')) => print(&help()),
        Some(Value(name)) => {
            let named = |command: &&Command| name == *command.name;
            if let Some(command) = own_use::COMMANDS.iter().find(named) {
                FOR_A_PERSON.get_or_init(|| ());
                return (command.run)(args);
            }
            let command = COMMANDS.iter().find(named);
            (command.ok_or_else(|| wrong(format!("there is no command {name:?}")))?.run)(args)
        }
        Some(other) => Err(other.unexpected().into()),
        None => Err(wrong("a command is missing")),
    }
}

/// True if there is surely no such descriptor: then nothing holds the lock for this process.
fn is_closed(fd: u32) -> bool {
    let own = Path::new("/proc/self/fd");
    own.is_dir() && own.join(fd.to_string()).symlink_metadata().is_err()
}

/// The options that all commands share, and what is left.
fn take_common(args: Vec<OsString>) -> Result<(Common, Vec<OsString>)> {
    let (mut common, mut rest) = (Common::default(), Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if !matches!(name, "--parent" | "--lock-fd" | "--wall") {
            rest.push(arg);
            continue;
        }
        let value = value.map(OsString::from).or_else(|| args.next()).and_then(|value| value.into_string().ok());
        let value = value.ok_or_else(|| wrong(format!("{name} has no value")))?;
        let number = || value.parse().map_err(|_| wrong(format!("{name} takes a number, not {value:?}")));
        match name {
            "--parent" => common.parent = Some(number()?),
            "--lock-fd" => common.lock_fd = Some(number()?),
            _ => common.wall = Wall::parse(&value).ok_or_else(|| wrong(format!("there is no wall {value:?}")))?,
        }
    }
    Ok((common, rest))
}

fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::new(Code::MoverFailed, format!("standard output: {error}")))
}

fn help() -> String {
    let mut text = String::from("codehub-archive COMMAND: archives of codehub-storage, without the service.\n\n");
    for command in own_use::COMMANDS {
        let _ = writeln!(text, "  {:13} {}", command.name, command.options);
    }
    text += "\nSteps of the service, which feeds their standard input and reads frames from their standard output:\n\n";
    for command in COMMANDS {
        let _ = writeln!(text, "  {:13} {}", command.name, command.options);
    }
    text += "\nAll take [--parent PID] [--lock-fd N] [--wall demanded|available|off]. Also: --version, --help.\n";
    text
}

/// A panic is this program's own fault. Its message may hold anything, so only the place is told.
fn broken_at(location: Option<&std::panic::Location<'_>>) -> Error {
    let place = location.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    Error::new(Code::MoverFailed, format!("the archiver broke at {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn common_options_stand_anywhere() {
        let (common, rest) = take_common(words("--parent=7 pack --root r --lock-fd 3 --wall off --from 1")).unwrap();
        assert_eq!(common, Common { parent: Some(7), lock_fd: Some(3), wall: Wall::Off });
        assert_eq!(rest, words("pack --root r --from 1"));
        for bad in ["--parent", "pack --parent x", "--lock-fd=-1", "--wall x"] {
            assert!(take_common(words(bad)).unwrap_err().details.contains_key(COMMAND_LINE));
        }
    }

    #[test]
    fn help_names_every_command() {
        let help = help();
        assert!(COMMANDS.iter().all(|command| help.contains(command.name)));
        assert!(help.lines().all(|line| line.len() <= 160));
    }

    #[test]
    fn what_is_unknown_is_a_wrong_command_line() {
        for bad in ["sing", "--sing", ""] {
            assert!(begin(words(bad)).unwrap_err().details.contains_key(COMMAND_LINE));
        }
    }
}
