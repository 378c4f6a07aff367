//! `foreign`: a stranger's `tar.gz` from standard input into an empty directory.

use std::cell::Cell;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lexopt::Arg::Long;
use lexopt::ValueExt as _;
use serde_json::{json, Value};

use crate::cli::{required, settle};
use crate::entry::Content;
use crate::error::{Code, Error, Result};
use crate::foreign::{restore, Limits};
use crate::frames::{read_frame, write_frame};
use crate::parent::Input;

const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Reads `{"data": 0}` with payloads, then `{"close": 0}`; tells `progress` in stored bytes, and at last the `report`.
pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let (mut root, mut spool, mut limits) = (None, None, Limits::default());
    while let Some(arg) = args.next()? {
        match arg {
            Long("root") => root = Some(PathBuf::from(args.value()?)),
            Long("spool") => spool = Some(PathBuf::from(args.value()?)),
            Long("max-bytes") => limits.max_bytes = Some(args.value()?.parse()?),
            Long("max-entries") => limits.max_entries = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let (root, spool) = (required(root, "root")?, required(spool, "spool")?);
    settle(&[], &[&root, &spool], Input::Frames)?;
    read_stored(|chunks, tell| {
        let report = restore(&root, &spool, limits, chunks, tell)?;
        let left_out = Content::default().text(); // nobody compares with a stranger's archive
        Ok(json!({"files": report.files, "bytes": report.bytes, "skipped": report.skipped, "left_out": left_out}))
    })
}

/// Do `work` with the stored bytes from standard input, and tell the report that it makes. It gets what gives the next
/// bytes, and what tells now and then how many came.
pub(super) fn read_stored(
    work: impl FnOnce(&mut dyn FnMut() -> Result<Option<Vec<u8>>>, &mut dyn FnMut() -> Result<()>) -> Result<Value>,
) -> Result<()> {
    let mut source = Stored::new(io::stdin().lock());
    let stored = Cell::new(0);
    let told = Cell::new(Instant::now());
    let tell = || -> Result<()> {
        if told.get().elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        told.set(Instant::now());
        write_frame(&mut io::stdout().lock(), json!({"progress": stored.get()}), b"")
    };
    let mut chunks = || {
        let chunk = source.next()?;
        stored.set(source.bytes);
        tell()?; // within a large file nothing else does
        Ok(chunk)
    };
    let report = work(&mut chunks, &mut { tell })?;
    write_frame(&mut io::stdout().lock(), json!({"report": report}), b"")
}

/// The stored bytes that come in frames.
struct Stored<R> {
    input: R,
    bytes: u64,
    has_ended: bool,
}

impl<R: BufRead> Stored<R> {
    fn new(input: R) -> Self {
        Self { input, bytes: 0, has_ended: false }
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.has_ended {
            return Ok(None);
        }
        let broken = |what: &str| Error::new(Code::InvalidInput, what);
        let frame = read_frame(&mut self.input)?.ok_or_else(|| broken("the input ends within the archive"))?;
        if frame.line.get("data") == Some(&json!(0)) {
            self.bytes += frame.payload.len() as u64;
            return Ok(Some(frame.payload));
        }
        if frame.line.get("close") == Some(&json!(0)) {
            self.has_ended = true;
            return Ok(None);
        }
        Err(broken("a frame that says neither data nor close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(input: &[u8]) -> Result<Vec<u8>> {
        let mut stored = Stored::new(input);
        let mut all = Vec::new();
        while let Some(chunk) = stored.next()? {
            all.extend(chunk);
        }
        assert!(stored.next()?.is_none());
        Ok(all)
    }

    #[test]
    fn an_archive_comes_in_frames() {
        let whole = b"{\"data\":0,\"bytes\":2}\nab{\"data\":0}\n{\"data\":0,\"bytes\":1}\nc{\"close\":0}\nbehind";
        assert_eq!(bytes_of(whole).unwrap(), b"abc");
        for bad in [&b""[..], b"{\"data\":0}\n", b"{\"data\":1}\n", b"{\"close\":1}\n", b"{\"open\":{}}\n"] {
            assert_eq!(bytes_of(bad).unwrap_err().code, Code::InvalidInput);
        }
    }
}
