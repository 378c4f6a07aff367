//! A gzip member: inflated or refused, within its limit; as we write its header, the same in any pieces. And what is
//! packed comes back.
#![no_main]

use codehub_archive::gzip::{MemberReader, MemberWriter};
use libfuzzer_sys::fuzz_target;

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

fuzz_target!(|data: &[u8]| {
    let whole = inflated(data, 1 << 20);
    for step in [7, 511] {
        assert_eq!(inflated(data, step), whole);
    }
    let mut writer = MemberWriter::new(Vec::new());
    writer.write(data).expect("memory takes all");
    let (stored, packed) = writer.finish().expect("memory takes all");
    assert_eq!(packed.stored_bytes, stored.len() as u64);
    assert_eq!(inflated(&stored, 511).as_deref(), Some(data));
});
