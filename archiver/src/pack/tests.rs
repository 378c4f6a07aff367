use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use super::*;
use crate::frames::read_frame;
use crate::plan::cut::Limits;
use crate::plan::tests::{plan_of, tiny};
use crate::trees::{make_rich_tree, new_tree, write};

/// What was told: segment numbers in the order of their `packed`, and their stored bytes.
pub fn read_members(output: &[u8]) -> Vec<(serde_json::Value, Vec<u8>)> {
    let (mut input, mut stored, mut members) = (output, HashMap::<u64, Vec<u8>>::new(), Vec::new());
    while let Some(frame) = read_frame(&mut input).unwrap() {
        if let Some(number) = frame.line.get("data") {
            stored.entry(number.as_u64().unwrap()).or_default().extend(frame.payload);
        } else if let Some(packed) = frame.line.get("packed") {
            members.push((packed.clone(), stored.remove(&packed["number"].as_u64().unwrap()).unwrap()));
        }
    }
    assert!(stored.is_empty());
    members
}

pub fn inflate(members: &[(serde_json::Value, Vec<u8>)]) -> Vec<u8> {
    let mut raw = Vec::new();
    for (packed, stored) in members {
        let before = raw.len();
        flate2::read::GzDecoder::new(&stored[..]).read_to_end(&mut raw).unwrap();
        assert_eq!(packed["raw_bytes"], raw.len() - before);
        assert_eq!(packed["stored_bytes"], stored.len());
        assert_eq!(packed["digest"], digest_text(&blake3::hash(&raw[before..])));
        assert_eq!(packed["crc64"], crate::crc64::text(crc64_of(stored)));
        assert_eq!((raw.len() - before) % 512, 0);
    }
    raw
}

fn crc64_of(stored: &[u8]) -> u64 {
    let mut digest = crc64fast_nvme::Digest::new();
    digest.write(stored);
    digest.sum64()
}

fn packed(root: &Path, plan: &Plan, from: u32, to: u32, threads: usize) -> Result<Vec<u8>> {
    let teller = Teller::new(Vec::new());
    let digests = pack_in_order(root, plan, from, to, threads, &teller)?;
    assert_eq!(digests.len(), (to + 1 - from) as usize);
    Ok(teller.into_inner())
}

#[test]
fn segments_come_in_order_from_any_number_of_threads() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    for number in 0..40 {
        write(&tree, format!("many/f{number}"), blake3::hash(&[number]).as_bytes().repeat(100));
    }
    let plan = plan_of(&tree, &tiny()).unwrap();
    let last = plan.summary.data_segments as u32;
    let alone = packed(&tree, &plan, 1, last, 1).unwrap();
    for threads in [2, 7] {
        let members = read_members(&packed(&tree, &plan, 1, last, threads).unwrap());
        let numbers: Vec<_> = members.iter().map(|(packed, _)| packed["number"].as_u64().unwrap() as u32).collect();
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
        assert!(inflate(&members) == inflate(&read_members(&alone)));
    }
    let some = read_members(&packed(&tree, &plan, 3, 5, 2).unwrap());
    assert!(some.iter().map(|(packed, _)| &packed["number"]).eq([3, 4, 5]));
    assert!(read_members(&packed(&tree, &plan, 4, 3, 2).unwrap()).is_empty());
}

