//! Numbers, times, texts and records, as tar headers have them. Every number has a range.

use super::read::Records;
use crate::entry::Time;
use crate::error::{Code, Error, Result};

/// In one extended header: Linux lists at most 64 KiB of attribute names for one file.
const MAX_RECORDS: usize = 1 << 14;
/// The one above means "do not change" to the kernel.
const MOST_ID: u64 = (1 << 32) - 2;
const MOST_DEVICE: u64 = (1 << 31) - 1;
const MOST: u64 = i64::MAX as u64;
/// More than any number that fits.
const DIGITS: usize = 30;

/// Up to the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// An octal field, or GNU's base-256 form: 0 to 2^63 - 1.
pub fn number(field: &[u8]) -> Result<u64> {
    within(read_number(field)?, 0, MOST)
}

/// Seconds since 1970 in a field; GNU's form may be negative.
pub fn seconds(field: &[u8]) -> Result<i64> {
    within(read_number(field)?, -i128::from(MOST), MOST)
}

/// The major or minor number of a device.
pub fn device(field: &[u8]) -> Result<u32> {
    within(read_number(field)?, 0, MOST_DEVICE)
}

/// A user or group: its record, if there is one, or the field.
pub fn id(record: Option<&[u8]>, field: &[u8]) -> Result<u32> {
    let value = match record {
        Some(record) => decimal_up_to(record, MOST_ID)?.into(),
        None => read_number(field)?,
    };
    within(value, 0, MOST_ID)
}

/// A number in a pax record: 0 to 2^63 - 1.
pub fn decimal(value: &[u8]) -> Result<u64> {
    decimal_up_to(value, MOST)
}

/// A pax time; digits beyond nanoseconds are dropped.
pub fn parse_time(value: &[u8]) -> Result<Time> {
    let mut halves = value.splitn(2, |byte| *byte == b'.');
    let whole = halves.next().unwrap_or_default();
    let fraction = halves.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(broken("a time in a tar header cannot be read"));
    }
    let digits = whole.strip_prefix(b"-").unwrap_or(whole);
    let seconds = decimal(digits)?;
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + fraction.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    // At most 2^63 - 1, so one second below its negative fits as well.
    let seconds = within::<i64>(seconds.into(), 0, MOST)?;
    if digits.len() == whole.len() {
        Ok(Time { seconds, nanos })
    } else if nanos == 0 {
        Ok(Time { seconds: -seconds, nanos: 0 })
    } else {
        Ok(Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos })
    }
}

/// Add the records of a pax extended header; later ones replace earlier ones.
pub fn parse_records(mut raw: &[u8], records: &mut Records) -> Result<()> {
    let mut keys = 0;
    while !raw.is_empty() {
        let (key, value, rest) = split_record(raw).ok_or_else(|| broken("a pax record cannot be read"))?;
        records.insert(key.to_vec(), value.to_vec());
        raw = rest;
        keys += 1;
        if keys > MAX_RECORDS {
            return Err(broken("a pax header of too many records"));
        }
    }
    Ok(())
}

/// `LENGTH KEY=VALUE\n`: key, value, and what follows.
fn split_record(raw: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = raw.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&raw[..space]).ok()?).ok()?;
    let (record, rest) = raw.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

/// The inverse of GNU tar's escape in keys.
pub fn unescape(name: &[u8]) -> Vec<u8> {
    replace(&replace(name, b"%3D", b'='), b"%25", b'%')
}

fn replace(name: &[u8], what: &[u8], by: u8) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(name.len()), 0);
    while at < name.len() {
        if name[at..].starts_with(what) {
            out.push(by);
            at += what.len();
        } else {
            out.push(name[at]);
            at += 1;
        }
    }
    out
}

fn read_number(field: &[u8]) -> Result<i128> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => Ok(base_256(field)),
        _ => octal(field),
    }
}

/// GNU's form: two's complement, big endian; the first bit says that it is this form. For fields up to 12 bytes.
fn base_256(field: &[u8]) -> i128 {
    let start = if field[0] & 0x40 == 0 { i128::from(field[0] & 0x7f) } else { i128::from(field[0]) - 0x100 };
    field[1..].iter().fold(start, |value, byte| value << 8 | i128::from(*byte))
}

