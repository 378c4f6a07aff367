//! The steps, one file each: they read their options, put up the walls, and call what does the work.

pub mod check_foreign;
pub mod compare;
pub mod differences;
pub mod directories;
pub mod fingerprint;
pub mod finish;
pub mod foreign;
pub mod pack;
pub mod plan;
pub mod probe;
pub mod rebuild;
pub mod tail;
pub mod unpack;
pub mod verify;

use crate::error::Result;

/// A step, as the command line knows it. `options` is its line of the help.
pub struct Command {
    pub name: &'static str,
    pub options: &'static str,
    pub run: fn(lexopt::Parser) -> Result<()>,
}

/// All of them.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "directories",
        options: "--root DIR --name NAME [--need-bytes N] [--need-inodes N] [--need-directories N] < tail",
        run: directories::run,
    },
    Command { name: "unpack", options: "--root DIR [--threads N] [--abilities JSON] < segments", run: unpack::run },
    Command { name: "finish", options: "--root DIR [--abilities JSON] < first pieces, tail", run: finish::run },
    Command { name: "compare", options: "--root DIR [--abilities JSON]", run: compare::run },
    Command { name: "differences", options: "--root DIR [--abilities JSON] < segments", run: differences::run },
    Command { name: "verify", options: "--threads N < frames: the segments of an archive", run: verify::run },
    Command { name: "rebuild", options: "< frames: a whole archive whose manifest was lost", run: rebuild::run },
    Command {
        name: "plan",
        options: "--root DIR --out DIR [--segment-bytes N --max-segment-bytes N --max-segments N --large-from N --allow-devices]",
        run: plan::run,
    },
    Command {
        name: "pack",
        options: "--root DIR --plan DIR --from N [--to M] --threads T --memory BYTES",
        run: pack::run,
    },
    Command {
        name: "tail",
        options: "--root DIR --plan DIR --from N --change-fingerprint TEXT [--threads T --memory BYTES]",
        run: tail::run,
    },
    Command {
        name: "foreign",
        options: "--root DIR --spool DIR [--max-bytes N --max-entries N] < frames: a tar.gz of others",
        run: foreign::run,
    },
    Command {
        name: "check-foreign",
        options: "< frames: a tar.gz of others, read and not restored",
        run: check_foreign::run,
    },
    Command { name: "fingerprint", options: "--root DIR < held files", run: fingerprint::run },
    Command { name: "probe", options: "[--root DIR]", run: probe::run },
];
