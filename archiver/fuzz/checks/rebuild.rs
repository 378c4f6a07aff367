//! The raw bytes of an archive in members that are sound: its segments and their proof, or a typed error; the same in
//! any pieces. A byte 0xfe in front of a block ends the member before it.

use codehub_archive::error::Code;
use codehub_archive::gzip::MemberWriter;
use codehub_archive::rebuild::Rebuild;
use codehub_archive::segment::Segment;

fn rebuilt(stored: &[u8], step: usize) -> (Vec<Segment>, bool) {
    let (mut rebuild, mut segments) = (Rebuild::default(), Vec::new());
    for piece in stored.chunks(step) {
        let taken = rebuild.feed(piece, &mut |segment| {
            segments.push(segment);
            Ok(())
        });
        if let Err(error) = taken {
            assert_eq!(error.code, Code::ArchiveCorrupt);
            return (segments, false);
        }
    }
    (segments, rebuild.finish().is_ok())
}

/// Panics where a promise is broken.
pub fn check(data: &[u8]) {
    let mut stored = Vec::new();
    for member in data.split(|byte| *byte == 0xfe) {
        let mut writer = MemberWriter::new(Vec::new());
        writer.write(member).expect("memory takes all");
        stored.extend(writer.finish().expect("memory takes all").0);
    }
    assert_eq!(rebuilt(&stored, 7), rebuilt(&stored, 1 << 20));
}
