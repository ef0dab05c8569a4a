//! One direction of a TCP stream put back in order (RFC 9293 section 3.10.7.4).
//!
//! ```text
//! segment ─→ offset ─→ in order? ── yes ─→ handed on where it lies in the packet
//!                          │ no
//!                          ▼
//!                     held (a copy) ─→ the hole before it filled, or given up as Chunk::Gap
//! ```
//!
//! A hole is given up, and becomes a gap, when one of these holds (the names are those of [`crate::Limits`]):
//! - It is *ripe*: the receiver has acknowledged it, so that it was sent and arrived, and it is not just late in the
//!   capture. The last is believed when the sender has in turn answered what acknowledged the hole (a whole round
//!   trip was captured since), when `reorder_packets` packets from beyond what was acknowledged were
//!   captured since, or after `reorder_time`. (Captures exist in which one direction lags: a long run of
//!   data comes after the packet that acknowledges all of it.)
//! - It is older than `hole_timeout`.
//! - The budget of the direction, or of the engine, is spent.
//! - The stream ends.
//!
//! Invariants:
//! - What is handed on leaves nothing out and repeats nothing: data and gaps follow each other without a break.
//! - The first copy of a byte wins. A differing one is told as long as the first is held; bytes that were handed on are
//!   not kept to compare with: a window of them would cost a copy of every packet and memory in every stream.
//! - Memory is that of held segments, charged with their overhead; without holes it is none.

mod held;
mod holes;
mod log;
#[cfg(any(test, feature = "fuzzing"))]
pub mod model;
mod receiver;
mod seq;
mod told;

pub use log::HashedRun;
pub(crate) use receiver::{Receiver, Rules, Segment};
pub(crate) use seq::Seq;

#[cfg(test)]
mod tests;
