//! Delivering through an incoming webhook.

use super::message::{self, Size, not_an_alert};
use crate::outbox::config::{OutboxConfig, Rate};
use crate::outbox::delivery::{Content, Job};
use crate::outbox::failure::{Failure, Kind};
use crate::outbox::sender::{Outcome, SendOne, Turn};
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
    async fn post(&self, turn: &Turn<'_>, job: &Job) -> Result<(), Failure> {
        let Content::Alert { alert, held, .. } = &job.content else { return Err(not_an_alert()) };
        let mut size = Size::Full;
        loop {
            let payload = message::webhook(alert, *held, job.made, size);
            let answer = turn.pace.keep(turn.services.slack.webhook(&self.url, &payload)).await;
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

impl SendOne for Webhook {
    fn rate(&self, config: &OutboxConfig) -> Rate {
        config.slack_rate
    }

    async fn send_one(&self, turn: &Turn<'_>, job: &Job) -> Outcome {
        Outcome::of(self.post(turn, job).await)
    }
}
