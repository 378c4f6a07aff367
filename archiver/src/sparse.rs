//! Large files: where their holes are, and how they are cut into pieces.
//!
//! Holes are found with `SEEK_DATA`, written as zeros without being read, and noted so that a restore can make them
//! again. Sizes are below 2^63, as the kernel has them.

use rustix::fd::AsFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::tar::BLOCK;

/// So many bytes of a hole count as one byte of data when a file is cut: ISA-L makes one byte of about 980 zeros.
pub const HOLE_WEIGHT: u64 = 512;
/// Smaller ones count as data.
pub const MIN_HOLE_BYTES: u64 = 64 << 10;
/// Of one file.
pub const MAX_HOLES: u64 = 65_536;
const PAGE: u64 = 4096;

/// Offset and length in a file.
pub type Range = (u64, u64);

/// One piece of a large file: the bytes `[offset, offset + length)`, and what it weighs when cutting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub offset: u64,
    pub length: u64,
    pub weight: u64,
}

/// The holes of an open file, in whole pages.
///
/// The least length grows with the file, so that there are at most `MAX_HOLES` of them.
pub fn find_holes(file: impl AsFd, size: u64) -> rustix::io::Result<Vec<Range>> {
    let least = MIN_HOLE_BYTES.max(size / MAX_HOLES);
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size {
        let data = seek(&file, SeekFrom::Data(at), at, size)?;
        let end = if data == size { data } else { data - data % PAGE };
        if end >= at + least {
            holes.push((at, end - at));
        }
        if data >= size {
            break;
        }
        at = seek(&file, SeekFrom::Hole(data), size, size)?.next_multiple_of(PAGE).min(size);
    }
    Ok(holes)
}

/// What a file weighs: its data, and a share of its holes.
pub fn weight_of(size: u64, holes: &[Range]) -> u64 {
    let hollow: u64 = holes.iter().map(|(_, length)| length).sum();
    size - hollow + hollow / HOLE_WEIGHT
}

/// Pieces of about equal weight, none above `piece_bytes`; they begin at multiples of a block.
///
/// `None`: there would be more than `most`. So no work is done in proportion to a hole.
pub fn cut_file(size: u64, holes: &[Range], piece_bytes: u64, most: usize) -> Option<Vec<Cut>> {
    let total = weight_of(size, holes);
    let count = total.div_ceil(piece_bytes.max(1)).max(1);
    let goal = total.div_ceil(count).next_multiple_of(BLOCK).max(BLOCK);
    let mut cuts = Vec::new();
    let (mut offset, mut weight) = (0, 0);
    for (start, length, per_byte) in runs(size, holes) {
        let (mut at, end) = (start, start + length);
        while at < end {
            let room = (goal - weight).saturating_mul(per_byte);
            let step = (end - at).min((room / BLOCK * BLOCK).max(BLOCK));
            at += step;
            weight = goal.min(weight + step.div_ceil(per_byte)); // above it only by what rounding adds
            if at < end {
                cuts.push(Cut { offset, length: at - offset, weight });
                if cuts.len() >= most {
                    return None;
                }
                (offset, weight) = (at, 0);
            }
        }
    }
    if size > offset || cuts.is_empty() {
        if cuts.len() >= most {
            return None;
        }
        cuts.push(Cut { offset, length: size - offset, weight });
    }
    Some(cuts)
}

/// The parts of `holes` that lie in a piece.
pub fn holes_within(holes: &[Range], cut: Cut) -> Vec<Range> {
    let end = cut.offset + cut.length;
    let first = holes.partition_point(|(at, length)| at + length <= cut.offset);
    holes[first..]
        .iter()
        .take_while(|(at, _)| *at < end)
        .map(|(at, length)| (*at.max(&cut.offset), end.min(at + length)))
        .map(|(start, stop)| (start, stop - start))
        .collect()
}

/// `lseek`: never beyond `size`. Where a file system knows no holes, `unknown`.
fn seek(file: impl AsFd, to: SeekFrom, unknown: u64, size: u64) -> rustix::io::Result<u64> {
    match rustix::fs::seek(file, to) {
        Ok(at) => Ok(at.min(size)),
        Err(Errno::NXIO) => Ok(size),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(unknown),
        Err(errno) => Err(errno),
    }
}

