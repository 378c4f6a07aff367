use super::*;
use crate::archives::{make, Made, Part};

fn directory(path: &[u8]) -> Entry {
    Entry { mode: 0o700, ..Entry::new(path, Kind::Directory) }
}

fn made() -> Made {
    let mut random = vec![0; 70_000];
    blake3::Hasher::new().finalize_xof().fill(&mut random);
    make(&[
        Part::Files(vec![(b"a".to_vec(), b"hello".to_vec()), (b"d/b".to_vec(), Vec::new())]),
        Part::Files(vec![(b"d/c".to_vec(), random.clone())]),
        Part::Large(b"d/big".to_vec(), random, 20_480),
        Part::Tail(vec![directory(b"d/e"), directory(b"d")]),
    ])
}

fn check(made: &Made, index: usize, segment: &Segment, stored: &[u8]) -> Result<Checked> {
    let mut check = SegmentCheck::new(index as u32 + 1, segment.clone(), index + 1 == made.segments.len());
    for block in stored.chunks(1000) {
        check.feed(block)?;
    }
    check.finish()
}

#[test]
fn a_good_archive() {
    let made = made();
    let mut sum = Checked::default();
    for (index, segment) in made.segments.iter().enumerate() {
        let checked = check(&made, index, segment, made.member(index)).unwrap();
        assert_eq!(checked.content, segment.content);
        sum.files += checked.files;
        sum.bytes += checked.bytes;
    }
    assert_eq!((sum.files, sum.bytes), (4, 5 + 70_000 + 70_000));
}

#[test]
fn a_flipped_bit_is_found_and_its_segment_named() {
    let made = made();
    for (index, segment) in made.segments.iter().enumerate() {
        let length = segment.stored_bytes as usize;
        for at in (0..length).step_by(length / 40 + 1).chain([length / 2, length - 1]) {
            for bit in [1, 0x10] {
                let mut stored = made.member(index).to_vec();
                stored[at] ^= bit;
                let error = check(&made, index, segment, &stored).unwrap_err();
                assert_eq!(error.code, Code::ArchiveCorrupt);
                assert_eq!(error.details["segment"], index as u32 + 1);
                assert!(error.message.starts_with(&format!("segment {}: ", index + 1)));
            }
        }
        for stored in [&made.member(index)[..length - 1], &[made.member(index), b"x"].concat()] {
            assert!(check(&made, index, segment, stored).is_err());
        }
    }
}

