//! What each kind of service is: a [`Sender`]. A further one is a module with a `Sender`, a variant each of
//! [`Delivery`](super::Delivery), [`Destination`] and, if need be, [`Content`](super::delivery::Content), and a line in [`open`].
//!
//! ```text
//! worker (one for each destination) ─┬─ batch in order ──► Sender::send ──► an Outcome for each, in order
//!    │                               └─ what arrived ────► Sender::finish, several at a time
//!    └─ waits, tries again, splits, gives up; writes down what became of each
//! ```
//!
//! A sender makes calls and judges answers. It does not sleep over errors of a whole delivery, does not count attempts, and
//! keeps nothing that must survive but by [`Outcome::Arrived`]. Each message goes by [`Pace::keep`].

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;

use super::blobs::Blobs;
use super::config::{OutboxConfig, Rate};
use super::delivery::{Destination, Job};
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
pub(crate) fn open(destination: &Destination) -> Arc<dyn Sender> {
    match destination.clone() {
        Destination::Slack { url } => Arc::new(Webhook::new(url)),
        Destination::SlackBot { token, channel } => Arc::new(Bot::new(token, channel)),
        Destination::Elastic { target } => Arc::new(Elastic::new(target)),
        Destination::Web { target } => Arc::new(Web::new(target)),
        Destination::Splunk { target } => Arc::new(Splunk::new(target)),
        Destination::Influx { target } => Arc::new(Influx::new(target)),
        Destination::S3 { target } => Arc::new(Objects::s3(target)),
        Destination::Gcs { target } => Arc::new(Objects::gcs(target)),
    }
}

/// What is being sent; one outcome for each job.
pub(crate) type Sending<'a> = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send + 'a>>;
/// What is done for a job that arrived.
pub(crate) type Finishing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One destination's service.
pub(crate) trait Sender: Send + Sync + Debug {
    /// How much [`Sender::send`] is given at most.
    fn batch(&self) -> Batch {
        Batch { jobs: 1, bytes: u64::MAX }
    }

    /// How fast it may send.
    fn rate(&self, config: &OutboxConfig) -> Rate;

    /// Sends a batch, never empty and in order; gives one outcome for each job, in the same order. It may be dropped at any
    /// await.
    fn send<'a>(&'a self, turn: &'a Turn<'_>, batch: &'a [Job]) -> Sending<'a>;

    /// What is left to do for a job that [`Outcome::Arrived`]. It cannot fail: what cannot be done is told by the sender's own
    /// means. It goes on beside later jobs, may be dropped at any await, and is begun again after that.
    fn finish<'a>(&'a self, _turn: &'a Turn<'_>, _job: &'a Job) -> Finishing<'a> {
        Box::pin(async {})
    }
}

/// A service that takes one thing at a time: a [`Sender`] with less to do.
pub(crate) trait SendOne: Send + Sync + Debug {
    /// As [`Sender::rate`].
    fn rate(&self, config: &OutboxConfig) -> Rate;

    /// As [`Sender::send`], for one job.
    fn send_one(&self, turn: &Turn<'_>, job: &Job) -> impl Future<Output = Outcome> + Send;

    /// As [`Sender::finish`].
    fn finish_one(&self, _turn: &Turn<'_>, _job: &Job) -> impl Future<Output = ()> + Send {
        async {}
    }
}

impl<T: SendOne> Sender for T {
    fn rate(&self, config: &OutboxConfig) -> Rate {
        SendOne::rate(self, config)
    }

    fn send<'a>(&'a self, turn: &'a Turn<'_>, batch: &'a [Job]) -> Sending<'a> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(batch.len());
            for job in batch {
                outcomes.push(self.send_one(turn, job).await);
            }
            outcomes
        })
    }

    fn finish<'a>(&'a self, turn: &'a Turn<'_>, job: &'a Job) -> Finishing<'a> {
        Box::pin(self.finish_one(turn, job))
    }
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
    /// The service has what must keep its order; [`Sender::finish`] does the rest. Never sent again from here on: this, in the
    /// sender's own form, is [`Job::progress`] from now on, also after a kill.
    Arrived(String),
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
    pub(crate) pace: &'a Pace,
    pub(super) blobs: &'a Blobs,
}

impl Turn<'_> {
    /// Where a copy of [`super::delivery::Body::Copy`] lies.
    pub(crate) fn file(&self, copy: &str) -> PathBuf {
        self.blobs.path(copy)
    }
}
