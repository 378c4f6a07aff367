//! A whole archive, and a volume that becomes something else at each moment of it: `VolumeChanged`, naming what.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt as _};

use proptest::prelude::*;
use rustix::fs::FileType;
use serde_json::json;

use super::*;
use crate::entry::digest_text;
use crate::frames::write_frame;
use crate::pack::tests::{inflate, read_members};
use crate::plan::cut::Limits;
use crate::plan::scan;
use crate::plan::tests::tiny;
use crate::trees::{is_root, make_rich_tree, new_tree, set_xattr, special, write};

type Members = Vec<(Value, Vec<u8>)>;

fn plan_of(root: &Path, limits: &Limits) -> PathBuf {
    let out = tempfile::Builder::new().prefix("plan-").tempdir_in(root.parent().unwrap()).unwrap().keep();
    scan(root, &out, limits, &mut |_| ()).unwrap();
    out
}

fn origin_frames(digests: &[blake3::Hash]) -> Vec<u8> {
    let mut input = Vec::new();
    let bytes: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
    let origin = json!({"archive_id": "a-1", "workspace_id": "caf\u{e9}"});
    write_frame(&mut input, json!({"origin": origin, "digests": digests.len()}), b"").unwrap();
    for payload in bytes.chunks(70) {
        write_frame(&mut input, json!({"digests": 0}), payload).unwrap();
    }
    input
}

/// Calls something once, when the data segments were told and before the second walk.
struct Between<'a> {
    output: Vec<u8>,
    after: u32,
    act: Option<Box<dyn FnOnce() + Send + 'a>>,
}

impl Write for Between<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let last = "{\"packed\":{\"content\"";
        self.output.extend_from_slice(data);
        if data.starts_with(last.as_bytes()) {
            self.after = self.after.saturating_sub(1);
        }
        if self.after == 0 {
            if let Some(act) = self.act.take() {
                act();
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Pack all from segment 1 on, with the tail; `after_reading` is called between the last read and the second walk.
fn archive<'a>(root: &Path, plan: &Path, after_reading: impl FnOnce() + Send + 'a) -> Result<Members> {
    let summary = Plan::open(plan)?.summary;
    let batch = Batch { from: 1, to: None, threads: 2, memory: 32 << 20 };
    let after = summary.data_segments as u32;
    let mut out = Between { output: Vec::new(), after, act: Some(Box::new(after_reading)) };
    answer(root, plan, &batch, &summary.change_fingerprint, &mut &origin_frames(&[])[..], &mut out)?;
    Ok(read_members(&out.output))
}

fn statement_of(raw: &[u8]) -> Value {
    let at = raw.windows(9).rposition(|window| window == b" comment=").unwrap() + 9;
    serde_json::Deserializer::from_slice(&raw[at..]).into_iter().next().unwrap().unwrap()
}

/// Everything is there: the statement agrees with what is before it, whoever packed which segments.
#[test]
fn the_statement_proves_the_archive() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let directory = plan_of(&tree, &Limits { segment_bytes: 5000, ..tiny() });
    let members = archive(&tree, &directory, || ()).unwrap();
    let plan = Plan::open(&directory).unwrap();
    let raw = inflate(&members);
    assert!(raw.ends_with(&[0; 1024]));
    let statement = statement_of(&raw);
    assert_eq!(statement["origin"], json!({"archive_id": "a-1", "workspace_id": "caf\u{e9}"}));
    assert_eq!(statement["content_fingerprint"], plan.summary.content_fingerprint.text());
    assert_eq!(statement["totals"], serde_json::to_value(&plan.summary.totals).unwrap());
    assert_eq!(statement["segments"], members.len() - 1);
    let table: Vec<_> = plan.segments(1).unwrap().map(|planned| planned.unwrap()).collect();
    assert_eq!(table.len(), members.len());
    assert!(table.iter().filter(|planned| !planned.is_data()).count() > 1);
    let digests: Vec<_> = members
        .iter()
        .map(|(packed, _)| crate::entry::parse_digest(packed["digest"].as_str().unwrap()).unwrap())
        .collect();
    let mut before = blake3::Hasher::new();
    for digest in &digests[..digests.len() - 1] {
        before.update(digest.as_bytes());
    }
    assert_eq!(statement["segments_digest"], digest_text(&before.finalize()));
    let last = inflate(&members[members.len() - 1..]);
    let header = last.windows(18).rposition(|window| window == b"./PaxHeaders/entry").unwrap();
    assert_eq!(statement["last_digest"], digest_text(&blake3::hash(&last[..header])));
    for ((packed, _), planned) in members.iter().zip(&table) {
        assert_eq!(packed["kind"], planned.segment.to_json()["kind"]);
        assert_eq!(packed["content"], planned.segment.content.text());
        if planned.segment.piece.is_some() {
            assert_eq!(packed["raw_bytes"], planned.segment.raw_bytes);
        }
    }

    // Another process that gets the digests of the first segments makes the same tail.
    let batch = Batch { from: 4, to: None, threads: 1, memory: 1 };
    let change = &plan.summary.change_fingerprint;
    let mut output = Vec::new();
    answer(&tree, &directory, &batch, change, &mut &origin_frames(&digests[..3])[..], &mut output).unwrap();
    assert!(inflate(&read_members(&output)) == inflate(&members[3..]));
    for wrong in [2, 4] {
        let error = answer(&tree, &directory, &batch, change, &mut &origin_frames(&digests[..wrong])[..], Vec::new());
        assert_eq!(error.unwrap_err().code, Code::InvalidInput);
    }
}

