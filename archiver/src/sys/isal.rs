//! ISA-L's igzip: the one foreign library.
//!
//! The declarations are those of `igzip_lib.h`, 2.30 to 2.32, on 64-bit machines; sizes were compared with what a C
//! compiler says. Both structures are made by the library's own initialisation and stay in one place on the heap. It
//! keeps no pointer into what it was given beyond a call, but for the level buffer, which lives as long as its stream.

use std::alloc::{alloc_zeroed, handle_alloc_error, Layout};

use crate::deflate::{BrokenDeflate, Flush, Inflated};

const LEVEL: u32 = 2;
/// `ISAL_DEF_LVL2_DEFAULT`: its tables, and room for 64 Ki tokens.
const LEVEL_BYTES: usize = (4 << 10) + 2 * (32 << 10) + 4 * (64 << 10);
const OK: i32 = 0;
const BLOCK_FINISH: u32 = 5;
const OUTPUT_STEP: usize = 64 << 10;
const LINE: usize = 64;

/// `isal_zstream`. `is_end` is `end_of_stream`. What stands behind `hist_bits` is the library's own.
#[repr(C)]
struct Stream {
    next_in: *const u8,
    avail_in: u32,
    total_in: u32,
    next_out: *mut u8,
    avail_out: u32,
    total_out: u32,
    hufftables: *mut u8,
    level: u32,
    level_buf_size: u32,
    level_buf: *mut u8,
    is_end: u16,
    flush: u16,
    gzip_flag: u16,
    hist_bits: u16,
    internal: [u64; (82_384 - 64) / 8],
}

/// `inflate_state`. `block` is `block_state`.
#[repr(C)]
struct State {
    next_out: *mut u8,
    avail_out: u32,
    total_out: u32,
    next_in: *const u8,
    read_in: u64,
    avail_in: u32,
    read_in_length: i32,
    huffman_codes: [u64; (21_160 - 40) / 8],
    block: u32,
    dict_length: u32,
    bfinal: u32,
    crc_flag: u32,
    rest: [u64; (87_368 - 21_176) / 8],
}

const _: () = assert!(size_of::<Stream>() == 82_384 && std::mem::offset_of!(Stream, internal) == 64);
const _: () = assert!(size_of::<State>() == 87_368 && std::mem::offset_of!(State, block) == 21_160);

extern "C" {
    fn isal_deflate_init(stream: *mut Stream);
    fn isal_deflate_reset(stream: *mut Stream);
    fn isal_deflate(stream: *mut Stream) -> i32;
    fn isal_inflate_init(state: *mut State);
    fn isal_inflate(state: *mut State) -> i32;
}

/// What the library fills with tables; its head is to be on a cache line of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[allow(dead_code)] // only the library reads it
struct Line([u8; LINE]);

/// A raw deflate stream that is written.
pub struct Deflate {
    stream: Box<Stream>,
    /// Named by `stream.level_buf`.
    _level: Box<[Line]>,
}

// SAFETY: the pointers within are null between calls, or lead to what this owns. The library has no state of threads.
unsafe impl Send for Deflate {}

impl Default for Deflate {
    /// An empty stream.
    fn default() -> Self {
        let mut stream = zeroed::<Stream>();
        let mut level = vec![Line([0; LINE]); LEVEL_BYTES.div_ceil(LINE)].into_boxed_slice();
        // SAFETY: it writes into the structure that it is given, of which all bytes are ours.
        unsafe { isal_deflate_init(&raw mut *stream) };
        stream.level = LEVEL;
        stream.level_buf = level.as_mut_ptr().cast();
        stream.level_buf_size = LEVEL_BYTES as u32;
        Self { stream, _level: level }
    }
}

impl Deflate {
    /// Begin another stream.
    pub fn reset(&mut self) {
        // SAFETY: as in `default`; it keeps level and level buffer.
        unsafe { isal_deflate_reset(&raw mut *self.stream) };
    }

