use proptest::prelude::*;

use super::*;
use crate::archives::{make, Made, Part};
use crate::frames::read_frame;
use crate::lanes::run_in_order;
use crate::verify::SegmentCheck;

fn rebuild(stored: &[u8], step: usize) -> Result<(Vec<Segment>, Rebuilt)> {
    let (mut rebuild, mut segments) = (Rebuild::default(), Vec::new());
    for block in stored.chunks(step) {
        rebuild.feed(block, &mut |segment| {
            segments.push(segment);
            Ok(())
        })?;
    }
    Ok((segments, rebuild.finish()?))
}

/// As the parent checks the order of a manifest: ranges of runs do not overlap, pieces follow one another.
fn check_order(segments: &[Segment]) {
    let (mut last, mut piece_end) = ([Vec::new(), Vec::new()], None);
    for segment in segments {
        if let Some(piece) = &segment.piece {
            assert_eq!(segment.kind, SegmentKind::Large);
            assert_eq!((piece.offset, piece.header_bytes > 0), (piece_end.unwrap_or(0), piece_end.is_none()));
            piece_end = Some(piece.offset + piece.length).filter(|end| *end < piece.file_bytes);
            continue;
        }
        assert_eq!(piece_end, None);
        if segment.kind == SegmentKind::Files {
            let last = &mut last[Runs::of(&segment.first.0)];
            assert!(last.is_empty() || compare_paths(last, &segment.first.0) == Ordering::Less);
            last.clone_from(&segment.last.0);
        }
    }
}

fn named(names: &[&str]) -> Part {
    Part::Files(names.iter().map(|name| (name.as_bytes().to_vec(), name.as_bytes().to_vec())).collect())
}

fn large(name: &str, bytes: usize, length: usize) -> Part {
    Part::Large(name.as_bytes().to_vec(), vec![b'x'; bytes], length)
}

fn directory(path: &[u8]) -> Entry {
    Entry { mode: 0o700, ..Entry::new(path, Kind::Directory) }
}

fn made() -> Made {
    make(&[
        named(&["a", "b"]),
        named(&["c"]),
        large("b2", 3000, 1024),
        large("d", 5000, 5000),
        Part::Tail(vec![directory(b"e"), directory(b"f")]),
    ])
}

#[test]
fn a_manifest_from_the_tail() {
    let made = made();
    for step in [1, 7, 513, 1 << 20] {
        let (segments, rebuilt) = rebuild(&made.stored, step).unwrap();
        assert_eq!(segments, made.segments);
        check_order(&segments);
        assert_eq!(rebuilt.statement["origin"]["archive_id"], "a1");
        assert_eq!(rebuilt.raw_bytes, segments.iter().map(|segment| segment.raw_bytes).sum::<u64>());
    }
    for (index, segment) in rebuild(&made.stored, 100).unwrap().0.into_iter().enumerate() {
        let mut check = SegmentCheck::new(1, segment, index + 1 == made.segments.len());
        check.feed(made.member(index)).unwrap();
        check.finish().unwrap();
    }
}

/// A file of 25 MiB between two of a byte, in a member of its own behind theirs: its range lies within theirs.
#[test]
fn large_files_between_small_names() {
    for parts in [
        vec![named(&["a", "c"]), large("b", 25 << 10, 32 << 10)],
        vec![named(&["a", "c"]), large("b", 25 << 10, 32 << 10), large("d", 25 << 10, 32 << 10)],
        vec![named(&["a", "c"]), large("b", 50 << 10, 16 << 10), large("d", 9 << 10, 32 << 10), large("e", 1, 9)],
        vec![named(&["a", "c"]), named(&["d"]), large("b/x", 1000, 9999), large("b0", 1000, 512)],
        vec![named(&["a", "z"]), named(&["y/".repeat(2100).trim_end_matches('/')]), large("y", 9, 9)],
    ] {
        let made = make(&parts);
        let (segments, _) = rebuild(&made.stored, 4096).unwrap();
        assert_eq!(segments, made.segments);
        check_order(&segments);
    }
    // What nothing tells from a segment of one small file is taken for one, until names say otherwise.
    let made = make(&[named(&["a", "b"]), large("c", 700, 999), large("d", 700, 999)]);
    let (segments, _) = rebuild(&made.stored, 4096).unwrap();
    check_order(&segments);
    assert_eq!(segments[1].kind, SegmentKind::Files);
    assert_eq!(segments[1].digest, made.segments[1].digest);
}

