//! `compare`: what the tree holds. It gets no archive bytes, so what it says is nobody else's word.
//!
//! The parent compares with the manifest, as far as the process that restored could set what was archived.

use std::io::{stdout, Write};
use std::path::Path;

use serde_json::json;

use crate::abilities::Abilities;
use crate::cli::settle;
use crate::error::Result;
use crate::frames::write_frame;
use crate::mounts;
use crate::parent::Input;
use crate::teller::Teller;
use crate::volume::Volume;
use crate::walk::content_fingerprint;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let volume = Volume::parse(args, |_, _| Ok(false))?;
    mounts::keep_open()?;
    // Only probing writes.
    let root = [volume.root.as_path()];
    settle(&root, if volume.has_abilities() { &[] } else { &root }, Input::None)?;
    compare(&volume.root, &volume.abilities()?, stdout().lock())
}

pub(super) fn compare(root: &Path, abilities: &Abilities, mut output: impl Write) -> Result<()> {
    let mut teller = Teller::new(&mut output);
    let content = content_fingerprint(root, &mut |entries| teller.progress(entries))?;
    teller.finish()?;
    write_frame(&mut output, json!({"content": content.text(), "abilities": abilities.to_json()}), b"")
}
