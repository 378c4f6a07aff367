//! Frames of progress where a step reads no frames itself: not too many, and errors that wait for the end.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::Result;
use crate::frames::write_frame;

const EVERY: Duration = Duration::from_millis(500);

/// Tells the parent now and then that a step gets on.
pub struct Teller<W> {
    output: W,
    told: Instant,
    outcome: Result<()>,
}

impl<W: Write> Teller<W> {
    /// To `output`.
    pub fn new(output: W) -> Self {
        Self { output, told: Instant::now(), outcome: Ok(()) }
    }

    /// So far it got.
    pub fn progress(&mut self, count: u64) {
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            if self.outcome.is_ok() {
                self.outcome = write_frame(&mut self.output, json!({ "progress": count }), b"");
            }
        }
    }

    /// Whether all of it was told.
    pub fn finish(self) -> Result<()> {
        self.outcome
    }
}
