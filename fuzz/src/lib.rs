//! What the fuzz targets are made of: inputs made of bytes, and the invariants that must hold whatever they are.
//!
//! A target is a line in `fuzz_targets/` that calls one function here; a broken invariant is a panic. No input is refused:
//! what is left over of the bytes means nothing, what is missing means zeroes.

pub mod body;
pub mod capture;
pub mod conversation;
pub mod decoding;
pub mod dissecting;
pub mod files;
pub mod packets;
pub mod reassembly;
pub mod wire;

use std::panic;

/// Takes panics inside the Zstandard decoder for what they are in the agent: caught, and a body that does not decode.
/// (libFuzzer's own hook ends the process at any panic.)
pub fn caught_panics_are_no_findings() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|l| l.file().contains("/ruzstd-")) {
            hook(info);
        }
    }));
}
