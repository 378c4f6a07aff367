use std::fs;

use proptest::prelude::*;
use rustix::fs::FileType;

use super::cut::MIB;
use super::*;
use crate::entry::Kind;
use crate::error::Code;
use crate::trees::{is_root, make_deep, make_rich_tree, new_tree, sparse, special, write};
use crate::walk::WalkOptions;

/// So small that a few files meet every cut.
pub fn tiny() -> Limits {
    Limits { segment_bytes: 8192, large_from: Some(10_000), ..Limits::default() }
}

/// A plan, in a directory beside the tree.
pub fn plan_of(root: &Path, limits: &Limits) -> Result<Plan> {
    let out = tempfile::Builder::new().prefix("plan-").tempdir_in(root.parent().unwrap()).unwrap().keep();
    scan(root, &out, limits, &mut |_| ())
}

fn table(plan: &Plan) -> Vec<Planned> {
    plan.segments(1).unwrap().collect::<Result<_>>().unwrap()
}

fn data(plan: &Plan) -> Vec<Planned> {
    table(plan).into_iter().filter(Planned::is_data).collect()
}

fn paths(plan: &Plan, planned: &Planned) -> Vec<Vec<u8>> {
    let mut files = plan.files().unwrap();
    let entries = plan.entries(&mut files, planned).unwrap();
    entries.map(|spooled| spooled.unwrap().entry.path).collect()
}

fn tail_paths(plan: &Plan) -> Vec<Vec<u8>> {
    plan.tail_entries().unwrap().map(|spooled| spooled.unwrap().entry.path).collect()
}

#[test]
fn a_new_process_comes_to_the_same_plan() {
    let (outer, tree) = new_tree();
    make_rich_tree(&tree);
    let out = outer.path().join("out");
    fs::create_dir(&out).unwrap();
    let first = scan(&tree, &out, &tiny(), &mut |_| ()).unwrap();
    let second = plan_of(&tree, &tiny()).unwrap();
    assert_eq!(first.summary, second.summary);
    assert_eq!(table(&first), table(&second));
    assert_eq!(data(&first).len(), first.summary.data_segments);
    assert!(first.summary.data_segments > 5);
    assert_eq!(Plan::open(&out).unwrap(), first);
    assert!(scan(&tree, &out, &tiny(), &mut |_| ()).is_err());
}

#[test]
fn both_fingerprints_are_those_of_the_walk() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let plan = plan_of(&tree, &tiny()).unwrap();
    let walked = crate::walk::walk(&tree, WalkOptions { xattrs: true, ..WalkOptions::default() }).map(Result::unwrap);
    let archived = walked.filter(|entry| entry.kind != Kind::Socket);
    let content = archived.fold(Content::default(), |sum, entry| sum.plus(Content::of(&entry)));
    let change = crate::walk::change_fingerprint(&tree, WalkOptions::default(), &mut |_| ()).unwrap();
    assert_eq!((plan.summary.content_fingerprint, &plan.summary.change_fingerprint), (content, &change));
    let sum = table(&plan).iter().fold(Content::default(), |sum, planned| sum.plus(planned.segment.content));
    assert_eq!(sum, content);
    assert_eq!(table(&plan).iter().map(|planned| planned.segment.entries).sum::<u64>(), plan.summary.entries);
}

#[test]
fn other_cuts_have_another_digest() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let (first, second) = (plan_of(&tree, &tiny()).unwrap(), plan_of(&tree, &Limits { segment_bytes: 5000, ..tiny() }));
    let second = second.unwrap();
    assert_eq!(first.summary.change_fingerprint, second.summary.change_fingerprint);
    assert_ne!(first.summary.cut_digest, second.summary.cut_digest);
}

#[test]
fn what_is_left_out_is_in_the_digest_and_counted() {
    let (_outer, tree) = new_tree();
    write(&tree, "file", "data");
    assert!(special(&tree, "socket", FileType::Socket, (0, 0)));
    fs::hard_link(tree.join("socket"), tree.join("a socket")).unwrap();
    let has_device = is_root() && special(&tree, "null", FileType::CharacterDevice, (1, 3));
    if has_device {
        fs::hard_link(tree.join("null"), tree.join("zz-null")).unwrap();
    }
    let without = plan_of(&tree, &tiny()).unwrap();
    let allowed = plan_of(&tree, &Limits { allow_devices: true, ..tiny() }).unwrap();
    assert_eq!(without.summary.totals.skipped["sockets"], 2);
    assert_eq!(allowed.summary.totals.skipped.len(), 1);
    assert_eq!(tail_paths(&without), [b""]);
    if has_device {
        assert_eq!(without.summary.totals.skipped["devices"], 2);
        assert_eq!(data(&without), data(&allowed));
        assert_eq!(without.summary.change_fingerprint, allowed.summary.change_fingerprint);
        assert_ne!(without.summary.cut_digest, allowed.summary.cut_digest);
        let found: Vec<_> = allowed.tail_entries().unwrap().map(|spooled| spooled.unwrap().entry).collect();
        assert_eq!((found[0].kind, found[0].device), (Kind::CharacterDevice, (1, 3)));
        assert_eq!((found[1].kind, &found[1].target[..]), (Kind::HardLink, &b"null"[..]));
    }
}

