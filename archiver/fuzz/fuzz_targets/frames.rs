//! `checks/frames.rs`, by coverage.
#![no_main]

#[path = "../checks/frames.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checked::check(data));
