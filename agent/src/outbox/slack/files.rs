//! The three-step upload into a message's thread.
//!
//! ```text
//! for each file:  files.getUploadURLExternal ─► POST bytes        a new URL for every attempt
//! all at once:    files.completeUploadExternal ─┬─ ok
//!                                               ├─ not_in_channel ─► conversations.join, once ─► again
//!                                               └─ a file refused ─► each file by itself
//! ```
//!
//! Every file that was wanted is either attached or given back with the reason.

use std::path::Path;
use std::time::Duration;

use super::api::{Posted, SlackApi, Upload};
use super::message::{file_name, grouped};
use crate::outbox::config::RetryPolicy;
use crate::outbox::delivery::{Attachment, Body};
use crate::outbox::failure::{Failure, Kind};
use crate::outbox::retry::Budget;
use crate::outbox::stats::Counters;
use crate::secret::Secret;

/// Before each look at whether a file has been shared.
const SHARING_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];

/// A thread, and the means to put files into it.
#[derive(Debug)]
pub(super) struct Thread<'a> {
    pub(super) api: &'a SlackApi,
    pub(super) policy: &'a RetryPolicy,
    pub(super) counters: &'a Counters,
    pub(super) token: &'a Secret,
    pub(super) place: &'a Posted,
}

/// A file to attach.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    name: &'a str,
    size: u64,
    content: Upload<'a>,
}

impl<'a> Wanted<'a> {
    pub(super) fn text(name: &'a str, text: &'a str) -> Self {
        Self { name, size: text.len() as u64, content: Upload::Text(text) }
    }

    /// `path`: where its copy is.
    pub(super) fn attachment(attachment: &'a Attachment, path: &'a Path) -> Self {
        let Attachment { name, size, .. } = attachment;
        Self { name, size: *size, content: Upload::File(path, *size) }
    }

    fn missing(&self, reason: &impl ToString) -> Missing {
        Missing { name: self.name.to_owned(), size: self.size, reason: reason.to_string() }
    }
}

/// What the message says of a file that it goes without; `None`: it has it.
pub(super) fn left_out(file: &Attachment) -> Option<String> {
    let reason = match &file.body {
        Body::Missing(reason) => reason.as_str(),
        Body::Copy(_) if file.size == 0 => "it is empty, and Slack takes no empty files",
        Body::Copy(_) => return None,
    };
    Some(Missing { name: file.name.clone(), size: file.size, reason: reason.to_owned() }.line())
}

/// A file that could not be attached.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) name: String,
    size: u64,
    pub(super) reason: String,
}

impl Missing {
    /// What the note says.
    pub(super) fn line(&self) -> String {
        let reason = super::escape::escape(&self.reason);
        format!("{} ({} bytes) could not be attached: {reason}", file_name(&self.name), grouped(self.size))
    }
}

/// A file whose bytes are at Slack.
struct Uploaded<'a> {
    wanted: &'a Wanted<'a>,
    id: String,
}

impl Thread<'_> {
    /// Attaches what can be; gives back what could not.
    pub(super) async fn attach(&self, wanted: &[Wanted<'_>]) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut uploaded = Vec::new();
        for file in wanted {
            match self.upload(file).await {
                Ok(id) => uploaded.push(Uploaded { wanted: file, id }),
                Err(reason) => missing.push(file.missing(&reason)),
            }
        }
        let Err(error) = self.complete(&uploaded).await else { return missing };
        // One refused file must not take the others along.
        if uploaded.len() > 1 && is_about_a_file(&error) {
            for file in &uploaded {
                if let Err(error) = self.complete(std::slice::from_ref(file)).await {
                    missing.push(file.wanted.missing(&error));
                }
            }
        } else {
            missing.extend(uploaded.iter().map(|file| file.wanted.missing(&error)));
        }
        missing
    }

    fn budget(&self) -> Budget<'_> {
        Budget::new(self.policy, self.counters, self.policy.file_deadline)
    }

    /// The first two steps; the file's id. The error is a reason for people.
    async fn upload(&self, file: &Wanted<'_>) -> Result<String, String> {
        let mut budget = self.budget();
        loop {
            match self.upload_once(file.name, file.content).await {
                Ok(id) => return Ok(id),
                Err(error) => budget.again(error).await.map_err(|e| e.to_string())?,
            }
        }
    }

    /// Always with a new URL: whether one that failed would take the bytes again, nobody says.
    async fn upload_once(&self, name: &str, content: Upload<'_>) -> Result<String, Failure> {
        let ticket = self.api.upload_ticket(self.token, name, content.length()).await?;
        self.api.upload(&ticket, content).await?;
        Ok(ticket.file)
    }

    /// The third step.
    async fn complete(&self, uploaded: &[Uploaded<'_>]) -> Result<(), Failure> {
        let Some(first) = uploaded.first() else { return Ok(()) };
        let files: Vec<_> = uploaded.iter().map(|u| (u.id.clone(), u.wanted.name.to_owned())).collect();
        let mut budget = self.budget();
        let (mut joined, mut unanswered) = (false, false);
        loop {
            let error = match self.api.complete(self.token, self.place, &files).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.code == "not_in_channel" && !joined {
                joined = true;
                self.join(error).await?;
                continue;
            }
            // It works once only: after a lost answer an error may mean that it is done.
            if unanswered && error.kind != Kind::Passing {
                return self.is_shared(&first.id).await.then_some(()).ok_or_else(|| in_doubt(error));
            }
            unanswered |= error.unanswered;
            budget.again(error).await?;
        }
    }

    /// Joins a public channel; gives the first error back, with why joining failed.
    pub(super) async fn join(&self, mut error: Failure) -> Result<(), Failure> {
        if !self.place.channel.starts_with('C') {
            return Err(error);
        }
        let mut budget = self.budget();
        loop {
            let refusal = match self.api.join(self.token, &self.place.channel).await {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            if let Err(refusal) = budget.again(refusal).await {
                error.detail = format!("joining it failed: {}", refusal.code);
                return Err(error);
            }
        }
    }

    /// Sharing goes on after the answer, so that the file may take a moment to show up.
    async fn is_shared(&self, file: &str) -> bool {
        for pause in SHARING_PAUSES {
            tokio::time::sleep(pause).await;
            match self.api.is_shared(self.token, file, &self.place.channel).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) if error.kind == Kind::Passing => {}
                Err(error) => {
                    tracing::debug!("outbox: slackBot: files.info: {error}");
                    return false;
                }
            }
        }
        false
    }
}

fn in_doubt(mut error: Failure) -> Failure {
    error.detail = "an earlier answer was lost: it may be attached all the same".to_owned();
    error
}

fn is_about_a_file(error: &Failure) -> bool {
    let word = error.code.as_str();
    word.starts_with("file_")
        || matches!(word, "blocked_file_type" | "storage_limit_reached" | "invalid_arguments")
}
