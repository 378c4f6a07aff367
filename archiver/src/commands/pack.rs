//! `pack`: data segments, in order.

use std::io::Write;
use std::path::{Path, PathBuf};

use lexopt::{Arg::Long, ValueExt as _};

use crate::cli::{required, settle, wrong};
use crate::error::{Code, Error, Result};
use crate::pack::{pack_in_order, threads_for, Taker, Teller};
use crate::parent::Input;
use crate::plan::Plan;

/// Which segments, and by what means.
pub struct Batch {
    pub from: u32,
    /// Default: all with data.
    pub to: Option<u32>,
    pub threads: usize,
    pub memory: u64,
}

pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let (mut root, mut plan, mut from, mut to) = (None, None, None, None);
    let (mut threads, mut memory) = (None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Long("root") => root = Some(PathBuf::from(args.value()?)),
            Long("plan") => plan = Some(PathBuf::from(args.value()?)),
            Long("from") => from = Some(args.value()?.parse()?),
            Long("to") => to = Some(args.value()?.parse()?),
            Long("threads") => threads = Some(args.value()?.parse()?),
            Long("memory") => memory = Some(args.value()?.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let (root, plan) = (required(root, "root")?, required(plan, "plan")?);
    let (from, threads, memory) = (required(from, "from")?, required(threads, "threads")?, required(memory, "memory")?);
    if from == 0 {
        return Err(wrong("segments count from 1"));
    }
    settle(&[&root, &plan], &[], Input::None)?;
    answer(&root, &plan, &Batch { from, to, threads, memory }, std::io::stdout())
}

fn answer(root: &Path, plan: &Path, batch: &Batch, output: impl Write + Send) -> Result<()> {
    let plan = Plan::open(plan)?;
    pack_batch(root, &plan, batch, &Teller::new(output)).map(drop)
}

/// Pack and tell a batch; returns the digests of its segments.
pub fn pack_batch(root: &Path, plan: &Plan, batch: &Batch, teller: &impl Taker) -> Result<Vec<blake3::Hash>> {
    let last = plan.summary.data_segments as u32;
    let to = batch.to.unwrap_or(last);
    if batch.from == 0 || to > last || batch.from > to.saturating_add(1) {
        let message = format!("segments {} to {to} of {last} with data", batch.from);
        return Err(Error::new(Code::InvalidInput, message));
    }
    let threads = threads_for(plan, batch.from, to, batch.threads, batch.memory)?;
    pack_in_order(root, plan, batch.from, to, threads, teller)
}
