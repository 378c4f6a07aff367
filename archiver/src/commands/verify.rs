//! `verify`: the segments of a finished archive are read back, several at once; then it is told what its tail states.

use std::io::{stdin, stdout};

use lexopt::Arg::Long;
use lexopt::ValueExt as _;

use crate::cli::settle;
use crate::error::Result;
use crate::parent::Input;
use crate::verify::verify;

const MOST_THREADS: usize = 256;

/// The command.
pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut threads = 1_usize;
    while let Some(arg) = args.next()? {
        match arg {
            Long("threads") => threads = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    settle(&[], &[], Input::Frames)?;
    verify(stdin().lock(), stdout(), threads.clamp(1, MOST_THREADS))
}
