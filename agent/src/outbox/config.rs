//! What can be set about deliveries; the defaults suit Slack.

use std::path::PathBuf;
use std::time::Duration;

/// Slack's own API base.
pub const SLACK_API_URL: &str = "https://slack.com/api/";

/// Bounds and manners of the outbox.
#[derive(Clone, Debug)]
pub struct OutboxConfig {
    /// Base of Slack's Web API; a missing trailing slash is added.
    pub slack_api_url: String,
    /// Where copies of attachments wait, in a folder of this process's own that is removed at the end.
    pub spool_dir: PathBuf,
    /// Deliveries that may wait; more are refused.
    pub max_waiting: usize,
    /// Bytes of text and files that may wait in all. Text past it is refused; files past it are named in the
    /// message instead of attached.
    pub max_bytes: u64,
    /// Bytes of files that one delivery may carry; those past it are named in the message instead of attached.
    pub max_delivery_bytes: u64,
    /// Least time between two messages to one destination, counted from the answer to the first, so that
    /// a server that counts arrivals never sees more.
    pub interval: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
    /// To reach a server.
    pub connect_timeout: Duration,
    /// For a whole call; an upload gets more by its size.
    pub request_timeout: Duration,
    /// Calls under way at one time, over all destinations.
    pub max_calls: usize,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            slack_api_url: SLACK_API_URL.to_owned(),
            spool_dir: std::env::temp_dir(),
            max_waiting: 10_000,
            max_bytes: 1024 * 1024 * 1024,
            max_delivery_bytes: 64 * 1024 * 1024,
            interval: Duration::from_secs(1),
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            max_calls: 64,
        }
    }
}

/// How long and how often a passing error is borne.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// First pause; it doubles with each attempt. Half of every pause is random.
    pub first_pause: Duration,
    /// Longest pause that is not asked for by the server.
    pub longest_pause: Duration,
    /// Longest `Retry-After` that is honoured; a longer one counts as this.
    pub longest_retry_after: Duration,
    /// Time from the first attempt to the last, waits that the server asked for not counted.
    pub deadline: Duration,
    /// The same for each of a message's files, whose text has been sent by then.
    pub file_deadline: Duration,
    /// Attempts at one call.
    pub max_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            longest_retry_after: Duration::from_secs(5 * 60),
            deadline: Duration::from_secs(10 * 60),
            file_deadline: Duration::from_secs(2 * 60),
            max_attempts: 30,
        }
    }
}
