//! `fingerprint`: did anything move, and does anybody hold a file?

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use lexopt::Arg::Long;
use serde::Deserialize as _;
use serde_json::json;

use super::plan::{flush, Progress};
use crate::cli::{required, settle};
use crate::error::{Code, Error, Result};
use crate::frames::{read_frame, write_frame};
use crate::mounts;
use crate::parent::Input;
use crate::walk::{change_fingerprint, WalkOptions};

pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut root = None;
    while let Some(arg) = args.next()? {
        match arg {
            Long("root") => root = Some(PathBuf::from(args.value()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let root = required(root, "root")?;
    mounts::keep_open()?;
    settle(&[&root], &[], Input::Frames)?;
    let held = read_held(&mut std::io::stdin().lock())?;
    answer(&root, held, &mut std::io::stdout().lock())
}

type Held = HashMap<(u64, u64), String>;

fn answer(root: &Path, held: Held, output: &mut impl Write) -> Result<()> {
    let options = WalkOptions { xattrs: false, held };
    let mut progress = Progress::new(|entries| {
        // A pipe that is broken fails at the end.
        let _ = write_frame(output, json!({"progress": entries}), b"").and_then(|()| flush(output));
    });
    let fingerprint = change_fingerprint(root, options, &mut |entries| progress.at(entries))?;
    write_frame(output, json!({"change_fingerprint": fingerprint}), b"").and_then(|()| flush(output))
}

/// Until the input ends, or says that it does.
fn read_held(input: &mut impl BufRead) -> Result<Held> {
    let mut held = Held::new();
    while let Some(frame) = read_frame(input)? {
        if frame.line.get("close").is_some() {
            break;
        }
        let files = frame.line.get("held").and_then(|files| Vec::<(u64, u64, String)>::deserialize(files).ok());
        let files = files.ok_or_else(|| Error::new(Code::InvalidInput, "a frame that holds no files"))?;
        held.extend(files.into_iter().map(|(device, inode, who)| ((device, inode), who)));
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::{new_tree, write};

    fn fingerprint(root: &Path, input: &[u8]) -> Result<serde_json::Value> {
        let mut output = Vec::new();
        answer(root, read_held(&mut &input[..])?, &mut output)?;
        Ok(read_frame(&mut &output[..])?.unwrap().line["change_fingerprint"].take())
    }

    #[test]
    fn it_is_that_of_the_walk_unless_somebody_holds_a_file() {
        use std::os::unix::fs::MetadataExt as _;
        let (_outer, tree) = new_tree();
        write(&tree, "a/file", "");
        let expected = change_fingerprint(&tree, WalkOptions::default(), &mut |_| ()).unwrap();
        assert_eq!(fingerprint(&tree, b"").unwrap(), expected);
        assert_eq!(fingerprint(&tree, b"{\"held\": [[1, 2, \"x\"]]}\n{\"close\": 0}\n").unwrap(), expected);
        let file = tree.join("a/file").metadata().unwrap();
        let held = format!("{{\"held\": [[{}, {}, \"pid 7 (vi)\"]]}}\n", file.dev(), file.ino());
        let error = fingerprint(&tree, held.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (Code::VolumeInUse, "a/file is used by pid 7 (vi)"));
        assert_eq!(fingerprint(&tree, b"{\"held\": 3}\n").unwrap_err().code, Code::InvalidInput);
    }
}