#[test]
fn whiteouts_go_into_every_archive() {
    let (_outer, tree) = new_tree();
    if !special(&tree, "gone", FileType::CharacterDevice, (0, 0)) {
        return; // Linux before 5.8, or an overlay
    }
    fs::hard_link(tree.join("gone"), tree.join("zz-gone")).unwrap();
    let plan = plan_of(&tree, &tiny()).unwrap();
    let allowed = plan_of(&tree, &Limits { allow_devices: true, ..tiny() }).unwrap();
    assert!(plan.summary.totals.skipped.is_empty());
    assert_eq!((plan.summary.totals.specials, plan.summary.totals.hard_links), (1, 1));
    assert_eq!(plan.summary.content_fingerprint, allowed.summary.content_fingerprint);
}

#[test]
fn larger_trees_get_larger_segments() {
    let (_outer, tree) = new_tree();
    for number in 0..50 {
        write(&tree, format!("f{number:04}"), [b'x'; 9000]);
    }
    write(&tree, "large", vec![b'x'; 400_000]);
    let limits = Limits { segment_bytes: 10_000, max_segments: 12, ..Limits::default() };
    let plan = plan_of(&tree, &limits).unwrap();
    assert!(plan.summary.data_segments > 6 && plan.summary.data_segments <= 12);
    assert!(plan.limits.segment_bytes > 10_000);
}

#[test]
fn long_tails_get_larger_segments() {
    let (_outer, tree) = new_tree();
    for number in 0..60 {
        fs::create_dir(tree.join(format!("d{number}"))).unwrap();
        std::os::unix::fs::symlink("x", tree.join(format!("l{number}"))).unwrap();
    }
    let limits = Limits { max_tail_segments: 5, ..tiny() };
    let plan = plan_of(&tree, &limits).unwrap();
    let tail = table(&plan);
    assert!(tail.len() > 1 && tail.len() <= 5 && plan.tail_bytes > 8192);
    assert_eq!((&tail[0].segment.first.0[..], &tail[tail.len() - 1].segment.last.0[..]), (&b"l0"[..], &b""[..]));
    let error = plan_of(&tree, &Limits { max_segment_bytes: 9000, ..limits }).unwrap_err();
    assert_eq!(error.code, Code::ArchiveTooLarge);
}

#[test]
fn past_the_limit() {
    let (_outer, tree) = new_tree();
    write(&tree, "large", vec![b'x'; 100_000]);
    let limits = Limits { segment_bytes: 1000, max_segment_bytes: 2000, max_segments: 10, ..Limits::default() };
    let error = plan_of(&tree, &limits).unwrap_err();
    assert_eq!((error.code, error.details["limit_bytes"].as_u64()), (Code::ArchiveTooLarge, Some(20_000)));
    fs::remove_file(tree.join("large")).unwrap();
    for number in 0..30 {
        write(&tree, format!("f{number}"), "x");
    }
    assert_eq!(plan_of(&tree, &limits).unwrap_err().code, Code::ArchiveTooLarge);
}

#[test]
fn a_hole_costs_no_segment() {
    let (_outer, tree) = new_tree();
    sparse(&tree.join("sparse"), 20_000 * MIB, &[9_000 * MIB]);
    let plan = plan_of(&tree, &Limits::default()).unwrap();
    let data = data(&plan);
    assert!(data.len() <= 12, "{}", data.len());
    let pieces: Vec<_> = data.iter().map(|planned| planned.segment.piece.clone().unwrap()).collect();
    assert_eq!(pieces.iter().map(|piece| piece.length).sum::<u64>(), 20_000 * MIB);
    let hollow: u64 = pieces.iter().flat_map(|piece| &piece.holes).map(|hole| hole.1).sum();
    assert!(hollow > 19_999 * MIB);
    assert_eq!((pieces[0].header_bytes, data[0].segment.raw_bytes), (1536, 1536 + pieces[0].length));
}

