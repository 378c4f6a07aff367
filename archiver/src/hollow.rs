//! The content of a file whose holes nobody noted: what is long nothing but zeros is left out, so it stays a hole.
//!
//! Archives note the holes of large files alone. Whether a smaller one had a hole there, or zeros that took their
//! space, is no longer known; left out they read the same, and no file takes more space than it did.

use std::os::fd::AsFd;

use rustix::fs::ftruncate;
use rustix::io;

use crate::beneath::write_all;

const MIN_HOLE_BYTES: u64 = 64 << 10;
const PAGE: u64 = 4096;
static ZEROS: [u8; (MIN_HOLE_BYTES + 2 * PAGE) as usize] = [0; (MIN_HOLE_BYTES + 2 * PAGE) as usize];
/// So many blocks that begin with a zero, one behind the other, may be a hole.
const MIN_HOLE_BLOCKS: usize = (MIN_HOLE_BYTES / PAGE) as usize;

/// Writes a new file from its start to its end. Runs of zeros that fill 64 KiB of whole blocks are left out.
///
/// A run counts from end to end, however the pieces that come are cut.
pub struct HollowFile<F> {
    file: F,
    at: u64,
    /// What is before it is written, or a hole.
    settled: u64,
    /// From there on all was zeros.
    zeros_from: Option<u64>,
}

impl<F: AsFd> HollowFile<F> {
    /// `file` is empty.
    pub fn new(file: F) -> Self {
        Self { file, at: 0, settled: 0, zeros_from: None }
    }

    /// The file itself.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// The next bytes.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if self.zeros_from.is_some() || !is_dense(data, self.at) {
            let mut begin = 0;
            while begin < data.len() {
                let at = self.at + begin as u64;
                let end = data.len().min(begin + (PAGE - at % PAGE) as usize);
                let block = &data[begin..end];
                if !is_zero(block) {
                    self.end_zeros(at, data)?;
                } else if self.zeros_from.is_none() {
                    self.zeros_from = Some(at);
                }
                begin = end;
            }
        }
        let end = self.at + data.len() as u64;
        self.settle(self.zeros_from.unwrap_or(end), data)?;
        self.at = end;
        Ok(())
    }

    /// All has come. The file gets its full length, which a hole at its end would not give it.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.zeros_from.map(|from| from.next_multiple_of(PAGE)) {
            Some(first) if self.at.saturating_sub(first) >= MIN_HOLE_BYTES => {
                self.settle(first, b"")?;
                ftruncate(&self.file, self.at)
            }
            _ => self.settle(self.at, b""),
        }
    }

    /// At `end` stands something else than zeros.
    fn end_zeros(&mut self, end: u64, data: &[u8]) -> io::Result<()> {
        if let Some(from) = self.zeros_from.take() {
            let (first, last) = (from.next_multiple_of(PAGE), end - end % PAGE);
            if last.saturating_sub(first) >= MIN_HOLE_BYTES {
                self.settle(first, data)?;
                self.settled = last;
            }
        }
        Ok(())
    }

    /// Write up to `end`: zeros that came before `data`, then of these.
    fn settle(&mut self, end: u64, data: &[u8]) -> io::Result<()> {
        let late = end.min(self.at);
        while self.settled < late {
            let step = (late - self.settled).min(ZEROS.len() as u64);
            write_all(&self.file, &ZEROS[..step as usize], self.settled)?;
            self.settled += step;
        }
        if end > self.settled {
            let (from, to) = (self.settled - self.at, end - self.at);
            write_all(&self.file, &data[from as usize..to as usize], self.settled)?;
        }
        self.settled = end;
        Ok(())
    }
}

/// True if there is nothing but zeros.
pub fn is_zero(data: &[u8]) -> bool {
    data.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// True where no hole can begin in `data`, by the first byte of each block: cheap, and right for most data.
fn is_dense(data: &[u8], at: u64) -> bool {
    let first = (at.wrapping_neg() % PAGE) as usize;
    let (mut run, mut is_last_zero) = (0, true);
    for byte in data.iter().skip(first).step_by(PAGE as usize) {
        is_last_zero = *byte == 0;
        run = if is_last_zero { run + 1 } else { 0 };
        if run == MIN_HOLE_BLOCKS {
            return false;
        }
    }
    !is_last_zero
}

#[cfg(test)]
mod tests;
