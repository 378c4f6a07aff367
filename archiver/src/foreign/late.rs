//! What comes last: links, when all files are written, and the directories' metadata, when nothing is made any more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::{Extraction, Report};
use crate::beneath::{split_name, AtPath};
use crate::entry::{Content, Entry, Kind};
use crate::error::{show, Code, Error, Result};
use crate::links::omitted;
use crate::metadata;
use crate::plan::spool::{SpoolReader, SpoolWriter};
use crate::tar::dialects::corrupt;

/// Owner's rights, without which nothing below a directory can be reached.
const OWNERS: u32 = 0o700;

/// Entries that wait on disk.
pub struct Late {
    path: PathBuf,
    writer: Option<SpoolWriter>,
}

impl Late {
    /// A new file.
    pub fn create(path: PathBuf) -> Result<Self> {
        let writer = Some(SpoolWriter::create(&path)?);
        Ok(Self { path, writer })
    }

    /// One more.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        let writer = self.writer.as_mut().ok_or_else(|| corrupt("an entry after the last"))?;
        writer.append(entry, &Content::default()).map(|_| ())
    }

    /// All have come: they are read in order.
    fn finish(&mut self) -> Result<SpoolReader> {
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        SpoolReader::open(&self.path)
    }
}

impl Drop for Late {
    /// However the restore ends, nothing of it stays in the spool.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl<C: FnMut() -> Result<Option<Vec<u8>>>> Extraction<'_, C> {
    /// The stream has come to its end.
    pub fn finish(mut self) -> Result<Report> {
        for late in self.links.finish()? {
            self.link(&late?.entry)?;
            (self.progress)()?;
        }
        self.finish_directories()?;
        for (kind, count) in self.skipped {
            *self.report.skipped.entry(kind.to_owned()).or_default() += count;
        }
        Ok(self.report)
    }

    fn link(&mut self, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        if let Some(kind) = omitted(entry, &self.abilities) {
            self.leave_out(path, kind);
            return Ok(());
        }
        self.make_directories(split_name(path).0, false)?;
        let there = self.beneath.lstat(path).writing(path)?;
        if entry.kind == Kind::HardLink {
            let target = self.beneath.lstat(&entry.target).writing(path)?;
            if let (None, Some(kind)) = (&target, self.targets.left_out(&entry.target)) {
                self.leave_out(path, kind);
                return Ok(());
            }
            let is_directory = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
            let Some(target) = target.filter(|target| !is_directory(target.st_mode)) else {
                return Err(corrupt(format!("the hard link {} leads to no file", show(path))));
            };
            if there.is_some_and(|there| (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino)) {
                return Ok(());
            }
        }
        if there.is_some_and(|there| FileType::from_raw_mode(there.st_mode) != FileType::Symlink) {
            return Err(corrupt(format!("{} is a link and something else", show(path))));
        }
        self.beneath.remove(path).writing(path)?;
        if entry.kind == Kind::HardLink {
            return self.beneath.link(path, &entry.target).writing(path);
        }
        self.beneath.symlink(path, &entry.target).writing(path)?;
        metadata::apply(&mut self.beneath, entry, &self.abilities, &mut self.skipped)
    }

    fn leave_out(&mut self, path: &[u8], kind: &'static str) {
        metadata::count(&mut self.skipped, kind);
        self.targets.leave_out(path, kind);
    }

    /// A directory that shuts its own owner out (no rwx) waits for the end, deepest first: until then all below it must
    /// stay reachable. Of those the places in the spool are remembered, by depth. The rest goes in any order, since the
    /// times of a directory do not depend on what happens to the metadata of others.
    fn finish_directories(&mut self) -> Result<()> {
        let mut closed: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut spool = self.directories.finish()?;
        for late in &mut spool {
            let late = late?;
            if late.entry.mode & OWNERS == OWNERS {
                self.finish_directory(&late.entry)?;
            } else {
                closed.entry(depth_of(&late.entry.path)).or_default().push(late.at);
            }
        }
        for at in closed.into_values().rev().flatten() {
            spool.move_to(at, u64::MAX)?;
            let late = spool.next().ok_or_else(|| Error::new(Code::MoverFailed, "a spool has shrunk"))??;
            self.finish_directory(&late.entry)?;
        }
        Ok(())
    }

    fn finish_directory(&mut self, entry: &Entry) -> Result<()> {
        metadata::apply(&mut self.beneath, entry, &self.abilities, &mut self.skipped)?;
        (self.progress)()
    }
}

/// 0 for the root.
fn depth_of(path: &[u8]) -> usize {
    if path.is_empty() {
        0
    } else {
        path.split(|byte| *byte == b'/').count()
    }
}
