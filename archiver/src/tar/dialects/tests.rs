use proptest::prelude::*;

use super::*;
use crate::strangers::{base256, data, extended, file, header, long_name, node, octal, pax, pax_of, seal, Header, END};

struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        let length = usize::try_from(length).unwrap();
        if length > self.0.len() {
            return Err(corrupt("the archive ends early"));
        }
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(taken.to_vec())
    }
}

fn members_of(raw: &[u8]) -> Result<Vec<Member>> {
    let (mut source, mut members, mut all) = (Bytes(raw), Members::default(), Vec::new());
    while let Some(member) = members.next(&mut source)? {
        source.take(member.stored + padding_of(member.stored))?;
        all.push(member);
    }
    Ok(all)
}

/// What these blocks hold, with an end behind them.
fn read(blocks: &[Vec<u8>]) -> Result<Vec<Member>> {
    members_of(&[&blocks.concat()[..], &END].concat())
}

fn names(blocks: &[Vec<u8>]) -> Vec<String> {
    read(blocks).unwrap().iter().map(|member| show(&member.entry.path)).collect()
}

fn code_of(blocks: &[Vec<u8>]) -> Option<Code> {
    read(blocks).err().map(|error| error.code)
}

fn is_corrupt(blocks: &[Vec<u8>]) -> bool {
    code_of(blocks) == Some(Code::ArchiveCorrupt)
}

fn f() -> Vec<u8> {
    file("f", b"evil")
}

#[test]
fn names_come_from_where_they_should() {
    let prefixed = |magic: &[u8]| Header { prefix: b"p".to_vec(), magic: magic.to_vec(), ..header("f", b'0') }.block();
    for (blocks, name) in [
        (vec![f()], "f"),
        (vec![pax(&[("path", b"g")]), f()], "g"),
        (vec![pax(&[("path", b"f"), ("path", b"g")]), f()], "g"),
        (vec![pax(&[("path", b"x")]), pax(&[("path", b"g")]), f()], "g"),
        (vec![pax(&[("path", b"")]), f()], "f"),
        (vec![long_name(b'L', b"x"), pax(&[("path", b"g")]), f()], "g"),
        (vec![pax(&[("path", b"g")]), long_name(b'L', b"x"), f()], "g"),
        (vec![long_name(b'L', b"x"), long_name(b'L', b"g"), f()], "g"),
        (vec![long_name(b'L', b""), f()], "f"),
        (vec![long_name(b'L', b"ok\0/../victim"), f()], "ok"),
        (vec![long_name(b'L', b"x"), node("", b'V', ""), f()], "f"),
        (vec![extended(b'X', b"9 path=g\n"), f()], "g"),
        (vec![pax(&[("GNU.sparse.name", b"s"), ("path", b"g")]), f()], "s"),
        (vec![file("./a/./b//", b"")], "a/b"),
        (vec![file("ok\0/../victim", b"")], "ok"),
        (vec![node("./", b'5', "")], "."),
        (vec![prefixed(b"ustar\x0000")], "p/f"),
        (vec![prefixed(b"ustar  \0")], "f"),
        (vec![prefixed(&[0; 8])], "f"),
        (vec![extended(b'x', b""), f()], "f"),
        (vec![extended(b'x', b"0009 a=b\n"), f()], "f"),
    ] {
        assert_eq!(names(&blocks), [name]);
    }
}

