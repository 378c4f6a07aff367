//! Frames: read or refused; what was read is written and read again as the same.

use codehub_archive::frames::{read_frame, write_frame};

/// Panics where a promise is broken.
pub fn check(data: &[u8]) {
    let mut input = data;
    while let Ok(Some(frame)) = read_frame(&mut input) {
        if !frame.line.is_object() || frame.payload.is_empty() {
            continue;
        }
        let mut sent = Vec::new();
        write_frame(&mut sent, frame.line.clone(), &frame.payload).expect("memory takes all");
        assert_eq!(read_frame(&mut &sent[..]).expect("a frame of ours"), Some(frame));
    }
}
