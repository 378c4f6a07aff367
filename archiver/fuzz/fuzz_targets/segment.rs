//! `checks/segment.rs`, by coverage.
#![no_main]

#[path = "../checks/segment.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checked::check(data));
