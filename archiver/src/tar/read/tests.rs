use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::entry::Content;
use crate::tar::write::{format_time, header};
use crate::tar::END_OF_ARCHIVE;

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Entry(Entry),
    Data(Vec<u8>),
}

/// All that a scanner tells of `data` fed in pieces; data pieces are joined.
fn scan(data: &[u8], step: usize) -> Result<(Scanner, Vec<Event>)> {
    let (mut scanner, mut found) = (Scanner::new(), Vec::new());
    for piece in data.chunks(step) {
        scanner.feed(piece, &mut |_, event| {
            match (event, found.last_mut()) {
                (Found::Entry(entry), _) => found.push(Event::Entry(entry)),
                (Found::Data(data), Some(Event::Data(last))) => last.extend_from_slice(data),
                (Found::Data(data), _) => found.push(Event::Data(data.to_vec())),
            }
            Ok(())
        })?;
    }
    Ok((scanner, found))
}

fn refused(data: &[u8]) -> String {
    let error = scan(data, 1 << 20).map(|_| ()).unwrap_err();
    assert_eq!(error.code, Code::ArchiveCorrupt);
    error.message
}

fn file(path: &[u8], size: u64) -> Entry {
    Entry { size, ..Entry::new(path, Kind::File) }
}

fn made(entry: &Entry) -> Vec<u8> {
    header(entry, None).unwrap()
}

/// One block with another field, and the checksum that fits.
fn patched(header: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    let mut block = header[..BLOCK_BYTES].to_vec();
    block[at..at + field.len()].copy_from_slice(field);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::collection::vec(1u8.., 1..80), 1..5).prop_map(|parts| {
        let clean =
            |part: Vec<u8>| part.into_iter().map(|byte| if b"./".contains(&byte) { b'_' } else { byte }).collect();
        parts.into_iter().map(clean).collect::<Vec<Vec<u8>>>().join(&b'/')
    })
}

prop_compose! {
    fn entries()(
        path in names(),
        kind in prop::sample::select(vec![
            Kind::File, Kind::HardLink, Kind::Symlink, Kind::CharacterDevice, Kind::BlockDevice, Kind::Directory, Kind::Fifo,
        ]),
        target in names(),
        (mode, uid, gid) in (0u32..0o10000, 0..u32::MAX, 0..u32::MAX),
        size in 0..1u64 << 45,
        seconds in prop_oneof![0..1i64 << 33, any::<i64>().prop_filter("in range", |seconds| *seconds > i64::MIN)],
        nanos in prop_oneof![Just(0), 0..1_000_000_000u32],
        device in (0u32..4096, 0u32..1 << 20),
        xattrs in prop::collection::btree_map(
            prop::collection::vec(1u8.., 1..30), prop::collection::vec(any::<u8>(), 0..200), 0..3
        ),
    ) -> Entry {
        Entry {
            mode,
            uid,
            gid,
            size: if kind == Kind::File { size } else { 0 },
            mtime: Time { seconds, nanos },
            target: if matches!(kind, Kind::Symlink | Kind::HardLink) { target } else { Vec::new() },
            device: if kind.is_device() { device } else { (0, 0) },
            xattrs: if kind == Kind::HardLink { Vec::new() } else { xattrs.into_iter().collect() },
            ..Entry::new(path, kind)
        }
    }
}

