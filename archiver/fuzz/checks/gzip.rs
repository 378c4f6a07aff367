//! A gzip member: inflated or refused, within its limit; as we write its header, the same in any pieces. And what is
//! packed comes back.

use codehub_archive::gzip::{MemberReader, MemberWriter};

const LIMIT: u64 = 4 << 20;

fn inflated(data: &[u8], step: usize) -> Option<Vec<u8>> {
    let (mut reader, mut raw) = (MemberReader::new(Some(LIMIT)), Vec::new());
    for piece in data.chunks(step) {
        let taken = reader.feed_all(piece, &mut |part| {
            raw.extend_from_slice(part);
            Ok(())
        });
        assert!(raw.len() as u64 <= LIMIT);
        taken.ok()?;
    }
    reader.finish().ok().map(|()| raw)
}

/// Panics where a promise is broken.
pub fn check(data: &[u8]) {
    let whole = inflated(data, 1 << 20);
    for step in [7, 511] {
        assert_eq!(inflated(data, step), whole);
    }
    let mut writer = MemberWriter::new(Vec::new());
    writer.write(data).expect("memory takes all");
    let (stored, packed) = writer.finish().expect("memory takes all");
    assert_eq!(packed.stored_bytes, stored.len() as u64);
    assert_eq!(inflated(&stored, 511).as_deref(), Some(data));
}
