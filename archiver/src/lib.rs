//! The data plane of codehub-storage: from a volume into segments of a `tar.gz`, and back.
//!
//! One process does one step. It is told what to do by its command line and standard input, and answers on standard
//! output (`frames`). It knows nothing of stores, records or order of steps: who calls decides. For a person without the
//! service there is `own_use`.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod down;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod strangers;
mod sys;
#[cfg(test)]
mod trees;

pub mod abilities;
pub mod archive_file;
pub mod beneath;
pub mod changes;
pub mod cli;
pub mod commands;
pub mod crc64;
pub mod deflate;
pub mod differences;
pub mod entry;
pub mod error;
pub mod foreign;
pub mod foreign_check;
pub mod foreign_stream;
pub mod frames;
pub mod gate;
pub mod gzip;
pub mod header;
pub mod hollow;
pub mod intake;
pub mod lanes;
pub mod links;
pub mod look;
pub mod metadata;
pub mod mounts;
pub mod own_use;
pub mod pack;
pub mod parent;
pub mod piece;
pub mod plan;
pub mod reading;
pub mod rebuild;
pub mod sandbox;
pub mod segment;
pub mod sparse;
pub mod statement;
pub mod tail;
pub mod tailreader;
pub mod tar;
pub mod teller;
pub mod unpack;
pub mod verify;
pub mod volume;
pub mod walk;