proptest! {
    #[test]
    fn read_back_as_written(entry in entries(), step in 1usize..2000) {
        let header = made(&entry);
        prop_assert_eq!(header.len() % BLOCK_BYTES, 0);
        let (scanner, found) = scan(&header, step).unwrap();
        let expected = vec![Event::Entry(entry.clone())];
        prop_assert_eq!(found, expected);
        prop_assert_eq!(scanner.scan().data_offset, header.len() as u64);
        prop_assert_eq!(&scanner.scan().header, &header);
        prop_assert_eq!(scanner.between_entries(), entry.size == 0);
    }

    #[test]
    fn times_come_back(seconds in i64::MIN + 1.., nanos in 0..1_000_000_000u32) {
        let time = Time { seconds, nanos };
        prop_assert_eq!(parse_time(format_time(time).as_bytes()).unwrap(), time);
    }

    #[test]
    fn pieces_of_any_size(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 1..5),
        step in 1usize..1600,
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (number, body) in bodies.into_iter().enumerate() {
            let mut entry = file(format!("f{number}").as_bytes(), body.len() as u64);
            entry.mtime.nanos = 123;
            stream.extend(made(&entry));
            stream.extend_from_slice(&body);
            stream.resize(stream.len() + padding_of(entry.size) as usize, 0);
            expected.push(Event::Entry(entry));
            if !body.is_empty() {
                expected.push(Event::Data(body));
            }
        }
        let length = stream.len() as u64;
        stream.extend_from_slice(&END_OF_ARCHIVE);
        stream.extend_from_slice(&[0; 5 * BLOCK_BYTES]);
        let (scanner, found) = scan(&stream, step).unwrap();
        prop_assert_eq!(found, expected);
        prop_assert!(scanner.ended());
        prop_assert_eq!(scanner.end_offset(), Some(length));
        scanner.finish(true).unwrap();
    }

    #[test]
    fn garbage_is_the_same_in_any_pieces(
        entry in entries(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        step in 1usize..700,
    ) {
        let mut stream = [made(&entry), made(&file(b"next", 3)), b"abc".to_vec()].concat();
        for (at, byte) in changes {
            *at.get_mut(&mut stream) = byte;
        }
        let answer = |step| scan(&stream, step).map(|(_, found)| found).map_err(|error| error.message);
        prop_assert_eq!(answer(step), answer(1 << 20));
    }
}

/// Long names, base-256 numbers and prefixes: what the formats of GNU tar make of the same file is one entry.
#[test]
fn dialects_of_gnu_tar() {
    for dialect in ["posix", "gnu", "ustar", "v7", "oldgnu"] {
        let root = tempfile::tempdir().unwrap();
        let name = format!("{}/{}", "d".repeat(50), "f".repeat(if dialect == "v7" { 40 } else { 90 }));
        std::fs::create_dir(root.path().join("d".repeat(50))).unwrap();
        std::fs::write(root.path().join(&name), [b'x'; 1000]).unwrap();
        let made = Command::new("tar")
            .args(["-c", "--format", dialect, "--owner=:5", "--group=:6", "--mtime=@77", "--mode=0640", &name])
            .current_dir(root.path())
            .output()
            .unwrap();
        let (scanner, found) = scan(&made.stdout, 1000).unwrap();
        let mtime = Time { seconds: 77, nanos: 0 };
        let entry = Entry { mode: 0o640, uid: 5, gid: 6, mtime, ..file(name.as_bytes(), 1000) };
        assert_eq!(found, [Event::Entry(entry), Event::Data(vec![b'x'; 1000])], "{dialect}");
        assert!(scanner.ended());
    }
}

#[test]
fn cut_streams_are_noticed() {
    let entry = file(b"f", 600);
    let whole = [made(&entry), vec![1; 600], vec![0; 424]].concat();
    for length in [100, 512, 700, 1200] {
        let (scanner, _) = scan(&whole[..length], 1000).unwrap();
        assert!(scanner.finish(false).is_err());
    }
    let (scanner, _) = scan(&whole, 1000).unwrap();
    scanner.finish(false).unwrap();
    assert!(scanner.finish(true).is_err());
    let (scanner, _) = scan(&[whole, vec![0; 512]].concat(), 1000).unwrap();
    assert!(scanner.finish(true).is_err());
}

#[test]
fn an_extension_without_entry() {
    let header = made(&file(&[b'n'; 200], 0));
    let lost = [&header[..header.len() - BLOCK_BYTES], &END_OF_ARCHIVE].concat();
    assert_eq!(refused(&lost), "an extended header without the entry that it belongs to");
}

#[test]
fn bytes_behind_the_end() {
    let stream = [&END_OF_ARCHIVE[..], &made(&file(b"f", 0))].concat();
    assert_eq!(refused(&stream), "bytes after the end-of-archive blocks");
}

#[test]
fn a_flipped_bit_in_a_header() {
    for at in [0, 100, 124, 150, 156, 257, 345] {
        let mut header = made(&file(b"file", 0));
        header[at] ^= 1;
        refused(&header);
    }
}

/// An attacker's length does not make us hold as much; neither do many small ones for the same entry, nor those that
/// hold for all.
#[test]
fn extensions_too_large() {
    let header = made(&file(&[b'n'; 200], 0));
    for size in [MAX_EXTENSION_BYTES + 1, (1 << 33) - 1] {
        refused(&patched(&header, 124, format!("{size:011o}\0").as_bytes()));
    }
    let header = made(&file(&[b'n'; 4000], 0));
    for flag in [b"x", b"g", b"L"] {
        let extension = [&patched(&header, 156, flag)[..], &header[BLOCK_BYTES..header.len() - BLOCK_BYTES]].concat();
        refused(&extension.repeat(MAX_EXTENSION_BYTES as usize / 4000 + 1));
    }
}

