//! What each kind of service is: a [`Sender`]. A further one is a module with a `Sender`, a variant each of
//! [`Delivery`](super::Delivery), [`Destination`] and, if need be, [`Content`](super::delivery::Content), and a line in [`open`].
//!
//! ```text
//! worker (one for each destination) ── batch in order ──► Sender::send ──► an Outcome for each, in order
//!    └─ waits, tries again, splits, gives up; writes down what became of each
//! ```
//!
//! A sender makes calls and judges answers. It does not sleep over errors of a whole delivery, does not count attempts, and
//! keeps nothing that must survive but by [`Turn::note`]. It asks [`Pace`] before each message.

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;

use super::blobs::Blobs;
use super::config::{OutboxConfig, Rate};
use super::delivery::{DeliveryId, Destination, Job};
use super::elastic::Elastic;
use super::failure::{Failure, Kind};
use super::http::Http;
use super::influx::Influx;
use super::objects::Objects;
use super::retry::Pace;
use super::slack::{Bot, SlackApi, Webhook};
use super::splunk::Splunk;
use super::stats::Counters;
use super::web::Web;

/// What all senders share.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) http: Arc<Http>,
    pub(crate) slack: SlackApi,
}

impl Services {
    pub(crate) fn new(config: &OutboxConfig) -> Result<Self> {
        let http = Arc::new(Http::new(config));
        Ok(Self { slack: SlackApi::new(config, Arc::clone(&http))?, http })
    }
}

/// The sender for a destination; made anew when deliveries for it begin to wait.
pub(crate) fn open(destination: &Destination) -> Box<dyn Sender> {
    match destination.clone() {
        Destination::Slack { url } => Box::new(Webhook::new(url)),
        Destination::SlackBot { token, channel } => Box::new(Bot::new(token, channel)),
        Destination::Elastic { target } => Box::new(Elastic::new(target)),
        Destination::Web { target } => Box::new(Web::new(target)),
        Destination::Splunk { target } => Box::new(Splunk::new(target)),
        Destination::Influx { target } => Box::new(Influx::new(target)),
        Destination::S3 { target } => Box::new(Objects::s3(target)),
        Destination::Gcs { target } => Box::new(Objects::gcs(target)),
    }
}

/// What is being sent; one outcome for each job.
pub(crate) type Sending<'a> = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send + 'a>>;

/// One destination's service.
pub(crate) trait Sender: Send + Sync + Debug {
    /// How much [`Sender::send`] is given at most.
    fn batch(&self) -> Batch {
        Batch { jobs: 1, bytes: u64::MAX }
    }

    /// How fast it may send.
    fn rate(&self, config: &OutboxConfig) -> Rate;

    /// Sends a batch, never empty and in order; gives one outcome for each job, in the same order. It may be dropped at any
    /// await: what [`Turn::note`] wrote down is there at the next attempt.
    fn send<'a>(&'a self, turn: &'a mut Turn<'_>, batch: &'a [Job]) -> Sending<'a>;
}

/// Bounds of a batch: a single job may be larger than `bytes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) jobs: usize,
    /// Of text and files.
    pub(crate) bytes: u64,
}

/// What became of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The service has it.
    Delivered,
    /// Not now. A wish of the server's is in [`Failure::retry_after`].
    Retry(Failure),
    /// Never: a dead letter.
    Dead(Failure),
    /// Too much at once: again in smaller batches. A job alone in its batch is a dead letter.
    Split(Failure),
}

impl Outcome {
    /// By the failure's kind.
    pub(crate) fn of(result: Result<(), Failure>) -> Self {
        match result {
            Ok(()) => Self::Delivered,
            Err(failure) if failure.kind == Kind::Passing => Self::Retry(failure),
            Err(failure) => Self::Dead(failure),
        }
    }
}

/// What a sender works with.
pub(crate) struct Turn<'a> {
    pub(crate) services: &'a Services,
    pub(crate) config: &'a OutboxConfig,
    pub(crate) counters: &'a Counters,
    pub(crate) pace: &'a mut Pace,
    pub(super) blobs: &'a Blobs,
    pub(super) noted: &'a (dyn Fn(DeliveryId, &str) + Send + Sync),
}

impl Turn<'_> {
    /// Writes down how far a delivery got: part of it has arrived, and must not be sent twice. It is [`Job::progress`] at the
    /// next attempt.
    pub(crate) fn note(&self, job: DeliveryId, progress: &str) {
        (self.noted)(job, progress);
    }

    /// Where a copy of [`super::delivery::Body::Copy`] lies.
    pub(crate) fn file(&self, copy: &str) -> PathBuf {
        self.blobs.path(copy)
    }
}
