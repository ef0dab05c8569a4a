//! The script runtime from outside: scripts in files, items in, log lines and deliveries out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attack_host;
mod attack_limits;
mod files;
mod filters;
mod helpers;
mod items;
mod jobs;
mod library;
mod limits;
mod modules;
mod publish;
mod reload;
mod rig;
mod streams;
mod types;
mod webhooks;
