use std::io::Read as _;

use proptest::prelude::*;

use super::*;

fn pack(data: &[u8], step: usize) -> (Vec<u8>, Packed) {
    let mut writer = MemberWriter::new(Vec::new());
    for part in data.chunks(step) {
        writer.write(part).unwrap();
    }
    assert_eq!(writer.raw_bytes(), data.len() as u64);
    writer.finish().unwrap()
}

/// Through a reader of ours, in pieces.
fn read(stored: &[u8], raw_limit: Option<u64>, step: usize) -> Result<Vec<u8>> {
    let (mut reader, mut raw) = (MemberReader::new(raw_limit), Vec::new());
    for piece in stored.chunks(step) {
        reader.feed_all(piece, &mut |data| {
            raw.extend_from_slice(data);
            Ok(())
        })?;
    }
    reader.finish()?;
    Ok(raw)
}

/// Through a reader that shares no framing with ours.
fn gunzip(stored: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(stored).read_to_end(&mut raw).unwrap();
    raw
}

/// Bytes that no compressor shortens.
fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut data = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut data);
    data
}

fn with_padding(stored: &[u8], blocks: usize) -> Vec<u8> {
    let (body, end) = stored.split_at(stored.len() - FINAL_BLOCK.len() - TRAILER_BYTES);
    [body, &[0, 0, 0, 0xff, 0xff].repeat(blocks), end].concat()
}

proptest! {
    #[test]
    fn others_read_it(data in prop::collection::vec(any::<u8>(), 0..5000), step in 1usize..700, blocks in 0usize..2000) {
        let (stored, packed) = pack(&data, step);
        prop_assert_eq!(gunzip(&stored), data.clone());
        prop_assert_eq!(read(&stored, Some(data.len() as u64), step).unwrap(), data.clone());
        let padded = with_padding(&stored, blocks);
        prop_assert_eq!(read(&padded, Some(data.len() as u64), step).unwrap(), data.clone());
        let mut crc64 = Crc64::default();
        crc64.update(&stored);
        let expected = Packed {
            raw_bytes: data.len() as u64,
            stored_bytes: stored.len() as u64,
            digest: blake3::hash(&data),
            crc64: crc64.sum(),
        };
        prop_assert_eq!(packed, expected);
    }

    #[test]
    fn garbage_is_refused_alike_in_any_pieces(data in prop::collection::vec(any::<u8>(), 0..300), flags in 0u8..64) {
        let stored = [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0][..], &data].concat();
        let limit = Some(1 << 20);
        prop_assert_eq!(read(&stored, limit, 7).ok(), read(&stored, limit, 1 << 20).ok());
    }
}

#[test]
fn what_cannot_be_compressed_is_stored() {
    let (dense, thin) = (random(4 * BUFFER_BYTES + 1234, 1), b"some text that repeats ".repeat(100_000));
    for data in
        [dense.clone(), [&thin[..], &dense, &thin].concat(), [&dense[..], &thin, &dense[..=BUFFER_BYTES]].concat()]
    {
        let (stored, _) = pack(&data, 1 << 20);
        assert_eq!(gunzip(&stored), data);
        assert_eq!(read(&stored, Some(data.len() as u64), 1 << 18).unwrap(), data);
    }
    let (stored, _) = pack(&dense, 1 << 20);
    // zlib's fastest level lets the first buffer grow by a sixteenth, before it is known that nothing shrinks.
    let most = dense.len() + if cfg!(isal) { dense.len() / 1000 } else { BUFFER_BYTES / 8 };
    assert!(stored.len() < most, "{} of {}", stored.len(), dense.len());
    // At the latest the fourth buffer is there as it was.
    let block = &dense[3 * BUFFER_BYTES..3 * BUFFER_BYTES + MAX_STORED];
    assert!(stored.windows(block.len()).any(|window| window == block));
}

#[test]
fn nothing_refers_across_stored_blocks() {
    for seed in 0..20 {
        let dense = random(2 * BUFFER_BYTES, seed); // one buffer is compressed, in vain, the next one stored
        let data = [&dense[..], &[0; 12_000], &dense[BUFFER_BYTES - 8000..BUFFER_BYTES]].concat();
        assert_eq!(gunzip(&pack(&data, 1 << 20).0), data);
    }
}

