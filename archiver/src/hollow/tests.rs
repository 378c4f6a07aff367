//! The bytes are right, and the holes are exactly the long runs of zeros.

use std::fs::File;
use std::io::Read as _;

use proptest::prelude::*;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::*;

const KIB: usize = 1 << 10;
const HOLE: usize = MIN_HOLE_BYTES as usize;
const BLOCK: usize = PAGE as usize;

/// Written in pieces of those lengths again and again, read and compared; then its holes, as the kernel knows them.
fn hollow(content: &[u8], lengths: &[usize]) -> Vec<(u64, u64)> {
    let mut file = HollowFile::new(tempfile::tempfile().unwrap());
    let (mut rest, mut lengths) = (content, lengths.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
        file.write(piece).unwrap();
        rest = after;
    }
    file.finish().unwrap();
    let mut read = Vec::new();
    let mut inner: &File = file.file();
    rustix::fs::seek(inner, SeekFrom::Start(0)).unwrap();
    inner.read_to_end(&mut read).unwrap();
    assert!(read == content, "other bytes came back");
    holes_of(inner, content.len() as u64)
}

/// All of them, of whatever length.
fn holes_of(file: &File, size: u64) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let start = rustix::fs::seek(file, SeekFrom::Hole(at)).unwrap();
        if start >= size {
            break;
        }
        at = match rustix::fs::seek(file, SeekFrom::Data(start)) {
            Err(Errno::NXIO) => size, // no data behind it
            outcome => outcome.unwrap(),
        };
        found.push((start, at - start));
    }
    found
}

/// Whole blocks of zeros, one behind the other, of 64 KiB at least; the last block may be cut off.
fn long_runs(content: &[u8]) -> Vec<(u64, u64)> {
    let (mut found, mut start) = (Vec::new(), None);
    let mut end_run = |start: &mut Option<usize>, at: usize| {
        if let Some(from) = start.take().filter(|from| at - from >= HOLE) {
            found.push((from as u64, (at - from) as u64));
        }
    };
    for at in (0..content.len()).step_by(BLOCK) {
        let block = &content[at..content.len().min(at + BLOCK)];
        if block.iter().any(|byte| *byte != 0) {
            end_run(&mut start, at);
        } else {
            start = start.or(Some(at));
        }
    }
    end_run(&mut start, content.len());
    found
}

fn lengths() -> impl Strategy<Value = usize> {
    let edges = [1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 60 * KIB, HOLE - 1, HOLE, HOLE + 1, 300 * KIB];
    prop_oneof![proptest::sample::select(edges.to_vec()), 1..150 * KIB]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the content is cut into pieces: none more, none less, none shorter.
    #[test]
    fn holes_are_the_long_runs_of_zeros(
        runs in proptest::collection::vec((proptest::sample::select(vec!["\0", "\0", "x", "\0x", "x\0"]), lengths()), 0..8),
        cuts in proptest::collection::vec(lengths(), 1..4),
    ) {
        let content: Vec<u8> =
            runs.iter().flat_map(|(pattern, length)| pattern.bytes().cycle().take(*length)).collect();
        let cuts: Vec<_> = cuts.iter().map(|cut| (*cut).max(content.len() / 500)).collect();
        prop_assert_eq!(hollow(&content, &cuts), long_runs(&content));
    }
}

#[test]
fn only_whole_blocks_count() {
    let content = [&[b'x'; 100][..], &vec![0; HOLE], &[b'x'; 100]].concat();
    assert_eq!(hollow(&content, &[100, HOLE]), []);
}

#[test]
fn zeros_up_to_a_block_less_than_64_kib_are_written() {
    // They take their space: no file becomes a sieve.
    let around = |zeros: usize| [&[b'x'; BLOCK][..], &vec![0; zeros], b"x"].concat();
    assert_eq!(hollow(&around(HOLE - BLOCK), &[256 * KIB]), []);
    assert_eq!(hollow(&around(HOLE), &[256 * KIB]), [(PAGE, MIN_HOLE_BYTES)]);
}

#[test]
fn an_empty_file_and_one_of_zeros_get_their_length() {
    assert_eq!(hollow(b"", &[1]), []);
    assert_eq!(hollow(&[0; 5], &[2]), []);
    assert_eq!(hollow(&vec![0; HOLE + 5], &[7000]), [(0, MIN_HOLE_BYTES + 5)]);
}
