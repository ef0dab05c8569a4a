//! The calls: each one request, its answer judged. No waiting and no repeating here, but for what Slack asked for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, RequestBuilder, Url};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::error;
use crate::outbox::config::OutboxConfig;
use crate::outbox::failure::{Failure, Kind};
use crate::outbox::http::{Answer, Http};
use crate::secret::Secret;

/// A rate-limited answer that names no time.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// What an upload must at least move, in bytes a second, to stay within its time.
const SLOWEST_UPLOAD: u64 = 64 * 1024;

/// Slack's Web API and incoming webhooks.
#[derive(Debug)]
pub(in crate::outbox) struct SlackApi {
    base: Url,
    http: Arc<Http>,
    longest_retry_after: Duration,
    holds: Holds,
}

/// A message that was posted.
#[derive(Clone, Debug)]
pub(super) struct Posted {
    /// The channel's id, also where a name was given.
    pub(super) channel: String,
    pub(super) ts: String,
}

/// Where a file's bytes go.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) file: String,
    url: Url,
}

impl SlackApi {
    /// # Errors
    /// When the configured base is not a URL.
    pub(in crate::outbox) fn new(config: &OutboxConfig, http: Arc<Http>) -> Result<Self> {
        let text = config.slack_api_url.trim();
        let slash = if text.ends_with('/') { "" } else { "/" };
        let base = Url::parse(&format!("{text}{slash}")).context("Slack API URL")?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            bail!("Slack API URL: {base} is not an http or https URL");
        }
        Ok(Self {
            base,
            http,
            longest_retry_after: config.retry.longest_retry_after,
            holds: Holds::default(),
        })
    }

    /// `chat.postMessage`
    pub(super) async fn post_message(&self, token: &Secret, message: &Value) -> Result<Posted, Failure> {
        let answer = self.call(token, "chat.postMessage", |r| json_body(r, message)).await?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        match (text("channel"), text("ts")) {
            (Some(channel), Some(ts)) => Ok(Posted { channel, ts }),
            _ => Err(Failure::bad_answer("no channel or ts".to_owned())),
        }
    }

    /// `conversations.join`
    pub(super) async fn join(&self, token: &Secret, channel: &str) -> Result<(), Failure> {
        self.call(token, "conversations.join", |r| json_body(r, &json!({ "channel": channel })))
            .await
            .map(drop)
    }

    /// `files.getUploadURLExternal`
    pub(super) async fn upload_ticket(
        &self,
        token: &Secret,
        name: &str,
        length: u64,
    ) -> Result<Ticket, Failure> {
        let form = [("filename", name.to_owned()), ("length", length.to_string())];
        let answer = self.call(token, "files.getUploadURLExternal", |r| r.form(&form)).await?;
        let url = answer["upload_url"].as_str().and_then(|url| Url::parse(url).ok());
        match (answer["file_id"].as_str(), url) {
            (Some(file), Some(url)) if self.is_plausible(&url) => Ok(Ticket { file: file.to_owned(), url }),
            (Some(_), Some(_)) => {
                Err(Failure::local("bad_upload_url", "the upload URL leads away from Slack".to_owned()))
            }
            _ => Err(Failure::bad_answer("no file_id or upload_url".to_owned())),
        }
    }

    /// The file's bytes to the ticket's URL, which is itself the permission: no token goes there.
    pub(super) async fn upload(&self, ticket: &Ticket, content: Upload<'_>) -> Result<(), Failure> {
        let length = content.length();
        let body = content.body().await.map_err(|e| Failure::local("spool", e.to_string()))?;
        let request = self.http.client(&ticket.url)?.post(ticket.url.clone());
        let request = request
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, length)
            .body(body);
        let extra = Duration::from_secs(length / SLOWEST_UPLOAD);
        let answer = self.http.send(request, extra).await?;
        match answer.status.as_u16() {
            200..=299 => Ok(()),
            status => Err(self.wish(Failure::status(status), &answer)),
        }
    }

    /// `files.completeUploadExternal`; `files` are ids with titles.
    pub(super) async fn complete(
        &self,
        token: &Secret,
        place: &Posted,
        files: &[(String, String)],
    ) -> Result<(), Failure> {
        let files: Vec<Value> = files.iter().map(|(id, title)| json!({"id": id, "title": title})).collect();
        let body = json!({"files": files, "channel_id": place.channel, "thread_ts": place.ts});
        self.call(token, "files.completeUploadExternal", |r| json_body(r, &body)).await.map(drop)
    }

    /// `files.info`: whether the file is to be seen in the channel.
    pub(super) async fn is_shared(&self, token: &Secret, file: &str, channel: &str) -> Result<bool, Failure> {
        let answer = self.call(token, "files.info", |r| r.form(&[("file", file)])).await?;
        let shares = &answer["file"]["shares"];
        Ok(["public", "private"].iter().any(|kind| !shares[*kind][channel].is_null()))
    }

    /// An incoming webhook.
    pub(super) async fn webhook(&self, url: &Secret, payload: &Value) -> Result<(), Failure> {
        // The parser's error could repeat the URL.
        let parsed = Url::parse(url.expose())
            .map_err(|_| Failure::local("bad_request", "the webhook URL is not valid".to_owned()))?;
        let key = (url.clone(), "webhook");
        self.holds.wait(&key).await;
        let answer =
            self.http.send(self.http.client(&parsed)?.post(parsed).json(payload), Duration::ZERO).await?;
        // By the body first: proxies on the way change statuses more often than bodies.
        let body = String::from_utf8_lossy(&answer.body);
        let error = match (body.trim(), answer.status.as_u16()) {
            ("ok", 200..=299) => return Ok(()),
            (body, _) if is_word(body) && body != "ok" => error::word(body),
            (_, status @ 200..=299) => Failure::bad_answer(format!("HTTP {status}, but not \"ok\"")),
            (_, status) => Failure::status(status),
        };
        let error = self.wish(error, &answer);
        self.hold(key, &error);
        Err(error)
    }

    async fn call(
        &self,
        token: &Secret,
        method: &'static str,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Value, Failure> {
        let key = (token.clone(), method);
        self.holds.wait(&key).await;
        let url = self.base.join(method).map_err(|e| Failure::local("bad_request", e.to_string()))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Failure::local("bad_request", "the token cannot be sent".to_owned()))?;
        bearer.set_sensitive(true);
        let request = self.http.client(&url)?.post(url).header(AUTHORIZATION, bearer);
        let answer = self.http.send(fill(request), Duration::ZERO).await?;
        let error = match serde_json::from_slice::<Value>(&answer.body) {
            Ok(body) if body["ok"] == true => return Ok(body),
            Ok(body) if body["ok"] == false => error::answer(&body),
            _ if answer.status.is_success() => Failure::bad_answer("not JSON with \"ok\"".to_owned()),
            _ => Failure::status(answer.status.as_u16()),
        };
        let error = self.wish(error, &answer);
        self.hold(key, &error);
        Err(error)
    }

    /// Adds when the server wants the next attempt.
    fn wish(&self, error: Failure, answer: &Answer) -> Failure {
        let limited =
            answer.status.as_u16() == 429 || matches!(error.code.as_str(), "ratelimited" | "rate_limited");
        let wish = answer.retry_after.or(limited.then_some(DEFAULT_RETRY_AFTER));
        let passing = error.kind == Kind::Passing;
        error.after(wish.filter(|_| passing).map(|w| w.min(self.longest_retry_after)))
    }

    /// Slack's limits are per method and workspace: others of this token wait as well.
    fn hold(&self, key: (Secret, &'static str), error: &Failure) {
        if let Some(wish) = error.retry_after {
            self.holds.set(key, Instant::now() + wish);
        }
    }

    /// Alerts carry captured traffic: they go to Slack, or to where the base is, and not by a way less safe.
    fn is_plausible(&self, upload: &Url) -> bool {
        let Some(host) = upload.host_str() else { return false };
        let downgrade = self.base.scheme() == "https" && upload.scheme() != "https";
        let known = ["slack.com", "slack-gov.com"].iter().any(|domain| {
            host == *domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        });
        matches!(upload.scheme(), "http" | "https")
            && !downgrade
            && (known || self.base.host_str() == Some(host))
    }
}

