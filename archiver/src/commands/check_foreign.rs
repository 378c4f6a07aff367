//! `check-foreign`: a stranger's `tar.gz` from standard input, read to its end and written nowhere.

use serde_json::json;

use super::foreign::read_stored;
use crate::cli::settle;
use crate::error::Result;
use crate::foreign_check::check;
use crate::parent::Input;

/// Reads and tells as `foreign` does; of the report `files` and `bytes` alone. It opens no directory at all.
pub fn run(mut args: lexopt::Parser) -> Result<()> {
    if let Some(arg) = args.next()? {
        return Err(arg.unexpected().into());
    }
    settle(&[], &[], Input::Frames)?;
    read_stored(|chunks, tell| {
        let found = check(chunks, tell)?;
        Ok(json!({"files": found.files, "bytes": found.bytes}))
    })
}
