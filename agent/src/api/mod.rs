//! The agent by HTTP: health, metrics, items as they come, one item, PCAPs, scripts, outbox.
//!
//! ```text
//! worker ─► Feed ─► ring of the latest items ◄── /api/items, /api/items/ID
//!            └─ if anybody listens ─► a thread: filter, JSON once ─► a queue for each client ─► SSE, WebSocket
//! cli ─► Registry (metrics, checks) ◄── /metrics, /healthz, /readyz       cli ─► Services ◄── /api/streams, scripts, outbox
//! ```
//! Invariants:
//! - A worker is never held back: it puts an `Arc` into the ring, and with somebody listening into a bounded queue; what
//!   finds that full is dropped, counted, and told to each client.
//! - An item is made JSON once, however many clients get it, and hidden values are hidden as everywhere.
//! - Elsewhere than on the loopback nothing is served without a token, but for health and metrics on an address of their own;
//!   raw packets and changes need a token everywhere. A browser's page from another site gets nothing ([`access`]).
//! - Everything is bounded: connections, clients, their queues, requests in size and time, answers, and what is not read.
//! - This part knows no other sink: what it shows of them comes by [`Services`] and [`Registry`], which `cli` fills.

mod access;
mod answer;
mod bind;
mod client;
mod counts;
mod feed;
mod health;
mod items;
mod live;
mod metrics;
mod patient;
mod registry;
mod ring;
mod router;
mod serve;
mod services;
mod sse;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod websocket;

pub use bind::{BindError, Bound, Listen};
pub use feed::{Feed, FeedConfig};
pub use registry::{Registry, Verdict};
pub use serve::{ServeLimits, Server};
pub use services::{ScriptState, Services};
