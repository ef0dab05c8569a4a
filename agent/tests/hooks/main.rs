//! The script runtime from outside: scripts in files, items in, log lines and deliveries out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod files;
mod filters;
mod helpers;
mod items;
mod library;
mod limits;
mod modules;
mod rig;
mod streams;
mod webhooks;
