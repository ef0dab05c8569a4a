//! What scripts send: queued, then delivered by its own tasks, in order for each destination.
//!
//! Scripts know only [`Outbox`]. The trait is where the durable outbox will sit.
//!
//! ```text
//! script ─► enqueue ─► check ─► spool (copies) ─► queue for each destination ─► worker ─► slack
//!           (memory)                                                              └─ retry, pace
//! ```
//!
//! Invariants: `enqueue` never waits for the network; a destination's deliveries go out in the order they came;
//! one destination's trouble never delays another; a delivery whose text was sent is never lost for a file's sake;
//! no secret reaches a log or an error.

mod check;
mod config;
mod http;
mod memory;
mod retry;
mod slack;
mod spool;
mod stats;
mod worker;

use std::path::PathBuf;

pub use config::{OutboxConfig, RetryPolicy, SLACK_API_URL};
pub use memory::{Drained, MemoryOutbox, Undelivered};
pub use slack::hint;
pub use stats::DeliveryStats;

use crate::secret::Secret;

/// A queued delivery's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliveryId(pub u64);

/// What is to be delivered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// Slack incoming webhook.
    SlackWebhook {
        /// Webhook URL; a secret.
        url: Secret,
        /// What it says.
        alert: Alert,
    },
    /// Slack `chat.postMessage`, then the files into its thread.
    SlackBot {
        /// Bot token; a secret.
        token: Secret,
        /// Channel id.
        channel: String,
        /// What it says.
        alert: Alert,
        /// Title and value, in order.
        fields: Vec<(String, String)>,
        /// Name shown, and path. The outbox takes its own copy before [`Outbox::enqueue`] returns.
        files: Vec<(String, PathBuf)>,
    },
}

/// The text of a Slack message.
#[derive(Clone, Debug, Default)]
pub struct Alert {
    /// Above the coloured bar.
    pub pretext: String,
    /// The text.
    pub text: String,
    /// `#rrggbb`, or Slack's `good`, `warning`, `danger`.
    pub color: String,
}

/// Why nothing was queued. Messages name the argument, never a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The queue is at its bound.
    #[error("the outbox is full ({limit} deliveries wait); nothing was queued")]
    Full {
        /// The bound.
        limit: usize,
    },
    /// The waiting deliveries take all the room they may have.
    #[error("the outbox is full ({limit} bytes wait); nothing was queued")]
    FullBytes {
        /// The bound.
        limit: u64,
    },
    /// The agent is ending.
    #[error("the outbox is closed: the agent is ending; nothing was queued")]
    Closed,
    /// An argument cannot be right.
    #[error("{argument}: {cause}")]
    Invalid {
        /// Which argument.
        argument: &'static str,
        /// Why.
        cause: String,
    },
    /// A file could not be taken over.
    #[error("files[\"{name}\"] ({path}): {cause}")]
    File {
        /// Name shown.
        name: String,
        /// Path given.
        path: String,
        /// Why.
        cause: String,
    },
}

/// Takes deliveries.
pub trait Outbox: Send + Sync {
    /// Queues a delivery made by `script` and returns at once. When it returns, the files have been copied.
    ///
    /// # Errors
    /// When the queue is full, an argument is wrong or a file cannot be read.
    fn enqueue(&self, script: &str, delivery: Delivery) -> Result<DeliveryId, OutboxError>;
}