#[test]
fn input_that_is_no_origin() {
    for bad in [
        "",
        "{}\n",
        "{\"digests\": 0}\n",
        "{\"origin\": {}, \"digests\": 1}\n",
        "{\"origin\": {}, \"digests\": -1}\n",
        "{\"origin\": {}, \"digests\": 1}\n{}\n",
        "{\"origin\": 3, \"digests\": 0}\n",
    ] {
        assert_eq!(read_origin(&mut bad.as_bytes()).unwrap_err().code, Code::InvalidInput, "{bad}");
    }
}

#[test]
fn an_empty_volume_is_an_archive() {
    let (_outer, tree) = new_tree();
    let members = archive(&tree, &plan_of(&tree, &tiny()), || ()).unwrap();
    assert_eq!((members.len(), members[0].0["kind"].as_str()), (1, Some("tail")));
    assert_eq!(statement_of(&inflate(&members))["segments"], 0);
}

type Change = fn(&Path);
const NAME: &str = "directory/victim";

fn become_of(victim: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(victim).unwrap();
    make(victim);
}

fn move_the_directory_away(root: &Path) {
    fs::rename(root.join("directory"), root.parent().unwrap().join("outside")).unwrap();
}

const CHANGES: [(&str, Change); 13] = [
    ("shrinks", |root| fs::File::options().write(true).open(root.join(NAME)).unwrap().set_len(10).unwrap()),
    ("grows", |root| fs::File::options().append(true).open(root.join(NAME)).unwrap().write_all(b"more").unwrap()),
    ("vanishes", |root| fs::remove_file(root.join(NAME)).unwrap()),
    ("is replaced", |root| {
        fs::copy(root.join(NAME), root.join("directory/saved")).unwrap();
        fs::rename(root.join("directory/saved"), root.join(NAME)).unwrap();
    }),
    ("becomes a symbolic link", |root| become_of(&root.join(NAME), |victim| symlink("zz", victim).unwrap())),
    ("becomes a directory", |root| become_of(&root.join(NAME), |victim| fs::create_dir(victim).unwrap())),
    ("becomes a FIFO", |root| {
        become_of(&root.join(NAME), |_| assert!(special(root, NAME, FileType::Fifo, (0, 0))));
    }),
    ("gets another mode", |root| fs::set_permissions(root.join(NAME), fs::Permissions::from_mode(0o600)).unwrap()),
    ("gets an attribute", |root| assert!(set_xattr(&root.join(NAME), "user.new", b"1"))),
    ("gets another name", |root| fs::hard_link(root.join(NAME), root.join("zz")).unwrap()),
    ("goes with its directory", move_the_directory_away),
    ("has a directory that becomes a link", |root| {
        move_the_directory_away(root);
        symlink("../outside", root.join("directory")).unwrap();
    }),
    ("has a directory that becomes a file", |root| {
        fs::remove_dir_all(root.join("directory")).unwrap();
        write(root, "directory", "was a directory");
    }),
];

#[test]
fn a_file_that_changes_before_it_is_read_or_after() {
    for (what, change) in CHANGES {
        for size in [4000, 30_000] {
            for is_before in [true, false] {
                let (_outer, tree) = new_tree();
                write(&tree, "before", "before");
                write(&tree, "directory/zz", "behind");
                write(&tree, NAME, vec![b'x'; size]);
                let plan = plan_of(&tree, &tiny());
                if is_before {
                    change(&tree);
                }
                let error = archive(&tree, &plan, || {
                    if !is_before {
                        change(&tree);
                    }
                })
                .err()
                .unwrap();
                assert_eq!(error.code, Code::VolumeChanged, "{what}");
                let path = error.details["path"].as_str().unwrap();
                let is_of_directory = what.contains("directory") && what != "becomes a directory";
                let named = path == NAME || is_of_directory && ["directory", "directory/zz"].contains(&path);
                assert!(named, "{what}: {error}");
            }
        }
    }
}

