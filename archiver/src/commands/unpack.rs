//! `unpack`: data segments back into files, several at once.

use std::io::{stdin, stdout, BufRead, Write};

use crate::abilities::Abilities;
use crate::cli::settle;
use crate::error::Result;
use crate::lanes::run_lanes;
use crate::parent::Input;
use crate::unpack::Unpacker;
use crate::volume::{number, Volume};

const MOST_THREADS: u64 = 256;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let mut threads = 1;
    let volume = Volume::parse(args, |option, value| {
        if option == "threads" {
            threads = number(option, value)?;
        }
        Ok(option == "threads")
    })?;
    settle(&[], &[&volume.root], Input::Frames)?;
    let abilities = volume.abilities()?;
    let threads = threads.clamp(1, MOST_THREADS) as usize;
    unpack(&volume, &abilities, threads, stdin().lock(), stdout())
}

fn unpack(
    volume: &Volume,
    abilities: &Abilities,
    threads: usize,
    input: impl BufRead,
    output: impl Write + Send,
) -> Result<()> {
    run_lanes(input, output, threads, || Ok(Box::new(Unpacker::new(&volume.root, abilities.clone())?)))
}
