//! `checks/foreign.rs`, by coverage.
#![no_main]

#[path = "../checks/foreign.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checked::check(data));
