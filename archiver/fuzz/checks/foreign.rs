//! A stranger's archive, the raw bytes of it in a sound gzip file: read to its end or a typed error, the same in any
//! pieces.

use codehub_archive::error::Code;
use codehub_archive::foreign_check;
use codehub_archive::gzip::MemberWriter;

fn read(stored: &[u8], step: usize) -> Result<foreign_check::Found, Code> {
    let mut pieces = stored.chunks(step).map(<[u8]>::to_vec);
    foreign_check::check(|| Ok(pieces.next()), &mut || Ok(())).map_err(|error| error.code)
}

/// Panics where a promise is broken.
pub fn check(data: &[u8]) {
    let mut writer = MemberWriter::new(Vec::new());
    writer.write(data).expect("memory takes all");
    let stored = writer.finish().expect("memory takes all").0;
    let whole = read(&stored, 1 << 20);
    assert_eq!(read(&stored, 7), whole);
    if let Err(code) = whole {
        assert!(matches!(code, Code::ArchiveCorrupt | Code::ArchiveTooLarge | Code::Unsupported), "{code:?}");
    }
}
