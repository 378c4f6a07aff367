//! Frames of several segments at once, each to a thread of its own.
//!
//! The calling thread reads frames and hands them to lanes. A lane is a thread with at most one open segment and a
//! short queue. The tool says how many segments may be opened (`want`), and the parent opens no more: so each open
//! segment has a taker, and a full queue waits for the work of its own lane alone. In whatever order the frames of
//! open segments come, the reader gets on.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{json, Map, Value};

use crate::cli;
use crate::error::{Code, Error, Result};
use crate::frames::{read_frame, write_frame, Frame};
use crate::segment::Segment;

/// Payloads that wait for a lane; beyond them the reader waits, and with it the parent.
const QUEUE: usize = 4;
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What is done with the stored bytes of segments, one segment after the other.
///
/// Each call may fail; the first failure ends the process.
pub trait Lane: Send {
    /// A segment begins.
    fn open(&mut self, number: u32, segment: Segment, is_last: bool) -> Result<()>;
    /// Its next stored bytes.
    fn data(&mut self, payload: &[u8]) -> Result<()>;
    /// All of it came. The fields of `done`, or `Null` for no such frame.
    fn close(&mut self) -> Result<Value>;
}

/// Run `threads` lanes until the input ends with no segment open. `make` is called once in each thread.
///
/// An error in any thread ends the *process* at once: the reader may hang in a read that only the parent can end.
pub fn run_lanes(
    input: impl BufRead,
    output: impl Write + Send,
    threads: usize,
    make: impl Fn() -> Result<Box<dyn Lane>> + Sync,
) -> Result<()> {
    run_lanes_or(input, output, threads, make, &|error| cli::end_with(error))
}

/// Run one lane in this thread, until the input ends. Number 0 is a stream without a segment: open from the start, once.
pub fn run_in_order(mut input: impl BufRead, output: impl Write, lane: &mut dyn Lane) -> Result<()> {
    let speech = Speech::new(output);
    speech.say(&[json!({"want": 1})])?;
    let mut open = None;
    let mut stream_ended = false;
    while let Some(frame) = read_frame(&mut input)? {
        match Instruction::of(frame)? {
            Instruction::Open(number, segment, is_last) => {
                if open.is_some() || number == 0 {
                    return Err(not_asked_for(number));
                }
                open = Some(number);
                lane.open(number, *segment, is_last)?;
            }
            Instruction::Data(number, payload) => {
                if open.is_none() && number == 0 && !stream_ended {
                    open = Some(0);
                }
                demand(open == Some(number), number)?;
                lane.data(&payload)?;
                speech.taken(payload.len())?;
            }
            Instruction::Close(number) => {
                demand(open == Some(number) || (number == 0 && open.is_none() && !stream_ended), number)?;
                open = None;
                stream_ended |= number == 0;
                speech.done(number, &lane.close()?)?;
            }
        }
    }
    open.map_or(Ok(()), |number| Err(ends_within(number)))
}

enum Instruction {
    Open(u32, Box<Segment>, bool),
    Data(u32, Vec<u8>),
    Close(u32),
}

impl Instruction {
    fn of(frame: Frame) -> Result<Self> {
        let Frame { mut line, payload } = frame;
        let number_of = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        if let Some(number) = line.get("data").and_then(number_of) {
            return Ok(Self::Data(number, payload));
        }
        if let Some(number) = line.get("close").and_then(number_of) {
            return Ok(Self::Close(number));
        }
        let mut open = line.get_mut("open").map(Value::take).unwrap_or_default();
        let number = open.get("number").and_then(number_of);
        let (Some(number), Some(segment)) = (number, open.get_mut("segment").map(Value::take)) else {
            return Err(invalid("a frame that says neither open nor data nor close"));
        };
        let segment = serde_json::from_value(segment)
            .map_err(|error| invalid(format!("segment {number} is none: {error}")).detail("segment", number))?;
        Ok(Self::Open(number, segment, open.get("is_last").and_then(Value::as_bool).unwrap_or(false)))
    }
}

/// Frames to the parent, whole, from any thread.
struct Speech<W> {
    output: Mutex<W>,
    taken: AtomicU64,
    told: Mutex<Instant>,
}

impl<W: Write> Speech<W> {
    fn new(output: W) -> Self {
        Self { output: Mutex::new(output), taken: AtomicU64::new(0), told: Mutex::new(Instant::now()) }
    }

    fn say(&self, lines: &[Value]) -> Result<()> {
        let mut output = lock(&self.output);
        for line in lines {
            write_frame(&mut *output, line.clone(), b"")?;
        }
        output.flush().map_err(|error| Error::new(Code::MoverFailed, format!("the pipe to the mover: {error}")))
    }

    /// Stored bytes were worked on: now and then this is told.
    fn taken(&self, bytes: usize) -> Result<()> {
        let sum = self.taken.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        {
            let mut told = lock(&self.told);
            if told.elapsed() < PROGRESS_EVERY {
                return Ok(());
            }
            *told = Instant::now();
        }
        self.say(&[json!({"progress": sum})])
    }