/// (start, length, bytes per unit of weight) of data and holes in turn.
fn runs(size: u64, holes: &[Range]) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
    let mut at = 0;
    holes.iter().copied().chain([(size, 0)]).flat_map(move |(start, length)| {
        let data = (at, start - at, 1);
        at = start + length;
        [data, (start, length, HOLE_WEIGHT)].into_iter().filter(|run| run.1 > 0)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trees::{new_tree, sparse};

    const NO_LIMIT: usize = 1 << 20;

    /// Size and holes.
    fn hollow_files() -> impl Strategy<Value = (u64, Vec<Range>)> {
        (proptest::collection::vec((1u64..40, 16u64..400), 0..6), 0u64..100_000).prop_map(|(runs, rest)| {
            let (mut at, mut holes) = (0, Vec::new());
            for (gap, length) in runs {
                at += gap * PAGE;
                holes.push((at, length * PAGE));
                at += length * PAGE;
            }
            (at + rest, holes)
        })
    }

    proptest! {
        #[test]
        fn cuts_cover_the_file_and_are_light_enough((size, holes) in hollow_files(), piece_bytes in 512u64..60_000) {
            let cuts = cut_file(size, &holes, piece_bytes, NO_LIMIT).unwrap();
            let mut at = 0;
            for cut in &cuts {
                prop_assert_eq!(cut.offset, at);
                prop_assert_eq!(cut.offset % 512, 0);
                prop_assert!(weight_of(cut.length, &holes_within(&holes, *cut)) <= piece_bytes.next_multiple_of(512) + 512);
                prop_assert!(cut.weight <= piece_bytes.next_multiple_of(512) + 512);
                at += cut.length;
            }
            prop_assert_eq!(at, size);
            let hollow = |holes: &[Range]| holes.iter().map(|hole| hole.1).sum::<u64>();
            prop_assert_eq!(cuts.iter().map(|cut| hollow(&holes_within(&holes, *cut))).sum::<u64>(), hollow(&holes));
            prop_assert!(cuts.len() as u64 <= 2 * weight_of(size, &holes) / piece_bytes + holes.len() as u64 + 2);
            prop_assert_eq!(cut_file(size, &holes, piece_bytes, cuts.len()).map(|cuts| cuts.len()), Some(cuts.len()));
            prop_assert_eq!(cut_file(size, &holes, piece_bytes, cuts.len() - 1), None);
        }
    }

    #[test]
    fn pieces_are_about_equal() {
        let lengths: Vec<_> = cut_file(10_000, &[], 9_000, 9).unwrap().iter().map(|cut| cut.length).collect();
        assert_eq!(lengths, [5120, 4880]);
        assert_eq!(cut_file(9_000, &[], 9_000, 9).unwrap(), [Cut { offset: 0, length: 9_000, weight: 9_000 }]);
        assert_eq!(cut_file(0, &[], 9_000, 9).unwrap(), [Cut { offset: 0, length: 0, weight: 0 }]);
    }

    #[test]
    fn nothing_is_done_in_proportion_to_a_hole() {
        let size = i64::MAX as u64;
        assert_eq!(cut_file(size, &[(0, size)], 4 << 20, 9_000), None);
        assert_eq!(cut_file(size, &[], 1, 9_000), None);
        assert_eq!(cut_file(size, &[(0, size)], u64::MAX, 9_000).unwrap().len(), 1);
    }

    #[test]
    fn holes_of_a_real_file() {
        let (outer, _) = new_tree();
        let path = outer.path().join("sparse");
        let islands = [256 << 10, (256 << 10) + MIN_HOLE_BYTES];
        sparse(&path, 1 << 20, &islands);
        let file = std::fs::File::open(&path).unwrap();
        let found = find_holes(&file, 1 << 20).unwrap();
        if found.is_empty() {
            return; // this file system makes none
        }
        let end_of_data = (256 << 10) + MIN_HOLE_BYTES + PAGE;
        assert_eq!(found, [(0, 256 << 10), (end_of_data, (1 << 20) - end_of_data)]);
        assert_eq!(find_holes(&file, 0).unwrap(), []);
    }
}
