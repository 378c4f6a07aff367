//! The names in a directory, sorted, in one piece of memory.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use rustix::fd::BorrowedFd;
use rustix::fs::RawDir;

const BUFFER_BYTES: usize = 1 << 15;

/// Lists directories, with one buffer for all of them.
pub struct Listing(Box<[MaybeUninit<u8>]>);

/// Each name with a NUL behind it, in archive order; one of them is the current one.
#[derive(Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and its NUL is.
    spans: Vec<(usize, usize)>,
    /// Of those that were current.
    seen: usize,
}

impl Listing {
    pub fn new() -> Self {
        Self(vec![MaybeUninit::uninit(); BUFFER_BYTES].into_boxed_slice())
    }

    /// The names in an open directory that was not listed before.
    pub fn read(&mut self, directory: BorrowedFd<'_>) -> rustix::io::Result<Names> {
        let mut names = Names::default();
        let mut entries = RawDir::new(directory, &mut self.0);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            let start = names.bytes.len();
            names.bytes.extend_from_slice(name);
            names.spans.push((start, names.bytes.len() - 1));
        }
        let bytes = &names.bytes;
        names.spans.sort_unstable_by(|one, other| bytes[one.0..one.1].cmp(&bytes[other.0..other.1]));
        Ok(names)
    }
}

impl Names {
    /// Go on to the next name. False: there is none.
    pub fn advance(&mut self) -> bool {
        let has_next = self.seen < self.spans.len();
        self.seen += usize::from(has_next);
        has_next
    }

    /// The name that `advance` came to; empty before.
    pub fn current(&self) -> &CStr {
        let span = self.seen.checked_sub(1).and_then(|at| self.spans.get(at));
        span.and_then(|(start, end)| CStr::from_bytes_with_nul(&self.bytes[*start..=*end]).ok()).unwrap_or_default()
    }
}