#[test]
fn names_that_want_out_are_refused() {
    let overlong = format!("{}/", "n".repeat(200)).repeat(21);
    for name in [
        "/victim",
        "//victim",
        "../victim",
        "./../victim",
        "x/../../victim",
        "x/../y",
        "x/..",
        "..",
        "",
        "///",
        "ok\0/../victim",
        &"n".repeat(256),
        &overlong,
    ] {
        assert_eq!(normal_path(name.as_bytes()).unwrap_err().code, Code::ArchiveCorrupt);
        let name = name.as_bytes();
        if !name.is_empty() {
            assert!(is_corrupt(&[pax(&[("path", name)]), f()]));
            assert!(is_corrupt(&[f(), pax(&[("linkpath", name)]), node("h", b'1', "f")]));
        }
    }
    assert_eq!(normal_path(b".").unwrap(), b"");
    for name in [&b"..."[..], b".. ", b"C:\\..\\f", b"new\nline\xff", &[b'n'; 255]] {
        assert_eq!(normal_path(name).unwrap(), name);
    }
}

#[test]
fn records_that_cannot_be_read_are_refused() {
    for records in [
        &b"-5 a=bc\n"[..],
        b"99 a=bc\n",
        b"0 a=bcd\n",
        &[b'9'; 600],
        b"8 a=bcd!",
        b"7 abcd\n",
        b"7 =bcd\n",
        b"9 path=g",
        b"+8 a=bc\n",
        b" 8 a=bc\n",
    ] {
        assert!(is_corrupt(&[extended(b'x', records), f()]), "{}", show(records));
    }
    assert!(is_corrupt(&[Header { size: octal(1 << 30), ..header("", b'x') }.block()]));
    assert!(is_corrupt(&[Header { size: octal(1 << 30), ..header("", b'L') }.block()]));
    assert!(is_corrupt(&[Header { size: base256(-1, 12), ..header("", b'x') }.block()]));
    assert!(is_corrupt(&[pax(&[("path", b"f")])]));
    assert!(is_corrupt(&[long_name(b'L', b"f")]));
}

#[test]
fn a_global_header_speaks_for_all_but_of_none() {
    for (key, value) in [
        ("path", &b"g"[..]),
        ("linkpath", b"g"),
        ("size", b"0"),
        ("GNU.sparse.name", b"g"),
        ("GNU.sparse.map", b"0,4"),
        ("uid", b"4294967295"),
    ] {
        assert!(is_corrupt(&[pax_of(b'g', &[(key, value)]), f()]), "{key}");
    }
    let all = read(&[pax_of(b'g', &[("mtime", b"5")]), f(), pax(&[("mtime", b"6")]), f(), f()]).unwrap();
    assert_eq!(all.iter().map(|member| member.entry.mtime.seconds).collect::<Vec<_>>(), [5, 6, 5]);
    assert!(read(&[pax_of(b'g', &[("comment", b"x")])]).unwrap().is_empty());
    let endless: Vec<_> = (0..2500).map(|at| pax_of(b'g', &[(&format!("k{at}"), &[b'v'; 900])])).collect();
    assert!(is_corrupt(&endless));
}

#[test]
fn numbers_have_ranges() {
    let sized = |size: &[u8]| Header { size: size.to_vec(), ..header("f", b'0') }.block();
    for size in [&base256(4, 12)[..], b"00000000004\0", b"   4 \0 \0    "] {
        assert_eq!(read(&[sized(size), data(b"evil")]).unwrap()[0].entry.size, 4);
    }
    for size in [
        &base256(-1, 12)[..],
        &[&b"\x80"[..], &[0x7f; 11]].concat(),
        b"77777777777\0",
        b"0x10       \0",
        b"0o4       \0\0",
        b"0000000000_4",
        b"-0000000004\0",
        b"4 4\0\0\0\0\0\0\0\0\0",
    ] {
        assert!(is_corrupt(&[sized(size), data(b"evil")]), "{}", show(size));
    }
    for (key, value) in [
        ("size", &b"-1"[..]),
        ("size", b"18446744073709551617"),
        ("size", &[b'9'; 5000]),
        ("size", b"+4"),
        ("size", b"1_0"),
        ("uid", b"4294967295"),
        ("gid", b"99999999999"),
        ("mtime", b"nan"),
        ("mtime", b"99999999999"),
        ("mtime", b"--1"),
        ("mtime", b"1.x"),
        ("mtime", b".5"),
    ] {
        assert!(is_corrupt(&[pax(&[(key, value)]), f()]), "{key}={}", show(value));
    }
    let ids = |ids: Vec<u8>| Header { ids, ..header("f", b'0') }.block();
    let entry = &read(&[ids([base256(1, 8), base256(4_294_967_294, 8)].concat())]).unwrap()[0].entry;
    assert_eq!((entry.uid, entry.gid), (1, 4_294_967_294));
    assert!(is_corrupt(&[ids(base256(-2, 8).repeat(2))]));
    assert!(is_corrupt(&[ids(base256(4_294_967_295, 8).repeat(2))]));
    let mode = |mode: &[u8]| Header { mode: mode.to_vec(), ..header("f", b'0') }.block();
    assert!(is_corrupt(&[mode(b"rw-r--r-")]));
    assert_eq!(read(&[mode(b"7777755\0")]).unwrap()[0].entry.mode, 0o7755);
}

