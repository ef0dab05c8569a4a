//! Live capture over the real kernel, in network namespaces and cgroups of the tests' own. Needs root; as root these
//! tests fail, never skip.
#![cfg(feature = "ebpf")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod cgroup;
mod change;
mod cost;
mod direct;
mod ends;
mod exchange;
mod filter;
mod frames;
mod identity;
mod lifecycle;
mod loss;
mod rig;
mod tcp;
mod variants;
mod watch;