proptest! {
    #[test]
    fn any_cuts_come_back(
        small in prop::collection::btree_map("[a-f]{1,3}(/[a-f]{1,3}){0,2}", prop::collection::vec(any::<u8>(), 0..1200), 0..12),
        cuts in prop::collection::vec(1usize..5, 1..6),
        large in prop::collection::btree_map("g[a-f]{0,3}", (1usize..5000, 1usize..5), 0..4),
        step in 1usize..3000,
    ) {
        // In archive order; names are unique, for one may be the other's directory, which nothing here minds.
        let mut files: Vec<_> = small.into_iter().map(|(name, data)| (name.into_bytes(), data)).collect();
        files.sort_by(|one, other| compare_paths(&one.0, &other.0));
        let (mut parts, mut sizes) = (Vec::new(), cuts.iter().cycle());
        while !files.is_empty() {
            let rest = files.split_off((*sizes.next().unwrap()).min(files.len()));
            parts.push(Part::Files(std::mem::replace(&mut files, rest)));
        }
        for (name, (bytes, blocks)) in large {
            parts.push(Part::Large(name.into_bytes(), vec![b'y'; bytes], blocks * 512));
        }
        let made = make(&parts);
        let (segments, _) = rebuild(&made.stored, step).unwrap();
        check_order(&segments);
        prop_assert_eq!(segments.len(), made.segments.len());
        for (segment, expected) in segments.iter().zip(&made.segments) {
            // A large file of one piece may be taken for a small one.
            let (kind, piece) = (expected.kind, expected.piece.clone());
            prop_assert_eq!(&Segment { kind, piece, ..segment.clone() }, expected);
            prop_assert!(segment.piece == expected.piece || segment.kind == SegmentKind::Files);
        }
    }
}

#[test]
fn a_lost_member_does_not_go_unnoticed() {
    let made = made();
    for index in 0..made.segments.len() {
        let error = rebuild(&made.with(index, b""), 1000).map(|_| ()).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt);
    }
}

/// Same paths, same headers, other bytes in one file: only the digest over the digests tells.
#[test]
fn a_member_of_another_archive_does_not_go_unnoticed() {
    let one = make(&[Part::Files(vec![(b"a".to_vec(), b"hello".to_vec())])]);
    let other = make(&[Part::Files(vec![(b"a".to_vec(), b"HELLO".to_vec())])]);
    let error = rebuild(&one.with(0, other.member(0)), 1000).map(|_| ()).unwrap_err();
    assert_eq!(error.message, "the digest of segments is not what the archive's tail states");
}

#[test]
fn a_last_segment_of_another_archive() {
    let one = make(&[named(&["a"]), Part::Tail(vec![directory(b"d")])]);
    let other = make(&[named(&["a"]), Part::Tail(vec![directory(b"e")])]);
    let last = one.segments.len() - 1;
    assert!(rebuild(&one.with(last, other.member(last)), 1000).is_err());
    // A statement that is told again behind other entries.
    let mut raw = Vec::new();
    MemberReader::new(None)
        .feed_all(one.member(last), &mut |data| {
            raw.extend_from_slice(data);
            Ok(())
        })
        .unwrap();
    raw[..512].copy_from_slice(&crate::tar::write::header(&directory(b"link"), None).unwrap()[..512]);
    let mut writer = crate::gzip::MemberWriter::new(Vec::new());
    writer.write(&raw).unwrap();
    let error = rebuild(&one.with(last, &writer.finish().unwrap().0), 1000).map(|_| ()).unwrap_err();
    assert_eq!(error.message, "the digest of the last segment is not what the archive's tail states");
}

