//! Which path was not restored as archived: for a message, after a comparison has said that something was not.
//!
//! Every archived entry is looked up in the tree as it streams past; what the tree holds beyond them is found by a walk
//! at the end. Memory: eight bytes for each name, and what has several names.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::path::Path;

use crate::abilities::Abilities;
use crate::beneath::{AtPath, Beneath};
use crate::entry::{Content, Entry, Kind};
use crate::error::{show, Result};
use crate::links::LeftOut;
use crate::look::{entry_at, identity_at};
use crate::walk::{walk, WalkOptions};

/// A path that differs, and in what.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: Vec<u8>,
    pub why: String,
}

/// Takes the entries of an archive: data segments first, then the tail, as they lie there.
pub struct Differences {
    beneath: Beneath,
    abilities: Abilities,
    left_out: LeftOut,
    random: RandomState,
    seen: HashSet<u64>,
    /// The first name of each inode with several.
    firsts: HashMap<(u64, u64), Vec<u8>>,
    found: Option<Difference>,
}

impl Differences {
    /// In the tree below the root of `beneath`.
    pub fn new(beneath: Beneath, abilities: Abilities) -> Self {
        let left_out = LeftOut::new(&abilities);
        let (random, seen, firsts) = (RandomState::new(), HashSet::new(), HashMap::new());
        Self { beneath, abilities, left_out, random, seen, firsts, found: None }
    }

    /// True once there is one: more need not come.
    pub fn is_decided(&self) -> bool {
        self.found.is_some()
    }

    /// The next entry, as the archive has it.
    pub fn take(&mut self, archived: &Entry) -> Result<()> {
        if self.is_decided() || self.left_out.takes(archived).is_some() {
            return Ok(());
        }
        self.seen.insert(self.random.hash_one(&archived.path));
        if let Some(why) = self.why(archived)? {
            self.found = Some(Difference { path: archived.path.clone(), why });
        }
        Ok(())
    }

    /// The first one, after all entries came. `None`: archive and tree agree.
    pub fn finish(mut self, root: &Path, progress: &mut dyn FnMut(u64)) -> Result<Option<Difference>> {
        if self.is_decided() {
            return Ok(self.found);
        }
        for (number, entry) in (1..).zip(walk(root, WalkOptions::default())) {
            let entry = entry?;
            progress(number);
            if !self.seen.contains(&self.random.hash_one(&entry.path)) {
                let why = "it is not in the archive".into();
                self.found = Some(Difference { path: entry.path, why });
                break;
            }
        }
        Ok(self.found)
    }

    fn why(&mut self, archived: &Entry) -> Result<Option<String>> {
        let path = &archived.path;
        let Some(there) = identity_at(&mut self.beneath, path).reading(path)? else {
            return Ok(Some("it is missing".into()));
        };
        if archived.kind == Kind::HardLink {
            let target = identity_at(&mut self.beneath, &archived.target).reading(path)?;
            let is_same = target.is_some_and(|target| target.inode == there.inode);
            return Ok((!is_same).then(|| format!("it is no further name of {}", show(&archived.target))));
        }
        if there.has_more_names {
            let first = self.firsts.entry(there.inode).or_insert_with(|| path.clone());
            if first != path {
                return Ok(Some(format!("it is a further name of {}", show(first))));
            }
        }
        let Some(found) = entry_at(&mut self.beneath, path).reading(path)? else {
            return Ok(Some("it is missing".into()));
        };
        let is_equal = agrees(Content::of(archived), Content::of(&found), &self.abilities);
        Ok((!is_equal).then(|| difference(archived, &found)))
    }
}

/// Equal, as far as this process may set what was archived; what it may not set was counted as skipped.
fn agrees(expected: Content, found: Content, abilities: &Abilities) -> bool {
    expected.base == found.base
        && (!abilities.owners || expected.ids == found.ids)
        && (!abilities.all_privileged() || expected.privileged == found.privileged)
}

fn difference(archived: &Entry, found: &Entry) -> String {
    type Field = (&'static str, fn(&Entry) -> String);
    const FIELDS: [Field; 7] = [
        ("type", |entry| format!("{:?}", entry.kind)),
        ("mode", |entry| format!("{:o}", entry.mode)),
        ("size", |entry| entry.size.to_string()),
        ("link target", |entry| show(&entry.target)),
        ("device", |entry| format!("{}:{}", entry.device.0, entry.device.1)),
        ("modification time", |entry| format!("{}.{:09}", entry.mtime.seconds, entry.mtime.nanos)),
        ("owner", |entry| format!("{}:{}", entry.uid, entry.gid)),
    ];
    let is_symlink = archived.kind == Kind::Symlink && found.kind == Kind::Symlink;
    for (name, of) in FIELDS {
        let (before, now) = (of(archived), of(found));
        // A link has no mode of its own. Owners come last: where they may not be set, attributes are what is left.
        if before != now && !(is_symlink && name == "mode") && !(name == "owner" && archived.xattrs != found.xattrs) {
            return format!("its {name} is {now} instead of {before}");
        }
    }
    let names = |entry: &Entry| entry.xattrs.iter().map(|(name, _)| show(name)).collect::<Vec<_>>().join(", ");
    format!("its extended attributes are ({}) instead of ({})", names(found), names(archived))
}