    fn done(&self, number: u32, fields: &Value) -> Result<()> {
        let mut lines = Vec::new();
        if !fields.is_null() {
            let mut done = Map::from_iter([("number".to_owned(), number.into())]);
            done.extend(fields.as_object().cloned().unwrap_or_default());
            lines.push(json!({"done": done}));
        }
        if number > 0 {
            lines.push(json!({"want": 1})); // a stream without a segment comes once
        }
        self.say(&lines)
    }
}

enum Message {
    Open(u32, Box<Segment>, bool),
    Data(Vec<u8>),
    Close,
}

/// As `run_lanes`; `at_failure` gets the first error. Where it comes back, it has to see to it that the input ends.
fn run_lanes_or(
    mut input: impl BufRead,
    output: impl Write + Send,
    threads: usize,
    make: impl Fn() -> Result<Box<dyn Lane>> + Sync,
    at_failure: &(dyn Fn(&Error) + Sync),
) -> Result<()> {
    let threads = threads.max(1);
    let speech = Speech::new(output);
    let free = Mutex::new((0..threads).collect::<Vec<_>>());
    let first = Mutex::new(None);
    // Under the lock: a second failure waits here until the process has ended with the first.
    let fail = |error: Error| {
        let mut first = lock(&first);
        if first.is_none() {
            at_failure(first.insert(error));
        }
    };
    thread::scope(|scope| {
        let mut queues = Vec::with_capacity(threads);
        for index in 0..threads {
            let (queue, messages) = sync_channel(QUEUE);
            let (speech, free, make, fail) = (&speech, &free, &make, &fail);
            let work = move || {
                if let Err(error) = work(index, &messages, speech, free, make) {
                    fail(error);
                }
            };
            if let Err(error) = thread::Builder::new().name(format!("lane {index}")).spawn_scoped(scope, work) {
                return fail(Error::new(Code::MoverFailed, format!("no thread can be started: {error}")));
            }
            queues.push(queue);
        }
        if let Err(error) = speech.say(&[json!({"want": threads})]).and_then(|()| route(&mut input, &queues, &free)) {
            fail(error);
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Hand each frame to the lane of its segment.
fn route(input: &mut impl BufRead, queues: &[SyncSender<Message>], free: &Mutex<Vec<usize>>) -> Result<()> {
    let mut open = HashMap::new();
    let send = |lane: usize, message| {
        // Only a lane that has failed is gone, and its error came first.
        queues[lane].send(message).map_err(|_| Error::new(Code::MoverFailed, "a thread has ended"))
    };
    while let Some(frame) = read_frame(input)? {
        match Instruction::of(frame)? {
            Instruction::Open(number, segment, is_last) => {
                if open.contains_key(&number) {
                    return Err(not_asked_for(number));
                }
                let lane = lock(free).pop().ok_or_else(|| not_asked_for(number))?;
                open.insert(number, lane);
                send(lane, Message::Open(number, segment, is_last))?;
            }
            Instruction::Data(number, payload) => {
                let lane = *open.get(&number).ok_or_else(|| not_open(number))?;
                send(lane, Message::Data(payload))?;
            }
            Instruction::Close(number) => {
                let lane = open.remove(&number).ok_or_else(|| not_open(number))?;
                send(lane, Message::Close)?;
            }
        }
    }
    open.keys().min().map_or(Ok(()), |number| Err(ends_within(*number)))
}

/// One lane's life.
fn work<W: Write>(
    index: usize,
    messages: &Receiver<Message>,
    speech: &Speech<W>,
    free: &Mutex<Vec<usize>>,
    make: &(impl Fn() -> Result<Box<dyn Lane>> + Sync),
) -> Result<()> {
    let mut lane = make()?;
    let mut at = 0;
    for message in messages {
        match message {
            Message::Open(number, segment, is_last) => {
                at = number;
                lane.open(number, *segment, is_last)?;
            }
            Message::Data(payload) => {
                lane.data(&payload)?;
                speech.taken(payload.len())?;
            }
            Message::Close => {
                let fields = lane.close()?;
                // Free before it is told: what the parent opens upon `want` finds a lane.
                lock(free).push(index);
                speech.done(at, &fields)?;
            }
        }
    }
    Ok(())
}

/// A panic ends the process, so a poisoned lock is met in tests at most.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn demand(is_open: bool, number: u32) -> Result<()> {
    if is_open {
        Ok(())
    } else {
        Err(not_open(number))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidInput, message)
}

fn not_open(number: u32) -> Error {
    invalid(format!("segment {number} is not open")).detail("segment", number)
}

fn not_asked_for(number: u32) -> Error {
    invalid(format!("segment {number} was opened and not asked for")).detail("segment", number)
}

fn ends_within(number: u32) -> Error {
    invalid(format!("the input ends within segment {number}")).detail("segment", number)
}

#[cfg(test)]
mod tests;
