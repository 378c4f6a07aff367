//! `create`: an archive of a directory. It is read back whole before it gets its name.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{create_dir, remove_dir_all, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{renameat_with, RenameFlags, CWD};
use rustix::io::Errno;
use serde_json::json;

use super::check::summary;
use super::list::utc;
use super::{flush, operands, say};
use crate::archive_file::{open, ArchiveFile};
use crate::cli::{cpus, settle};
use crate::commands::pack::Batch;
use crate::commands::tail::pack_rest;
use crate::error::{said, show, Code, Error, Result};
use crate::lanes::lock;
use crate::mounts;
use crate::pack::{Member, Taker};
use crate::parent::Input;
use crate::plan::cut::Limits;
use crate::plan::scan;

/// What packing may hold: some segments of 4 MiB a processor.
const MEMORY: u64 = 256 << 20;

/// The command.
pub fn run(args: lexopt::Parser) -> Result<()> {
    let [root, target] = operands(args, ["DIR", "FILE"], |_| false)?.map(PathBuf::from);
    let at = |path: &Path, error: &std::io::Error| {
        Error::new(Code::InvalidInput, format!("{}: {error}", show(path.as_os_str().as_encoded_bytes())))
    };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (root, parent) = (
        root.canonicalize().map_err(|error| at(&root, &error))?,
        parent.canonicalize().map_err(|error| at(parent, &error))?,
    );
    let name = target.file_name().ok_or_else(|| Error::new(Code::InvalidInput, "FILE has no name"))?;
    if parent.starts_with(&root) {
        let error = Error::new(Code::InvalidInput, "the archive would be a part of itself");
        return Err(error.hint("Let FILE be outside of DIR."));
    }
    let target = parent.join(name);
    if target.symlink_metadata().is_ok() {
        return Err(taken(&target));
    }
    let mut hidden = OsStr::new(".").to_owned();
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let work = parent.join(hidden);
    create_dir(&work).map_err(|error| at(&work, &error))?;
    let outcome = mounts::keep_open()
        .and_then(|()| settle(&[&root], &[&parent], Input::None))
        .and_then(|()| create(&root, &work, &target, cpus()));
    // Whatever became of it; what cannot be removed is hidden, and its name says of what it is left.
    let _ = remove_dir_all(&work);
    let text = summary(&outcome?);
    let mut output = std::io::stdout().lock();
    say(&mut output, text.as_bytes())?;
    flush(&mut output)
}

/// Pack `root` by way of the directory `work`; returns what was made, read back whole.
pub(super) fn create(root: &Path, work: &Path, target: &Path, threads: usize) -> Result<ArchiveFile> {
    let plan = scan(root, work, &Limits::default(), &mut |_| ())?;
    let origin = json!({ "archive_id": new_id(), "created_at": now() });
    let made = work.join("archive");
    let taker = FileTaker(Mutex::new(File::create_new(&made).map_err(|error| failed(&error))?));
    let batch = Batch { from: 1, to: None, threads, memory: MEMORY };
    pack_rest(root, &plan, &batch, &plan.summary.change_fingerprint, &origin, Vec::new(), &taker)?;
    lock(&taker.0).sync_all().map_err(|error| failed(&error))?;
    let archive = ArchiveFile::prove(open(&made)?, &made)?;
    if archive.content != plan.summary.content_fingerprint {
        return Err(Error::new(Code::ArchiveCorrupt, "what was written is not what was read"));
    }
    // Whole and on disk before it has the name.
    renameat_with(CWD, &made, CWD, target, RenameFlags::NOREPLACE).map_err(|errno| match errno {
        Errno::EXIST => taken(target),
        errno => Error::new(Code::BackendUnavailable, format!("the archive cannot be named: {}", said(errno))),
    })?;
    let parent = target.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| failed(&error))?;
    Ok(archive)
}

/// Members one behind the other.
struct FileTaker(Mutex<File>);

impl Taker for FileTaker {
    fn moved(&self, _raw_bytes: u64) {}

    fn tell(&self, member: Member) -> Result<()> {
        let mut file = lock(&self.0);
        member.chunks.iter().try_for_each(|chunk| file.write_all(chunk)).map_err(|error| failed(&error))
    }
}

fn taken(target: &Path) -> Error {
    let shown = show(target.as_os_str().as_encoded_bytes());
    Error::new(Code::InvalidInput, format!("{shown} is there already")).hint("Nothing is replaced: name another FILE.")
}

fn failed(error: &std::io::Error) -> Error {
    let code = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => Code::NoSpace,
        _ => Code::BackendUnavailable,
    };
    Error::new(code, format!("the archive cannot be written: {error}"))
}

/// 128 bits of chance: the keys of two hashers, which the kernel gave.
fn new_id() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = utc(i64::try_from(seconds).unwrap_or(0));
    format!("{}Z", text.replace(' ', "T"))
}
