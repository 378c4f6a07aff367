//! Tar streams: our dialect of POSIX pax, as GNU tar 1.34 writes it.
//!
//! Extended attributes stand in `SCHILY.xattr.NAME` records with their binary value, ACLs among them
//! (`SCHILY.xattr.system.posix_acl_access`): GNU tar's textual `SCHILY.acl.*` holds user *names* even under
//! `--numeric-owner`, so it would mean another user on another machine.

pub mod dialects;
pub mod fields;
pub mod read;
pub mod write;

/// Bytes of which a tar stream is made.
pub const BLOCK: u64 = 512;
/// Two blocks of zeros.
pub const END_OF_ARCHIVE: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];
/// Of the extended headers of one entry: a path, a link target and all attributes of one file (each at most 64 KiB).
pub const MAX_EXTENSION_BYTES: u64 = 4 << 20;
/// Of the records that carry extended attributes.
pub const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Of the name field of a header.
const NAME_BYTES: usize = 100;
/// The type flag of an extended header.
const EXTENSION: u8 = b'x';

/// How many bytes fill up the last block of a file of `size` bytes.
pub const fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}