/// Slack warns about JSON without its character set.
fn json_body(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header(CONTENT_TYPE, "application/json; charset=utf-8").json(body)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// What an upload sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Upload<'a> {
    /// A file in the spool, of this many bytes.
    File(&'a Path, u64),
    /// Text.
    Text(&'a str),
}

impl Upload<'_> {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Text(text) => text.len() as u64,
        }
    }

    /// Files are streamed: a large one is never in memory whole.
    async fn body(self) -> std::io::Result<Body> {
        match self {
            Self::File(path, _) => Ok(Body::from(tokio::fs::File::open(path).await?)),
            Self::Text(text) => Ok(Body::from(text.to_owned())),
        }
    }
}

/// Until when no call of a kind may go out. Bounded by the number of tokens and webhooks in use.
#[derive(Debug, Default)]
struct Holds(Mutex<HashMap<(Secret, &'static str), Instant>>);

impl Holds {
    async fn wait(&self, key: &(Secret, &'static str)) {
        loop {
            let now = Instant::now();
            let until = {
                let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                holds.retain(|_, until| *until > now);
                holds.get(key).copied()
            };
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    fn set(&self, key: (Secret, &'static str), until: Instant) {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = holds.entry(key).or_insert(until);
        *held = (*held).max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(url: &str) -> Result<SlackApi> {
        let config = OutboxConfig { slack_api_url: url.to_owned(), ..OutboxConfig::default() };
        SlackApi::new(&config, Arc::new(Http::new(&config)))
    }

    #[test]
    fn the_base_is_a_url_and_ends_in_a_slash() {
        assert_eq!(api("http://127.0.0.1:9/api").unwrap().base.as_str(), "http://127.0.0.1:9/api/");
        for bad in ["", "slack.com/api", "ftp://slack.com/"] {
            assert!(api(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn uploads_go_to_slack_only() {
        let plausible = |base: &str, upload: &str| api(base).unwrap().is_plausible(&upload.parse().unwrap());
        let slack = "https://slack.com/api/";
        assert!(plausible(slack, "https://files.slack.com/upload/v1/x"));
        assert!(!plausible(slack, "http://files.slack.com/upload/v1/x"));
        assert!(!plausible(slack, "https://files.slack.com.evil.example/x"));
        assert!(!plausible(slack, "https://notslack.com/x"));
        assert!(plausible("http://127.0.0.1:1/api/", "http://127.0.0.1:1/upload/v1/x"));
        assert!(!plausible("http://127.0.0.1:1/api/", "http://169.254.169.254/latest"));
    }
}