#[test]
fn times_may_be_before_1970() {
    let of = |text: &[u8]| time(text).unwrap();
    for (text, seconds, nanos) in [
        (&b"0"[..], 0, 0),
        (b"1.5", 1, 500_000_000),
        (b"1.0000000019", 1, 1),
        (b"1.", 1, 0),
        (b"-1", -1, 0),
        (b"-1.000000001", -2, 999_999_999),
        (b"-0.25", -1, 750_000_000),
        (b"9223372035.999999999", 9_223_372_035, 999_999_999),
    ] {
        assert_eq!(of(text), Time { seconds, nanos }, "{}", show(text));
    }
    assert!(time(b"9223372036").is_err());
    assert_eq!(seconds(&base256(-1, 12)).unwrap(), -1);
    assert_eq!(seconds(b"00000000007\0").unwrap(), 7);
    assert!(seconds(&[&b"\x80"[..], &[0xff; 11]].concat()).is_err());
    assert!(seconds(&base256(-9_223_372_036, 12)).is_err());
}

#[test]
fn checksums_of_both_kinds_pass() {
    let high = Header { name: b"caf\xe9".to_vec(), ..header("", b'0') };
    let unsigned = high.block();
    let sum = u32::from_str_radix(std::str::from_utf8(&unsigned[148..154]).unwrap(), 8).unwrap() - 256;
    let signed = Header { checksum: Some(format!("{sum:06o}\0 ").as_bytes().try_into().unwrap()), ..high };
    assert_eq!(read(&[unsigned, signed.block()]).unwrap().len(), 2);
    for checksum in [*b"000000\0 ", [b' '; 8]] {
        assert!(is_corrupt(&[Header { checksum: Some(checksum), ..header("f", b'0') }.block()]));
    }
}

#[test]
fn ends_must_be_whole() {
    assert_eq!(members_of(&END).unwrap(), []);
    for raw in [&b""[..], &END[..512], &[f(), END[..512].to_vec()].concat(), &f()[..700]] {
        assert!(members_of(raw).is_err());
    }
    assert!(is_corrupt(&[f(), END[..512].to_vec(), f()]));
}

#[test]
fn kinds_that_are_unknown_are_not_guessed() {
    for kind in *b"MDNQA" {
        assert_eq!(code_of(&[node("f", kind, "")]), Some(Code::Unsupported));
    }
    for (kind, expected) in [
        (0, Kind::File),
        (b'7', Kind::File),
        (b'1', Kind::HardLink),
        (b'2', Kind::Symlink),
        (b'3', Kind::CharacterDevice),
        (b'4', Kind::BlockDevice),
        (b'5', Kind::Directory),
        (b'6', Kind::Fifo),
    ] {
        assert_eq!(read(&[node("f", kind, "x")]).unwrap()[0].entry.kind, expected);
    }
    assert_eq!(read(&[node("d/", b'0', "")]).unwrap()[0].entry.kind, Kind::Directory);
}

