//! Splunk's HTTP Event Collector: events in batches, raw text one by one, acknowledged where the token asks for it.
//!
//! ```text
//! jobs ─► runs: events together, raw alone ─► POST ─► code 0 ─► ackId? ─► ask /ack until it is indexed, or again
//!              └─ after a failure first GET /health                 └─ none: delivered
//! ```

mod answer;
mod event;
mod target;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};
use tokio::time::Instant;

pub(crate) use event::Envelope;
pub use event::SplunkEvent;
pub use target::SplunkTarget;

use super::config::{OutboxConfig, Rate};
use super::delivery::{Content, Job};
use super::failure::Failure;
use super::http::Answer;
use super::pack;
use super::sender::{Batch, Outcome, Sender, Sending, Turn};

/// How long indexing is waited for; then the events are sent again.
const ACK_PATIENCE: Duration = Duration::from_secs(120);
/// Between two questions whether they are indexed; doubles up to the longest.
const ACK_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// One collector, by one token.
#[derive(Debug)]
pub(in crate::outbox) struct Splunk {
    target: SplunkTarget,
    /// Made up where the script gave none; acknowledgements belong to it.
    channel: OnceLock<String>,
    /// The last call failed: its health is asked for first.
    failed: AtomicBool,
}

impl Splunk {
    pub(in crate::outbox) fn new(target: SplunkTarget) -> Self {
        Self { target, channel: OnceLock::new(), failed: AtomicBool::new(false) }
    }

    /// Sends one run; an outcome for each of its jobs.
    async fn run(&self, turn: &Turn<'_>, run: &[Job]) -> Vec<Outcome> {
        let answer = turn.pace.keep(self.post(turn, run)).await;
        let all = |result: Result<(), Failure>| run.iter().map(|_| Outcome::of(result.clone())).collect();
        match answer.map(|answer| answer::judge(&answer, run.len(), &self.target.secrets())) {
            Err(failure) => all(Err(failure)),
            Ok(answer::Verdict::Taken(None)) => all(Ok(())),
            Ok(answer::Verdict::Taken(Some(ack))) => all(self.indexed(turn, ack).await),
            Ok(answer::Verdict::Refused(outcomes)) => outcomes,
        }
    }

    async fn post(&self, turn: &Turn<'_>, run: &[Job]) -> Result<Answer, Failure> {
        let raw = run.iter().find_map(|job| match &job.content {
            Content::Splunk { envelope } => envelope.raw(),
            _ => None,
        });
        let (url, body, mime) = match raw {
            Some((query, text)) => {
                let mut url = self.target.endpoint("raw")?;
                url.query_pairs_mut().extend_pairs(query);
                (url, text.as_bytes().to_vec(), "text/plain; charset=utf-8")
            }
            None => (self.target.endpoint("event")?, event::body(run), "application/json"),
        };
        let request = self.request(turn, reqwest::Method::POST, url)?.header(CONTENT_TYPE, mime);
        turn.services.http.send(pack::body(request, body).await?, Duration::ZERO).await
    }

    /// Asks until the events of `ack` are indexed.
    async fn indexed(&self, turn: &Turn<'_>, ack: u64) -> Result<(), Failure> {
        let url = self.target.endpoint("ack")?;
        let (mut pause, longest) = ACK_PAUSE;
        let deadline = Instant::now() + ACK_PATIENCE.min(turn.config.retry.deadline);
        let question = serde_json::json!({ "acks": [ack] }).to_string();
        loop {
            let request = self.request(turn, reqwest::Method::POST, url.clone())?;
            let request = request.header(CONTENT_TYPE, "application/json").body(question.clone());
            match turn.services.http.send(request, Duration::ZERO).await {
                Ok(answer) => match answer::acknowledged(&answer, ack, &self.target.secrets()) {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(failure) => return Err(failure),
                },
                // They may be indexed all the same: asking again is cheaper than sending again.
                Err(failure) => tracing::debug!("outbox: splunk: acknowledgement: {failure}"),
            }
            if Instant::now() + pause > deadline {
                return Err(Failure::no_answer("not acknowledged in time".to_owned()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Whether the collector would take anything: asked before a whole batch is sent in vain.
    async fn healthy(&self, turn: &Turn<'_>) -> Result<(), Failure> {
        let url = self.target.endpoint("health")?;
        let answer =
            turn.services.http.send(self.request(turn, reqwest::Method::GET, url)?, Duration::ZERO).await?;
        answer::health(&answer, &self.target.secrets())
    }

    fn request(&self, turn: &Turn<'_>, method: reqwest::Method, url: Url) -> Result<RequestBuilder, Failure> {
        let channel = self.channel.get_or_init(|| self.target.channel().unwrap_or_else(target::new_channel));
        let header = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| Failure::local("bad_request", "a header".to_owned()))
        };
        let mut auth = header(&format!("Splunk {}", self.target.token.expose()))?;
        auth.set_sensitive(true);
        let client = turn.services.http.client(&url)?;
        let named = HeaderName::from_static("x-splunk-request-channel");
        Ok(client.request(method, url).header(AUTHORIZATION, auth).header(named, header(channel)?))
    }
}

impl Sender for Splunk {
    fn batch(&self) -> Batch {
        // Older collectors take 1 MB.
        Batch { jobs: 1_000, bytes: 800_000 }
    }

    fn rate(&self, _config: &OutboxConfig) -> Rate {
        Rate { per_second: 100.0, burst: 100 }
    }

    fn send<'a>(&'a self, turn: &'a Turn<'_>, batch: &'a [Job]) -> Sending<'a> {
        Box::pin(async move {
            if self.failed.load(Ordering::Relaxed)
                && let Err(failure) = self.healthy(turn).await
            {
                return batch.iter().map(|_| Outcome::of(Err(failure.clone()))).collect();
            }
            let mut outcomes: Vec<Outcome> = Vec::with_capacity(batch.len());
            for run in event::runs(batch) {
                // What comes after what failed for now waits with it.
                if let Some(Outcome::Retry(failure)) =
                    outcomes.iter().find(|o| matches!(o, Outcome::Retry(_)))
                {
                    let failure = failure.clone();
                    outcomes.extend(run.iter().map(|_| Outcome::Retry(failure.clone())));
                } else {
                    outcomes.extend(self.run(turn, run).await);
                }
            }
            let failed = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Retry(_)));
            self.failed.store(failed, Ordering::Relaxed);
            outcomes
        })
    }
}