#[test]
fn any_other_change_that_only_the_second_walk_sees() {
    let changes: [(&str, Change, &str); 16] = [
        ("a new file", |root| write(root, "new", ""), "new"),
        ("a new file in a directory", |root| write(root, "directory/a", ""), "directory/a"),
        ("a new directory", |root| fs::create_dir(root.join("empty/inner")).unwrap(), "empty/inner"),
        ("a directory goes", |root| fs::remove_dir(root.join("empty")).unwrap(), "empty"),
        (
            "a directory's mode",
            |root| fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o500)).unwrap(),
            "empty",
        ),
        (
            "a directory becomes a file",
            |root| {
                fs::remove_dir(root.join("empty")).unwrap();
                write(root, "empty", "");
            },
            "empty",
        ),
        ("a directory is renamed", |root| fs::rename(root.join("empty"), root.join("renamed")).unwrap(), "empty"),
        ("the root's mode", |root| fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap(), "."),
        ("a link goes", |root| fs::remove_file(root.join("link")).unwrap(), "link"),
        (
            "a link leads elsewhere",
            |root| become_of(&root.join("link"), |link| symlink("elsewhere", link).unwrap()),
            "link",
        ),
        ("a new link", |root| symlink("x", root.join("a link")).unwrap(), "a link"),
        ("a FIFO goes", |root| fs::remove_file(root.join("pipe")).unwrap(), "pipe"),
        ("a further name goes", |root| fs::remove_file(root.join("before too")).unwrap(), "before"),
        ("a new socket", |root| assert!(special(root, "directory/new socket", FileType::Socket, (0, 0))), "directory"),
        ("a socket goes", |root| fs::remove_file(root.join("socket")).unwrap(), "."),
        // A socket that no archive holds: said without a name, and no archive either.
        (
            "a socket's mode",
            |root| fs::set_permissions(root.join("socket"), fs::Permissions::from_mode(0o600)).unwrap(),
            "",
        ),
    ];
    for (what, change, path) in changes {
        let (_outer, tree) = new_tree();
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
        write(&tree, "before", "before");
        write(&tree, "directory/zz", "behind");
        fs::create_dir(tree.join("empty")).unwrap();
        symlink("before", tree.join("link")).unwrap();
        assert!(special(&tree, "pipe", FileType::Fifo, (0, 0)));
        assert!(special(&tree, "socket", FileType::Socket, (0, 0)));
        fs::hard_link(tree.join("socket"), tree.join("socket too")).unwrap();
        if is_root() && special(&tree, "device", FileType::CharacterDevice, (1, 3)) {
            fs::hard_link(tree.join("device"), tree.join("device too")).unwrap();
        }
        fs::hard_link(tree.join("before"), tree.join("before too")).unwrap();
        let plan = plan_of(&tree, &tiny());
        let error = archive(&tree, &plan, || change(&tree)).err().unwrap();
        assert_eq!(error.code, Code::VolumeChanged, "{what}");
        assert_eq!(error.details.get("path").and_then(Value::as_str).unwrap_or_default(), path, "{what}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// However a tree is cut, one behind the other the members are the same entries with the same data.
    #[test]
    fn any_tree_any_cut(
        files in proptest::collection::vec(("[ab]{1,2}(/[cd.]{3,4}){0,2}", proptest::collection::vec(any::<u8>(), 0..3000)), 0..20),
        segment_bytes in 1500u64..20_000,
    ) {
        let (_outer, tree) = new_tree();
        for (name, data) in &files {
            let path = tree.join(name);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.is_dir() {
                let _ = fs::write(&path, data);
            }
        }
        let limits = Limits { segment_bytes, ..Limits::default() };
        let raw = inflate(&archive(&tree, &plan_of(&tree, &limits), || ()).unwrap());
        let whole = Limits { large_from: Some(u64::MAX), ..Limits::default() };
        let expected = inflate(&archive(&tree, &plan_of(&tree, &whole), || ()).unwrap());
        // The statement counts segments, and large files stand behind the others.
        let blocks = |raw: &[u8]| {
            let end = raw.windows(18).rposition(|window| window == b"./PaxHeaders/entry").unwrap();
            let mut blocks: Vec<_> = raw[..end].chunks(512).map(<[u8]>::to_vec).collect();
            blocks.sort_unstable();
            blocks
        };
        prop_assert!(blocks(&raw) == blocks(&expected));
    }
}
