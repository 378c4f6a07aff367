use proptest::prelude::*;

use super::*;
use crate::strangers::gzip;

fn stream_of(pieces: Vec<Vec<u8>>, limit: u64) -> TarStream<impl FnMut() -> Result<Option<Vec<u8>>>> {
    let mut pieces = pieces.into_iter();
    TarStream::new(move || Ok(pieces.next()), Bound { limit, code: Code::ArchiveTooLarge })
}

/// All raw bytes, of which so many are known, to the end.
fn read(pieces: Vec<Vec<u8>>, length: usize) -> Result<Vec<u8>> {
    let mut stream = stream_of(pieces, 1 << 20);
    let raw = stream.take(length as u64)?;
    stream.end().map(|()| raw)
}

fn torn(stored: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let (one, other) = stored.split_at(cut.min(stored.len()));
    vec![one.to_vec(), other.to_vec()]
}

#[test]
fn a_header_may_be_torn_anywhere() {
    let raw = b"hello world".repeat(100);
    let long = [&b"\xff\xff"[..], &vec![0; 0xffff]].concat();
    for (flags, fields) in [
        (0, &b""[..]),
        (8, b"home.tar\0"),
        (4, b"\x06\0BC\x02\0ab"),
        (16, b"comment\0"),
        (12, b"\x06\0RA\x02\0abhome.tar\0"),
        (28, b"\x06\0RA\x02\0abhome.tar\0comment\0"),
        (4, &long),
    ] {
        for sum in [false, true] {
            let flags = flags | if sum { 2 } else { 0 };
            let mut header = [&b"\x1f\x8b\x08"[..], &[flags], &[0; 6], fields].concat();
            if sum {
                let mut crc = flate2::Crc::new();
                crc.update(&header);
                header.extend(&crc.sum().to_le_bytes()[..2]);
            }
            let stored = [&header[..], &gzip(&raw)[10..]].concat().repeat(2);
            let later = [header.len() - 1, header.len() + 1, stored.len() / 2 + 5];
            for cut in (1..40).chain(later) {
                assert_eq!(read(torn(&stored, cut), 2 * raw.len()).unwrap(), raw.repeat(2));
            }
            let single = stored.chunks(1).map(<[u8]>::to_vec).collect();
            assert_eq!(read(single, 2 * raw.len()).unwrap(), raw.repeat(2));
        }
    }
}

#[test]
fn what_ends_early_or_goes_on_is_damage() {
    let raw = [1; 2000];
    let good = gzip(&raw);
    let two = [good.clone(), good.clone()].concat();
    for (stored, length, what) in [
        (Vec::new(), 0, "empty"),
        (vec![0; 5000], 0, "no gzip header"),
        (good[..good.len() - 9].to_vec(), 2000, "within a gzip member"),
        (good[..good.len() - 3].to_vec(), 2000, "within a gzip member"),
        (good[..5].to_vec(), 0, "within a gzip member"),
        ([&good[..], b"garbage"].concat(), 2000, "no gzip header"),
        ([&good[..], &good[..11]].concat(), 2000, "within a gzip member"),
        ([&good[..], &vec![0; 70_000], b"x"].concat(), 2000, "bytes come after the end of the gzip stream"),
        ([&good[..], &[0; 9], &good[..]].concat(), 4000, "bytes come after the end of the gzip stream"),
        (two, 2000, "bytes come after the end of the archive"),
        (good.clone(), 2001, "no end-of-archive blocks"),
    ] {
        let error = read(vec![stored], length).unwrap_err();
        assert_eq!(error.code, Code::ArchiveCorrupt);
        assert!(error.message.contains(what), "{what}: {}", error.message);
    }
    let filled = [&good[..], &[0; 9000]].concat();
    assert_eq!(read(torn(&filled, good.len() + 4500), 2000).unwrap(), raw);
}

#[test]
fn a_member_behind_zeros_is_refused_wherever_chunks_begin() {
    let good = gzip(&[1; 100]);
    let stored = [&good[..], &[0; 100], &good[..]].concat();
    for cut in 0..stored.len() {
        assert!(read(torn(&stored, cut), 200).is_err());
    }
}

#[test]
fn a_bomb_is_stopped_at_its_bound() {
    let bomb = gzip(&vec![0; 64 << 20]);
    for taken in [0, 100, 1 << 20] {
        let mut stream = stream_of(bomb.chunks(50_000).map(<[u8]>::to_vec).collect(), 1 << 20);
        let error = stream.skip(taken).and_then(|()| stream.end()).unwrap_err();
        assert_eq!(error.code, Code::ArchiveTooLarge);
        assert!(stream.raw.capacity() <= 2 << 20);
    }
}

#[test]
fn thousands_of_empty_members_are_none() {
    let stored = [gzip(b"").repeat(5000), gzip(b"all")].concat();
    assert_eq!(read(vec![stored], 3).unwrap(), b"all");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn members_and_chunks_may_be_cut_anywhere(
        raw in prop::collection::vec(any::<u8>(), 0..5000),
        cuts in prop::collection::vec(1_usize..3000, 1..5),
        chunk in 1_usize..2000,
    ) {
        let mut stored = Vec::new();
        let mut rest = &raw[..];
        for cut in cuts {
            let (one, other) = rest.split_at(cut.min(rest.len()));
            stored.extend(gzip(one));
            rest = other;
        }
        stored.extend(gzip(rest));
        let pieces = stored.chunks(chunk).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(read(pieces, raw.len()).unwrap(), raw);
    }

    #[test]
    fn any_bytes_are_an_archive_or_an_error(mut stored in prop::collection::vec(any::<u8>(), 0..300), is_gzip: bool) {
        if is_gzip {
            stored.splice(0..0, *b"\x1f\x8b\x08\0\0\0\0\0\0\xff");
        }
        let _ = read(vec![stored], 10);
    }
}
