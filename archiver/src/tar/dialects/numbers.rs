//! Numbers in headers, each within a range.

use super::{corrupt, Block};
use crate::entry::Time;
use crate::error::{show, Result};

/// What 64 bits of nanoseconds hold.
const SECONDS_LIMIT: u64 = (1 << 63) / 1_000_000_000;

/// A header number: octal text, or GNU's base 256.
pub fn number(field: &[u8], what: &str, limit: u64) -> Result<u64> {
    let value = signed(field, what)?;
    u64::try_from(value).ok().filter(|value| *value <= limit).ok_or_else(|| impossible(what, value))
}

/// The time in a header, which may be before 1970.
pub fn seconds(field: &[u8]) -> Result<i64> {
    let value = signed(field, "mtime")?;
    let limit = i128::from(SECONDS_LIMIT) - 1;
    i64::try_from(value).ok().filter(|_| (-limit..=limit).contains(&value)).ok_or_else(|| impossible("mtime", value))
}

/// At most 19 digits.
pub fn decimal(text: &[u8], limit: u64) -> Result<u64> {
    digits(text, 19)
        .filter(|value| *value <= limit)
        .ok_or_else(|| corrupt(format!("a header has the impossible number '{}'", show(text))))
}

/// The time of a record: `-`, seconds, and a fraction of any length.
pub fn time(text: &[u8]) -> Result<Time> {
    let impossible = || corrupt(format!("a header has the impossible time {}", show(text)));
    let (is_negative, rest) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = rest.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((rest, &b""[..]), |at| (&rest[..at], &rest[at + 1..]));
    let seconds = digits(whole, 12).filter(|seconds| *seconds < SECONDS_LIMIT).ok_or_else(impossible)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(impossible());
    }
    let nanos = (0..9).fold(0, |sum, at| sum * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0')));
    let seconds = i64::try_from(seconds).map_err(|_| impossible())?;
    Ok(match (is_negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos },
        (true, _) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// Historic tars summed signed bytes; both sums pass.
pub fn check_sum(block: &Block) -> Result<()> {
    let stated = number(&block[148..156], "checksum", 1 << 20)?;
    let cleared = block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]);
    let unsigned: i64 = cleared.clone().map(|byte| i64::from(*byte)).sum(); // at most 17 bits
    let signed = unsigned - cleared.map(|byte| if *byte > 127 { 256 } else { 0 }).sum::<i64>();
    if [unsigned, signed].contains(&i64::try_from(stated).unwrap_or(-1)) {
        return Ok(());
    }
    Err(corrupt("a header has the wrong checksum: not a tar archive, or a damaged one"))
}

fn signed(field: &[u8], what: &str) -> Result<i128> {
    if let [first @ (0x80 | 0xff), rest @ ..] = field {
        let value = rest.iter().fold(0, |sum, byte| sum << 8 | i128::from(*byte)); // at most 11 bytes
        return Ok(if *first == 0xff { value - (1 << (8 * rest.len())) } else { value });
    }
    let blank = |byte: &u8| *byte == 0 || matches!(byte, b' ' | b'\t'..=b'\r');
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    let text = &field[start..end];
    if !text.iter().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err(corrupt(format!("a header has no {what}")));
    }
    Ok(text.iter().fold(0, |sum, digit| sum << 3 | i128::from(digit - b'0')))
}

fn digits(text: &[u8], most: usize) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= most && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

fn impossible(what: &str, value: i128) -> crate::error::Error {
    corrupt(format!("a header has the impossible {what} {value}"))
}
