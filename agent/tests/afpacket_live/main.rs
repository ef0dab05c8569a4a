//! Live capture by packet sockets over the real kernel, in network namespaces of the tests' own. Needs root to make those;
//! as root these tests fail, never skip.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod exchange;
mod loss;
mod rig;
mod tap;
mod wire;
