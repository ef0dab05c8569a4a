//! A strict fake of Slack: refuses what Slack refuses, keeps what it was sent, fails when told to.
//!
//! It speaks the Web API methods that an alert needs (`chat.postMessage`, the three-step upload,
//! `conversations.join`, `files.info`, `auth.test`) and incoming webhooks. What it received can be had through
//! [`SlackFake::messages`], as JSON (`GET /_fake/messages`, `/_fake/requests`, `/_fake/files/ID`) and on a page (`GET /`, `/_messages`).
//!
//! Stricter than Slack where Slack is only vague: an upload URL takes its bytes once, the length must be
//! exact, and a token sent to an upload URL is put down in [`SlackFake::violations`].
//! Not there: blocks, multipart bodies, users, and anything beyond the methods above (`unknown_method`).

mod api;
mod args;
mod config;
mod control;
pub(crate) mod fault;
mod page;
mod state;
mod upload;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};

pub use config::{Channel, FakeConfig, Token, Webhook};
pub use fault::{Fault, Injection};
pub use state::{FileView, Message, Request};

use crate::fakes::Server;
use state::Shared;

/// A running fake; it stops, and closes every connection, when dropped.
#[derive(Debug)]
pub struct SlackFake {
    shared: Arc<Shared>,
    server: Server,
}

impl SlackFake {
    /// Listens on `address` (port 0: any free one), in the network namespace of the calling thread, and
    /// serves on a thread of its own: callers need no runtime.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn start(address: SocketAddr, config: FakeConfig) -> Result<Self> {
        let shared = Arc::new(Shared::new(config));
        let server = Server::start("slack-fake", address, router(Arc::clone(&shared)))?;
        Ok(Self { shared, server })
    }

    /// On the loopback, any free port.
    ///
    /// # Errors
    /// As [`SlackFake::start`].
    pub fn local(config: FakeConfig) -> Result<Self> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0)), config)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The page's URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// What `--slack-api-url` takes.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/api/", self.url())
    }

    /// The first configured webhook's URL; empty if there is none.
    #[must_use]
    pub fn webhook_url(&self) -> String {
        self.shared.lock().config.webhooks.first().map_or_else(String::new, |w| self.url() + &w.path)
    }

    /// Messages at the top level of their channels, in the order they came, replies inside.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.shared.lock().messages()
    }

    /// Files that were completed and shared, in order.
    #[must_use]
    pub fn files(&self) -> Vec<FileView> {
        self.shared.lock().shared_files()
    }

    /// The bytes of a file, by its id.
    #[must_use]
    pub fn file(&self, id: &str) -> Option<Vec<u8>> {
        self.shared.lock().file_bytes(id).map(|bytes| bytes.to_vec())
    }

    /// Every call, in order, with its outcome.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// What no well-behaved client does, such as a token sent to an upload URL.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }

    /// Makes the next calls fail.
    pub fn fail(&self, injection: Injection) {
        self.shared.lock().faults.push(injection);
    }

    /// How many calls there were: [`SlackFake::requests`] has so many entries.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// Takes back every fault that was not used up.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Adds a channel, or replaces the one with its id.
    pub fn set_channel(&self, channel: Channel) {
        self.shared.lock().config.set_channel(channel);
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let max_body = shared.lock().config.max_file.saturating_add(1024 * 1024);
    Router::new()
        .route("/", get(page::show))
        .route("/_messages", get(page::show))
        .route("/api/{method}", any(api::call))
        .route("/upload/v1/{id}", any(upload::take))
        .route("/services/{team}/{hook}/{secret}", any(webhook::take))
        .route("/_fake/messages", get(control::messages))
        .route("/_fake/requests", get(control::requests))
        .route("/_fake/violations", get(control::violations))
        .route("/_fake/files/{id}", get(control::file))
        .route("/_fake/fail", post(control::fail))
        .route("/_fake/channel", post(control::channel))
        .route("/_fake/reset", post(control::reset))
        .layer(DefaultBodyLimit::max(max_body))
        .with_state(shared)
}
