//! What parent and tool say to each other: lines of JSON. One that has `bytes` is followed by as many raw ones.
//!
//! A person can read it, and a payload costs one line. A line is at most 64 MiB long (a manifest's largest segment: a
//! piece with 65,536 holes).

use std::io::{self, BufRead, Read, Write};

use serde_json::Value;

use crate::error::{Code, Error, Result};

const LONGEST_LINE: u64 = 64 << 20;
/// Of one payload. The parent sends what a store delivers in pieces; the tool sends at most this at a time.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// One message. `payload` is empty where the line says no `bytes`.
#[derive(Debug, PartialEq)]
pub struct Frame {
    pub line: Value,
    pub payload: Vec<u8>,
}

/// The next frame, or `None` where the input ends between two. What is none is `InvalidInput`.
pub fn read_frame(input: &mut impl BufRead) -> Result<Option<Frame>> {
    let mut line = Vec::new();
    input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|error| broken(&error))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(Error::new(Code::InvalidInput, "the input stops within a line"));
    }
    let line: Value = serde_json::from_slice(&line)
        .map_err(|error| Error::new(Code::InvalidInput, format!("a line of the input is no JSON: {error}")))?;
    let mut payload = Vec::new();
    if let Some(bytes) = line.get("bytes") {
        let length = bytes.as_u64().and_then(|length| usize::try_from(length).ok());
        let length = length
            .filter(|length| *length <= MAX_PAYLOAD)
            .ok_or_else(|| Error::new(Code::InvalidInput, "a payload of an impossible length"))?;
        payload.resize(length, 0);
        input.read_exact(&mut payload).map_err(|error| broken(&error))?;
    }
    Ok(Some(Frame { line, payload }))
}

/// Write one frame. `line` gets `bytes` where there is a payload.
pub fn write_frame(output: &mut impl Write, mut line: Value, payload: &[u8]) -> Result<()> {
    if !payload.is_empty() {
        line["bytes"] = payload.len().into();
    }
    let mut text = line.to_string().into_bytes();
    text.push(b'\n');
    output.write_all(&text).and_then(|()| output.write_all(payload)).map_err(|error| broken(&error))
}

fn broken(error: &io::Error) -> Error {
    Error::new(Code::MoverFailed, format!("the pipe to the mover: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_come_back() {
        let mut sent = Vec::new();
        write_frame(&mut sent, json!({"number": 1}), b"a\nb").unwrap();
        write_frame(&mut sent, json!({"end": 1}), b"").unwrap();
        let mut input = &sent[..];
        let first = read_frame(&mut input).unwrap().unwrap();
        assert_eq!((first.line["number"].as_u64(), &first.payload[..]), (Some(1), &b"a\nb"[..]));
        assert_eq!(read_frame(&mut input).unwrap().unwrap().line, json!({"end": 1}));
        assert_eq!(read_frame(&mut input).unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bad in [&b"{\"a\": 1}"[..], b"[1\n", b"{\"bytes\": -1}\n", b"{\"bytes\": 2}\nx", b"{\"bytes\": 99999999}\n"]
        {
            assert!(read_frame(&mut &bad[..]).is_err());
        }
    }
}
