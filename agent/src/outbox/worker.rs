//! One task for each destination that has something waiting: takes its deliveries in order, one at a time.

use std::sync::Arc;
use std::time::SystemTime;

use super::memory::{Shared, Taken};
use super::retry::{Budget, Pace};
use super::slack::{Bot, SlackError, deliver_webhook};
use super::spool::Attachment;
use super::{Alert, DeliveryId};
use crate::secret::Secret;

/// Deliveries to one destination keep their order. Holds a secret; shows none.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Destination {
    Webhook(Secret),
    Bot { token: Secret, channel: String },
}

impl Destination {
    /// For logs.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Webhook(url) => {
                let url = reqwest::Url::parse(url.expose()).ok();
                let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or("?");
                format!("slack: webhook at {host}")
            }
            Self::Bot { channel, .. } => format!("slackBot: channel {channel}"),
        }
    }
}

/// A delivery that waits.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: DeliveryId,
    pub(super) script: String,
    pub(super) alert: Alert,
    pub(super) fields: Vec<(String, String)>,
    pub(super) files: Vec<Attachment>,
    pub(super) made: SystemTime,
    /// What it takes of the outbox's bytes.
    pub(super) bytes: u64,
}

/// Delivers until nothing waits and the pace would let a newcomer go at once.
pub(super) async fn run(shared: Arc<Shared>, destination: Destination) {
    let mut pace = Pace::new(shared.config.interval);
    let mut stop = shared.stop.subscribe();
    loop {
        let turn = async {
            match shared.take(&destination, pace.is_free()) {
                Taken::Job(job) => {
                    let outcome = deliver(&shared, &destination, &job, &mut pace).await;
                    settle(&shared, &destination, *job, outcome);
                    true
                }
                Taken::Nothing => {
                    pace.wait().await;
                    true
                }
                Taken::Closed => false,
            }
        };
        let go_on = tokio::select! {
            go_on = turn => go_on,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        if !go_on {
            return;
        }
    }
}

async fn deliver(
    shared: &Shared,
    destination: &Destination,
    job: &Job,
    pace: &mut Pace,
) -> Result<(), SlackError> {
    let (api, policy, counters) = (&shared.slack, &shared.config.retry, &shared.counters);
    match destination {
        Destination::Webhook(url) => {
            let budget = Budget::new(policy, counters, policy.deadline);
            deliver_webhook(api, url, &job.alert, job.made, budget, pace).await
        }
        Destination::Bot { token, channel } => {
            let bot = Bot {
                api,
                policy,
                counters,
                token,
                channel,
                alert: &job.alert,
                fields: &job.fields,
                files: &job.files,
                made: job.made,
            };
            bot.deliver(pace, || shared.moved()).await
        }
    }
}

fn settle(shared: &Shared, destination: &Destination, job: Job, outcome: Result<(), SlackError>) {
    let id = job.id.0;
    match &outcome {
        Ok(()) => {
            shared.counters.sent.add();
            tracing::debug!(script = %job.script, delivery = id, "{}: delivered", destination.label());
        }
        Err(error) => {
            shared.counters.failed.add();
            tracing::error!(script = %job.script, delivery = id, "{}: not delivered: {error}", destination.label());
        }
    }
    shared.finish(destination, job, outcome.err());
}
