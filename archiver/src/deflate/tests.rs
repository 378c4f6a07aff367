//! Both libraries, where both are there: each reads what the other writes.

use proptest::prelude::*;

use super::{portable, Deflate, Flush, Inflate};

/// Inflate all, in pieces of `step` into a room of `room` bytes; the bytes and how many stored ones were of the stream.
macro_rules! inflated {
    ($inflate:expr, $data:expr, $step:expr, $room:expr) => {{
        let (mut inflate, data): (_, &[u8]) = ($inflate, $data);
        let (mut room, mut found, mut at) = (vec![0; $room], Vec::new(), 0);
        loop {
            let piece = &data[at..(at + $step).min(data.len())];
            let done = inflate.inflate(piece, &mut room).unwrap();
            found.extend_from_slice(&room[..done.made]);
            at += done.used;
            if done.is_at_end {
                break (found, at - done.taken_along.len());
            }
            assert!(done.made + done.used > 0, "no end");
        }
    }};
}

proptest! {
    #[test]
    fn each_reads_the_other(
        words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..8),
        order in prop::collection::vec(any::<usize>(), 0..400),
        step in 1usize..300,
        room in 1usize..3000,
        flush in prop::sample::select(vec![Flush::Sync, Flush::Full]),
    ) {
        let data: Vec<u8> = order.iter().flat_map(|at| words[at % words.len()].clone()).collect();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let (mut deflate, mut zlib) = (Deflate::default(), portable::Deflate::default());
        for part in data.chunks(1000) {
            deflate.compress(part, flush, &mut one);
            zlib.compress(part, flush, &mut other);
        }
        for stored in [&mut one, &mut other] {
            stored.extend_from_slice(&[3, 0]);
            let length = stored.len();
            stored.extend_from_slice(b"12345678 and what follows");
            prop_assert_eq!(&inflated!(Inflate::default(), stored, step, room), &(data.clone(), length));
            prop_assert_eq!(&inflated!(portable::Inflate::default(), stored, step, room), &(data.clone(), length));
        }
    }

    #[test]
    fn garbage_is_refused_or_runs_out(data in prop::collection::vec(any::<u8>(), 0..2000), step in 1usize..500) {
        let (mut inflate, mut room) = (Inflate::default(), vec![0; 1000]);
        for piece in data.chunks(step) {
            let mut at = 0;
            loop {
                let Ok(done) = inflate.inflate(&piece[at..], &mut room) else { return Ok(()) };
                at += done.used;
                if done.is_at_end {
                    return Ok(());
                }
                if done.made < room.len() {
                    prop_assert_eq!(at, piece.len());
                    break;
                }
            }
        }
    }
}

#[test]
fn a_stream_can_be_begun_anew() {
    let data = b"some data that repeats, some data that repeats".repeat(1000);
    let (mut deflate, mut first, mut again) = (Deflate::default(), Vec::new(), Vec::new());
    deflate.compress(&data, Flush::Sync, &mut first);
    deflate.reset();
    deflate.compress(&data, Flush::Sync, &mut again);
    assert_eq!(first, again);
}