#[test]
fn a_manifest_that_lies() {
    let made = made();
    let lies: [fn(&mut Segment); 13] = [
        |segment| segment.entries += 1,
        |segment| segment.first.0.push(b'x'),
        |segment| segment.last = crate::segment::Path64(b"0".to_vec()),
        |segment| segment.digest = None,
        |segment| segment.digest = Some(blake3::hash(b"")),
        |segment| segment.content.base ^= 1,
        |segment| segment.content.ids ^= 1,
        |segment| segment.raw_bytes -= 512,
        |segment| segment.raw_bytes += 512,
        |segment| segment.stored_bytes += 1,
        |segment| segment.crc64 ^= 1,
        |segment| segment.kind = if segment.kind == SegmentKind::Tail { SegmentKind::Files } else { SegmentKind::Tail },
        |segment| {
            segment.piece = match segment.piece.take() {
                None => Some(crate::segment::Piece::default()),
                Some(piece) => Some(crate::segment::Piece { header_bytes: piece.header_bytes / 2, ..piece }),
            }
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        for index in 0..made.segments.len() {
            let mut segment = made.segments[index].clone();
            lie(&mut segment);
            let is_piece = segment.kind == SegmentKind::Large;
            // Of a piece that is not the first nothing but its bytes is known here: its place is for the parent to check.
            if is_piece && segment.entries == 0 && matches!(number, 1 | 2 | 11 | 12) {
                continue;
            }
            if segment.piece.is_some() && segment.entries == 0 && number == 11 {
                continue;
            }
            let error = check(&made, index, &segment, made.member(index)).map(|_| ()).unwrap_err();
            assert_eq!(error.code, Code::ArchiveCorrupt, "lie {number} about {index}");
        }
    }
}

/// Raw bytes under digests that are right.
fn forged(kind: SegmentKind, raw: &[u8], entries: &[Entry]) -> (Segment, Vec<u8>) {
    let mut writer = crate::gzip::MemberWriter::new(Vec::new());
    writer.write(raw).unwrap();
    let (stored, packed) = writer.finish().unwrap();
    let path =
        |entry: Option<&Entry>| crate::segment::Path64(entry.map(|entry| entry.path.clone()).unwrap_or_default());
    let segment = Segment {
        kind,
        first: path(entries.first()),
        last: path(entries.last()),
        entries: entries.len() as u64,
        raw_bytes: packed.raw_bytes,
        digest: Some(packed.digest),
        content: entries.iter().map(Content::of).fold(Content::default(), Content::plus),
        stored_bytes: packed.stored_bytes,
        crc64: packed.crc64,
        ..Segment::default()
    };
    (segment, stored)
}

#[test]
fn what_digests_do_not_tell() {
    use crate::tar::write::header;
    let end = &crate::tar::END_OF_ARCHIVE[..];
    let file = Entry::new(*b"f", Kind::File);
    let out = Entry::new(*b"../f", Kind::File);
    let head = |entry: &Entry| header(entry, None).unwrap();
    for (why, kind, is_last, raw, entries) in [
        ("end-of-archive blocks", SegmentKind::Files, false, [&head(&file), end].concat(), vec![file.clone()]),
        ("no end-of-archive", SegmentKind::Tail, true, head(&directory(b"")), vec![directory(b"")]),
        ("leads out", SegmentKind::Files, false, head(&out), vec![out]),
        ("mixed", SegmentKind::Tail, true, [&head(&file), end].concat(), vec![file.clone()]),
        ("mixed", SegmentKind::Files, false, head(&directory(b"d")), vec![directory(b"d")]),
        (
            "within an entry",
            SegmentKind::Files,
            false,
            head(&Entry { size: 1, ..file.clone() }),
            vec![Entry { size: 1, ..file }],
        ),
    ] {
        let (segment, stored) = forged(kind, &raw, &entries);
        let mut check = SegmentCheck::new(7, segment, is_last);
        let error = check.feed(&stored).and_then(|()| check.finish().map(|_| ())).unwrap_err();
        assert!(error.message.contains(why), "{}", error.message);
        assert_eq!(error.details["segment"], 7);
    }
}

/// Frames of these segments, two at a time.
fn frames(segments: &[(Segment, &[u8])]) -> Vec<u8> {
    let mut input = Vec::new();
    let numbers: Vec<usize> = (0..segments.len()).collect();
    for pair in numbers.chunks(2) {
        for index in pair {
            let segment = segments[*index].0.to_json();
            let open = json!({"number": index + 1, "segment": segment, "is_last": *index + 1 == numbers.len()});
            write_frame(&mut input, json!({"open": open}), b"").unwrap();
        }
        for at in (0..100_000).step_by(30_000) {
            for index in pair {
                let stored = segments[*index].1;
                let piece = &stored[at.min(stored.len())..(at + 30_000).min(stored.len())];
                write_frame(&mut input, json!({"data": index + 1}), piece).unwrap();
            }
        }
        for index in pair {
            write_frame(&mut input, json!({"close": index + 1}), b"").unwrap();
        }
    }
    input
}

fn all_of(made: &Made) -> Vec<(Segment, &[u8])> {
    made.segments.iter().enumerate().map(|(index, segment)| (segment.clone(), made.member(index))).collect()
}

/// The lines that are told. More lanes than segments, so that a parent that does not wait for `want` finds free ones.
fn verified(segments: &[(Segment, &[u8])]) -> Result<Vec<Value>> {
    let mut output = Vec::new();
    verify(&frames(segments)[..], &mut output, segments.len())?;
    Ok(crate::hostile::told(&output))
}

#[test]
fn frames_of_several_segments_at_once() {
    let made = made();
    let told = verified(&all_of(&made)).unwrap();
    let done: Vec<_> = told.iter().filter_map(|line| line.get("done")).collect();
    for fields in &done {
        let segment = &made.segments[fields["number"].as_u64().unwrap() as usize - 1];
        assert_eq!(fields["content"], segment.content.text());
    }
    assert_eq!(done.len(), made.segments.len());
    assert_eq!(told.last().unwrap()["statement"]["segments"], made.segments.len() - 1);
    assert_eq!(made.segments[0].to_json()["first"], "YQ==");
}

/// Each member is sound, and so is what is said of it: only the tail tells.
#[test]
fn segments_that_are_not_those_of_the_tail() {
    let (made, other) =
        (made(), make(&[Part::Files(vec![(b"a".to_vec(), b"HELLO".to_vec()), (b"d/b".to_vec(), Vec::new())])]));
    let last = made.segments.len() - 1;
    for gone in 0..last {
        let mut segments = all_of(&made);
        segments.remove(gone);
        let error = verified(&segments).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt);
        assert_eq!(error.message, "the number of segments is not what the archive's tail states");
    }
    let mut swapped = all_of(&made);
    swapped.swap(0, 1);
    let mut exchanged = all_of(&made);
    exchanged[0] = (other.segments[0].clone(), other.member(0));
    for segments in [swapped, exchanged] {
        let error = verified(&segments).unwrap_err();
        assert_eq!(error.message, "the digest of segments is not what the archive's tail states");
    }
    let mut tail = all_of(&made);
    let (segment, stored) =
        forged(SegmentKind::Tail, &without_links(made.member(last)), &[Entry { mode: 0o755, ..directory(b"") }]);
    tail[last] = (segment, &stored);
    let error = verified(&tail).unwrap_err();
    assert_eq!(error.message, "the content fingerprint is not what the archive's tail states");
}

/// The raw bytes of a last segment that begins with one link, without it.
fn without_links(stored: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut read = |data: &[u8]| {
        raw.extend_from_slice(data);
        Ok(())
    };
    MemberReader::new(None).feed_all(stored, &mut read).unwrap();
    raw.split_off(512)
}

#[test]
fn a_tail_without_a_statement() {
    let raw = [&crate::tar::write::header(&directory(b""), None).unwrap()[..], &crate::tar::END_OF_ARCHIVE].concat();
    let (segment, stored) = forged(SegmentKind::Tail, &raw, &[directory(b"")]);
    let mut lane = Verifier { whole: Arc::default(), open: None };
    lane.open(1, segment, true).unwrap();
    lane.data(&stored).unwrap();
    let error = lane.close().unwrap_err();
    assert_eq!(error.code, Code::ArchiveCorrupt);
    assert_eq!(error.message, "the archive ends without a statement of ours");
}
