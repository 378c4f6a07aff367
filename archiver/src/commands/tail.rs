//! `tail`: the data segments that are left, the second walk, and the tail with its statement.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use lexopt::{Arg::Long, ValueExt as _};
use serde_json::Value;

use super::pack::{pack_batch, Batch};
use crate::changes::find_change;
use crate::cli::{required, settle, wrong};
use crate::error::{Code, Error, Result};
use crate::frames::read_frame;
use crate::mounts;
use crate::pack::{Taker, Teller};
use crate::parent::Input;
use crate::plan::Plan;
use crate::tail::pack_tail;
use crate::walk::{change_fingerprint, WalkOptions};

const DIGEST_BYTES: usize = 32;
/// Of one thread with a segment of 4 MiB, where nobody says more.
const MEMORY: u64 = 8 << 20;

pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let (mut root, mut plan, mut from, mut change) = (None, None, None, None);
    let (mut threads, mut memory) = (1, MEMORY);
    while let Some(arg) = args.next()? {
        match arg {
            Long("root") => root = Some(PathBuf::from(args.value()?)),
            Long("plan") => plan = Some(PathBuf::from(args.value()?)),
            Long("from") => from = Some(args.value()?.parse()?),
            Long("change-fingerprint") => change = Some(args.value()?.string()?),
            Long("threads") => threads = args.value()?.parse()?,
            Long("memory") => memory = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let (root, plan) = (required(root, "root")?, required(plan, "plan")?);
    let (from, change) = (required(from, "from")?, required(change, "change-fingerprint")?);
    if from == 0 {
        return Err(wrong("segments count from 1"));
    }
    mounts::keep_open()?;
    settle(&[&root, &plan], &[], Input::Frames)?;
    let batch = Batch { from, to: None, threads, memory };
    answer(&root, &plan, &batch, &change, &mut std::io::stdin().lock(), std::io::stdout())
}

fn answer(
    root: &Path,
    plan: &Path,
    batch: &Batch,
    change: &str,
    input: &mut impl BufRead,
    output: impl Write + Send,
) -> Result<()> {
    let plan = Plan::open(plan)?;
    let (origin, digests) = read_origin(input)?;
    if digests.len() + 1 != batch.from as usize {
        let message = format!("{} digests of the segments before {}", digests.len(), batch.from);
        return Err(Error::new(Code::InvalidInput, message));
    }
    pack_rest(root, &plan, batch, change, &origin, digests, &Teller::new(output))
}

/// The data segments from `batch.from` on, the second walk, and the tail. `digests`: of the segments before.
pub(crate) fn pack_rest(
    root: &Path,
    plan: &Plan,
    batch: &Batch,
    change: &str,
    origin: &Value,
    mut digests: Vec<blake3::Hash>,
    teller: &impl Taker,
) -> Result<()> {
    digests.extend(pack_batch(root, plan, batch, teller)?);
    // After the last byte of data was read, in this same process, and before anything says that the archive is whole.
    let mut progress = |_| teller.moved(0);
    if change_fingerprint(root, WalkOptions::default(), &mut progress)? != change {
        return Err(find_change(root, plan, &mut progress));
    }
    pack_tail(plan, origin, &digests, teller)
}

/// A line with `origin` and how many `digests` there are, then these as payloads.
fn read_origin(input: &mut impl BufRead) -> Result<(Value, Vec<blake3::Hash>)> {
    let invalid = |what: &str| Error::new(Code::InvalidInput, what);
    let mut frame = read_frame(input)?.ok_or_else(|| invalid("the origin is missing"))?;
    let count = frame.line.get("digests").and_then(Value::as_u64).ok_or_else(|| invalid("how many digests?"))?;
    let origin = frame.line.get_mut("origin").filter(|origin| origin.is_object()).map(Value::take);
    let origin = origin.ok_or_else(|| invalid("the origin is missing"))?;
    let wanted = usize::try_from(count).ok().and_then(|count| count.checked_mul(DIGEST_BYTES));
    let wanted = wanted.ok_or_else(|| invalid("an impossible number of digests"))?;
    let mut bytes = frame.payload;
    while bytes.len() < wanted {
        let frame = read_frame(input)?.ok_or_else(|| invalid("digests are missing"))?;
        if frame.payload.is_empty() {
            return Err(invalid("digests are missing"));
        }
        bytes.extend_from_slice(&frame.payload);
    }
    if bytes.len() > wanted {
        return Err(invalid("more digests than announced"));
    }
    let digests = bytes.chunks_exact(DIGEST_BYTES).filter_map(|digest| blake3::Hash::from_slice(digest).ok());
    Ok((origin, digests.collect()))
}

#[cfg(test)]
mod tests;