#[test]
fn links_have_possible_targets() {
    let long = [b'x'; PATH_MAX];
    for target in [&b""[..], b"x\0/../y", &long] {
        assert!(is_corrupt(&[pax(&[("linkpath", target)]), node("l", b'2', "")]));
    }
    let members = read(&[long_name(b'K', &long[1..]), node("l", b'2', ""), node("h", b'1', "./f")]).unwrap();
    assert_eq!(members[0].entry.target, long[1..]);
    assert_eq!(members[1].entry.target, b"f");
}

#[test]
fn whiteouts_are_known_for_sure() {
    let device = |kind, device: &[u8], magic: &[u8]| {
        Header { device: device.to_vec(), magic: magic.to_vec(), ..header("w", kind) }.block()
    };
    let is_whiteout = |blocks: &[Vec<u8>]| read(blocks).unwrap()[0].entry.is_whiteout();
    for field in [b"0000000\0", b"     0 \0", b"000000 \0", b"0\0\0\0\0\0\0\0"] {
        assert!(is_whiteout(&[device(b'3', &field.repeat(2), b"ustar  \0")]));
        assert!(!is_whiteout(&[device(b'4', &field.repeat(2), b"ustar  \0")]));
        assert!(!is_whiteout(&[device(b'3', &field.repeat(2), &[0; 8])]));
        for key in ["SCHILY.devmajor", "SCHILY.devminor"] {
            assert!(!is_whiteout(&[pax(&[(key, b"262144")]), device(b'3', &field.repeat(2), b"ustar  \0")]));
        }
    }
    for field in [
        b"0000001\0",
        b"\0\0\0\0\0\0\0\0",
        b"\x80\0\0\0\0\0\0\0",
        b"0000008\0",
        b"0x00000\0",
        b"0 00000\0",
        b"0\x00000001",
    ] {
        assert!(!is_whiteout(&[device(b'3', &field.repeat(2), b"ustar  \0")]));
    }
}

#[test]
fn attributes_have_names() {
    let of = |name: &str, value: &[u8]| read(&[pax(&[(&format!("SCHILY.xattr.{name}"), value)]), f()]);
    assert_eq!(of("user.a%3Db%25", b"1\0").unwrap()[0].entry.xattrs, [(b"user.a=b%".to_vec(), b"1\0".to_vec())]);
    for name in ["", &"n".repeat(300), "user.a\0b"] {
        assert_eq!(of(name, b"x").unwrap_err().code, Code::ArchiveCorrupt);
    }
    let member = &read(&[pax(&[("SCHILY.acl.access", b"user:nobody:rwx")]), f()]).unwrap()[0];
    assert!(member.has_acl && member.entry.xattrs.is_empty());
}

