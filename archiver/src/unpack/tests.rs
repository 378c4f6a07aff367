//! Files and pieces come back, whatever way they are cut.

use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;
use rustix::fs::SeekFrom;

use super::*;
use crate::entry::{Kind, Time};
use crate::hostile::{data, entry, file_entry, honest, Forged};
use crate::segment::{Path64, Piece};
use crate::tar::{padding_of, write::header};

pub fn lane(root: &Path) -> Unpacker {
    let abilities = Abilities::probe(&mut Beneath::open(root).unwrap()).unwrap();
    Unpacker::new(root, abilities).unwrap()
}

pub fn unpack(lane: &mut Unpacker, forged: &Forged) -> Result<Value> {
    lane.open(1, forged.segment.clone(), false)?;
    for payload in forged.stored.chunks(999) {
        lane.data(payload)?;
    }
    lane.close()
}

fn small_piece() -> Piece {
    Piece { path: Path64(b"big".to_vec()), length: 4, file_bytes: 4, header_bytes: 512, ..Piece::default() }
}

#[test]
fn a_file_gets_everything_and_replaces_what_an_attempt_left() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), [1; 5000]).unwrap();
    std::fs::hard_link(dir.path().join("f"), dir.path().join("other")).unwrap();
    let mut lane = lane(dir.path());
    let entry = Entry {
        mode: 0o6751,
        mtime: Time { seconds: -3, nanos: 7 },
        xattrs: vec![(b"user.x".to_vec(), b"\0".to_vec())],
        ..file_entry(b"f", 3)
    };
    let done = unpack(&mut lane, &honest(&[(entry, b"abc")])).unwrap();
    assert_eq!(done["skipped"], json!({}));
    let found = std::fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime(), found.mtime_nsec(), found.size()), (0o6751, -3, 7, 3));
    assert_eq!(std::fs::read(dir.path().join("other")).unwrap(), [1; 5000]);
    assert_eq!(rustix::fs::getxattr(dir.path().join("f"), "user.x", &mut [0; 9][..]).unwrap(), 1);
}

#[test]
fn a_zero_run_in_a_small_file_is_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let content = [&[1; 4096][..], &vec![0; 200 << 10], &[2; 100]].concat();
    unpack(&mut lane(dir.path()), &honest(&[(file_entry(b"f", content.len()), &content)])).unwrap();
    assert!(std::fs::read(dir.path().join("f")).unwrap() == content);
    assert!(std::fs::metadata(dir.path().join("f")).unwrap().blocks() <= 24);
}

#[test]
fn no_file_is_written_through_a_link_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(dir.path().join("victim"), b"precious").unwrap();
    std::os::unix::fs::symlink("../victim", volume.join("f")).unwrap();
    std::os::unix::fs::symlink("..", volume.join("up")).unwrap();
    let mut lane = lane(&volume);
    unpack(&mut lane, &honest(&[(file_entry(b"f", 4), b"evil")])).unwrap();
    assert!(!volume.join("f").is_symlink());
    let error = unpack(&mut lane, &honest(&[(file_entry(b"up/victim", 4), b"evil")])).unwrap_err();
    assert_eq!(error.code, Code::ArchiveCorrupt);
    let piece = Piece { path: Path64(b"up/victim".to_vec()), ..small_piece() };
    let raw = [header(&file_entry(b"up/victim", 4), None).unwrap(), data(b"evil")].concat();
    assert_eq!(unpack(&mut lane, &Forged::piece(&raw, piece)).unwrap_err().code, Code::ArchiveCorrupt);
    assert_eq!(std::fs::read(dir.path().join("victim")).unwrap(), b"precious");
}

#[test]
fn tampered_pieces_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let of = |entry: &Entry, bytes: &[u8]| [header(entry, None).unwrap(), data(bytes)].concat();
    let big = file_entry(b"big", 4);
    let good = of(&big, b"evil");
    let link = Entry { target: b"..".to_vec(), ..entry(b"big", Kind::Symlink) };
    let head = header(&big, None).unwrap();
    let plain = |raw: &[u8]| Forged::piece(raw, small_piece());
    let stated = |change: fn(&mut Piece)| {
        let mut piece = small_piece();
        change(&mut piece);
        Forged::piece(&of(&file_entry(b"big", 4), b"evil"), piece)
    };
    let unnamed = {
        let mut forged = plain(&good);
        forged.segment.piece = None;
        forged
    };
    for (what, forged) in [
        ("other name", plain(&of(&file_entry(b"../x", 4), b"evil"))),
        ("other type", plain(&of(&link, b"evil"))),
        ("other size", plain(&of(&file_entry(b"big", 5), b"evil!"))),
        ("no header", plain(&[data(b"evil"), vec![0; 512]].concat())),
        ("header that is garbage", plain(&[vec![b'x'; 512], data(b"evil")].concat())),
        ("too long", plain(&[&good[..], &[0; 512]].concat())),
        ("too short", plain(&[&head[..], b"ev"].concat())),
        ("no padding", plain(&[&head[..], b"evil"].concat())),
        ("padding that is none", plain(&[&head[..], b"evil", &[b'x'; 508]].concat())),
        ("data in a hole", stated(|piece| piece.holes = vec![(0, 4)])),
        ("data in an endless hole", stated(|piece| piece.holes = vec![(2, i64::MAX as u64)])),
        ("header beyond the member", stated(|piece| piece.header_bytes = 1 << 40)),
        ("length beyond the file", stated(|piece| piece.length = i64::MAX as u64)),
        ("no header stated", stated(|piece| piece.header_bytes = 0)),
        ("which piece is not said", unnamed),
        ("unclean name", stated(|piece| piece.path = Path64(b"../big".to_vec()))),
    ] {
        match unpack(&mut lane(dir.path()), &forged) {
            Ok(done) => panic!("{what}: {done}"),
            Err(error) => assert_eq!(error.code, Code::ArchiveCorrupt, "{what}: {}", error.message),
        }
    }
    unpack(&mut lane(dir.path()), &plain(&good)).unwrap();
    assert_eq!(std::fs::read(dir.path().join("big")).unwrap(), b"evil");
}

