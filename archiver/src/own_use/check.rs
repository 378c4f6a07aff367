//! `check`: is the archive whole?

use std::fmt::Write as _;
use std::io::stdout;
use std::path::PathBuf;

use serde_json::Value;

use super::{flush, operands, say};
use crate::archive_file::{open, ArchiveFile};
use crate::cli::settle;
use crate::error::{show, Result};
use crate::parent::Input;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let [path] = operands(args, ["FILE"], |_| false)?.map(PathBuf::from);
    let file = open(&path)?;
    settle(&[], &[], Input::None)?;
    let archive = ArchiveFile::prove(file, &path)?;
    let mut output = stdout().lock();
    say(&mut output, summary(&archive).as_bytes())?;
    flush(&mut output)
}

/// What it holds, and where it says that it comes from.
pub(super) fn summary(archive: &ArchiveFile) -> String {
    let found = &archive.totals;
    let others = found.symlinks + found.hard_links + found.specials;
    let mut text = format!(
        "whole: {} files, {} directories, {others} links and others, {} bytes of files, {} bytes stored\n",
        found.files,
        found.directories,
        found.file_bytes,
        archive.stored_bytes(),
    );
    for (what, key) in [("workspace", "workspace_id"), ("archive", "archive_id"), ("made", "created_at")] {
        if let Some(said) = archive.origin.get(key).and_then(Value::as_str).filter(|said| !said.is_empty()) {
            let _ = writeln!(text, "{what} {}", show(said.as_bytes()));
        }
    }
    text
}