#[test]
fn files_are_read_straight_into_it() {
    let data = random(3 * BUFFER_BYTES, 3);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&data).unwrap();
    let mut writer = MemberWriter::new(Vec::new());
    writer.write(b"before").unwrap();
    assert_eq!(writer.write_from(&file, BUFFER_BYTES as u64 + 5, 7).unwrap(), BUFFER_BYTES as u64 + 5);
    assert_eq!(writer.write_from(&file, 100, data.len() as u64 - 40).unwrap(), 40);
    writer.write_zeros(BUFFER_BYTES as u64 + 9).unwrap();
    let (stored, packed) = writer.finish().unwrap();
    let tail = &data[data.len() - 40..];
    let expected = [&b"before"[..], &data[7..BUFFER_BYTES + 12], tail, &vec![0; BUFFER_BYTES + 9]].concat();
    assert_eq!(packed.raw_bytes, expected.len() as u64);
    assert_eq!(gunzip(&stored), expected);
}

#[test]
fn a_member_is_one_member() {
    let (mut stored, _) = pack(b"one", 9);
    let length = stored.len();
    stored.extend_from_slice(b"rest");
    for step in [1, 3, 1000] {
        let (mut reader, mut raw, mut used) = (MemberReader::new(None), Vec::new(), 0);
        while !reader.is_finished() {
            let piece = &stored[used..(used + step).min(stored.len())];
            used += reader
                .feed(piece, &mut |data| {
                    raw.extend_from_slice(data);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!((&raw[..], used, reader.stored_bytes()), (&b"one"[..], length, length as u64));
        reader.finish().unwrap();
        assert!(reader.feed(b"more", &mut |_| Ok(())).is_err());
    }
    assert_eq!(read(&stored, None, 1000).unwrap_err().message, "4 bytes after the end of the gzip member");
}

#[test]
fn a_flipped_bit_never_gives_other_data() {
    let data = b"some data that deflate can shorten, some data that deflate can shorten";
    let (stored, _) = pack(data, 100);
    let mut refused = 0;
    for at in 0..stored.len() {
        for bit in 0..8 {
            let mut broken = stored.clone();
            broken[at] ^= 1 << bit;
            match read(&broken, Some(data.len() as u64), 1000) {
                Ok(raw) => assert_eq!(raw, data, "byte {at}"),
                Err(error) => {
                    assert_eq!(error.code, Code::ArchiveCorrupt);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 4 * stored.len());
}

#[test]
fn cut_short() {
    let (stored, _) = pack(&random(100, 1), 100);
    for missing in 1..stored.len() {
        assert!(read(&stored[..stored.len() - missing], None, 1000).is_err(), "{missing}");
    }
    let error = read(&stored[..12], None, 5).unwrap_err();
    assert_eq!(error.message, "the gzip member ends early, after 12 stored bytes");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let (stored, _) = pack(&vec![0; 64 << 20], 1 << 20);
    let (mut reader, mut seen) = (MemberReader::new(Some(1 << 20)), 0);
    let error = reader.feed(&stored, &mut |data| {
        seen += data.len();
        Ok(())
    });
    assert_eq!(error.unwrap_err().message, "a gzip member inflates to more than the 1048576 bytes it should have");
    assert!(seen <= 1 << 20);
}

#[test]
fn large_pieces_are_given_out_small() {
    let (stored, _) = pack(&vec![0; 8 << 20], 1 << 20);
    let (mut largest, mut all) = (0, 0);
    MemberReader::new(None)
        .feed_all(&stored, &mut |data| {
            largest = largest.max(data.len());
            all += data.len();
            Ok(())
        })
        .unwrap();
    assert!(largest <= OUTPUT_BYTES);
    assert_eq!(all, 8 << 20);
}

#[test]
fn the_error_of_a_sink_is_the_answer() {
    let (stored, _) = pack(b"abc", 10);
    let error = MemberReader::new(None).feed(&stored, &mut |_| Err(Error::new(Code::NoSpace, "full"))).unwrap_err();
    assert_eq!(error.code, Code::NoSpace);
}

/// A member with this much in its header, as others may write it.
fn with_header(flags: u8, fields: &[u8]) -> Vec<u8> {
    let (stored, _) = pack(&b"abc".repeat(1000), 5000);
    [&stored[..3], &[flags], &stored[4..10], fields, &stored[10..]].concat()
}

#[test]
fn members_made_by_others() {
    let raw = b"abc".repeat(1000);
    let extra = b"\x04\0abcd";
    let mut summed = with_header(HAS_EXTRA | HAS_NAME | HAS_COMMENT | HAS_SUM, b"\x04\0abcdname\0comment\0");
    let mut crc = Crc::new();
    crc.update(&summed[..10 + 6 + 5 + 8]);
    let sum = (crc.sum() as u16).to_le_bytes();
    summed.splice(29..29, sum);
    for stored in [
        with_header(1, b""),
        with_header(HAS_NAME, b"file.tar\0"),
        with_header(HAS_NAME | HAS_COMMENT, b"\0\0"),
        with_header(HAS_EXTRA, extra),
        with_header(HAS_EXTRA, b"\0\0"),
        summed.clone(),
    ] {
        for step in [1, 7, 10_000] {
            assert_eq!(read(&stored, None, step).unwrap(), raw);
        }
        assert_eq!(gunzip(&stored), raw);
    }
    summed[30] ^= 1;
    for stored in [summed, with_header(0x20, b""), with_header(0x80, b""), with_header(HAS_SUM, b"\0\0")] {
        assert!(read(&stored, None, 10_000).is_err());
    }
    for made in [&b"garbage"[..], b"\x1f\x8b\x07"] {
        assert!(read(made, None, 10_000).is_err());
    }
}

#[test]
fn members_of_zlib() {
    let raw = random(10_000, 5).repeat(3);
    let mut encoder = flate2::GzBuilder::new().filename("f").write(Vec::new(), flate2::Compression::best());
    encoder.write_all(&raw).unwrap();
    assert_eq!(read(&encoder.finish().unwrap(), None, 1000).unwrap(), raw);
}

#[test]
fn the_member_of_nothing() {
    let (stored, packed) = pack(b"", 1);
    assert_eq!((packed.raw_bytes, gunzip(&stored), stored[..10].to_vec()), (0, Vec::new(), HEADER.to_vec()));
}

/// All members of a file, through readers of ours.
fn read_members(mut stored: &[u8], step: usize) -> Result<Vec<Vec<u8>>> {
    let mut members = Vec::new();
    while !stored.is_empty() {
        let (mut reader, mut raw) = (MemberReader::new(Some(4 << 20)), Vec::new());
        while !reader.is_finished() && !stored.is_empty() {
            let used = reader.feed(&stored[..step.min(stored.len())], &mut |data| {
                raw.extend_from_slice(data);
                Ok(())
            })?;
            stored = &stored[used..];
        }
        reader.finish()?;
        members.push(raw);
    }
    Ok(members)
}

/// A stream that fuzzing found: torn within a header of many fields, the old reader gave other answers.
#[test]
fn cases_of_the_fuzzer() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/cases/stream");
    let mut count = 0;
    for case in std::fs::read_dir(root).unwrap() {
        let stored = std::fs::read(case.unwrap().path()).unwrap();
        let answer = |step| read_members(&stored, step).map_err(|error| error.message);
        let whole = answer(1 << 20);
        for step in [1, 7, 511] {
            assert_eq!(answer(step), whole);
        }
        count += 1;
    }
    assert!(count > 0);
}

/// The archive of format 1 that was made once, by the tool before this one: padded members.
#[test]
fn the_golden_archive() {
    let stored = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/format-1/home.tar.gz");
    let stored = std::fs::read(stored).unwrap();
    let raw = read_members(&stored, 1000).unwrap().concat();
    let mut expected = Vec::new();
    flate2::read::MultiGzDecoder::new(&stored[..]).read_to_end(&mut expected).unwrap();
    assert_eq!(raw, expected);
    let (mut scanner, mut entries) = (crate::tar::read::Scanner::new(), 0);
    for piece in raw.chunks(777) {
        scanner
            .feed(piece, &mut |_, found| {
                entries += usize::from(matches!(found, crate::tar::read::Found::Entry(_)));
                Ok(())
            })
            .unwrap();
    }
    scanner.finish(true).unwrap();
    assert!(entries > 10);
}
