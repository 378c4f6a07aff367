//! Deflate streams: by ISA-L where the build found it, else by zlib-rs. Both make and read the same format; bytes and
//! speed differ.

#[cfg(isal)]
pub use crate::sys::{Deflate, Inflate};
#[cfg(not(isal))]
pub use portable::{Deflate, Inflate};

/// What does it, for the tool's version.
pub const DEFLATE: &str = if cfg!(isal) { "isa-l" } else { "zlib-rs" };

/// What is to come out of a compressor before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What there is.
    No,
    /// All that was put in, up to a byte boundary.
    Sync,
    /// As `Sync`; and nothing that comes later refers to it.
    Full,
}

/// What a step of inflating did.
#[derive(Debug, Default)]
pub struct Inflated {
    /// Bytes of the input that were taken.
    pub used: usize,
    /// Bytes that were written.
    pub made: usize,
    /// True once the stream's last block was read and all of it was written.
    pub is_at_end: bool,
    /// At the end: at most 8 bytes from behind the stream that were taken along with it, maybe in an earlier step.
    pub taken_along: Vec<u8>,
}

/// The bytes are no deflate stream; with why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenDeflate(pub &'static str);

#[cfg_attr(isal, allow(dead_code))]
mod portable {
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

    use super::{BrokenDeflate, Flush, Inflated};

    /// Of its levels the one nearest to ISA-L's in speed: half of it, and a fifth more bytes.
    const LEVEL: u32 = 1;
    const OUTPUT_STEP: usize = 64 << 10;

    /// A raw deflate stream that is written.
    pub struct Deflate(Compress);

    impl Default for Deflate {
        /// An empty stream.
        fn default() -> Self {
            Self(Compress::new(Compression::new(LEVEL), false))
        }
    }

    impl Deflate {
        /// Begin another stream.
        pub fn reset(&mut self) {
            self.0.reset();
        }

        #[allow(clippy::missing_panics_doc)] // it does not
        /// Compress `data`; what comes out is appended to `out`.
        pub fn compress(&mut self, mut data: &[u8], flush: Flush, out: &mut Vec<u8>) {
            let flush = match flush {
                Flush::No => FlushCompress::None,
                Flush::Sync => FlushCompress::Sync,
                Flush::Full => FlushCompress::Full,
            };
            loop {
                out.reserve(OUTPUT_STEP);
                let before = self.0.total_in();
                self.0.compress_vec(data, out, flush).expect("a stream that was not ended takes all");
                data = &data[(self.0.total_in() - before) as usize..];
                if data.is_empty() && out.len() < out.capacity() {
                    return;
                }
            }
        }
    }

    /// A raw deflate stream that is read.
    pub struct Inflate(Decompress);

    impl Default for Inflate {
        /// At the begin of a stream.
        fn default() -> Self {
            Self(Decompress::new(false))
        }
    }

    impl Inflate {
        /// Inflate as much of `data` as `room` takes, or as there is.
        pub fn inflate(&mut self, data: &[u8], room: &mut [u8]) -> Result<Inflated, BrokenDeflate> {
            let (used, made) = (self.0.total_in(), self.0.total_out());
            let status =
                self.0.decompress(data, room, FlushDecompress::None).map_err(|_| BrokenDeflate("invalid data"))?;
            Ok(Inflated {
                used: (self.0.total_in() - used) as usize,
                made: (self.0.total_out() - made) as usize,
                is_at_end: status == Status::StreamEnd,
                taken_along: Vec::new(),
            })
        }
    }
}

#[cfg(test)]
mod tests;
