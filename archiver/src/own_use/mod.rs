//! What a person does with an archive and this program alone, when there is no service any more, or none yet.
//!
//! One process does all of a command, behind the walls that a step has. It says what it found as text.

pub mod cat;
pub mod check;
pub mod create;
pub mod extract;
pub mod list;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};

use lexopt::Arg::Value;

use crate::cli::wrong;
use crate::commands::Command;
use crate::error::{Code, Error, Result};

/// All of them.
pub const COMMANDS: &[Command] = &[
    Command { name: "check", options: "FILE: is it whole?", run: check::run },
    Command { name: "list", options: "[--long | --null] FILE: the names in it", run: list::run },
    Command { name: "cat", options: "FILE PATH: one file of it, to standard output", run: cat::run },
    Command {
        name: "extract",
        options: "FILE DIR: all of it, into an empty directory or a new one",
        run: extract::run,
    },
    Command { name: "create", options: "DIR FILE: an archive of a directory", run: create::run },
];

/// Exactly these operands, and whatever options `option` takes.
fn operands<const COUNT: usize>(
    mut args: lexopt::Parser,
    names: [&str; COUNT],
    mut option: impl FnMut(&str) -> bool,
) -> Result<[OsString; COUNT]> {
    let mut found = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Value(value) if found.len() < COUNT => found.push(value),
            lexopt::Arg::Long(name) if option(name) => {}
            other => return Err(other.unexpected().into()),
        }
    }
    let missing = names.get(found.len()).copied().unwrap_or_default();
    found.try_into().map_err(|_| wrong(format!("{missing} is missing")))
}

/// Text for standard output. Who has closed it has read enough.
fn say(output: &mut impl Write, text: &[u8]) -> Result<()> {
    match output.write_all(text) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Error::new(Code::MoverFailed, format!("standard output: {error}"))),
    }
}

/// What was said reaches the reader.
fn flush(output: &mut impl Write) -> Result<()> {
    match output.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(Code::MoverFailed, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
