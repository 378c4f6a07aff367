//! What is mounted inside a volume: nothing may be. The kernel's own list decides, since a bind mount of the same file
//! system shows in no device number.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;

use rustix::fd::{AsFd, AsRawFd as _};
use rustix::io::Errno;

use crate::error::{show, Code, Error, Result};

const TABLE: &str = "/proc/self/mountinfo";
const PIECE: usize = 1 << 14;

/// Behind the walls nobody opens `/proc` any more. The kernel makes the list anew at each read from its beginning.
static KEPT: OnceLock<File> = OnceLock::new();

/// Open the list of mounts for walks that begin behind the walls. May be called again.
pub fn keep_open() -> Result<()> {
    if KEPT.get().is_none() {
        let _ = KEPT.set(File::open(TABLE).map_err(|error| unreadable(&error))?);
    }
    Ok(())
}

/// `Unsupported` if something is mounted below the open directory `root`, even from the same file system.
pub fn refuse_mounts_below(root: impl AsFd) -> Result<()> {
    let link = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
    let path = std::fs::read_link(link).map_err(|error| unreadable(&error))?;
    match KEPT.get() {
        Some(table) => refuse(path.as_os_str().as_bytes(), &read(table)?),
        None => refuse(path.as_os_str().as_bytes(), &read(&File::open(TABLE).map_err(|error| unreadable(&error))?)?),
    }
}

/// `Unsupported`, naming the mount by its path in the volume.
pub fn nested_mount(path: &[u8]) -> Error {
    let message = format!("{}: another file system is mounted inside the volume", show(path));
    Error::new(Code::Unsupported, message).hint("Unmount it and call again.").detail("path", show(path))
}

fn refuse(root: &[u8], table: &[u8]) -> Result<()> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    for line in table.split(|byte| *byte == b'\n') {
        let Some(target) = line.split(|byte| *byte == b' ').nth(4) else { continue };
        let target = plain(target);
        if let Some(below) = target.strip_prefix(root).and_then(|rest| rest.strip_prefix(b"/")) {
            if !below.is_empty() {
                return Err(nested_mount(below));
            }
        }
    }
    Ok(())
}

/// Undo the kernel's octal escapes of blanks and line ends.
fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', later @ ..]) = (first, behind) {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = later;
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

/// The whole list, by positions of this call alone: threads may read it at once.
fn read(table: &File) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let used = content.len();
        content.resize(used + PIECE, 0);
        match rustix::io::pread(table, &mut content[used..], used as u64) {
            Ok(count) => {
                content.truncate(used + count);
                if count == 0 {
                    return Ok(content);
                }
            }
            Err(Errno::INTR) => content.truncate(used),
            Err(errno) => return Err(unreadable(&errno.into())),
        }
    }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(Code::MoverFailed, format!("the list of mounts: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"22 1 8:1 / / rw - ext4 /dev/a rw\n\
        23 22 0:5 / /vol\\040ume rw - tmpfs none rw\n\
        24 22 0:6 / /vol\\040ume/in\\134ner rw - tmpfs none rw\n";

    #[test]
    fn what_is_below_is_refused() {
        let error = refuse(b"/vol ume", LINES).unwrap_err();
        assert_eq!((error.code, error.details["path"].as_str()), (Code::Unsupported, Some("in\\ner")));
        assert!(refuse(b"/vol ume/in\\ner", LINES).is_ok());
        assert!(refuse(b"/vol", LINES).is_ok());
        assert!(refuse(b"/", LINES).is_err());
    }

    #[test]
    fn the_kept_list_is_read_again_and_again() {
        let directory = tempfile::tempdir().unwrap();
        let open = File::open(directory.path()).unwrap();
        refuse_mounts_below(&open).unwrap();
        keep_open().unwrap();
        keep_open().unwrap();
        for _ in 0..2 {
            refuse_mounts_below(&open).unwrap();
            assert!(read(KEPT.get().unwrap()).unwrap().starts_with(&read(&File::open(TABLE).unwrap()).unwrap()[..10]));
        }
        assert!(refuse_mounts_below(File::open("/").unwrap()).is_err()); // /proc, if nothing else
    }
}
