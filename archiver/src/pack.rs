//! Data segments into gzip members, side by side, told in segment order.
//!
//! Each thread takes the lowest segment that nobody has, packs it in memory, and waits for its turn to tell it. So at
//! most as many segments as there are threads are in memory, and whoever has the lowest always gets on: a full pipe
//! holds all of them back, and no thread waits for another but for those with lower numbers.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::entry::{digest_text, Content};
use crate::error::{Code, Error, Result};
use crate::frames::write_frame;
use crate::gzip::{MemberWriter, Packed};
use crate::plan::spool::SpoolReader;
use crate::plan::table::{Planned, Table};
use crate::plan::Plan;
use crate::reading::VolumeReader;
use crate::segment::SegmentKind;

const CHUNK_BYTES: usize = 1 << 18;
/// What a thread needs beside its segment: buffers of the compressor, of the spool, and for copying.
const OVERHEAD_BYTES: u64 = 2 << 20;
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Stored bytes in pieces, so that a member that grows is not copied.
#[derive(Default)]
pub struct Chunks(Vec<Vec<u8>>);

impl Write for Chunks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut rest = data;
        while !rest.is_empty() {
            match self.0.last_mut().filter(|chunk| chunk.len() < CHUNK_BYTES) {
                None => self.0.push(Vec::with_capacity(CHUNK_BYTES.min(rest.len().max(1 << 12)))),
                Some(chunk) => {
                    let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - chunk.len()));
                    chunk.extend_from_slice(now);
                    rest = later;
                }
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Chunks {
    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

/// A finished member, and what is told of it.
pub struct Member {
    pub number: u32,
    pub kind: SegmentKind,
    pub content: Content,
    pub packed: Packed,
    pub chunks: Chunks,
}

/// Takes what is packed. Threads share it.
pub trait Taker: Sync {
    /// So many more raw bytes are through, perhaps none.
    fn moved(&self, raw_bytes: u64);
    /// The next member in order.
    fn tell(&self, member: Member) -> Result<()>;
}

/// Where members and progress are told. Threads share it.
pub struct Teller<W: Write> {
    output: Mutex<W>,
    raw_bytes: AtomicU64,
    told: Mutex<Instant>,
}

impl<W: Write> Teller<W> {
    pub fn new(output: W) -> Self {
        Self { output: Mutex::new(output), raw_bytes: AtomicU64::new(0), told: Mutex::new(Instant::now()) }
    }

    /// What everything was written into.
    pub fn into_inner(self) -> W {
        self.output.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Send> Taker for Teller<W> {
    /// It does not wait: if another thread is at the output, that one tells how it gets on.
    fn moved(&self, raw_bytes: u64) {
        let sum = self.raw_bytes.fetch_add(raw_bytes, Ordering::Relaxed) + raw_bytes;
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.elapsed() < PROGRESS_EVERY {
            return;
        }
        if let Ok(mut output) = self.output.try_lock() {
            *told = Instant::now();
            // A pipe that is broken tells whoever writes the next member.
            let _ = write_frame(&mut *output, json!({"progress": sum}), b"").and_then(|()| flush(&mut *output));
        }
    }

    /// A member: its stored bytes, then what is known of it.
    fn tell(&self, member: Member) -> Result<()> {
        let Member { number, kind, content, packed, chunks } = member;
        for chunk in chunks.0 {
            write_frame(&mut *lock(&self.output), json!({"data": number}), &chunk)?;
        }
        let line = json!({"packed": {
            "number": number,
            "kind": kind,
            "raw_bytes": packed.raw_bytes,
            "stored_bytes": packed.stored_bytes,
            "digest": digest_text(&packed.digest),
            "crc64": crate::crc64::text(packed.crc64),
            "content": content.text(),
        }});
        let mut output = lock(&self.output);
        write_frame(&mut *output, line, b"").and_then(|()| flush(&mut *output))
    }
}

/// One segment after another into memory. For one thread.
pub struct Packer<'a> {
    plan: &'a Plan,
    reader: VolumeReader,
    files: SpoolReader,
}

impl<'a> Packer<'a> {
    pub fn new(root: &Path, plan: &'a Plan) -> Result<Self> {
        Ok(Self { plan, reader: VolumeReader::open(root)?, files: plan.files()? })
    }

    /// The member of a data segment. `moved` is told raw bytes. Errors: `VolumeReader`.
    pub fn pack(&mut self, planned: &Planned, moved: &mut dyn FnMut(u64)) -> Result<Member> {
        let mut out = MemberWriter::new(Chunks::default());
        for spooled in self.plan.entries(&mut self.files, planned)? {
            let entry = spooled?.entry;
            match &planned.segment.piece {
                None => self.reader.write_file(&entry, &mut out, moved)?,
                Some(piece) => self.reader.write_piece(&entry, piece, &mut out, moved)?,
            }
        }
        finish(out, planned)
    }
}

/// End a member.
pub fn finish(out: MemberWriter<Chunks>, planned: &Planned) -> Result<Member> {
    let (chunks, packed) =
        out.finish().map_err(|error| Error::new(Code::MoverFailed, format!("the compressor: {error}")))?;
    let (number, kind, content) = (planned.number, planned.segment.kind, planned.segment.content);
    Ok(Member { number, kind, content, packed, chunks })
}

/// How many threads pack segments `from` to `to` within `memory` bytes: at least one, at most `threads`, and no more
/// than there are CPUs for this process.
pub fn threads_for(plan: &Plan, from: u32, to: u32, threads: usize, memory: u64) -> Result<usize> {
    let mut heaviest = 0;
    for planned in plan.segments(from)? {
        let planned = planned?;
        if planned.number > to || !planned.is_data() {
            break;
        }
        heaviest = heaviest.max(planned.weight);
    }
    // As much as it takes if it cannot be compressed.
    let each = heaviest + heaviest / 64 + OVERHEAD_BYTES;
    let room = usize::try_from(memory / each).unwrap_or(usize::MAX);
    Ok(threads.min(room).min(crate::cli::cpus()).max(1))
}

/// Which segment is next to be packed, and which to be told.
struct Line {
    table: Table,
    to: u32,
    next_told: u32,
    error: Option<Error>,
}

/// Pack data segments `from` to `to` with so many threads, and tell them in order; returns their digests.
///
/// After an error nothing more is told: it is the one of the lowest segment that had any.
pub fn pack_in_order(
    root: &Path,
    plan: &Plan,
    from: u32,
    to: u32,
    threads: usize,
    teller: &impl Taker,
) -> Result<Vec<blake3::Hash>> {
    let line = Mutex::new(Line { table: plan.segments(from)?, to, next_told: from, error: None });
    let (turn, digests) = (Condvar::new(), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        let mut packer = Packer::new(root, plan)?;
        while let Some(planned) = take(&line)? {
            let member = packer.pack(&planned, &mut |raw_bytes| teller.moved(raw_bytes));
            let mut own = lock(&line);
            while own.next_told != planned.number && own.error.is_none() {
                own = turn.wait(own).unwrap_or_else(PoisonError::into_inner);
            }
            if own.error.is_some() {
                return Ok(());
            }
            drop(own); // nobody else has this turn, and others may take segments meanwhile
            let told = member.and_then(|member| {
                lock(&digests).push(member.packed.digest);
                teller.tell(member)
            });
            let mut own = lock(&line);
            own.next_told += 1;
            own.error = told.err();
            turn.notify_all();
        }
        Ok(())
    };
    let run = || {
        if let Err(error) = work() {
            lock(&line).error.get_or_insert(error);
            turn.notify_all();
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(run);
        }
        run();
    });
    match line.into_inner().unwrap_or_else(PoisonError::into_inner).error {
        Some(error) => Err(error),
        None => Ok(digests.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// The next segment that nobody has.
fn take(line: &Mutex<Line>) -> Result<Option<Planned>> {
    let mut own = lock(line);
    if own.error.is_some() {
        return Ok(None);
    }
    let planned = own.table.next().transpose()?;
    Ok(planned.filter(|planned| planned.is_data() && planned.number <= own.to))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flush(output: &mut impl Write) -> Result<()> {
    output.flush().map_err(|error| Error::new(Code::MoverFailed, format!("the pipe to the mover: {error}")))
}

#[cfg(test)]
pub(crate) mod tests;