#[test]
fn what_is_no_data_segment_is_wrong_input() {
    let dir = tempfile::tempdir().unwrap();
    let mut lane = lane(dir.path());
    let error = unpack(&mut lane, &crate::hostile::tail(&[])).unwrap_err();
    assert_eq!(error.code, Code::InvalidInput);
    assert_eq!(lane.data(b"x").unwrap_err().code, Code::InvalidInput);
    assert_eq!(lane.close().unwrap_err().code, Code::InvalidInput);
}

/// One file, its holes, and where it is cut: a sparse file in blocks of 512, from seeds.
#[derive(Clone, Debug)]
struct Sparse {
    /// Lengths of data and holes in turn, in units of 512; the last one of data is cut by `short`.
    runs: Vec<(usize, usize)>,
    short: usize,
    cuts: Vec<usize>,
    order: Vec<usize>,
}

fn sparse() -> impl Strategy<Value = Sparse> {
    let runs = proptest::collection::vec((0usize..60, 0usize..300), 1..6);
    let cuts = proptest::collection::vec(1usize..200, 1..5);
    let order = proptest::collection::vec(any::<usize>(), 8);
    (runs, 0usize..512, cuts, order).prop_map(|(runs, short, cuts, order)| Sparse { runs, short, cuts, order })
}

/// The pieces of a file as a writer makes them.
fn pieces(path: &[u8], content: &[u8], holes: &[(u64, u64)], cuts: &[usize]) -> Vec<Forged> {
    let (mut at, mut made, mut cuts) = (0, Vec::new(), cuts.iter().cycle());
    let size = content.len() as u64;
    while at < content.len() || made.is_empty() {
        let end = content.len().min(at + 512 * cuts.next().unwrap());
        let mut raw = if at == 0 { header(&file_entry(path, content.len()), None).unwrap() } else { Vec::new() };
        let header_bytes = raw.len() as u64;
        raw.extend(&content[at..end]);
        if end == content.len() {
            raw.extend(vec![0; padding_of(size) as usize]);
        }
        let (from, to) = (at as u64, end as u64);
        let within = holes.iter().map(|(start, length)| ((*start).max(from), (start + length).min(to)));
        let holes = within.filter(|(start, end)| start < end).map(|(start, end)| (start, end - start)).collect();
        let path = Path64(path.to_vec());
        let piece = Piece { path, offset: from, length: to - from, file_bytes: size, header_bytes, holes };
        made.push(Forged::piece(&raw, piece));
        at = end;
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// In whatever order the pieces come, also twice: bytes and holes are those of the original.
    #[test]
    fn pieces_and_holes_come_back(sparse in sparse()) {
        let (mut content, mut holes) = (Vec::new(), Vec::new());
        for (data, hole) in &sparse.runs {
            content.extend(std::iter::repeat_n(b"some data ", data * 52).flatten().take(data * 512));
            if *hole > 0 {
                holes.push((content.len() as u64, *hole as u64 * 512));
                content.extend(vec![0; hole * 512]);
            }
        }
        content.extend(vec![b'z'; sparse.short]);
        let dir = tempfile::tempdir().unwrap();
        let mut lane = lane(dir.path());
        let forged = pieces(b"big", &content, &holes, &sparse.cuts);
        let mut order: Vec<_> = (0..forged.len()).collect();
        order.sort_by_key(|at| sparse.order[at % 8]);
        order.push(order[0]);
        for at in order {
            unpack(&mut lane, &forged[at]).unwrap();
        }
        let file = std::fs::File::open(dir.path().join("big")).unwrap();
        prop_assert!(std::fs::read(dir.path().join("big")).unwrap() == content);
        for (start, length) in holes {
            // Whole blocks of 4 KiB within a hole take no space.
            let first = start.next_multiple_of(4096);
            let last = (start + length) / 4096 * 4096;
            if first < last {
                prop_assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(first)).unwrap(), first);
                let next = rustix::fs::seek(&file, SeekFrom::Data(first)).unwrap_or(u64::MAX);
                prop_assert!(next >= last);
            }
        }
    }
}
