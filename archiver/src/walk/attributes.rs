//! Extended attributes of the names in a directory, without opening these.

use std::ffi::CStr;
use std::io::Write as _;

use rustix::fd::{AsRawFd as _, BorrowedFd};
use rustix::io::Errno;

/// What most files need: the kernel clears or allocates as much as it is offered, so not the most at once.
const USUAL_BYTES: usize = 256;
/// Linux has no longer list of names and no longer value.
const MOST_BYTES: usize = 1 << 16;

/// Attributes with their values, sorted by name.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads attributes; it stands in one directory. Links are not followed.
pub struct Attributes {
    /// A path to the directory, through its descriptor, and the current name: no call takes the two apart.
    path: Vec<u8>,
    directory_length: usize,
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Attributes {
    pub fn new() -> Self {
        Self { path: Vec::new(), directory_length: 0, list: Vec::new(), value: Vec::new() }
    }

    /// Names are looked up in this directory from now on, as long as it is open.
    pub fn stand_in(&mut self, directory: BorrowedFd<'_>) {
        self.path.clear();
        let _ = write!(self.path, "/proc/self/fd/{}/", directory.as_raw_fd());
        self.directory_length = self.path.len();
    }

    /// Those of a name in the directory.
    pub fn of_name(&mut self, name: &CStr) -> rustix::io::Result<Pairs> {
        self.path.truncate(self.directory_length);
        self.path.extend_from_slice(name.to_bytes_with_nul());
        let Self { path, list, value, .. } = self;
        let path = CStr::from_bytes_with_nul(path).map_err(|_| Errno::INVAL)?;
        collect(
            list,
            value,
            |buffer| rustix::fs::llistxattr(path, buffer),
            |key, buffer| rustix::fs::lgetxattr(path, key, buffer),
        )
    }

    /// Those of an open file or directory.
    pub fn of_open(&mut self, fd: BorrowedFd<'_>) -> rustix::io::Result<Pairs> {
        collect(
            &mut self.list,
            &mut self.value,
            |buffer| rustix::fs::flistxattr(fd, buffer),
            |key, buffer| rustix::fs::fgetxattr(fd, key, buffer),
        )
    }
}

/// None where the file system has none.
fn collect(
    list: &mut Vec<u8>,
    value: &mut Vec<u8>,
    names: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    value_of: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Pairs> {
    let length = match with_room(list, names) {
        Err(Errno::OPNOTSUPP) => return Ok(Pairs::new()),
        length => length?,
    };
    let mut pairs = Pairs::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = with_room(value, |buffer| value_of(name, buffer))?;
        pairs.push((name.to_vec(), value[..length].to_vec()));
    }
    pairs.sort_unstable();
    Ok(pairs)
}

/// Call with a buffer of the usual size, and with the largest where that is too short.
fn with_room(buffer: &mut Vec<u8>, call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    if buffer.len() < USUAL_BYTES {
        buffer.resize(USUAL_BYTES, 0);
    }
    match call(&mut buffer[..USUAL_BYTES]) {
        Err(Errno::RANGE) => {
            buffer.resize(MOST_BYTES, 0);
            call(buffer)
        }
        length => length,
    }
}
