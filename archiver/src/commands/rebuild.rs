//! `rebuild`: the manifest of an archive from the archive alone.

use std::io::{stdin, stdout};

use crate::cli::settle;
use crate::error::Result;
use crate::lanes::run_in_order;
use crate::parent::Input;
use crate::rebuild::Rebuilder;

/// The command.
pub fn run(mut args: lexopt::Parser) -> Result<()> {
    if let Some(arg) = args.next()? {
        return Err(arg.unexpected().into());
    }
    settle(&[], &[], Input::Frames)?;
    run_in_order(stdin().lock(), stdout(), &mut Rebuilder::new(stdout()))
}
