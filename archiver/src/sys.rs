//! The one place with `unsafe`: what no safe crate has.

#![allow(unsafe_code)]

#[cfg(isal)]
mod isal;
mod signals;

#[cfg(isal)]
pub use isal::{Deflate, Inflate};
pub use signals::leave_signals_to_parent;
