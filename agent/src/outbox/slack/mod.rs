//! Slack: what a delivery says on the wire, what Slack's answers mean, and the order of the calls.
//!
//! A bot's message goes first and its `ts` is kept; then its files go into its thread; what could not be
//! attached is named in a note there. See Slack's references of `chat.postMessage`, `files.getUploadURLExternal`,
//! `files.completeUploadExternal` and of incoming webhooks.

mod api;
mod bot;
mod error;
mod escape;
mod files;
mod message;
mod webhook;

pub(super) use api::SlackApi;
pub(super) use bot::Bot;
pub use error::hint;
pub(super) use webhook::Webhook;
