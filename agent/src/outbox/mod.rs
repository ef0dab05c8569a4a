//! What scripts send: queued, then delivered by its own tasks, in order for each destination.
//!
//! Scripts know only [`Outbox`]. The trait is where the durable outbox will sit.

use std::path::PathBuf;

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
