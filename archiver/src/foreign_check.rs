//! Read a `tar.gz` that we did not make to its end, and write nothing.
//!
//! It shows that the stream is complete and well formed, with the reader that `foreign` restores by. What only a tree
//! tells (a hard link that leads nowhere) is not looked at, and nothing is bounded: no byte is kept.

use crate::entry::Kind;
use crate::error::{Code, Result};
use crate::foreign_stream::{Bound, TarStream};
use crate::tar::dialects::{corrupt, Members};
use crate::tar::padding_of;

const NO_BOUND: Bound = Bound { limit: u64::MAX, code: Code::ArchiveTooLarge };

/// Files of the archive, and bytes of their content with holes.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    pub files: u64,
    pub bytes: u64,
}

/// Read the stored bytes that `chunks` gives. `progress` is called now and then. Errors: as `foreign::restore` has them
/// for the archive itself.
pub fn check(
    chunks: impl FnMut() -> Result<Option<Vec<u8>>>,
    progress: &mut dyn FnMut() -> Result<()>,
) -> Result<Found> {
    let mut stream = TarStream::new(chunks, NO_BOUND);
    let (mut members, mut found) = (Members::default(), Found::default());
    while let Some(member) = members.next(&mut stream)? {
        let entry = member.entry;
        if entry.path.is_empty() && entry.kind != Kind::Directory {
            return Err(corrupt("the archive's root is no directory"));
        }
        if entry.kind == Kind::File {
            found.files += 1;
            // A stranger may call a hole as large as he likes.
            found.bytes = found.bytes.saturating_add(entry.size);
        }
        stream.pass(member.stored, &mut |_| progress())?;
        stream.skip(padding_of(member.stored))?;
        progress()?;
    }
    stream.end()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strangers::{file, gzip, header, node, pax, END};

    fn check_stored(stored: &[u8], step: usize) -> Result<Found> {
        let mut pieces = stored.chunks(step).map(<[u8]>::to_vec);
        check(|| Ok(pieces.next()), &mut || Ok(()))
    }

    fn check_blocks(blocks: &[Vec<u8>]) -> Result<Found> {
        check_stored(&gzip(&[&blocks.concat()[..], &END].concat()), 10_000)
    }

    fn directory(name: &str) -> Vec<u8> {
        header(name, b'5').block()
    }

    #[test]
    fn files_and_their_bytes_are_counted() {
        let link = node("b", b'2', "a/f");
        let hard_link = node("c", b'1', "a/f");
        let archive = [directory("a/"), file("a/f", &[7; 1000]), file("empty", b""), link, hard_link];
        assert_eq!(check_blocks(&archive).unwrap(), Found { files: 2, bytes: 1000 });
        assert_eq!(check_blocks(&[]).unwrap(), Found::default());
    }

    #[test]
    fn more_than_any_disk_is_only_counted() {
        let zeros = vec![0; 64 << 20];
        assert_eq!(check_blocks(&[file("f", &zeros)]).unwrap(), Found { files: 1, bytes: 64 << 20 });
    }

    #[test]
    fn holes_beyond_all_numbers_are_an_answer() {
        let mut blocks = Vec::new();
        for number in 0..6 {
            let (name, size) = (format!("f{number}"), 1u64 << 62);
            let size = size.to_string();
            blocks.push(pax(&[("GNU.sparse.map", &b"0,0"[..]), ("GNU.sparse.size", size.as_bytes())]));
            blocks.push(file(&name, b""));
        }
        assert_eq!(check_blocks(&blocks).unwrap(), Found { files: 6, bytes: u64::MAX });
    }

    #[test]
    fn what_is_not_whole_or_not_well_formed_is_corrupt() {
        let raw = [&file("f", b"some text")[..], &END].concat();
        let stored = gzip(&raw);
        assert!(check_stored(&stored, 7).is_ok());
        for length in [0, 1, stored.len() / 2, stored.len() - 1] {
            assert_eq!(check_stored(&stored[..length], 10).unwrap_err().code, Code::ArchiveCorrupt, "{length}");
        }
        let mut forged = stored.clone();
        let at = stored.len() - 6; // the length
        forged[at] ^= 1;
        let without_end = gzip(&file("f", b"some text"));
        let trailing = [&stored[..], b"more"].concat();
        let second = gzip(&[&raw[..], &raw].concat());
        for stored in [forged, without_end, trailing, second, b"no gzip".to_vec()] {
            assert_eq!(check_stored(&stored, 1000).unwrap_err().code, Code::ArchiveCorrupt);
        }
        for blocks in [file("../f", b""), file("/f", b""), node("./", b'2', "x"), file(".", b"")] {
            assert_eq!(check_blocks(&[blocks]).unwrap_err().code, Code::ArchiveCorrupt);
        }
        assert_eq!(check_blocks(&[header("f", b'?').block()]).unwrap_err().code, Code::Unsupported);
    }

    #[test]
    fn it_tells_that_it_gets_on_and_ends_when_nobody_listens() {
        let stored = gzip(&[&file("f", &vec![1; 1 << 20])[..], &END].concat());
        let mut told = 0;
        let mut pieces = stored.chunks(500).map(<[u8]>::to_vec);
        check(|| Ok(pieces.next()), &mut || {
            told += 1;
            Ok(())
        })
        .unwrap();
        assert!(told > 10);
        let mut pieces = stored.chunks(500).map(<[u8]>::to_vec);
        let error = check(|| Ok(pieces.next()), &mut || Err(crate::error::Error::new(Code::MoverFailed, "gone")));
        assert_eq!(error.unwrap_err().message, "gone");
    }
}
