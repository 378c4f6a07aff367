//! A segment as JSON, and then bytes that it should be: read or refused, checked or refused.

use codehub_archive::error::Code;
use codehub_archive::segment::Segment;
use codehub_archive::verify::SegmentCheck;

/// Panics where a promise is broken.
pub fn check(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(json) = serde_json::from_slice(&data[..at]) else { return };
    let Ok(segment) = Segment::from_json(&json) else { return };
    assert_eq!(Segment::from_json(&segment.to_json()).expect("a segment of ours"), segment);
    let mut check = SegmentCheck::new(1, segment, true);
    for piece in data[at..].get(1..).unwrap_or_default().chunks(511) {
        if let Err(error) = check.feed(piece) {
            assert_eq!(error.code, Code::ArchiveCorrupt);
            return;
        }
    }
    if let Err(error) = check.finish() {
        assert_eq!(error.code, Code::ArchiveCorrupt);
    }
}
