//! The command line of steps that write into a volume: its root, and what this process may set there.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::abilities::Abilities;
use crate::beneath::{AtPath, Beneath};
use crate::cli::{required, wrong};
use crate::error::Result;

/// `--root DIR`, and `--abilities JSON` as an earlier step told them, which saves probing for them again.
#[derive(Debug, Default)]
pub struct Volume {
    pub root: PathBuf,
    abilities: Option<Abilities>,
}

impl Volume {
    /// From the arguments. `more` takes options of the command's own, and says whether it knew the name.
    pub fn parse(mut args: lexopt::Parser, mut more: impl FnMut(&str, &OsStr) -> Result<bool>) -> Result<Self> {
        let (mut root, mut abilities) = (None, None);
        while let Some(arg) = args.next()? {
            let lexopt::Arg::Long(name) = arg else { return Err(arg.unexpected().into()) };
            let name = name.to_owned();
            let value = args.value()?;
            match &name[..] {
                "root" => root = Some(PathBuf::from(value)),
                "abilities" => abilities = Some(read_abilities(&value)?),
                _ if more(&name, &value)? => {}
                _ => return Err(wrong(format!("there is no option --{name}"))),
            }
        }
        Ok(Self { root: required(root, "root")?, abilities })
    }

    /// Nothing is known of this one but its root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), abilities: None }
    }

    /// True if they were told: then this process does not write to find them.
    pub fn has_abilities(&self) -> bool {
        self.abilities.is_some()
    }

    /// Below it.
    pub fn open(&self) -> Result<Beneath> {
        Beneath::open(&self.root).writing(b"")
    }

    /// As told, or found by trying.
    pub fn abilities(&self) -> Result<Abilities> {
        self.abilities.clone().map_or_else(|| Abilities::probe(&mut self.open()?), Ok)
    }
}

/// The number that an option has.
pub fn number(name: &str, value: &OsStr) -> Result<u64> {
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| wrong(format!("--{name} takes a number, not {}", value.to_string_lossy())))
}

fn read_abilities(value: &OsStr) -> Result<Abilities> {
    let value = value.to_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    Abilities::from_json(&value)
}