fn in_record(map: &[u8]) -> Vec<u8> {
    [pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", b"9")]), f()].concat()
}

fn in_data(text: &[u8]) -> Vec<u8> {
    let head: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
    [pax(&head), file("f", &[data(text), b"evil".to_vec()].concat())].concat()
}

fn pair(offset: u64, length: u64) -> Vec<u8> {
    [octal(offset), octal(length)].concat()
}

fn old(pairs: &[u8], real: &[u8], more: Option<Vec<u8>>) -> Vec<u8> {
    let mut block = Header { size: octal(4), magic: b"ustar  \0".to_vec(), ..header("f", b'S') }.block();
    block[345..].fill(0);
    block[386..386 + pairs.len()].copy_from_slice(pairs);
    block[482] = u8::from(more.is_some());
    block[483..495].copy_from_slice(real);
    seal(&mut block);
    [block, more.unwrap_or_default(), data(b"evil")].concat()
}

#[test]
fn sparse_files_of_all_four_kinds() {
    let repeated: [(&str, &[u8]); 5] = [
        ("GNU.sparse.size", b"9"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"5"),
        ("GNU.sparse.numbytes", b"1"),
    ];
    let mut more = [pair(0, 3), pair(5, 1)].concat();
    more.resize(512, 0);
    for blocks in [
        [pax(&repeated), f()].concat(),
        in_record(b"0,3,5,1"),
        in_data(b"2\n0\n3\n5\n1\n"),
        old(&[pair(0, 3), pair(5, 1)].concat(), &octal(9), None),
        old(&[], &octal(9), Some(more)),
    ] {
        let member = read(&[blocks, f()]).unwrap().remove(0);
        assert_eq!((member.stored, member.entry.size, member.extents), (4, 9, vec![(0, 3), (5, 1)]));
    }
}

#[test]
fn sparse_maps_that_lie_or_never_end_are_refused() {
    for map in [
        &b"0,4,2,4"[..],
        b"100,4",
        b"0,4,5",
        b"-4,4",
        b"0,9",
        b"0,1",
        b"9223372036854775807,4",
        b"4611686018427387904,4",
        b"0,4,",
    ] {
        assert!(is_corrupt(&[in_record(map)]), "{}", show(map));
    }
    let long = [&b"999999999\n"[..], &b"1\n".repeat(1 << 19)].concat();
    for map in [&long[..], &[b'1'; 2000], b"-1\n", b"1\nx\n4\n", b"1\n0\n", b""] {
        assert!(is_corrupt(&[in_data(map)]));
    }
    let endless = old(&pair(0, 4), &octal(9), Some(pair(0, 4).repeat(1)));
    for blocks in [
        endless,
        old(&[pair(0, 3), pair(2, 1)].concat(), &octal(9), None),
        old(&[base256(-4, 12), base256(4, 12)].concat(), &octal(9), None),
        old(&pair(100, 4), &octal(9), None),
        old(&pair(0, 4), &base256(-9, 12), None),
        [pax(&[("GNU.sparse.map", b"0,4")]), f()].concat(),
        [pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.offset", b"0")]), f()].concat(),
        [pax(&[("GNU.sparse.major", b"1")]), f()].concat(),
    ] {
        assert!(is_corrupt(&[blocks]));
    }
    assert_eq!(code_of(&[pax(&[("GNU.sparse.major", b"7")]), f()]), Some(Code::Unsupported));
}

proptest! {
    /// No panic, and no member that contradicts itself.
    #[test]
    fn any_block_is_a_member_or_an_error(
        block in prop::collection::vec(any::<u8>(), 512..=512),
        kind in prop::sample::select(b"0123456SxgLKV\0".to_vec()),
        size in 0_u64..3000,
        after in prop::collection::vec(any::<u8>(), 0..4096),
    ) {
        let mut block = block;
        block[100..136].copy_from_slice(&header("", b'0').block()[100..136]);
        block[124..136].copy_from_slice(&octal(size));
        block[136..148].copy_from_slice(&octal(7));
        block[156] = kind;
        seal(&mut block);
        if let Ok(members) = members_of(&[block, after].concat()) {
            for member in members {
                let sum: u64 = member.extents.iter().map(|(_, length)| length).sum();
                prop_assert_eq!(sum, member.stored);
                prop_assert!(member.entry.path.is_empty() || crate::entry::is_clean_path(&member.entry.path));
            }
        }
    }

    #[test]
    fn any_records_are_read_or_refused(records in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = read(&[extended(b'x', &records), f()]);
    }

    #[test]
    fn decimals_and_times_come_back(number in 0_u64..9_223_372_036, nanos in 0_u32..1_000_000_000) {
        prop_assert_eq!(decimal(number.to_string().as_bytes(), SIZE_LIMIT).unwrap(), number);
        let signed = i64::try_from(number).unwrap();
        for at in [Time { seconds: signed, nanos }, Time { seconds: -signed, nanos }] {
            prop_assert_eq!(time(super::super::write::format_time(at).as_bytes()).unwrap(), at);
        }
    }
}
