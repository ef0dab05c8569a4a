//! Delivering through an incoming webhook.

use super::message::{self, Size, not_an_alert};
use crate::outbox::config::{OutboxConfig, Rate};
use crate::outbox::delivery::{Content, Job};
use crate::outbox::failure::{Failure, Kind};
use crate::outbox::sender::{Outcome, Sender, Sending, Turn};
use crate::secret::Secret;

/// One webhook.
#[derive(Debug)]
pub(in crate::outbox) struct Webhook {
    url: Secret,
}

impl Webhook {
    pub(in crate::outbox) fn new(url: Secret) -> Self {
        Self { url }
    }

    /// Posts the alert, plainer each time that the payload is refused.
    async fn post(&self, turn: &mut Turn<'_>, job: &Job) -> Result<(), Failure> {
        let Content::Alert { alert, held, .. } = &job.content else { return Err(not_an_alert()) };
        let mut size = Size::Full;
        loop {
            let payload = message::webhook(alert, *held, job.made, size);
            turn.pace.wait().await;
            let answer = turn.services.slack.webhook(&self.url, &payload).await;
            turn.pace.sent();
            match (answer, size.next()) {
                (Err(error), Some(smaller)) if error.kind == Kind::Mend => {
                    tracing::debug!("outbox: slack webhook: {}: tried again shorter", error.code);
                    size = smaller;
                }
                (answer, _) => return answer,
            }
        }
    }
}

impl Sender for Webhook {
    fn rate(&self, config: &OutboxConfig) -> Rate {
        config.slack_rate
    }

    fn send<'a>(&'a self, turn: &'a mut Turn<'_>, batch: &'a [Job]) -> Sending<'a> {
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(batch.len());
            for job in batch {
                outcomes.push(Outcome::of(self.post(turn, job).await));
            }
            outcomes
        })
    }
}