/// Nothing is done in proportion to them, and no sum overflows.
#[test]
fn holes_of_nearly_all_that_a_number_holds() {
    let Ok(outer) = tempfile::tempdir_in("/dev/shm") else { return };
    let tree = outer.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..3 {
        let file = fs::File::create(tree.join(format!("f{number}"))).unwrap();
        if file.set_len(9_223_372_036_854_771_711).is_err() {
            return; // this file system has no such files
        }
        let began = std::time::Instant::now();
        let error = plan_of(&tree, &Limits::default()).unwrap_err();
        assert_eq!(error.code, Code::ArchiveTooLarge);
        assert!(began.elapsed().as_secs() < 5);
    }
}

#[test]
fn directories_come_last_inner_before_outer() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let plan = plan_of(&tree, &tiny()).unwrap();
    let tail = tail_paths(&plan);
    let directories: Vec<_> = plan.directories().unwrap().map(|spooled| spooled.unwrap().entry.path).collect();
    assert!(tail.ends_with(&directories));
    assert_eq!(tail.last().unwrap(), b"");
    for (at, path) in directories.iter().enumerate() {
        assert!(!directories[at..].iter().any(|later| later.starts_with(&[path, &b"/"[..]].concat())));
    }
    assert_eq!(plan.summary.totals.directories, directories.len() as u64);
}

#[test]
fn an_empty_volume() {
    let (_outer, tree) = new_tree();
    let plan = plan_of(&tree, &tiny()).unwrap();
    assert_eq!(plan.summary.data_segments, 0);
    assert_eq!((tail_paths(&plan), table(&plan).len()), (vec![Vec::new()], 1));
}

#[test]
fn what_no_tool_can_open_stands_apart() {
    let (_outer, tree) = new_tree();
    make_deep(&tree, 25, &"d".repeat(200));
    let plan = plan_of(&tree, &tiny()).unwrap();
    let data = data(&plan);
    let firsts: Vec<_> =
        data.iter().filter(|planned| planned.is_far).map(|planned| planned.segment.first.0.len()).collect();
    assert!(!firsts.is_empty() && firsts.iter().all(|length| *length > 4095));
    assert!(data.is_sorted_by_key(|planned| planned.is_far));
    let all: usize = data.iter().map(|planned| paths(&plan, planned).len()).sum();
    assert_eq!(all, 25);
}

#[test]
fn the_error_of_the_walk_is_that_of_the_plan() {
    let (_outer, tree) = new_tree();
    assert_eq!(plan_of(&tree.join("absent"), &tiny()).unwrap_err().code, Code::VolumeChanged);
    for number in 0..3000 {
        write(&tree, format!("f{number}"), "");
    }
    make_deep(&tree, 16_384 / 201 + 1, &"z".repeat(200));
    assert_eq!(plan_of(&tree, &tiny()).unwrap_err().code, Code::Unsupported);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Small files in order, then pieces of large ones; each once, in segments of about equal weight.
    #[test]
    fn segments_are_runs_in_archive_order(sizes in proptest::collection::vec((0usize..9, 1usize..25_000), 1..120)) {
        let (_outer, tree) = new_tree();
        for (number, (directory, size)) in sizes.iter().enumerate() {
            write(&tree, format!("d{directory}/f{number}"), vec![b'x'; *size]);
        }
        let limits = Limits { segment_bytes: 20_000, large_from: Some(15_000), ..Limits::default() };
        let plan = plan_of(&tree, &limits).unwrap();
        let data = data(&plan);
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (number, planned) in (1..).zip(&data) {
            let names = paths(&plan, planned);
            let Segment { first, last, kind, piece, entries, .. } = &planned.segment;
            prop_assert_eq!(planned.number, number);
            prop_assert_eq!((&first.0, &last.0), (&names[0], &names[names.len() - 1]));
            match piece {
                None => {
                    prop_assert_eq!(*entries, names.len() as u64);
                    prop_assert!(planned.weight <= 10_000 + 15_000 + 2048);
                    small.extend(names);
                }
                Some(piece) => {
                    prop_assert_eq!((*kind, names.len()), (SegmentKind::Large, 1));
                    large.push((names[0].clone(), piece.offset, piece.length));
                }
            }
        }
        prop_assert!(data.is_sorted_by_key(|planned| planned.segment.piece.is_some()));
        let near: Vec<_> = data.iter().filter(|planned| planned.segment.piece.is_none()).collect();
        prop_assert!(near.iter().rev().skip(1).all(|planned| planned.weight >= 10_000));
        prop_assert!(small.is_sorted_by(|one, other| crate::entry::compare_paths(one, other).is_lt()));
        let sum: u64 = large.iter().map(|piece| piece.2).sum();
        let expected: u64 = sizes.iter().map(|(_, size)| *size as u64).filter(|size| *size >= 15_000).sum();
        prop_assert_eq!(sum, expected);
        large.dedup_by(|one, other| one.0 == other.0);
        prop_assert_eq!(small.len() + large.len(), sizes.len());
    }
}