#[test]
fn a_flipped_bit() {
    let made = made();
    for at in (0..made.stored.len()).step_by(3) {
        let mut stored = made.stored.clone();
        stored[at] ^= 4;
        // A few bits of a member's frame mean nothing: then the checksum of its stored bytes is another.
        if let Ok((segments, _)) = rebuild(&stored, 1000) {
            assert_ne!(segments, made.segments);
            let crc = |segments: &[Segment]| segments.iter().map(|segment| segment.crc64).collect::<Vec<_>>();
            assert_ne!(crc(&segments), crc(&made.segments));
        }
    }
}

#[test]
fn what_is_no_archive_of_ours() {
    let made = made();
    let pack = |raw: &[u8]| {
        let mut writer = crate::gzip::MemberWriter::new(Vec::new());
        writer.write(raw).unwrap();
        writer.finish().unwrap().0
    };
    let head = |entry: &Entry| crate::tar::write::header(entry, None).unwrap();
    let end = &crate::tar::END_OF_ARCHIVE[..];
    let huge = |name: &[u8]| Entry { size: MOST, ..Entry::new(name, Kind::File) };
    for (stored, why) in [
        (b"garbage".to_vec(), "segment 1: "),
        (Vec::new(), "the archive ends within a segment"),
        (made.stored[..made.stored.len() - 1].to_vec(), "the archive ends within a segment"),
        ([&made.stored[..], b"x"].concat(), "segment"),
        (pack(&[&head(&Entry::new(*b"f", Kind::File))[..], end].concat()), "without a statement"),
        (pack(&[&head(&directory(b""))[..], end].concat()), "without a statement"),
        (pack(&head(&directory(b""))), "no end-of-archive blocks"),
        (pack(end), "segment 1: files and what is none are mixed"),
        (pack(&[head(&Entry::new(*b"f", Kind::File)), head(&directory(b"d"))].concat()), "mixed"),
        (
            pack(&[head(&Entry::new(*b"f", Kind::File)), head(&huge(b"g"))].concat()),
            "a piece of a file and other entries",
        ),
        (pack(&made.stored[..300]), "segment 1: "),
    ] {
        let error = rebuild(&stored, 100).map(|_| ()).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt);
        assert!(error.message.contains(why), "{}: {why}", error.message);
    }
}

#[test]
fn frames_of_an_archive() {
    let made = made();
    let mut input = Vec::new();
    for piece in made.stored.chunks(1000) {
        write_frame(&mut input, json!({"data": 0}), piece).unwrap();
    }
    write_frame(&mut input, json!({"close": 0}), b"").unwrap();
    let mut rebuilder = Rebuilder::new(Vec::new());
    run_in_order(&input[..], Vec::new(), &mut rebuilder).unwrap();
    let (mut output, mut segments) = (&rebuilder.output[..], Vec::new());
    while let Some(frame) = read_frame(&mut output).unwrap() {
        if let Some(segment) = frame.line.get("segment") {
            segments.push(Segment::from_json(segment).unwrap());
        } else {
            assert_eq!(frame.line["statement"]["format"], "codehub-storage");
            assert!(frame.line["raw_bytes"].as_u64().is_some());
        }
    }
    assert_eq!(segments, made.segments);
}

#[test]
fn a_name_that_no_volume_has() {
    let long = "x/".repeat(10_000) + "x";
    for name in ["../a", "/a", "a//b", "a/.", &long] {
        let made = make(&[named(&[name]), Part::Tail(vec![directory(b"e")])]);
        let error = rebuild(&made.stored, 1 << 16).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt);
        assert!(error.message.contains("unsafe name"), "{}", error.message);
    }
}
