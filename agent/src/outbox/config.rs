//! What can be set about deliveries; the defaults suit Slack.

use std::path::PathBuf;
use std::time::Duration;

use crate::tls::Trust;

/// Slack's own API base.
pub const SLACK_API_URL: &str = "https://slack.com/api/";

/// Bounds and manners of the outbox.
#[derive(Clone, Debug)]
pub struct OutboxConfig {
    /// Base of Slack's Web API; a missing trailing slash is added.
    pub slack_api_url: String,
    /// The outbox's own folder: database, copies of attachments, lock.
    pub folder: PathBuf,
    /// Whether what was queued must survive a power cut. Without it nothing waits for the disk: for a folder that vanishes
    /// with the process.
    pub durable: bool,
    /// Deliveries that may wait; more are refused.
    pub max_waiting: usize,
    /// Bytes of text and files that may wait in all. Text past it is refused; files past three quarters of it are named in
    /// the message instead of attached.
    pub max_bytes: u64,
    /// Bytes of files that one delivery may carry; those past it are named in the message instead of attached.
    pub max_delivery_bytes: u64,
    /// Bytes of one object for `vendor.s3.put` or `vendor.gcs.put`; larger ones are refused.
    pub max_object_bytes: u64,
    /// How long a delivery may wait; then it is a dead letter.
    pub max_age: Duration,
    /// Bytes of text kept in memory while the disk takes nothing; more is refused.
    pub max_memory: u64,
    /// Bytes of the disk that attachments leave free, at most: a hundredth of a disk smaller than a hundred times that.
    pub disk_reserve: u64,
    /// Bounds of the dead letters.
    pub dead: DeadLimits,
    /// What is folded.
    pub fold: FoldPolicy,
    /// Messages to one Slack channel or webhook.
    pub slack_rate: Rate,
    /// When to try again.
    pub retry: RetryPolicy,
    /// To reach a server.
    pub connect_timeout: Duration,
    /// For a whole call; an upload gets more by its size.
    pub request_timeout: Duration,
    /// Whom TLS trusts.
    pub trust: Trust,
    /// Calls under way at one time, over all destinations.
    pub max_calls: usize,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            slack_api_url: SLACK_API_URL.to_owned(),
            folder: PathBuf::new(),
            durable: true,
            max_waiting: 100_000,
            max_bytes: 1024 * 1024 * 1024,
            max_delivery_bytes: 64 * 1024 * 1024,
            max_object_bytes: 512 * 1024 * 1024,
            max_age: Duration::from_secs(24 * 3_600),
            max_memory: 32 * 1024 * 1024,
            disk_reserve: 64 * 1024 * 1024,
            dead: DeadLimits::default(),
            fold: FoldPolicy::default(),
            slack_rate: Rate { per_second: 1.0, burst: 3 },
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            trust: Trust::default(),
            max_calls: 64,
        }
    }
}

/// Messages to one destination.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// In the long run, counted from the answer to each.
    pub per_second: f64,
    /// That may go at once after a quiet time; 1: never closer than the rate says.
    pub burst: u32,
}

/// Dead letters past any of these go, the oldest first.
#[derive(Clone, Debug)]
pub struct DeadLimits {
    /// How many are kept.
    pub max_count: u64,
    /// Bytes of their text and files.
    pub max_bytes: u64,
    /// How long they are kept.
    pub max_age: Duration,
}

impl Default for DeadLimits {
    fn default() -> Self {
        Self { max_count: 10_000, max_bytes: 256 * 1024 * 1024, max_age: Duration::from_secs(7 * 24 * 3_600) }
    }
}

/// When alerts are folded into one.
#[derive(Clone, Debug)]
pub struct FoldPolicy {
    /// Alerts alike (script, destination, title) that are sent in a minute, unless the script gave a key; 0: all.
    pub flood_limit: u32,
    /// The flood guard's minute.
    pub flood_window: Duration,
    /// Alerts of one script in a minute; 0: any number.
    pub script_budget: u32,
    /// Alerts of all scripts in a minute; 0: any number.
    pub total_budget: u32,
    /// Keys that are remembered. Past it the oldest is closed early.
    pub max_keys: usize,
}

impl Default for FoldPolicy {
    fn default() -> Self {
        Self {
            flood_limit: 20,
            flood_window: Duration::from_secs(60),
            script_budget: 12_000,
            total_budget: 30_000,
            max_keys: 10_000,
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
    /// How long a destination may be in trouble before its deliveries are given up, each after an attempt of its own; waits
    /// that the server asked for are not counted.
    pub deadline: Duration,
    /// From the first attempt to the last at each of a message's files, whose text has been sent by then.
    pub file_deadline: Duration,
    /// Attempts at one delivery or one call that a server answered with an error: what it cannot digest must not hold up
    /// the others for ever.
    pub max_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            longest_retry_after: Duration::from_secs(5 * 60),
            deadline: Duration::from_secs(12 * 3_600),
            file_deadline: Duration::from_secs(2 * 60),
            max_attempts: 120,
        }
    }
}