    #[allow(clippy::missing_panics_doc)] // it does not
    /// Compress `data`; what comes out is appended to `out`.
    pub fn compress(&mut self, data: &[u8], flush: Flush, out: &mut Vec<u8>) {
        let stream = &mut *self.stream;
        stream.flush = match flush {
            Flush::No => 0,
            Flush::Sync => 1,
            Flush::Full => 2,
        };
        for part in data.chunks(1 << 30).chain(data.is_empty().then_some(data)) {
            stream.next_in = part.as_ptr();
            stream.avail_in = part.len() as u32;
            loop {
                out.reserve(OUTPUT_STEP);
                let room = out.spare_capacity_mut();
                stream.next_out = room.as_mut_ptr().cast();
                stream.avail_out = room.len().min(1 << 30) as u32;
                let before = stream.avail_out;
                // SAFETY: `next_in` and `next_out` lead to as many bytes as `avail_in` and `avail_out` say, both
                // borrowed until after the call; the rest of the structure is as the library left it.
                let answer = unsafe { isal_deflate(&raw mut *stream) };
                assert!(answer == OK, "ISA-L refuses level or flush, which are constants");
                let made = (before - stream.avail_out) as usize;
                // SAFETY: the library wrote that many bytes at the begin of the spare room, and never more than it has.
                unsafe { out.set_len(out.len() + made) };
                if stream.avail_in == 0 && stream.avail_out > 0 {
                    break;
                }
            }
        }
        (stream.next_in, stream.next_out) = (std::ptr::null(), std::ptr::null_mut());
    }
}

/// A raw deflate stream that is read.
pub struct Inflate {
    state: Box<State>,
}

// SAFETY: as for `Deflate`.
unsafe impl Send for Inflate {}

impl Default for Inflate {
    /// At the begin of a stream.
    fn default() -> Self {
        let mut state = zeroed::<State>();
        // SAFETY: it writes into the structure that it is given, of which all bytes are ours.
        unsafe { isal_inflate_init(&raw mut *state) };
        Self { state }
    }
}

impl Inflate {
    /// Inflate as much of `data` as `room` takes, or as there is.
    pub fn inflate(&mut self, data: &[u8], room: &mut [u8]) -> Result<Inflated, BrokenDeflate> {
        let state = &mut *self.state;
        let (given, space) = (data.len().min(1 << 30) as u32, room.len().min(1 << 30) as u32);
        (state.next_in, state.avail_in) = (data.as_ptr(), given);
        (state.next_out, state.avail_out) = (room.as_mut_ptr(), space);
        // SAFETY: `next_in` and `next_out` lead to as many bytes as `avail_in` and `avail_out` say, both borrowed until
        // after the call; the rest of the structure is as the library left it.
        let answer = unsafe { isal_inflate(&raw mut *state) };
        (state.next_in, state.next_out) = (std::ptr::null(), std::ptr::null_mut());
        if answer != OK {
            return Err(BrokenDeflate(match answer {
                -1 => "an invalid block",
                -2 => "an invalid symbol",
                -3 => "an invalid distance",
                _ => "invalid data",
            }));
        }
        let mut inflated = Inflated {
            used: (given - state.avail_in) as usize,
            made: (space - state.avail_out) as usize,
            is_at_end: state.block == BLOCK_FINISH,
            taken_along: Vec::new(),
        };
        if inflated.is_at_end {
            // Whole bytes behind the stream that it took into its bit buffer, maybe in an earlier call.
            let bits = u32::try_from(state.read_in_length).unwrap_or(0).min(64);
            let rest = state.read_in.checked_shr(bits % 8).unwrap_or(0).to_le_bytes();
            inflated.taken_along.extend_from_slice(&rest[..(bits / 8) as usize]);
        }
        Ok(inflated)
    }
}

/// A structure of zeros on the heap; too large for the stack.
#[allow(clippy::unnecessary_box_returns)] // it is not to move
fn zeroed<T>() -> Box<T> {
    let layout = Layout::new::<T>();
    // SAFETY: the layout is not empty; both structures are numbers and pointers, for which zeros are valid; the memory
    // is of the global allocator with this layout, as `Box` wants it.
    unsafe {
        let memory = alloc_zeroed(layout).cast::<T>();
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        Box::from_raw(memory)
    }
}
