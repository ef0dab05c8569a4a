//! Any HTTP server: a body by POST or PUT with headers of the user's. A status of 2xx takes it; what comes twice, because an answer
//! was lost, bears the same `Idempotency-Key`.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};

use super::config::{OutboxConfig, Rate};
use super::delivery::{Content, Job, kept};
use super::failure::Failure;
use super::http::Answer;
use super::sender::{Outcome, SendOne, Turn};
use super::{OutboxError, check};
use crate::secret::Secret;

/// Where to. The URL and the values of headers may well be secrets: nothing of them but the host is ever shown.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct WebTarget {
    #[serde(with = "kept")]
    url: Secret,
    put: bool,
    headers: Vec<(String, Header)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Header(#[serde(with = "kept")] Secret);

/// What is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WebMessage {
    /// Its type, for `Content-Type`, where no header of the target's says another one.
    pub mime: String,
    /// The body.
    pub body: String,
}

impl WebTarget {
    /// A server at `url`, by POST, or by PUT.
    ///
    /// # Errors
    /// [`OutboxError::Invalid`] naming the argument.
    pub fn new(url: &Secret, put: bool, headers: &[(String, Secret)]) -> Result<Self, OutboxError> {
        check::url("url", url.expose(), "https://example.com/items")?;
        let headers = headers.iter().map(|(name, value)| (name.clone(), Header(value.clone()))).collect();
        let target = Self { url: url.clone(), put, headers };
        target.header_map().map(|_| target)
    }

    fn header_map(&self) -> Result<HeaderMap, OutboxError> {
        let mut map = HeaderMap::new();
        for (name, Header(value)) in &self.headers {
            let wrong = |cause: &str| OutboxError::Invalid {
                argument: "headers",
                cause: format!("{name:?} {cause}"),
            };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("is not a header name"))?;
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| wrong("has a value that a header cannot carry"))?;
            value.set_sensitive(true);
            map.append(key, value);
        }
        Ok(map)
    }

    /// Host and port, for logs and lists.
    pub(super) fn host(&self) -> String {
        check::host(self.url.expose())
    }
}

impl WebMessage {
    pub(super) fn bytes(&self) -> usize {
        self.mime.len() + self.body.len()
    }
}

/// One server.
#[derive(Debug)]
pub(super) struct Web {
    target: WebTarget,
}

impl Web {
    pub(super) fn new(target: WebTarget) -> Self {
        Self { target }
    }

    async fn call(&self, turn: &Turn<'_>, job: &Job) -> Result<Answer, Failure> {
        let wrong = |what: &str| Failure::local("bad_request", what.to_owned());
        let Content::Web { message } = &job.content else { return Err(wrong("not a body")) };
        let url = Url::parse(self.target.url.expose()).map_err(|_| wrong("the URL"))?;
        let mut headers = self.target.header_map().map_err(|_| wrong("the headers"))?;
        if !headers.contains_key(CONTENT_TYPE) {
            let mime = HeaderValue::from_str(&message.mime).map_err(|_| wrong("the type"))?;
            headers.insert(CONTENT_TYPE, mime);
        }
        let method = if self.target.put { Method::PUT } else { Method::POST };
        let since = job.made.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let request = turn.services.http.client(&url)?.request(method, url);
        let request =
            request.header("idempotency-key", format!("remora-{since}-{}", job.id.0)).headers(headers);
        // Not packed: few servers that are not made for it take gzip.
        turn.services.http.send(request.body(message.body.clone()), Duration::ZERO).await
    }
}

impl SendOne for Web {
    fn rate(&self, _config: &OutboxConfig) -> Rate {
        Rate { per_second: 100.0, burst: 100 }
    }

    async fn send_one(&self, turn: &Turn<'_>, job: &Job) -> Outcome {
        let answer = turn.pace.keep(self.call(turn, job)).await;
        Outcome::of(answer.and_then(|answer| match answer.status.as_u16() {
            200..300 => Ok(()),
            status => Err(Failure::status(status).after(answer.retry_after)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused_and_nothing_secret_is_shown() {
        let (url, value) = (Secret::new("https://h.example/hushhush"), Secret::new("hushhush"));
        let target = WebTarget::new(&url, false, &[("X-Key".to_owned(), value)]).unwrap();
        assert!(!format!("{target:?}").contains("hushhush"), "{target:?}");
        assert_eq!(target.host(), "h.example");
        let stored = serde_json::to_string(&target).unwrap();
        assert_eq!(
            stored,
            r#"{"url":"https://h.example/hushhush","put":false,"headers":[["X-Key","hushhush"]]}"#
        );
        assert_eq!(serde_json::from_str::<WebTarget>(&stored).unwrap(), target);
        for (name, value) in [("X Y", "hushhush"), ("X", "hushhush\nX: y")] {
            let error =
                WebTarget::new(&url, true, &[(name.to_owned(), Secret::new(value))]).unwrap_err().to_string();
            assert!(error.starts_with("headers: ") && !error.contains("hushhush"), "{error}");
        }
    }
}
