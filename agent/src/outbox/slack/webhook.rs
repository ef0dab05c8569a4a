//! Delivering through an incoming webhook.

use std::time::SystemTime;

use super::api::SlackApi;
use super::error::{Kind, SlackError};
use super::message::{self, Size};
use crate::outbox::Alert;
use crate::outbox::retry::{Budget, Pace};
use crate::secret::Secret;

/// Posts the alert, plainer each time that the payload is refused.
pub(in crate::outbox) async fn deliver(
    api: &SlackApi,
    url: &Secret,
    alert: &Alert,
    made: SystemTime,
    mut budget: Budget<'_>,
    pace: &mut Pace,
) -> Result<(), SlackError> {
    let mut size = Size::Full;
    loop {
        let payload = message::webhook(alert, made, size);
        pace.wait().await;
        let answer = api.webhook(url, &payload).await;
        pace.sent();
        match (answer, size.next()) {
            (Ok(()), _) => return Ok(()),
            (Err(error), Some(smaller)) if error.kind == Kind::Mend => {
                tracing::debug!("outbox: slack webhook: {}: tried again shorter", error.code);
                size = smaller;
            }
            (Err(error), _) => budget.again(error).await?,
        }
    }
}
