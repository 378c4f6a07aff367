//! What moved: the name that is behind two different change fingerprints.
//!
//! The fingerprint is one digest, so it cannot tell. A plan's spools can: they hold what the first walk saw.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::path::Path;

use crate::entry::{compare_paths, put_change, Entry, Kind};
use crate::error::{Code, Error, Result};
use crate::plan::{Omissions, Plan};
use crate::walk::{walk, WalkOptions};

type Order = fn(&[u8], &[u8]) -> Ordering;

/// `VolumeChanged` that names a path which is not as it was planned. Errors of the walk come as they are.
///
/// A directory is named only where nothing else is: whatever comes or goes in it changes its own time, too. Nothing is
/// named where all is as it was again, or where it was a name that no archive holds. `progress` gets entries.
pub fn find_change(root: &Path, plan: &Plan, progress: &mut dyn FnMut(u64)) -> Error {
    let found = change_of_names(root, plan, progress).and_then(|change| {
        change.map_or_else(|| change_of_directories(root, plan, progress), |change| Ok(Some(change)))
    });
    match found {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => Error::new(Code::VolumeChanged, "the volume changed while it was archived"),
    }
}

fn change_of_names(root: &Path, plan: &Plan, progress: &mut dyn FnMut(u64)) -> Result<Option<Error>> {
    let files = plan.files()?.map(|spooled| spooled.map(|spooled| spooled.entry));
    let links = plan.links()?.map(|spooled| spooled.map(|spooled| spooled.entry));
    let planned = Merged { one: files.peekable(), other: links.peekable() };
    let mut omissions = Omissions::new(&plan.limits);
    let found = entries(root, progress).filter(|entry| match entry {
        Ok(entry) => omissions.kind_of(entry).is_none() && entry.kind != Kind::Directory,
        Err(_) => true,
    });
    first_difference(planned, found, compare_paths)
}

fn change_of_directories(root: &Path, plan: &Plan, progress: &mut dyn FnMut(u64)) -> Result<Option<Error>> {
    let planned = plan.directories()?.map(|spooled| spooled.map(|spooled| spooled.entry));
    first_difference(planned, Leaving { walked: entries(root, progress).peekable(), open: Vec::new() }, compare_left)
}

fn entries<'a>(root: &Path, progress: &'a mut dyn FnMut(u64)) -> impl Iterator<Item = Result<Entry>> + 'a {
    (1..).zip(walk(root, WalkOptions::default())).map(|(number, entry)| {
        progress(number);
        entry
    })
}

/// Both are in this order of their paths.
fn first_difference(
    planned: impl Iterator<Item = Result<Entry>>,
    found: impl Iterator<Item = Result<Entry>>,
    order: Order,
) -> Result<Option<Error>> {
    let (mut planned, mut found) = (planned, found);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        let difference = match (planned.next().transpose()?, found.next().transpose()?) {
            (None, None) => return Ok(None),
            (Some(old), None) => gone(&old),
            (None, Some(new)) => added(&new),
            (Some(old), Some(new)) => match order(&old.path, &new.path) {
                Ordering::Less => gone(&old),
                Ordering::Greater => added(&new),
                Ordering::Equal => {
                    one.clear();
                    other.clear();
                    put_change(&mut one, &old);
                    put_change(&mut other, &new);
                    if one == other {
                        continue;
                    }
                    Error::changed(&new.path, "changed since it was listed")
                }
            },
        };
        return Ok(Some(difference));
    }
}

fn gone(entry: &Entry) -> Error {
    Error::changed(&entry.path, "is no longer there, or no longer what it was")
}

fn added(entry: &Entry) -> Error {
    Error::changed(&entry.path, "is new since it was listed")
}

/// Two spools in archive order as one.
struct Merged<A: Iterator, B: Iterator> {
    one: Peekable<A>,
    other: Peekable<B>,
}

impl<A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = Result<Entry>>,
    B: Iterator<Item = Result<Entry>>,
{
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.one.peek(), self.other.peek()) {
            (Some(Ok(one)), Some(Ok(other))) if compare_paths(&one.path, &other.path) == Ordering::Greater => {
                self.other.next()
            }
            (None, _) | (_, Some(Err(_))) => self.other.next(),
            _ => self.one.next(),
        }
    }
}

/// The directories of a walk in the plan's order, which is that in which the walk leaves them.
struct Leaving<I: Iterator> {
    walked: Peekable<I>,
    open: Vec<Entry>,
}

impl<I: Iterator<Item = Result<Entry>>> Iterator for Leaving<I> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.walked.peek() {
                None => return self.open.pop().map(Ok),
                Some(Ok(entry)) if self.open.last().is_some_and(|open| !is_below(&entry.path, &open.path)) => {
                    return self.open.pop().map(Ok);
                }
                Some(_) => {}
            }
            match self.walked.next()? {
                Ok(entry) if entry.kind == Kind::Directory => self.open.push(entry),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// As archive order, but what a directory holds comes before it.
fn compare_left(one: &[u8], other: &[u8]) -> Ordering {
    if is_below(one, other) {
        Ordering::Less
    } else if is_below(other, one) {
        Ordering::Greater
    } else {
        compare_paths(one, other)
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_as_they_are_left() {
        let mut paths = [&b""[..], b"a", b"a/b", b"a/b/c", b"a/d", b"a.b", b"b"];
        paths.sort_by(|one, other| compare_left(one, other));
        assert_eq!(paths, [&b"a/b/c"[..], b"a/b", b"a/d", b"a", b"a.b", b"b", b""]);
    }
}
