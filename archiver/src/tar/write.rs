//! The tar headers that we write: ustar, with a pax extension where an entry needs one.

use super::{padding_of, BLOCK, EXTENSION, MAX_EXTENSION_BYTES, NAME_BYTES, XATTR_PREFIX};
use crate::entry::{Entry, Kind, Time};
use crate::error::{show, Code, Error, Result};

const ID_LIMIT: u32 = 0o7_777_777;
const NUMBER_LIMIT: u64 = 0o77_777_777_777;

/// The header blocks of an entry: a pax extension where needed, then the ustar header. Data follows it.
///
/// `Unsupported` where an entry has more attributes than a header can carry, or a device number that no field holds.
pub fn header(entry: &Entry, comment: Option<&str>) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(2 * BLOCK as usize);
    let mut name = entry.path.clone();
    if entry.kind == Kind::Directory {
        name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
    }
    put_extension(&mut out, entry, &name, comment)?;
    let fits = |seconds: i64| u64::try_from(seconds).ok().filter(|seconds| *seconds <= NUMBER_LIMIT);
    let (major, minor) = entry.device;
    if major > ID_LIMIT || minor > ID_LIMIT {
        let what = format!("{}: a device number that no tar header holds", show(&entry.path));
        return Err(Error::new(Code::Unsupported, what));
    }
    let ustar = Ustar {
        name: &name,
        flag: entry.kind as u8,
        mode: entry.mode & 0o7777,
        uid: if entry.uid <= ID_LIMIT { entry.uid } else { 0 },
        gid: if entry.gid <= ID_LIMIT { entry.gid } else { 0 },
        size: if entry.size <= NUMBER_LIMIT { entry.size } else { 0 },
        mtime: fits(entry.mtime.seconds).unwrap_or(0),
        target: &entry.target,
        device: entry.device,
    };
    ustar.put(&mut out);
    Ok(out)
}

/// A time as pax has it: seconds, and a fraction without trailing zeros.
pub fn format_time(time: Time) -> String {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, fraction) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{fraction:09}").trim_end_matches('0').to_owned()
}

/// Append the pax extension of an entry, where it needs one.
fn put_extension(out: &mut Vec<u8>, entry: &Entry, name: &[u8], comment: Option<&str>) -> Result<()> {
    let mut body = Vec::new();
    if let Some(comment) = comment.filter(|comment| !comment.is_empty()) {
        put_record(&mut body, b"comment", comment.as_bytes());
    }
    for (key, value) in [(&b"path"[..], name), (b"linkpath", &entry.target)] {
        if value.len() > NAME_BYTES || !value.is_ascii() {
            put_record(&mut body, key, value);
        }
    }
    for (key, value, limit) in [
        (&b"size"[..], entry.size, NUMBER_LIMIT),
        (b"uid", entry.uid.into(), ID_LIMIT.into()),
        (b"gid", entry.gid.into(), ID_LIMIT.into()),
    ] {
        if value > limit {
            put_record(&mut body, key, value.to_string().as_bytes());
        }
    }
    let seconds = entry.mtime.seconds;
    if entry.mtime.nanos != 0 || seconds < 0 || seconds.unsigned_abs() > NUMBER_LIMIT {
        put_record(&mut body, b"mtime", format_time(entry.mtime).as_bytes());
    }
    if entry.kind != Kind::HardLink {
        for (key, value) in &entry.xattrs {
            put_record(&mut body, &[XATTR_PREFIX, &escape(key)].concat(), value);
        }
    }
    if body.is_empty() {
        return Ok(());
    }
    let size = body.len() as u64;
    if size > MAX_EXTENSION_BYTES {
        let what = "the extended attributes of one file are larger than a header may be";
        return Err(Error::new(Code::Unsupported, format!("{}: {what}", show(&entry.path))));
    }
    let padding = padding_of(size) as usize;
    out.reserve(2 * BLOCK as usize + body.len() + padding);
    Ustar { name: b"./PaxHeaders/entry", flag: EXTENSION, mode: 0o644, size, ..Ustar::default() }.put(out);
    out.extend_from_slice(&body);
    out.resize(out.len() + padding, 0);
    Ok(())
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length += 1;
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// GNU tar's escape: a pax key ends at the first `=`.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => escaped.extend_from_slice(b"%25"),
            b'=' => escaped.extend_from_slice(b"%3D"),
            other => escaped.push(*other),
        }
    }
    escaped
}

