//! Faults on demand: what the network and Slack do on a bad day.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

/// What goes wrong.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A plain HTTP error.
    Status {
        /// 429, 500, 503 …
        code: u16,
        /// The `Retry-After` header, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
        /// The body; Slack's are often plain text or HTML here.
        #[serde(default)]
        body: String,
    },
    /// HTTP 200 with `{"ok": false, "error": …}`.
    Error(String),
    /// The true answer, this many milliseconds late.
    SlowMs(u64),
    /// The connection breaks in the middle of the answer.
    Half,
    /// No answer, ever; the connection stays open.
    Silent,
}

/// The next `times` calls of `method` get `fault`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// A method's name, `upload` or `webhook`.
    pub method: String,
    /// Only calls for this channel; none: all.
    #[serde(default)]
    pub channel: Option<String>,
    /// How often.
    pub times: u32,
    /// Whether the call takes effect before it fails, as when only the answer is lost.
    #[serde(default)]
    pub applied: bool,
    /// What happens.
    pub fault: Fault,
}

impl Injection {
    /// For every channel, without effect.
    #[must_use]
    pub fn new(method: &str, times: u32, fault: Fault) -> Self {
        Self { method: method.to_owned(), channel: None, times, applied: false, fault }
    }

    /// Only for calls to this channel.
    #[must_use]
    pub fn channel(mut self, id: &str) -> Self {
        self.channel = Some(id.to_owned());
        self
    }

    /// The call takes effect; only its answer is lost.
    #[must_use]
    pub fn applied(mut self) -> Self {
        self.applied = true;
        self
    }

    /// For the account of calls.
    pub(super) fn outcome(&self) -> String {
        format!("fault: {:?}{}", self.fault, if self.applied { ", applied" } else { "" })
    }

    fn matches(&self, method: &str, channel: Option<&str>) -> bool {
        self.times > 0
            && self.method == method
            && self.channel.as_deref().is_none_or(|wanted| Some(wanted) == channel)
    }
}

/// Takes the first fault that fits this call.
pub(crate) fn next(faults: &mut Vec<Injection>, method: &str, channel: Option<&str>) -> Option<Injection> {
    let found = faults.iter_mut().find(|f| f.matches(method, channel))?;
    found.times -= 1;
    let taken = found.clone();
    faults.retain(|f| f.times > 0);
    Some(taken)
}

/// Answers with the fault; `apply` does what the call asks for and gives the true answer.
pub(crate) async fn answer(injection: Injection, apply: impl FnOnce() -> Response) -> Response {
    let lose_answer = |apply: &mut dyn FnMut()| {
        if injection.applied {
            apply();
        }
    };
    let mut apply = Some(apply);
    let mut effect = || apply.take().map(|apply| apply());
    match injection.fault {
        Fault::SlowMs(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            effect().unwrap_or_default()
        }
        Fault::Status { code, retry_after, body } => {
            lose_answer(&mut || drop(effect()));
            status(code, retry_after, body)
        }
        Fault::Error(error) => {
            lose_answer(&mut || drop(effect()));
            axum::Json(serde_json::json!({"ok": false, "error": error})).into_response()
        }
        Fault::Half => {
            lose_answer(&mut || drop(effect()));
            half()
        }
        Fault::Silent => {
            lose_answer(&mut || drop(effect()));
            std::future::pending().await
        }
    }
}

fn status(code: u16, retry_after: Option<u64>, body: String) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (code, body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The head, the start of a body, and then the connection is gone.
fn half() -> Response {
    let start = Ok(Bytes::from_static(b"{\"ok\":true,\"ts\":\"17"));
    let broken = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    Body::from_stream(futures_util::stream::iter([start, broken])).into_response()
}
