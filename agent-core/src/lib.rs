//! Remora's engine: packets in, items out.
//!
//! ```text
//! Packet → decode → flow → tcp → Chunk::{Data, Gap} → dissect (http1) → pair → Item
//! ```
//!
//! Invariants:
//! - Sans-IO: no sockets, files, threads, locks or clock. Time comes with the packets. The crate builds for
//!   `wasm32-unknown-unknown`, and `clippy.toml` bans the types that would break this.
//! - Whatever arrives is data: malformed traffic becomes an [`Anomaly`] or a counter, never an `Err`, never a panic.
//! - All memory is within [`Limits`]; what a limit refused is counted in [`EngineStats`].
//! - A request is never paired with another request's response.
#![forbid(unsafe_code)]

pub mod anomaly;
mod decode;
pub mod dissect;
pub mod engine;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod item;
pub mod limits;
pub mod packet;
pub mod pair;
pub mod redact;
pub mod shard;
pub mod stats;
mod tcp;
#[cfg(test)]
mod testing;
pub mod time;

pub use anomaly::{Anomaly, AnomalyKind};
pub use engine::{DirectionSummary, Engine, EngineConfig, Event, Handled, Reason, StreamSummary};
pub use item::{ErrorKind, HttpExchange, Item, ItemError, Record, StreamId};
pub use limits::Limits;
pub use packet::{Direction, LinkType, Origin, Packet};
pub use stats::EngineStats;
pub use time::Timestamp;
