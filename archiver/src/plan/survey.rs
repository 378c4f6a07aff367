//! The walk of a plan: entries into spools, and what they add up to.
//!
//! One thread walks, another takes what it finds: a tree of many names keeps two cores busy.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread;

use super::cut::{raw_size, Cutter, Limits};
use super::spool::SpoolWriter;
use super::{DIRECTORIES, FILES, LINKS};
use crate::entry::{Content, Entry, Kind};
use crate::error::{Code, Error, Result};
use crate::segment::Totals;
use crate::walk::{walk, ChangeDigest, WalkOptions};

/// Entries that are handed over at once, and how many bytes of names and attributes they may hold.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 18;
/// Batches that wait to be taken; beyond them the walk waits.
const QUEUE: usize = 4;
/// The most that a manifest can say; more than any archive takes.
const MOST_BYTES: u64 = i64::MAX as u64;

/// What one walk adds up while it fills the spools.
pub struct Survey {
    pub change_fingerprint: String,
    pub totals: Totals,
    /// An estimate, of all entries.
    pub raw_bytes: u128,
    /// Raw bytes of files; a sum of sizes that sparse files claim may be beyond 64 bits.
    pub weight: u128,
    pub tail_weight: u64,
    pub tail_content: Content,
    /// Where large files stand in their spool, and where the next begin.
    pub large: Vec<(u64, u64)>,
    /// With all files but the large ones, by the limits that were wished for.
    pub cutter: Option<Cutter>,
}

/// What an archive leaves out. To be asked in the order of the walk.
pub struct Omissions {
    allow_devices: bool,
    devices: HashSet<u64>,
}

impl Omissions {
    pub fn new(limits: &Limits) -> Self {
        Self { allow_devices: limits.allow_devices, devices: HashSet::new() }
    }

    /// `sockets` or `devices`, under each of their names; `None` for what goes into the archive.
    pub fn kind_of(&mut self, entry: &Entry) -> Option<&'static str> {
        if entry.kind == Kind::Socket {
            return Some("sockets");
        }
        if entry.kind.is_device() && !self.allow_devices && !entry.is_whiteout() {
            self.devices.insert(entry.inode);
        }
        (!self.devices.is_empty() && self.devices.contains(&entry.inode)).then_some("devices")
    }
}

/// Walk the tree below `root` into new spools in `out`. Errors: those of `walk`, and `ArchiveTooLarge`.
pub fn survey(root: &Path, out: &Path, limits: &Limits, progress: &mut dyn FnMut(u64)) -> Result<Survey> {
    let (send, receive) = sync_channel(QUEUE);
    let mut taker = Taker::new(out, limits)?;
    thread::scope(|scope| {
        let walker = scope.spawn(move || walk_into(root, &send));
        let outcome = taker.take_all(receive, progress);
        let change = walker.join().map_err(|_| Error::new(Code::MoverFailed, "the walk broke"))?;
        // Who takes fails first and then the walk has nobody to send to, or the walk fails and its error counts.
        outcome?;
        Ok::<_, Error>(change?.unwrap_or_default())
    })
    .and_then(|change_fingerprint| taker.finish(change_fingerprint, limits))
}

/// The change fingerprint; `None` where nobody takes the entries any more.
fn walk_into(root: &Path, send: &SyncSender<Vec<Entry>>) -> Result<Option<String>> {
    let mut change = ChangeDigest::default();
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
    for entry in walk(root, WalkOptions { xattrs: true, ..WalkOptions::default() }) {
        let entry = entry?;
        change.add(&entry);
        bytes += entry.path.len() + entry.target.len();
        bytes += entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        batch.push(entry);
        if batch.len() == BATCH || bytes >= BATCH_BYTES {
            if send.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
                return Ok(None);
            }
            bytes = 0;
        }
    }
    Ok(send.send(batch).is_ok().then(|| change.text()))
}

struct Taker {
    files: SpoolWriter,
    links: SpoolWriter,
    directories: SpoolWriter,
    /// Those that the walk has entered and not left.
    open: Vec<(Entry, Content)>,
    omissions: Omissions,
    found: Survey,
    cutter: Cutter,
}

impl Taker {
    fn new(out: &Path, limits: &Limits) -> Result<Self> {
        Ok(Self {
            files: SpoolWriter::create(&out.join(FILES))?,
            links: SpoolWriter::create(&out.join(LINKS))?,
            directories: SpoolWriter::create(&out.join(DIRECTORIES))?,
            open: Vec::new(),
            omissions: Omissions::new(limits),
            found: Survey {
                change_fingerprint: String::new(),
                totals: Totals::default(),
                raw_bytes: 0,
                weight: 0,
                tail_weight: 0,
                tail_content: Content::default(),
                large: Vec::new(),
                cutter: None,
            },
            cutter: Cutter::new(limits.clone()),
        })
    }

    fn take_all(&mut self, receive: Receiver<Vec<Entry>>, progress: &mut dyn FnMut(u64)) -> Result<()> {
        for batch in receive {
            for entry in batch {
                self.take(entry)?;
            }
            progress(self.found.totals.entries);
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry) -> Result<()> {
        self.leave_for(&entry.path)?;
        if let Some(kind) = self.omissions.kind_of(&entry) {
            *self.found.totals.skipped.entry(kind.to_owned()).or_default() += 1;
            return Ok(());
        }
        let (content, raw) = (Content::of(&entry), raw_size(&entry)?);
        self.count(&entry, raw);
        if entry.kind == Kind::File {
            self.found.weight += u128::from(raw);
            let at = self.files.append(&entry, &content)?;
            let end = self.files.position();
            if !self.cutter.add(at, end, &entry, &content, raw) {
                self.found.large.push((at, end));
            }
            return Ok(());
        }
        self.found.tail_content = self.found.tail_content.plus(content);
        self.found.tail_weight += raw;
        if entry.kind == Kind::Directory {
            self.open.push((entry, content));
        } else {
            self.links.append(&entry, &content)?;
        }
        Ok(())
    }

    /// Spool the directories that the walk has left: those that `path` is not below.
    fn leave_for(&mut self, path: &[u8]) -> Result<()> {
        while let Some((outer, content)) = self.open.pop() {
            let below = path.strip_prefix(&outer.path[..]);
            if outer.path.is_empty() || below.is_some_and(|rest| rest.starts_with(b"/")) {
                self.open.push((outer, content));
                break;
            }
            self.directories.append(&outer, &content)?;
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry, raw: u64) {
        let totals = &mut self.found.totals;
        totals.entries += 1;
        totals.file_bytes = totals.file_bytes.saturating_add(entry.size);
        self.found.raw_bytes += u128::from(raw);
        *match entry.kind {
            Kind::File => &mut totals.files,
            Kind::Directory => &mut totals.directories,
            Kind::Symlink => &mut totals.symlinks,
            Kind::HardLink => &mut totals.hard_links,
            Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice | Kind::Socket => &mut totals.specials,
        } += 1;
    }

    fn finish(mut self, change_fingerprint: String, limits: &Limits) -> Result<Survey> {
        while let Some((left, content)) = self.open.pop() {
            self.directories.append(&left, &content)?;
        }
        for spool in [self.files, self.links, self.directories] {
            spool.finish()?;
        }
        if self.found.totals.file_bytes > MOST_BYTES {
            return Err(limits.too_large(self.found.weight));
        }
        Ok(Survey { change_fingerprint, cutter: Some(self.cutter), ..self.found })
    }
}