/// What the kernel, or our own fingerprint, could not take.
#[test]
fn a_number_that_nothing_can_have() {
    let never = [&b"\x80"[..], &[0xff; 11]].concat();
    let below = [&b"\xff"[..], &[0; 11]].concat();
    let header = made(&Entry { device: (1, 3), ..Entry::new(*b"null", Kind::CharacterDevice) });
    for (at, field) in [
        (108, &[0xff; 8][..]),
        (108, &never[..8]),
        (116, b"\x80\0\0\0\xff\xff\xff\xff"),
        (124, &never),
        (124, &[0xff; 12]),
        (136, &never),
        (136, &below),
        (329, &[0xff; 8]),
        (337, &never[..8]),
    ] {
        let message = refused(&patched(&header, at, field));
        assert!(message.starts_with("the impossible number"), "{message}");
    }
}

#[test]
fn a_record_that_nothing_can_have() {
    let header = made(&file(&[b'n'; 200], 0));
    for key in ["size", "uid", "gid", "mtime"] {
        for digits in [20, 5000] {
            let rest = format!(" {key}={}\n", "9".repeat(digits));
            let length =
                (rest.len()..rest.len() + 9).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
            let mut body = format!("{length}{rest}").into_bytes();
            let mut raw = patched(&header, 124, format!("{length:011o}\0").as_bytes());
            body.resize(body.len() + padding_of(length as u64) as usize, 0);
            raw.extend_from_slice(&body);
            raw.extend_from_slice(&header[header.len() - BLOCK_BYTES..]);
            assert_eq!(refused(&raw), "a number in a pax record cannot be read");
        }
    }
}

/// GNU tar and the kernel would understand it in another way, or not at all.
#[test]
fn an_attribute_that_nothing_can_have() {
    for name in [&b""[..], b"user.a\0b", &[&b"user."[..], &[b'n'; 251]].concat()] {
        let xattrs = vec![(name.to_vec(), b"1".to_vec())];
        refused(&made(&Entry { xattrs, ..file(b"f", 0) }));
    }
}

#[test]
fn the_comment_is_in_the_records() {
    let root = Entry { mode: 0o755, ..Entry::new(*b"", Kind::Directory) };
    let (scanner, found) = scan(&header(&root, Some("hello")).unwrap(), 100).unwrap();
    assert_eq!(found, [Event::Entry(root)]);
    assert_eq!(scanner.scan().records, Records::from([(b"comment".to_vec(), b"hello".to_vec())]));
}

#[test]
fn names_lose_their_frames() {
    for (name, expected) in
        [(&b"./a/"[..], &b"a"[..]), (b".//./a//", b"a"), (b"./", b""), (b".", b""), (b"/", b"/"), (b"../a", b"../a")]
    {
        assert_eq!(plain(name), expected);
    }
}

/// Streams that fuzzing found in the Python reader: refused, or told alike in any pieces; and what is told can be told on.
#[test]
fn cases_of_the_fuzzer() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/cases");
    let mut count = 0;
    for target in ["header", "gate", "tail"] {
        for case in std::fs::read_dir(cases.join(target)).unwrap() {
            let data = std::fs::read(case.unwrap().path()).unwrap();
            let answer = |step| scan(&data, step).map(|(_, found)| found).map_err(|error| error.message);
            assert_eq!(answer(7), answer(1 << 20));
            for event in answer(511).into_iter().flatten() {
                let Event::Entry(entry) = event else { continue };
                let content = Content::of(&entry);
                assert_eq!(Content::parse(&content.text()), Some(content));
            }
            count += 1;
        }
    }
    assert!(count >= 9);
    let bad = |name: &str| refused(&std::fs::read(cases.join(name)).unwrap());
    assert!(bad("header/time-of-88-bits.bin").starts_with("the impossible number"));
    assert_eq!(bad("header/record-that-was-read-without-end.bin"), "a pax record cannot be read");
    assert_eq!(bad("tail/attribute-with-nul-in-its-name.bin"), "an extended attribute with an impossible name");
    bad("header/number-below-zero.bin");
}
