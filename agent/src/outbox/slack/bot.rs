//! Delivering as a bot: the message, then the files into its thread, then a note about what is missing.

use std::time::SystemTime;

use super::api::{Posted, SlackApi};
use super::error::{Kind, SlackError};
use super::files::{Thread, Wanted};
use super::message::{self, Size};
use crate::outbox::Alert;
use crate::outbox::config::RetryPolicy;
use crate::outbox::retry::{Budget, Pace};
use crate::outbox::spool::Attachment;
use crate::outbox::stats::Counters;
use crate::secret::Secret;

/// One delivery as a bot.
#[derive(Debug)]
pub(in crate::outbox) struct Bot<'a> {
    pub(in crate::outbox) api: &'a SlackApi,
    pub(in crate::outbox) policy: &'a RetryPolicy,
    pub(in crate::outbox) counters: &'a Counters,
    pub(in crate::outbox) token: &'a Secret,
    pub(in crate::outbox) channel: &'a str,
    pub(in crate::outbox) alert: &'a Alert,
    pub(in crate::outbox) fields: &'a [(String, String)],
    pub(in crate::outbox) files: &'a [Attachment],
    pub(in crate::outbox) made: SystemTime,
}

impl Bot<'_> {
    /// An error means that not even the text was delivered. `posted` is called once it was.
    pub(in crate::outbox) async fn deliver(
        &self,
        pace: &mut Pace,
        posted: impl FnOnce(),
    ) -> Result<(), SlackError> {
        let (place, cut) = self.post(pace).await?;
        posted();
        let whole = cut.then(|| message::whole(self.alert, self.fields));
        let wanted = whole.iter().map(|text| Wanted::text(message::TEXT_FILE, text));
        let wanted: Vec<Wanted<'_>> = wanted.chain(self.files.iter().map(Wanted::attachment)).collect();
        let thread = Thread {
            api: self.api,
            policy: self.policy,
            counters: self.counters,
            token: self.token,
            place: &place,
        };
        let missing = thread.attach(&wanted).await;
        if missing.is_empty() {
            return Ok(());
        }
        for file in &missing {
            self.counters.files_failed.add();
            tracing::warn!(
                "slackBot: channel {}: file {:?} not attached: {}",
                self.channel,
                file.name,
                file.reason
            );
        }
        let lines: Vec<String> = missing.iter().map(|file| file.line()).collect();
        if let Err(error) = self.note(pace, &place, &lines.join("\n")).await {
            tracing::warn!("slackBot: channel {}: note about missing files not sent: {error}", self.channel);
        }
        Ok(())
    }

    /// The message, shorter and plainer each time that the payload is refused; whether something was left out.
    async fn post(&self, pace: &mut Pace) -> Result<(Posted, bool), SlackError> {
        let mut budget = Budget::new(self.policy, self.counters, self.policy.deadline);
        let mut size = Size::Full;
        loop {
            let mut payload = message::bot(self.alert, self.fields, self.made, size);
            payload.json["channel"] = self.channel.into();
            pace.wait().await;
            let answer = self.api.post_message(self.token, &payload.json).await;
            pace.sent();
            match (answer, size.next()) {
                (Ok(posted), _) => return Ok((posted, payload.cut)),
                (Err(error), Some(smaller)) if error.kind == Kind::Mend => {
                    tracing::debug!("outbox: slackBot: {}: tried again shorter", error.code);
                    size = smaller;
                }
                (Err(error), _) => budget.again(error).await?,
            }
        }
    }

    async fn note(&self, pace: &mut Pace, place: &Posted, text: &str) -> Result<(), SlackError> {
        let mut budget = Budget::new(self.policy, self.counters, self.policy.deadline);
        let mut note = message::note(text);
        note["channel"] = place.channel.as_str().into();
        note["thread_ts"] = place.ts.as_str().into();
        loop {
            pace.wait().await;
            let answer = self.api.post_message(self.token, &note).await;
            pace.sent();
            match answer {
                Ok(_) => return Ok(()),
                Err(error) => budget.again(error).await?,
            }
        }
    }
}
