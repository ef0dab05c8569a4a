//! What scripts send: written down, then delivered by its own tasks, in order for each destination.
//!
//! Scripts know only [`Outbox`].
//!
//! ```text
//! script ─► enqueue ─► check ─► folds ─► blobs (copies) ─► store ─► queue: a lane for each destination ─► worker ─► sender
//!           (queue)             (held back)                (SQLite)                                       └─ retry, pace
//! ```
//!
//! Invariants: `enqueue` never waits for the network; what it acknowledged survives a kill at any point (if durable) and is
//! delivered at least once, or becomes a dead letter; a destination's deliveries go out in the order they came;
//! one destination's trouble never delays another; a delivery whose text was sent is never lost for a file's sake, nor for
//! the disk's; what is held back is told; no secret reaches a log, an error or a list.

mod blobs;
mod check;
mod config;
mod delivery;
mod drained;
mod elastic;
mod failure;
mod folds;
mod http;
mod influx;
mod lock;
mod objects;
mod pack;
mod queue;
mod recorded;
mod refusals;
mod retry;
mod said;
mod sender;
mod slack;
mod splunk;
mod stamp;
mod stats;
mod store;
mod web;
mod worker;

pub use config::{DeadLimits, FoldPolicy, OutboxConfig, Rate, RetryPolicy, SLACK_API_URL};
pub use delivery::{Alert, Delivery, DeliveryId, Fold};
pub use drained::{Drained, Undelivered};
pub use elastic::{ElasticAccess, ElasticDocument, ElasticTarget};
pub use influx::{InfluxPoint, InfluxTarget};
pub use objects::{GcsTarget, S3Target, object_key};
pub use queue::DurableOutbox;
pub use recorded::{Recorded, RecordingOutbox};
pub use slack::hint;
pub use splunk::{SplunkEvent, SplunkTarget};
pub use stats::DeliveryStats;
pub use store::{Letter, LetterFile, LetterState, Letters};
pub use web::{WebMessage, WebTarget};

/// The outbox's folder in a data folder.
pub const FOLDER: &str = "outbox";
/// The folder of copies in that.
const BLOBS: &str = "blobs";

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

    /// Whether half of what may wait does: what is not an alert then leaves the rest to the alerts.
    fn is_crowded(&self) -> bool {
        false
    }
}
