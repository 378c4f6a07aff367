use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{symlink, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use tempfile::TempDir;

use super::*;
use crate::strangers::{file, gzip, header, long_name, node, octal, pax, Header, END};

/// A volume within a world that must stay as it is.
struct Ground {
    top: TempDir,
}

impl Ground {
    fn new() -> Self {
        let top = TempDir::new().unwrap();
        for name in ["world", "world/volume", "spool"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        fs::write(top.path().join("world/victim"), "untouched").unwrap();
        Self { top }
    }

    fn restore_stored(&self, stored: &[u8], limits: Limits) -> Result<Report> {
        let mut pieces = stored.chunks(10_000).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
        let chunks = move || Ok(pieces.next());
        let (root, spool) = (self.top.path().join("world/volume"), self.top.path().join("spool"));
        let result = restore(&root, &spool, limits, chunks, &mut || Ok(()));
        assert_eq!(fs::read_dir(spool).unwrap().count(), 0, "the spool");
        assert_eq!(fs::read(self.top.path().join("world/victim")).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(self.top.path().join("world")).unwrap().count(), 2, "the world");
        result
    }

    fn restore(&self, blocks: &[Vec<u8>]) -> Result<Report> {
        let limits = Limits { max_bytes: Some(4 << 20), max_entries: 1000 };
        self.restore_stored(&gzip(&[&blocks.concat()[..], &END].concat()), limits)
    }

    fn tree(&self) -> Vec<String> {
        let mut all = Vec::new();
        describe(&self.top.path().join("world/volume"), "", &mut all);
        all.sort();
        all
    }
}

fn describe(directory: &Path, above: &str, all: &mut Vec<String>) {
    for found in fs::read_dir(directory).unwrap() {
        let path = found.unwrap().path();
        let name = format!("{above}{}", show(path.file_name().unwrap().as_bytes()));
        let facts = fs::symlink_metadata(&path).unwrap();
        let (kind, mode) = (facts.file_type(), facts.mode() & 0o7777);
        if kind.is_dir() {
            all.push(format!("{name}/ {mode:04o}"));
            describe(&path, &format!("{name}/"), all);
        } else if kind.is_symlink() {
            all.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else if kind.is_file() {
            let what = if facts.len() < 100 {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            } else {
                format!("{} bytes", facts.len())
            };
            all.push(format!("{name} {mode:04o} {what}"));
        } else {
            let what = if kind.is_fifo() {
                "fifo"
            } else if facts.rdev() == 0 {
                "whiteout"
            } else {
                "device"
            };
            all.push(format!("{name} {what} {mode:04o}"));
        }
    }
}

fn end_of(blocks: &[Vec<u8>]) -> Option<Code> {
    Ground::new().restore(blocks).err().map(|error| error.code)
}

fn is_corrupt(blocks: &[Vec<u8>]) -> bool {
    end_of(blocks) == Some(Code::ArchiveCorrupt)
}

/// The tree that a harmless archive leaves, and what was left out of it (but owners, which only root can set).
fn made(blocks: &[Vec<u8>]) -> (Vec<String>, Vec<(String, u64)>) {
    let ground = Ground::new();
    let mut report = ground.restore(blocks).unwrap();
    report.skipped.remove("owners");
    (ground.tree(), report.skipped.into_iter().collect())
}

fn skipped(blocks: &[Vec<u8>]) -> Vec<(String, u64)> {
    made(blocks).1
}

fn f() -> Vec<u8> {
    file("f", b"evil")
}

fn moded(name: &str, kind: u8, mode: u32) -> Vec<u8> {
    Header { mode: format!("{mode:07o}\0").into_bytes(), ..header(name, kind) }.block()
}

fn directory(name: &str) -> Vec<u8> {
    moded(name, b'5', 0o755)
}

fn hard(name: &str, target: &str) -> Vec<u8> {
    node(name, b'1', target)
}

fn soft(name: &str, target: &str) -> Vec<u8> {
    node(name, b'2', target)
}

fn device() -> Vec<u8> {
    Header { device: b"0000010\0".repeat(2), ..header("sda", b'4') }.block()
}

fn out() -> Vec<u8> {
    soft("out", "..")
}

#[test]
fn a_tree_is_restored() {
    let ground = Ground::new();
    let timed = Header { mtime: octal(7), mode: b"0000755\0".to_vec(), ..header("d/", b'5') }.block();
    let sparse: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"2,4"), ("GNU.sparse.size", b"1048576")];
    let blocks = [
        directory("./"),
        timed,
        file("d/f", b"evil"),
        hard("h", "d/f"),
        soft("l", "/etc/passwd"),
        node("p", b'6', ""),
        [pax(&sparse), file("s", b"hole")].concat(),
        file("far/off", b""),
        pax(&[("SCHILY.xattr.user.x", b"1")]),
        f(),
    ];
    let report = ground.restore(&blocks).unwrap();
    assert_eq!((report.files, report.bytes), (4, 4 + (1 << 20) + 4));
    let expected = [
        "d/ 0755",
        "d/f 0644 evil",
        "f 0644 evil",
        "far/ 0755",
        "far/off 0644 ",
        "h 0644 evil",
        "l -> /etc/passwd",
        "p fifo 0644",
        "s 0644 1048576 bytes",
    ];
    assert_eq!(ground.tree(), expected);
    let volume = ground.top.path().join("world/volume");
    assert_eq!(fs::symlink_metadata(volume.join("d")).unwrap().mtime(), 7);
    let sparse = fs::metadata(volume.join("s")).unwrap();
    assert!(sparse.blocks() < 100);
    assert_eq!(&fs::read(volume.join("s")).unwrap()[..8], b"\0\0hole\0\0");
}

#[test]
fn a_volume_that_holds_something_is_left_alone() {
    let ground = Ground::new();
    let volume = ground.top.path().join("world/volume");
    fs::create_dir(volume.join("lost+found")).unwrap();
    ground.restore(&[f()]).unwrap();
    let error = ground.restore(&[f()]).unwrap_err();
    assert_eq!(error.code, Code::VolumeConflict);
    assert_eq!(ground.tree(), ["f 0644 evil", "lost+found/ 0755"]);
}

#[test]
fn a_root_that_is_a_link_is_refused() {
    let ground = Ground::new();
    let volume = ground.top.path().join("world/volume");
    fs::remove_dir(&volume).unwrap();
    symlink("..", &volume).unwrap();
    assert!(ground.restore(&[f()]).is_err());
}

#[test]
fn nothing_is_written_through_a_link() {
    for blocks in [
        [out(), file("out/victim", b"evil")],
        [out(), file("out/new", b"evil")],
        [out(), directory("out/new")],
        [out(), soft("out/new", "x")],
        [soft("out/new", "x"), out()],
        [out(), hard("h", "out/victim")],
        [out(), node("out/w", b'3', "")],
        [soft("link", "../victim"), file("link", b"evil")],
        [file("link", b"evil"), soft("link", "../victim")],
        [directory("link"), soft("link", "..")],
        [soft("link", ".."), directory("link")],
        [node("link", b'6', ""), soft("link", "..")],
        [f(), hard("../link", "f")],
        [f(), hard("h", "../victim")],
        [f(), hard("h", "/etc/passwd")],
    ] {
        assert!(is_corrupt(&blocks));
    }
    assert!(is_corrupt(&[f(), out(), hard("out/new", "f")]));
    assert!(is_corrupt(&[soft("link", "../victim"), hard("h", "link"), file("h", b"evil")]));
}

#[test]
fn links_are_text_and_further_names() {
    for (blocks, tree) in [
        (vec![soft("a", "b"), soft("b", "a")], vec!["a -> b", "b -> a"]),
        (vec![soft("a", "a")], vec!["a -> a"]),
        (vec![soft("a", "y"), soft("a", "x")], vec!["a -> x"]),
        (vec![soft("l", "../victim"), hard("z", "l")], vec!["l -> ../victim", "z -> ../victim"]),
        (vec![f(), hard("h", "f"), hard("h", "f")], vec!["f 0644 evil", "h 0644 evil"]),
        (
            vec![f(), Header { mode: b"0006777\0".to_vec(), link: b"f".to_vec(), ..header("h", b'1') }.block()],
            vec!["f 0644 evil", "h 0644 evil"],
        ),
    ] {
        assert_eq!(made(&blocks), (tree.into_iter().map(str::to_owned).collect(), vec![]));
    }
    let long = "x/".repeat(2047);
    assert_eq!(made(&[long_name(b'K', long.as_bytes()), soft("l", "")]).0, [format!("l -> {long}")]);
}

#[test]
fn hard_links_lead_to_files() {
    for blocks in [
        vec![hard("h", "missing")],
        vec![directory("d"), hard("h", "d")],
        vec![hard("h", ".")],
        vec![hard("h", "h")],
        vec![hard("a", "b"), hard("b", "a")],
        vec![hard("h", "sda"), device()],
        vec![node("w", b'3', ""), hard("h", "w"), file("w", b"evil")],
        vec![f(), file("h", b"x"), hard("h", "f")],
        vec![directory("d"), f(), hard("d", "f")],
        vec![file("f", b"good"), hard("h", "f"), f()],
    ] {
        assert!(is_corrupt(&blocks));
    }
    let (tree, skipped) = made(&[device(), hard("h", "sda"), hard("i", "h"), f()]);
    assert_eq!((tree, skipped), (vec!["f 0644 evil".to_owned()], vec![("devices".to_owned(), 3)]));
}

#[test]
fn kinds_do_not_replace_one_another_but_where_tars_do() {
    for blocks in [
        [f(), file("f/victim", b"evil")],
        [f(), directory("f")],
        [directory("d"), file("d", b"evil")],
        [file("d/f", b"evil"), file("d", b"evil")],
        [directory("d"), node("d", b'6', "")],
        [directory("w"), node("w", b'3', "")],
        [node("w", b'3', ""), file("w/f", b"")],
        [f(), file(".", b"evil")],
        [f(), node("./", b'3', "")],
        [f(), soft("./", "..")],
    ] {
        assert!(is_corrupt(&blocks));
    }
    for (blocks, tree) in [
        ([file("f", b"first"), file("f", b"2nd")], "f 0644 2nd"),
        ([node("p", b'6', ""), file("p", b"x")], "p 0644 x"),
        ([file("p", b"x"), node("p", b'6', "")], "p fifo 0644"),
        ([moded("d", b'5', 0o700), directory("d")], "d/ 0755"),
        ([directory("d"), moded("d", b'5', 0o500)], "d/ 0500"),
    ] {
        assert_eq!(made(&blocks).0, [tree]);
    }
}

#[test]
fn what_a_stranger_may_not_give_is_counted() {
    let count = |kind: &str, count| vec![(kind.to_owned(), count)];
    assert_eq!(
        skipped(&[device(), Header { device: b"0000001\0".repeat(2), ..header("n", b'3') }.block()]),
        count("devices", 2)
    );
    let trusted = pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]);
    assert_eq!(skipped(&[trusted, directory("d")]), count("trusted_xattrs", 1));
    let acl = pax(&[("SCHILY.xattr.system.posix_acl_default", b"x")]);
    assert_eq!(skipped(&[acl, directory("d")]), count("system_xattrs", 1));
    assert_eq!(skipped(&[pax(&[("SCHILY.xattr.x", b"1")]), f()]), count("x_xattrs", 1));
    assert_eq!(skipped(&[pax(&[("SCHILY.xattr.user.x", b"1")]), soft("l", "x")]), count("user_xattrs", 1));
    assert_eq!(skipped(&[pax(&[("SCHILY.acl.access", b"user::rwx")]), f()]), count("acls", 1));
    let (tree, left_out) = made(&[moded("su", b'0', 0o6755), moded("d", b'5', 0o3777)]);
    assert_eq!((tree, left_out), (vec!["d/ 3777".to_owned(), "su 0755 ".to_owned()], count("setuid", 1)));
}