/// Octal digits, ended by a NUL; spaces around them, and nothing else.
fn octal(field: &[u8]) -> Result<i128> {
    let digits = text(field).trim_ascii();
    if digits.len() > DIGITS || !digits.iter().all(|digit| (b'0'..b'8').contains(digit)) {
        return Err(broken("a number in a tar header cannot be read"));
    }
    Ok(digits.iter().fold(0, |value, digit| value << 3 | i128::from(digit - b'0')))
}

fn decimal_up_to(value: &[u8], most: u64) -> Result<u64> {
    let is_short = !value.is_empty() && value.len() <= DIGITS && value.iter().all(u8::is_ascii_digit);
    let number =
        value.iter().filter(|_| is_short).fold(0, |number: u128, digit| number * 10 + u128::from(digit - b'0'));
    match u64::try_from(number) {
        Ok(number) if is_short && number <= most => Ok(number),
        _ => Err(broken("a number in a pax record cannot be read")),
    }
}

fn within<T: TryFrom<i128>>(value: i128, least: i128, most: u64) -> Result<T> {
    T::try_from(value)
        .ok()
        .filter(|_| value >= least && value <= i128::from(most))
        .ok_or_else(|| broken(&format!("the impossible number {value} in a tar header")))
}

fn broken(what: &str) -> Error {
    Error::new(Code::ArchiveCorrupt, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, nanos, text) in [
            (0, 0, &b"0"[..]),
            (0, 1, b"0.000000001"),
            (-1, 999_999_999, b"-0.000000001"),
            (1, 500_000_000, b"1.5"),
            (-2, 500_000_000, b"-1.5"),
            (0, 0, b"-0"),
            (7, 0, b"7."),
            (7, 123_456_789, b"7.1234567899"),
            (i64::MAX, 0, b"9223372036854775807"),
            (i64::MIN, 1, b"-9223372036854775807.999999999"),
        ] {
            assert_eq!(parse_time(text).unwrap(), Time { seconds, nanos }, "{}", text.escape_ascii());
        }
        for text in [&b""[..], b"x", b"1.x", b"--1", b".", b"1.5.5", b"+1", b"9223372036854775808", &[b'9'; 5000]] {
            assert!(parse_time(text).is_err(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn numbers_of_fields() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"644\0junk", 0o644),
            (b"77777777", 0o77_777_777),
            (b"\0\0\0", 0),
            (b"\x80\0\0\0\0\0\x01\x02", 0x102),
        ] {
            assert_eq!(number(field).unwrap(), value, "{}", field.escape_ascii());
        }
        assert_eq!(seconds(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe").unwrap(), -2);
        for field in [&b"-000644\0"[..], b"0o00644\0", b"6_44\0", b"8\0", b"6 4\0", b"\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert!(number(field).is_err(), "{}", field.escape_ascii());
        }
        let error = number(b"\xff\xff\xff\xff\xff\xff\xff\xff").unwrap_err();
        assert_eq!(error.message, "the impossible number -1 in a tar header");
    }

    #[test]
    fn records() {
        let mut records = Records::new();
        parse_records(b"6 a=b\n8 a==\n\x00\n6 b=\n\n", &mut records).unwrap();
        assert_eq!(records[&b"a"[..]], b"=\n\x00");
        assert_eq!(records[&b"b"[..]], b"\n");
        for raw in [
            &b"5 a=b"[..],
            b"99 a=b\n",
            b"x a=b\n",
            b"6 ab\n\n",
            b"5 =b\n",
            b"0 a=b\n",
            b"-6 a=b\n",
            b"2 \n",
            b"6 a=b\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            b"99999999999999999999999 a=b\n",
        ] {
            assert!(parse_records(raw, &mut Records::new()).is_err(), "{}", raw.escape_ascii());
        }
    }

    /// Small records would take a hundred times their size in memory.
    #[test]
    fn too_many_records() {
        let raw: Vec<u8> = (0..20_000).flat_map(|number| format!("10 k{number:05}=\n").into_bytes()).collect();
        assert!(parse_records(&raw, &mut Records::new()).is_err());
    }

    #[test]
    fn escapes_of_keys() {
        assert_eq!(unescape(b"k%3D%25%253D%"), b"k=%%3D%");
    }
}
