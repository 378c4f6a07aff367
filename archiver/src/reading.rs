//! Files of a volume as they are archived: header, data and padding into a member, and a look whether it was as planned.
//!
//! No link is followed on the way to a file, and no mount crossed. A file is what the plan saw if type, inode, size,
//! mtime and ctime are equal after its last byte was read: whoever writes to it, or changes any attribute, moves its
//! ctime.

use std::io::{self, Write};
use std::path::Path;

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::io::Errno;

use crate::beneath::{opening_error, AtPath as _, Beneath, Fault};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::gzip::MemberWriter;
use crate::segment::Piece;
use crate::tar::write::header;
use crate::tar::{padding_of, BLOCK};

const STEP_BYTES: u64 = 4 << 20;

/// Is told raw bytes that went into a member since the last call, at least every `STEP_BYTES`.
pub type Moved<'a> = &'a mut dyn FnMut(u64);

/// Reads files below a root. For one thread: directories are kept open and reused.
///
/// Errors are `VolumeChanged` and `VolumeUnreadable`, naming the path.
pub struct VolumeReader {
    beneath: Beneath,
}

impl VolumeReader {
    /// The root must be no link.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { beneath: Beneath::open(root).reading(b"")? })
    }

    /// A whole file.
    pub fn write_file<W: Write>(&mut self, entry: &Entry, out: &mut MemberWriter<W>, moved: Moved<'_>) -> Result<()> {
        let header = header(entry, None)?;
        self.with_file(entry, |file| {
            put(out, &header, entry)?;
            copy(file, entry, 0, entry.size, out, moved)
        })?;
        write_zeros(entry, padding_of(entry.size), out, &mut |_| ())?;
        moved(header.len() as u64 + padding_of(entry.size));
        Ok(())
    }

    /// One piece of a large file; the first one opens with the tar header. Its holes are written as zeros without being
    /// read.
    pub fn write_piece<W: Write>(
        &mut self,
        entry: &Entry,
        piece: &Piece,
        out: &mut MemberWriter<W>,
        moved: Moved<'_>,
    ) -> Result<()> {
        let (mut at, end) = (piece.offset, piece.offset + piece.length);
        self.with_file(entry, |file| {
            if piece.offset == 0 {
                put(out, &header(entry, None)?, entry)?;
            }
            for (start, length) in piece.holes.iter().copied().chain([(end, 0)]) {
                copy(file, entry, at, start, out, moved)?;
                write_zeros(entry, length, out, moved)?;
                at = start + length;
            }
            Ok(())
        })?;
        if end == entry.size {
            write_zeros(entry, padding_of(entry.size), out, &mut |_| ())?;
        }
        moved(BLOCK); // about: header and padding
        Ok(())
    }

    /// What `read` makes of a planned file, open for reading; after it, it must still be what was planned.
    pub fn with_file<T>(&mut self, entry: &Entry, read: impl FnOnce(&OwnedFd) -> Result<T>) -> Result<T> {
        let file = self.beneath.open_to_read(&entry.path).map_err(|fault| match fault {
            // A socket; something mounted.
            Fault::Kernel(Errno::NXIO | Errno::XDEV) => Error::changed(&entry.path, "was replaced while it was read"),
            Fault::Kernel(errno) => match self.beneath.split(&entry.path) {
                Ok((parent, name)) => opening_error(parent, name, &entry.path, entry.inode, errno),
                Err(_) => Error::reading(&entry.path, errno),
            },
            Fault::Unclean(error) => error,
        })?;
        match read(&file) {
            Ok(value) => {
                expect(file.as_fd(), entry)?;
                Ok(value)
            }
            // What cannot be read may be something else by now, and that tells more than how it failed.
            Err(_) if !is_regular(file.as_fd()) => Err(Error::changed(&entry.path, "is no regular file any more")),
            Err(error) => Err(error),
        }
    }
}

fn expect(file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    let flags = StatxFlags::BASIC_STATS;
    let now = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, flags).reading(&entry.path)?;
    let is_as_planned = now.stx_ctime.tv_sec == entry.ctime.seconds
        && now.stx_ctime.tv_nsec == entry.ctime.nanos
        && now.stx_ino == entry.inode
        && now.stx_size == entry.size
        && now.stx_mtime.tv_sec == entry.mtime.seconds
        && now.stx_mtime.tv_nsec == entry.mtime.nanos
        && FileType::from_raw_mode(now.stx_mode.into()) == FileType::RegularFile;
    if is_as_planned {
        return Ok(());
    }
    Err(Error::changed(&entry.path, "changed since it was listed"))
}

fn is_regular(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(file).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile)
}

fn copy<W: Write>(
    file: &OwnedFd,
    entry: &Entry,
    mut start: u64,
    end: u64,
    out: &mut MemberWriter<W>,
    moved: Moved<'_>,
) -> Result<()> {
    while start < end {
        let step = STEP_BYTES.min(end - start);
        if out.write_from(file, step, start).map_err(|error| failed(&error, entry))? != step {
            return Err(Error::changed(&entry.path, "became shorter while it was read"));
        }
        start += step;
        moved(step);
    }
    Ok(())
}

fn write_zeros<W: Write>(entry: &Entry, mut length: u64, out: &mut MemberWriter<W>, moved: Moved<'_>) -> Result<()> {
    while length > 0 {
        let step = length.min(STEP_BYTES);
        out.write_zeros(step).map_err(|error| failed(&error, entry))?;
        length -= step;
        moved(step);
    }
    Ok(())
}

fn put<W: Write>(out: &mut MemberWriter<W>, data: &[u8], entry: &Entry) -> Result<()> {
    out.write(data).map_err(|error| failed(&error, entry))
}

/// Members are written into memory, which does not fail, so an error is one of reading.
fn failed(error: &io::Error, entry: &Entry) -> Error {
    Error::reading(&entry.path, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests;
