//! `checks/rebuild.rs`, by coverage.
#![no_main]

#[path = "../checks/rebuild.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checked::check(data));
