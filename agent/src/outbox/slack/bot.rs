//! Delivering as a bot: the message, then the files into its thread, then a note about what is missing. The next message does
//! not wait for the files of this one: Slack's messages and its files fail apart.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::api::Posted;
use super::files::{self, Missing, Thread, Wanted};
use super::message::{self, Notes, Size, not_an_alert};
use crate::outbox::config::{OutboxConfig, Rate};
use crate::outbox::delivery::{Attachment, Body, Content, Job};
use crate::outbox::failure::{Failure, Kind};
use crate::outbox::retry::Budget;
use crate::outbox::sender::{Outcome, SendOne, Turn};
use crate::secret::Secret;

/// One channel, as seen by one bot.
#[derive(Debug)]
pub(in crate::outbox) struct Bot {
    token: Secret,
    channel: String,
}

/// The text has arrived: after a crash only the files are left to do.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    channel: String,
    ts: String,
    /// The text was too long: all of it goes into a file.
    cut: bool,
}

impl SendOne for Bot {
    fn rate(&self, config: &OutboxConfig) -> Rate {
        config.slack_rate
    }

    /// The message.
    async fn send_one(&self, turn: &Turn<'_>, job: &Job) -> Outcome {
        if let Some(noted) = &job.progress
            && arrived(job).is_some()
        {
            return Outcome::Arrived(noted.clone());
        }
        let left_out: Vec<String> = job.files.iter().filter_map(files::left_out).collect();
        let progress = match self.post(turn, job, &left_out).await {
            Ok(progress) => progress,
            Err(failure) => return Outcome::of(Err(failure)),
        };
        left_out.iter().for_each(|_| turn.counters.files_failed.add());
        if left_out.len() == job.files.len() && !progress.cut {
            return Outcome::Delivered;
        }
        serde_json::to_string(&progress).map_or(Outcome::Delivered, Outcome::Arrived)
    }

    /// The files into its thread, and a note about those that could not be put there.
    async fn finish_one(&self, turn: &Turn<'_>, job: &Job) {
        let Some(Progress { channel, ts, cut }) = arrived(job) else { return };
        let place = Posted { channel, ts };
        let missing = self.attach(turn, job, &place, cut).await;
        if missing.is_empty() {
            return;
        }
        for file in &missing {
            turn.counters.files_failed.add();
            let (name, reason) = (&file.name, &file.reason);
            tracing::warn!("slackBot: channel {}: file {name:?} not attached: {reason}", self.channel);
        }
        let lines: Vec<String> = missing.iter().map(Missing::line).collect();
        if let Err(error) = self.note(turn, &place, &lines.join("\n")).await {
            tracing::warn!("slackBot: channel {}: note about missing files not sent: {error}", self.channel);
        }
    }
}

/// Where the message is, if it has arrived.
fn arrived(job: &Job) -> Option<Progress> {
    serde_json::from_str(job.progress.as_deref()?).ok()
}

impl Bot {
    pub(in crate::outbox) fn new(token: Secret, channel: String) -> Self {
        Self { token, channel }
    }

    /// The message, shorter and plainer each time that the payload is refused.
    async fn post(&self, turn: &Turn<'_>, job: &Job, left_out: &[String]) -> Result<Progress, Failure> {
        let Content::Alert { alert, fields, held } = &job.content else { return Err(not_an_alert()) };
        let mut size = Size::Full;
        let mut joined = false;
        loop {
            let notes = Notes { held: *held, left_out };
            let mut payload = message::bot(alert, fields, notes, job.made, size);
            payload.json["channel"] = self.channel.as_str().into();
            let answer = turn.pace.keep(turn.services.slack.post_message(&self.token, &payload.json)).await;
            match (answer, size.next()) {
                (Ok(Posted { channel, ts }), _) => return Ok(Progress { channel, ts, cut: payload.cut }),
                (Err(error), Some(smaller)) if error.kind == Kind::Mend => {
                    tracing::debug!("outbox: slackBot: {}: tried again shorter", error.code);
                    size = smaller;
                }
                // An app without chat:write.public posts only where it is a member.
                (Err(error), _) if error.code == "not_in_channel" && !joined => {
                    joined = true;
                    let place = Posted { channel: self.channel.clone(), ts: String::new() };
                    self.thread(turn, &place).join(error).await?;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    async fn attach(&self, turn: &Turn<'_>, job: &Job, place: &Posted, cut: bool) -> Vec<Missing> {
        let Content::Alert { alert, fields, .. } = &job.content else { return Vec::new() };
        let attachments: Vec<&Attachment> =
            job.files.iter().filter(|file| files::left_out(file).is_none()).collect();
        let whole = cut.then(|| message::whole(alert, fields));
        let path = |body: &Body| match body {
            Body::Copy(copy) => turn.file(copy),
            Body::Missing(_) => PathBuf::new(),
        };
        let paths: Vec<PathBuf> = attachments.iter().map(|file| path(&file.body)).collect();
        let text = whole.iter().map(|text| Wanted::text(message::TEXT_FILE, text));
        let files = attachments.iter().zip(&paths).map(|(file, path)| Wanted::attachment(file, path));
        let wanted: Vec<Wanted<'_>> = text.chain(files).collect();
        self.thread(turn, place).attach(&wanted).await
    }

    fn thread<'a>(&'a self, turn: &Turn<'a>, place: &'a Posted) -> Thread<'a> {
        Thread {
            api: &turn.services.slack,
            policy: &turn.config.retry,
            counters: turn.counters,
            token: &self.token,
            place,
        }
    }

    async fn note(&self, turn: &Turn<'_>, place: &Posted, text: &str) -> Result<(), Failure> {
        let policy = &turn.config.retry;
        let mut budget = Budget::new(policy, turn.counters, policy.file_deadline);
        let mut note = message::note(text);
        note["channel"] = place.channel.as_str().into();
        note["thread_ts"] = place.ts.as_str().into();
        loop {
            match turn.pace.keep(turn.services.slack.post_message(&self.token, &note)).await {
                Ok(_) => return Ok(()),
                Err(error) => budget.again(error).await?,
            }
        }
    }
}
