//! The shell around `agent-core`: capture, PCAP store, scripts, outbox, command line.
//!
//! ```text
//! capture ──► pipeline ──► hooks ──► outbox ──► Slack
//!                │  ├────► JSON lines, HTTP API
//!                │  └────► pcap store ◄── pcap.path() in scripts
//!                └─ agent_core::Engine
//! ```
//!
//! Only `pipeline` and `cli` know the others; sinks do not know each other but through the traits in
//! [`pcap`] and [`outbox`]. Nothing after the engine may slow it: later steps have bounded queues and counters.

#[cfg(test)]
// Keeps what is logged in unit tests, to be searched for secrets.
use testkit as _;

pub mod alloc;
pub mod api;
pub mod capture;
pub mod captured;
pub mod cli;
mod config;
pub mod doctor;
pub mod exposition;
pub mod hooks;
pub mod kfl;
pub mod kube;
pub mod outbox;
pub mod pcap;
pub mod pipeline;
pub mod process;
mod recent;
pub mod resolve;
mod scratch;
pub mod secret;
pub mod tls;
mod utc;
pub mod view;