/// The fields of a ustar header. Numbers fit theirs; of name and target, what does not fit is left out.
#[derive(Default)]
struct Ustar<'a> {
    name: &'a [u8],
    flag: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    target: &'a [u8],
    device: (u32, u32),
}

impl Ustar<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let mut block = [0; BLOCK as usize];
        put_name(&mut block[..NAME_BYTES], self.name);
        put_octal(&mut block[100..107], self.mode.into());
        put_octal(&mut block[108..115], self.uid.into());
        put_octal(&mut block[116..123], self.gid.into());
        put_octal(&mut block[124..135], self.size);
        put_octal(&mut block[136..147], self.mtime);
        block[148..156].fill(b' '); // as which the sum counts its own field
        block[156] = self.flag;
        put_name(&mut block[157..257], self.target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        put_octal(&mut block[329..336], self.device.0.into());
        put_octal(&mut block[337..344], self.device.1.into());
        let sum = block.iter().map(|byte| u64::from(*byte)).sum();
        put_octal(&mut block[148..154], sum);
        block[154] = 0;
        out.extend_from_slice(&block);
    }
}

fn put_name(field: &mut [u8], name: &[u8]) {
    let fitting = name.len().min(field.len());
    field[..fitting].copy_from_slice(&name[..fitting]);
}

/// Digits over the whole field.
fn put_octal(field: &mut [u8], mut number: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (number & 7) as u8;
        number >>= 3;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use base64::engine::general_purpose::STANDARD;
    use base64::Engine as _;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Made {
        path: String,
        kind: char,
        mode: u32,
        uid: u32,
        gid: u32,
        size: u64,
        seconds: i64,
        nanos: u32,
        target: String,
        device: (u32, u32),
        xattrs: Vec<(String, String)>,
        comment: String,
        header: String,
    }

    /// What `tarwrite.py` made of the same entries, before this took its place.
    #[test]
    fn the_same_bytes_as_ever() {
        let mut text = Vec::new();
        let stored = &include_bytes!("../../tests/data/headers.json.gz")[..];
        flate2::read::GzDecoder::new(stored).read_to_end(&mut text).unwrap();
        let all: Vec<Made> = serde_json::from_slice(&text).unwrap();
        assert!(all.len() > 50);
        let bytes = |text: &str| STANDARD.decode(text).unwrap();
        for made in all {
            let kind = match made.kind {
                '0' => Kind::File,
                '1' => Kind::HardLink,
                '2' => Kind::Symlink,
                '3' => Kind::CharacterDevice,
                '4' => Kind::BlockDevice,
                '5' => Kind::Directory,
                _ => Kind::Fifo,
            };
            let entry = Entry {
                mode: made.mode,
                uid: made.uid,
                gid: made.gid,
                size: made.size,
                mtime: Time { seconds: made.seconds, nanos: made.nanos },
                target: bytes(&made.target),
                device: made.device,
                xattrs: made.xattrs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
                ..Entry::new(bytes(&made.path), kind)
            };
            let header = header(&entry, Some(&made.comment)).unwrap();
            assert!(header == bytes(&made.header), "{}: {}", show(&entry.path), header.escape_ascii());
        }
    }

    #[test]
    fn what_no_header_holds() {
        let xattrs = (0..70).map(|number| (vec![b'a' + number], vec![0; 64 << 10])).collect();
        let entry = Entry { xattrs, ..Entry::new(*b"a", Kind::File) };
        assert_eq!(header(&entry, None).unwrap_err().code, Code::Unsupported);
        let entry = Entry { device: (1 << 30, 0), ..Entry::new(*b"a", Kind::BlockDevice) };
        assert_eq!(header(&entry, None).unwrap_err().code, Code::Unsupported);
    }
}
