//! The one error of this program: a code of the closed list that Python has in `codehub_storage.errors`, a message,
//! and details for programs. Details never hold the contents of files.

use std::fmt::{self, Write as _};

use rustix::io::Errno;
use serde_json::{Map, Value};

/// What went wrong, as `codehub_storage.errors.ErrorCode` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidInput,
    AccessDenied,
    VolumeInUse,
    VolumeUnreadable,
    VolumeChanged,
    VolumeConflict,
    ArchiveCorrupt,
    ArchiveTooLarge,
    NoSpace,
    BackendUnavailable,
    MoverFailed,
    Unsupported,
}

/// See the module. `hint` is `None` where the code's own hint says enough.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub details: Map<String, Value>,
}

/// What every step answers.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, details: Map::new() }
    }

    /// With what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With one more detail for programs.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.into(), value.into());
        self
    }

    /// `VolumeChanged`, naming the path.
    pub fn changed(path: &[u8], why: &str) -> Self {
        Self::new(Code::VolumeChanged, format!("{}: {why}", show(path))).detail("path", show(path))
    }

    /// `ArchiveCorrupt`, naming the segment.
    pub fn corrupt_segment(number: u32, why: impl fmt::Display) -> Self {
        Self::new(Code::ArchiveCorrupt, format!("segment {number}: {why}")).detail("segment", number)
    }

    /// With the segment that it was found in: for readers of bytes, who do not know it. Only for `ArchiveCorrupt`.
    #[must_use]
    pub fn in_segment(self, number: u32) -> Self {
        if self.code != Code::ArchiveCorrupt || self.details.contains_key("segment") {
            return self;
        }
        let message = format!("segment {number}: {}", self.message);
        Self { message, ..self }.detail("segment", number)
    }

    /// What an error on a path of the volume that is read means: it vanished (`VolumeChanged`), or it cannot be read.
    ///
    /// `INVAL`: no link any more when its target was asked for; `NODATA`: an attribute that is gone.
    pub fn reading(path: &[u8], errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE | Errno::INVAL | Errno::NODATA => {
                Self::changed(path, "vanished or was replaced while it was read")
            }
            _ => {
                Self::new(Code::VolumeUnreadable, format!("{}: {}", show(path), said(errno))).detail("path", show(path))
            }
        }
    }

    /// What a failed write into the volume means.
    pub fn writing(path: &[u8], errno: Errno) -> Self {
        let message = format!("{}: {}", show(path), said(errno));
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::new(Code::NoSpace, message),
            // A link in the way, a file where a directory should be, a parent that was never announced, a name nobody
            // can write.
            Errno::LOOP
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::EXIST
            | Errno::NOENT
            | Errno::ISDIR
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::MLINK => {
                Self::new(Code::ArchiveCorrupt, format!("the archive asks for the impossible at {message}"))
            }
            Errno::FBIG => Self::new(Code::ArchiveTooLarge, message),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::new(Code::AccessDenied, message),
            Errno::NOSYS | Errno::OPNOTSUPP => {
                Self::new(Code::Unsupported, message).hint("Linux 5.6 or later and a POSIX file system are needed.")
            }
            _ => Self::new(Code::BackendUnavailable, message),
        }
    }

    /// As the parent reads it: one JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("code".into(), format!("{:?}", self.code).into());
        object.insert("message".into(), self.message.clone().into());
        if let Some(hint) = &self.hint {
            object.insert("hint".into(), hint.clone().into());
        }
        object.insert("details".into(), Value::Object(self.details.clone()));
        Value::Object(object)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// The kernel's words for an error.
pub fn said(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A name of arbitrary bytes for a message: readable, on one line, and not longer than one; `.` for the root.
pub fn show(path: &[u8]) -> String {
    const LONGEST: usize = 200;
    if path.is_empty() {
        return ".".into();
    }
    let mut shown = readable(&path[..path.len().min(LONGEST)]);
    if path.len() > LONGEST {
        shown += "...";
    }
    shown
}

/// Arbitrary bytes as text on one line: what would break it, and what is no UTF-8, is escaped.
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_on_one_line() {
        assert_eq!(show(b""), ".");
        assert_eq!(show("caf\u{e9}\n\u{fffd}".as_bytes()), "caf\u{e9}\\n\u{fffd}");
        assert_eq!(show(b"a\xff"), "a\\xff");
        assert!(show(&[b'x'; 201]).ends_with("x..."));
    }

    #[test]
    fn errors_say_what_they_mean() {
        assert_eq!(Error::reading(b"a", Errno::NOENT).code, Code::VolumeChanged);
        assert_eq!(Error::reading(b"a", Errno::IO).code, Code::VolumeUnreadable);
        assert_eq!(Error::writing(b"a", Errno::NOSPC).code, Code::NoSpace);
        assert_eq!(Error::writing(b"a", Errno::LOOP).code, Code::ArchiveCorrupt);
        assert_eq!(Error::writing(b"a", Errno::IO).message, "a: Input/output error");
        let json = Error::corrupt_segment(3, "torn").hint("look").to_json();
        assert_eq!(json["code"], "ArchiveCorrupt");
        assert_eq!(json["details"]["segment"], 3);
        let named = Error::new(Code::ArchiveCorrupt, "torn").in_segment(3).in_segment(4);
        assert_eq!(named.message, Error::corrupt_segment(3, "torn").message);
        assert_eq!(named.details["segment"], 3);
        assert_eq!(Error::new(Code::NoSpace, "full").in_segment(3).message, "full");
    }
}