#[test]
fn another_tar_reads_it() {
    let (_outer, tree) = new_tree();
    make_rich_tree(&tree);
    let plan = plan_of(&tree, &tiny()).unwrap();
    let raw = inflate(&read_members(&packed(&tree, &plan, 1, plan.summary.data_segments as u32, 2).unwrap()));
    let mut tar = Command::new("tar");
    tar.args(["--null", "--quoting-style=literal", "-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut tar) = tar.spawn() else { return };
    let mut input = tar.stdin.take().unwrap();
    thread::spawn(move || input.write_all(&[raw, vec![0; 1024]].concat()));
    let output = tar.wait_with_output().unwrap();
    assert!(output.status.success());
    let files: Vec<_> = plan.files().unwrap().map(|spooled| spooled.unwrap().entry.path).collect();
    let listed = output.stdout.split(|byte| *byte == b'\n').count();
    assert!(listed > files.len(), "a name has a newline");
    assert!(output.stdout.starts_with(&files[0]));
}

#[test]
fn memory_and_processors_bound_the_threads() {
    let (_outer, tree) = new_tree();
    write(&tree, "f", vec![b'x'; 3 << 20]);
    let plan = plan_of(&tree, &Limits::default()).unwrap();
    assert_eq!(threads_for(&plan, 1, 1, 8, 1).unwrap(), 1);
    assert_eq!(threads_for(&plan, 1, 1, 1, u64::MAX).unwrap(), 1);
    let cpus = thread::available_parallelism().unwrap().get();
    assert_eq!(threads_for(&plan, 1, 1, 1000, u64::MAX).unwrap(), cpus);
    assert_eq!(threads_for(&plan, 1, 1, 1000, 11 << 20).unwrap(), 2.min(cpus));
}

/// What comes before the file that changed is told, and nothing after it.
#[test]
fn the_first_error_in_order_counts() {
    let (_outer, tree) = new_tree();
    for number in 0..20 {
        write(&tree, format!("f{number:02}"), vec![b'x'; 9000]);
    }
    let plan = plan_of(&tree, &tiny()).unwrap();
    for name in ["f07", "f11"] {
        write(&tree, name, "other");
    }
    let teller = Teller::new(Vec::new());
    let error = pack_in_order(&tree, &plan, 1, 20, 4, &teller).unwrap_err();
    assert_eq!((error.code, &error.details["path"]), (Code::VolumeChanged, &"f07".into()));
    let members = read_members(&teller.into_inner());
    assert!(members.iter().map(|(packed, _)| packed["number"].as_u64().unwrap()).eq(1..=7));
}

/// A reader that stops holds the packers back: no more files are opened than there are threads.
#[test]
fn a_full_pipe_holds_all_back() {
    let (_outer, tree) = new_tree();
    let noise: Vec<u8> = (0..4000u32).flat_map(|at| *blake3::hash(&at.to_le_bytes()).as_bytes()).collect();
    for number in 0..12 {
        write(&tree, format!("f{number:02}"), &noise);
    }
    let plan = plan_of(&tree, &tiny()).unwrap();
    let last = plan.summary.data_segments as u32;
    let (reader, writer) = std::io::pipe().unwrap();
    let teller = Teller::new(writer);
    thread::scope(|scope| {
        let packing = scope.spawn(|| pack_in_order(&tree, &plan, 1, last, 3, &teller));
        thread::sleep(Duration::from_millis(300));
        assert!(!packing.is_finished());
        // What is read late has changed by now.
        fs::write(tree.join("f11"), "other").unwrap();
        let mut input = BufReader::new(reader);
        let mut lines = 0;
        while packing_goes_on(&mut input) {
            lines += 1;
            if packing.is_finished() {
                break;
            }
        }
        assert!(lines > 0);
        drop(input);
        assert!(packing.join().unwrap().is_err());
    });
}

fn packing_goes_on(input: &mut BufReader<std::io::PipeReader>) -> bool {
    match read_frame(input).unwrap() {
        Some(frame) => frame.line["packed"]["number"].as_u64() != Some(100) && input.fill_buf().is_ok(),
        None => false,
    }
}

#[test]
fn chunks_keep_what_is_written() {
    let mut chunks = Chunks::default();
    let data: Vec<u8> = (0..700_000u32).map(|at| (at % 251) as u8).collect();
    for piece in data.chunks(99_999) {
        chunks.write_all(piece).unwrap();
    }
    assert!(chunks.0.iter().all(|chunk| chunk.len() <= CHUNK_BYTES && !chunk.is_empty()));
    assert!(chunks.0.concat() == data);
}