#[test]
fn an_archive_does_not_choose_how_long_the_report_is() {
    let mut blocks = Vec::new();
    for at in 0..100 {
        blocks.push(pax(&[(&format!("SCHILY.xattr.space{at}.x"), b"1")]));
        blocks.push(f());
    }
    blocks.extend([pax(&[("SCHILY.xattr.\n.x", b"1")]), f()]);
    let skipped = skipped(&blocks);
    assert!(skipped.len() <= MOST_KINDS + 1 && skipped.iter().map(|(_, count)| count).sum::<u64>() == 101);
    assert!(skipped.contains(&("other_xattrs".into(), 101 - MOST_KINDS as u64)));
}

#[test]
fn whiteouts_are_made_where_they_can_be() {
    let (tree, skipped) = made(&[node("w", b'3', ""), hard("h", "w")]);
    if skipped.is_empty() {
        assert_eq!(tree, ["h whiteout 0644", "w whiteout 0644"]);
    } else {
        assert_eq!(skipped, [("whiteouts".to_owned(), 2)]);
    }
}

#[test]
fn limits_hold() {
    let named = |at: usize| file(&format!("f{at}"), b"");
    let deep = pax(&[("path", "n/".repeat(1001).as_bytes())]);
    for blocks in [
        (0..1001).map(named).collect(),
        vec![file("f", b""); 1001],
        vec![deep, node("x", b'5', "")],
        (0..9).map(|at| [pax(&[("path", format!("{at}{}", "/n".repeat(200)).as_bytes())]), f()].concat()).collect(),
        (0..1001).map(|at| soft(&format!("l{at}"), "x")).collect(),
        // Directories that only links need are counted as well.
        (0..9)
            .map(|at| [pax(&[("path", format!("{at}{}", "/n".repeat(200)).as_bytes())]), soft("l", "x")].concat())
            .collect(),
        vec![node("d", b'4', ""); 1001],
        vec![node("d", b'3', ""); 1001],
        vec![file("f", &vec![0; 5 << 20])],
        vec![pax(&[("path", b"f")]); 5000],
    ] {
        assert_eq!(end_of(&blocks), Some(Code::ArchiveTooLarge));
    }
    let bomb = Header { size: octal(0o77_777_777_777), ..header("bomb", b'0') }.block();
    let bomb = gzip(&[bomb, vec![0; 16 << 20]].concat());
    let none = Limits { max_bytes: Some(0), ..Limits::default() };
    for (stored, limits) in [(bomb, Limits { max_bytes: Some(4 << 20), ..none }), (gzip(&f()), none)] {
        assert_eq!(Ground::new().restore_stored(&stored, limits).unwrap_err().code, Code::ArchiveTooLarge);
    }
    assert_eq!(bound_of(Limits::default(), 7).code, Code::NoSpace);
    assert_eq!(bound_of(Limits { max_bytes: Some(9), max_entries: 1 }, 7).limit, 7);
}

#[test]
fn an_archive_without_end_is_none() {
    let cut = |raw: &[u8]| Ground::new().restore_stored(&gzip(raw), Limits::default()).unwrap_err().code;
    for raw in [f(), [f(), vec![0; 512]].concat(), f()[..520].to_vec(), Vec::new()] {
        assert_eq!(cut(&raw), Code::ArchiveCorrupt);
    }
    let two = [f(), END.to_vec(), f(), END.to_vec()].concat();
    assert_eq!(cut(&two), Code::ArchiveCorrupt);
}

#[test]
fn a_directory_that_shuts_its_owner_out_is_closed_last() {
    let ground = Ground::new();
    let blocks = [
        moded("./", b'5', 0o755),
        moded("d", b'5', 0),
        moded("d/e", b'5', 0o100),
        file("d/e/f", b"x"),
        soft("d/l", "x"),
    ];
    ground.restore(&blocks).unwrap();
    let volume = ground.top.path().join("world/volume");
    assert_eq!(fs::metadata(volume.join("d")).unwrap().mode() & 0o7777, 0);
    fs::set_permissions(volume.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::metadata(volume.join("d/e")).unwrap().mode() & 0o7777, 0o100);
}
