//! Tampered data segments: digests are right, so what is tested is the wall behind them.

use std::path::Path;

use crate::abilities::Abilities;
use crate::error::{Code, Result};
use crate::hostile::{data, file, file_entry, files, honest, long_name, octal, pax, Block, Forged};
use crate::lanes::Lane;
use crate::tar::END_OF_ARCHIVE;
use crate::unpack::Unpacker;

const OUT: &[u8] = b"../../victim";

/// Unpack into a volume beside a victim; whether that stayed as it was is checked.
pub fn unpack(forged: &Forged, check: impl FnOnce(&Path)) -> Result<serde_json::Value> {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("a/volume");
    for below in ["b", "d"] {
        std::fs::create_dir_all(volume.join(below)).unwrap();
    }
    std::fs::write(dir.path().join("victim"), b"precious").unwrap();
    let mut beneath = crate::beneath::Beneath::open(&volume).unwrap();
    let mut lane = Unpacker::new(&volume, Abilities::probe(&mut beneath).unwrap()).unwrap();
    let mut run = || {
        lane.open(7, forged.segment.clone(), false)?;
        for payload in forged.stored.chunks(700) {
            lane.data(payload)?;
        }
        lane.close()
    };
    let outcome = run();
    assert_eq!(std::fs::read(dir.path().join("victim")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    check(&volume);
    outcome
}

#[track_caller]
fn refused(what: &str, forged: &Forged) {
    match unpack(forged, |_| ()) {
        Ok(done) => panic!("{what}: passed as {done}"),
        Err(error) => {
            assert_eq!(error.code, Code::ArchiveCorrupt, "{what}: {}", error.message);
            assert_eq!(error.details["segment"], 7, "{what}: {}", error.message);
        }
    }
}

fn evil(name: &[u8]) -> Vec<u8> {
    file(name, b"evil")
}

/// One behind a header of one record.
fn behind(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    [pax(pairs, b'x'), evil(b"f")].concat()
}

#[test]
fn names() {
    let any = |raw: &[u8]| files(raw, b"a", b"z", 1);
    let f = |raw: &[u8]| files(raw, b"f", b"f", 1);
    let endless = [&b"n/".repeat(40_000)[..], b"n"].concat();
    let by_prefix = |name: &[u8], prefix: &[u8]| Block { name, prefix, ..Block::default() }.bytes();
    for (what, forged) in [
        ("absolute name", any(&evil(b"/victim"))),
        ("parent name", any(&evil(OUT))),
        ("parent inside", any(&evil(b"b/../../x"))),
        ("dot component", any(&evil(b"b/./x"))),
        ("leading dot", files(&evil(b"./b"), b"b", b"b", 1)),
        ("leading dot and two slashes", files(&evil(b".//b"), b"b", b"b", 1)),
        ("leading dot by prefix", files(&by_prefix(b"/b", b"."), b"b", b"b", 1)),
        ("leading dot by path", files(&behind(&[(b"path", b"./b")]), b"b", b"b", 1)),
        ("doubled slash", any(&evil(b"b//x"))),
        ("slash at its end", any(&evil(b"b/"))),
        ("empty name", any(&evil(b""))),
        ("component of 256 bytes", any(&behind(&[(b"path", &[b'n'; 256])]))),
        ("prefix out", files(&by_prefix(b"x", b".."), b"x", b"x", 1)),
        ("path out", f(&behind(&[(b"path", OUT)]))),
        ("path with NUL", f(&behind(&[(b"path", b"f\0/../x")]))),
        ("empty path", f(&behind(&[(b"path", b"")]))),
        ("path twice", f(&behind(&[(b"path", b"g"), (b"path", b"f")]))),
        ("path beyond every limit", any(&behind(&[(b"path", &endless)]))),
        ("same name twice", files(&[evil(b"f"), evil(b"f")].concat(), b"f", b"f", 2)),
        ("file below a file", files(&[evil(b"f"), evil(b"f/g")].concat(), b"f", b"f/g", 2)),
        ("names out of order", files(&[evil(b"g"), evil(b"f")].concat(), b"f", b"g", 2)),
        ("name before the range", files(&evil(b"a"), b"b", b"b", 1)),
        ("first name before the range", files(&[evil(b"a"), evil(b"m")].concat(), b"b", b"m", 2)),
        ("name behind the range", files(&evil(b"c"), b"b", b"b", 1)),
        ("range that leads out", files(&evil(b"c"), b"..", b"z", 1)),
    ] {
        refused(what, &forged);
    }
}

#[test]
fn kinds() {
    for (what, kind, link, device) in [
        ("symbolic link", b'2', &b".."[..], b"0000000\0"),
        ("hard link", b'1', b"/etc/passwd", b"0000000\0"),
        ("directory", b'5', b"", b"0000000\0"),
        ("FIFO", b'6', b"", b"0000000\0"),
        ("device", b'4', b"", b"0000010\0"),
        ("whiteout", b'3', b"", b"0000000\0"),
        ("contiguous file", b'7', b"", b"0000000\0"),
        ("old file type", 0, b"", b"0000000\0"),
        ("GNU sparse file", b'S', b"", b"0000000\0"),
        ("multi-volume part", b'M', b"", b"0000000\0"),
        ("unknown type", b'Q', b"", b"0000000\0"),
        ("file with a link", b'0', b"x", b"0000000\0"),
        ("file with a device", b'0', b"", b"0000001\0"),
    ] {
        refused(what, &files(&Block { kind, link, device, ..Block::default() }.bytes(), b"a", b"z", 1));
    }
}

#[test]
fn headers() {
    let f = |raw: &[u8]| files(raw, b"f", b"f", 1);
    let of = |block: Block| f(&block.bytes());
    let before = |head: Vec<u8>| f(&[head, evil(b"f")].concat());
    for (what, forged) in [
        ("GNU long name", f(&[long_name(b"f", b'L'), evil(b"x")].concat())),
        ("GNU long link", before(long_name(OUT, b'K'))),
        ("GNU magic", of(Block { magic: b"ustar  \0", ..Block::default() })),
        ("old magic", of(Block { magic: &[0; 8], ..Block::default() })),
        ("global header", before(pax(&[(b"mtime", b"1")], b'g'))),
        ("global path", before(pax(&[(b"path", OUT)], b'g'))),
        ("link path", f(&behind(&[(b"linkpath", OUT)]))),
        ("sparse name", f(&behind(&[(b"GNU.sparse.name", OUT), (b"GNU.sparse.major", b"1")]))),
        ("character set", f(&behind(&[(b"hdrcharset", b"BINARY")]))),
        ("dump of a directory", f(&behind(&[(b"GNU.dumpdir", b"Yx\0\0")]))),
        ("comment", f(&behind(&[(b"comment", b"x")]))),
        ("ACL as text", f(&behind(&[(b"SCHILY.acl.default", b"other::rwx")]))),
        ("attribute without a name", f(&behind(&[(b"SCHILY.xattr.", b"1")]))),
        ("attribute with NUL in its name", f(&behind(&[(b"SCHILY.xattr.user.a\0b", b"1")]))),
        (
            "two extended headers",
            f(&[pax(&[(b"uid", b"1")], b'x'), pax(&[(b"path", b"g")], b'x'), evil(b"f")].concat()),
        ),
        ("extended headers without end", before(pax(&[(b"path", &[b'n'; 4000])], b'x').repeat(1500))),
        ("extended header for nothing", f(&[evil(b"f"), pax(&[(b"path", b"g")], b'x')].concat())),
        ("extended header of a gigabyte", of(Block { kind: b'x', size: octal(1 << 30), ..Block::default() })),
        (
            "record of odd length",
            before([Block { kind: b'x', size: octal(9), ..Block::default() }.bytes(), data(b"09 uid=1\n")].concat()),
        ),
        ("wrong checksum", of(Block { checksum: Some(b"000000\0 "), ..Block::default() })),
        ("checksum of another form", {
            let mut raw = evil(b"f");
            raw[154..156].copy_from_slice(b" \0");
            f(&raw)
        }),
    ] {
        refused(what, &forged);
    }
}

#[test]
fn numbers() {
    let f = |raw: &[u8]| files(raw, b"f", b"f", 1);
    let sized = |size: &[u8; 12]| f(&[Block { size: *size, ..Block::default() }.bytes(), data(b"evil")].concat());
    let nines = [b'9'; 5000];
    for (what, forged) in [
        ("size in base 256", sized(b"\x80\0\0\0\0\0\0\0\0\0\0\x04")),
        ("size as Python reads it", sized(b"0o4       \0\0")),
        ("size with an underscore", sized(b"0000000000_4")),
        ("size below zero", sized(&[0xff; 12])),
        ("size with a space", sized(b"0000000004 \0")),
        ("size of 5,000 digits", f(&behind(&[(b"size", &nines)]))),
        ("size of a terabyte", f(&behind(&[(b"size", b"1099511627776")]))),
        ("size with a plus sign", f(&behind(&[(b"size", b"+4")]))),
        ("mode below zero", f(&Block { mode: b"-000644\0", ..Block::default() }.bytes())),
        ("owner of 5,000 digits", f(&behind(&[(b"uid", &nines)]))),
        ("owner that means no change", f(&behind(&[(b"uid", b"4294967295")]))),
        ("group beyond 64 bits", f(&behind(&[(b"gid", b"18446744073709551617")]))),
        ("time beyond all clocks", f(&behind(&[(b"mtime", &nines[..30])]))),
        ("time of 5,000 digits", f(&behind(&[(b"mtime", &nines)]))),
        ("time that is no number", f(&behind(&[(b"mtime", b"nan")]))),
    ] {
        refused(what, &forged);
    }
}

#[test]
fn extent() {
    let honest = || files(&evil(b"f"), b"f", b"f", 1);
    let stored = |change: fn(&mut Vec<u8>)| {
        let mut forged = honest();
        change(&mut forged.stored);
        forged.segment.stored_bytes = forged.stored.len() as u64;
        let mut crc64 = crate::crc64::Crc64::default();
        crc64.update(&forged.stored);
        forged.segment.crc64 = crc64.sum();
        forged
    };
    let stated = |change: fn(&mut crate::segment::Segment)| {
        let mut forged = honest();
        change(&mut forged.segment);
        forged
    };
    let both = [evil(b"f"), evil(b"g")].concat();
    let inside = [evil(b"f"), END_OF_ARCHIVE.to_vec(), evil(b"g")].concat();
    let long = file(b"f", &[0; 1000]);
    for (what, forged) in [
        ("one more than stated", files(&both, b"f", b"g", 1)),
        ("one less than stated", files(&evil(b"f"), b"f", b"f", 2)),
        ("nothing", files(b"", b"f", b"f", 1)),
        ("file cut off", files(&long[..long.len() - 512], b"f", b"f", 1)),
        ("header cut off", files(&evil(b"f")[..300], b"f", b"f", 1)),
        ("end of archive inside", files(&inside, b"f", b"g", 2)),
        ("end of archive behind", files(&[evil(b"f"), END_OF_ARCHIVE.to_vec()].concat(), b"f", b"f", 1)),
        ("block of garbage behind", files(&[evil(b"f"), vec![b'x'; 512]].concat(), b"f", b"f", 1)),
        ("another last", files(&evil(b"f"), b"f", b"g", 1)),
        ("other digest", stated(|segment| segment.digest = Some(blake3::hash(b"")))),
        ("no digest", stated(|segment| segment.digest = None)),
        ("other checksum", stated(|segment| segment.crc64 = 0)),
        ("other stored length", stated(|segment| segment.stored_bytes += 1)),
        ("bomb: more than stated", stated(|segment| segment.raw_bytes = 700)),
        ("less than stated", stated(|segment| segment.raw_bytes = 1 << 40)),
        ("no gzip", stored(|stored| *stored = b"garbage, not a gzip member".to_vec())),
        ("nothing stored", stored(Vec::clear)),
        ("member cut off", stored(|stored| stored.truncate(stored.len() - 5))),
        ("member twice", stored(|stored| *stored = stored.repeat(2))),
        ("garbage behind the member", stored(|stored| stored.push(b'x'))),
    ] {
        refused(what, &forged);
    }
}

#[test]
fn honest_segments_pass() {
    let long = [b"d/".as_slice(), &[b'n'; 200]].concat();
    let mut attributed = file_entry("d/caf\u{e9}".as_bytes(), 1);
    attributed.xattrs = vec![(b"user.a=b%".to_vec(), b"\0=\n".to_vec())];
    attributed.mtime.nanos = 5;
    let of = [
        (file_entry(b"a", 0), &b""[..]),
        (file_entry(b"b/x", 4), b"good"),
        (attributed, b"x"),
        (file_entry(&long, 600), &[7; 600]),
        (file_entry(b"d0", 512), &[8; 512]),
    ];
    let forged = honest(&of);
    for _ in 0..2 {
        let done = unpack(&forged, |volume| {
            for (entry, content) in &of {
                let path = volume.join(std::str::from_utf8(&entry.path).unwrap());
                assert_eq!(std::fs::read(path).unwrap(), *content);
            }
        });
        let done = done.unwrap();
        assert_eq!((done["files"].as_u64(), done["bytes"].as_u64()), (Some(5), Some(1117)));
        assert_eq!(done["content"], forged.segment.content.text());
    }
}
