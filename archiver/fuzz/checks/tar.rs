//! A tar stream: entries or a typed error, the same in any pieces; what it tells can be told on, and be written again.

use codehub_archive::entry::{Content, Entry};
use codehub_archive::error::{show, Code};
use codehub_archive::tar::read::{Found, Scanner};
use codehub_archive::tar::write::header;

fn scanned(data: &[u8], step: usize) -> (Vec<Entry>, Vec<u8>, bool) {
    let (mut scanner, mut entries, mut body) = (Scanner::new(), Vec::new(), Vec::new());
    for piece in data.chunks(step) {
        let taken = scanner.feed(piece, &mut |_, found| {
            match found {
                Found::Entry(entry) => entries.push(entry),
                Found::Data(part) => body.extend_from_slice(part),
            }
            Ok(())
        });
        if let Err(error) = taken {
            assert_eq!(error.code, Code::ArchiveCorrupt);
            return (entries, body, false);
        }
    }
    (entries, body, scanner.finish(false).is_ok())
}

/// Panics where a promise is broken.
pub fn check(data: &[u8]) {
    let whole = scanned(data, 1 << 20);
    for step in [7, 511] {
        assert_eq!(scanned(data, step), whole);
    }
    for entry in whole.0 {
        let content = Content::of(&entry);
        assert_eq!(Content::parse(&content.text()), Some(content));
        assert!(!show(&entry.path).contains(char::is_control));
        // An attribute with a name that ends a record, or too many of them: nothing else is refused.
        let Ok(header) = header(&entry, None) else { continue };
        let (again, _, _) = scanned(&header, 1 << 20);
        assert!(again.len() <= 1);
    }
}
