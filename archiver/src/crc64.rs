//! CRC-64/NVME of stored bytes: what object stores compute and check. In texts it has 16 hex digits.

/// The checksum of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Crc64(crc64fast_nvme::Digest);

impl Crc64 {
    /// Take the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.0.write(data);
    }

    /// Of all bytes so far.
    pub fn sum(&self) -> u64 {
        self.0.sum64()
    }
}

/// As manifest and frames hold it.
pub fn text(sum: u64) -> String {
    format!("{sum:016x}")
}

/// The inverse of `text`.
pub fn parse(text: &str) -> Option<u64> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex {
        u64::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard() {
        let mut sum = Crc64::default();
        sum.update(b"1234");
        sum.update(b"56789");
        assert_eq!(text(sum.sum()), "ae8b14860a799888");
        assert_eq!(parse("ae8b14860a799888"), Some(sum.sum()));
        assert_eq!(Crc64::default().sum(), 0);
        assert_eq!(parse("AE8B14860A799888"), None);
        assert_eq!(parse("0"), None);
    }
}
