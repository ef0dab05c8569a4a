//! HTTP as the outbox needs it: no redirects, bounded answers, errors without URLs.
//!
//! HTTP/1.1 only: at a message a second HTTP/2 gains nothing, and its library logs more than we want of requests
//! that carry secrets.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, RequestBuilder, StatusCode, Url, redirect};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::OutboxConfig;
use super::failure::Failure;
use crate::tls::{Fingerprint, Trust, use_ring};

/// Longest answer read, in bytes. Slack's are a few thousand.
const MAX_ANSWER: usize = 1024 * 1024;

/// Clients, made when first needed: one without system certificates must still serve plain HTTP.
#[derive(Debug)]
pub(super) struct Http {
    clients: [OnceLock<Result<Client, String>>; 3],
    calls: Semaphore,
    connect_timeout: Duration,
    request_timeout: Duration,
    trust: Trust,
}

/// An answer, read to its end or to the limit.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// How a URL is reached.
#[derive(Clone, Copy)]
enum Way {
    /// This machine: never by a proxy.
    Loopback,
    /// Plain HTTP, by the system's proxy if there is one.
    Plain,
    /// TLS with the system's roots, by the system's proxy if there is one.
    Tls,
}

impl Http {
    pub(super) fn new(config: &OutboxConfig) -> Self {
        use_ring();
        Self {
            clients: [const { OnceLock::new() }; 3],
            calls: Semaphore::new(config.max_calls.max(1)),
            connect_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
            trust: config.trust.clone(),
        }
    }

    /// The client for `url`.
    pub(super) fn client(&self, url: &Url) -> Result<&Client, Failure> {
        let way = way(url);
        let made = self.clients[way as usize].get_or_init(|| self.build(way));
        made.as_ref().map_err(|cause| Failure::local("no_tls", cause.clone()))
    }

    /// A client that talks TLS only with the holder of one certificate.
    pub(super) fn pinned(&self, fingerprint: Fingerprint) -> Result<Client, Failure> {
        let made = fingerprint.config().map_err(|error| error.to_string());
        let made = made.and_then(|config| {
            let builder = self.builder().tls_backend_preconfigured(config);
            builder.build().map_err(|error| innermost(&error.without_url()))
        });
        made.map_err(|cause| Failure::local("no_tls", cause))
    }

    /// Waits until there may be one more call; for clients that do not send by [`Http::send`].
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; were it, the call would go out all the same.
        self.calls.acquire().await.ok()
    }

    /// For a whole call.
    pub(super) fn timeout(&self) -> Duration {
        self.request_timeout
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("remora/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the token or the alert to wherever it says.
            .redirect(redirect::Policy::none())
            .http1_only()
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect_timeout)
    }

    fn build(&self, way: Way) -> Result<Client, String> {
        let builder = self.builder();
        let builder = match way {
            Way::Loopback => builder.no_proxy().tls_certs_only([]),
            Way::Plain => builder.tls_certs_only([]),
            Way::Tls => self.trust.apply(builder),
        };
        builder.build().map_err(|error| innermost(&error.without_url()))
    }

    /// Sends, and reads the whole answer; `extra` is time granted beyond the usual.
    pub(super) async fn send(&self, request: RequestBuilder, extra: Duration) -> Result<Answer, Failure> {
        let _permit = self.permit().await;
        let request = request.timeout(self.request_timeout.saturating_add(extra));
        let mut response = request.send().await.map_err(describe)?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(describe)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(Failure::bad_answer(format!("longer than {MAX_ANSWER} bytes")));
            }
        }
        Ok(Answer { status: response.status(), retry_after, body })
    }
}

fn way(url: &Url) -> Way {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Way::Tls,
        _ if loopback => Way::Loopback,
        _ => Way::Plain,
    }
}

/// `Retry-After` in seconds; none of the services sends dates.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

const UNTRUSTED: &str = "its certificate is not trusted: give its authority's by --ca-file (caFile in the agent's file), and call it by the name in it";

/// What a person can act on, without the URL.
fn describe(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if error.is_builder() {
        return Failure::local("bad_request", innermost(&error));
    }
    if error.is_connect() {
        let mut failure = Failure::unreachable(innermost(&error));
        if failure.detail.contains("invalid peer certificate") {
            failure.hint = UNTRUSTED;
        }
        return failure;
    }
    let cause = if error.is_timeout() { "timed out".to_owned() } else { innermost(&error) };
    Failure::no_answer(cause)
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_client_can_be_built() {
        let http = Http::new(&OutboxConfig::default());
        for url in ["http://127.0.0.1:1/x", "http://10.0.0.1/", "https://slack.com/api/"] {
            http.client(&url.parse().unwrap()).unwrap();
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        let of = |url: &str| way(&url.parse().unwrap()) as usize;
        assert_eq!(of("http://[::1]:4510/"), Way::Loopback as usize);
        assert_eq!(of("http://localhost/"), Way::Loopback as usize);
        assert_eq!(of("http://localhost.example/"), Way::Plain as usize);
        assert_eq!(of("https://127.0.0.1/"), Way::Tls as usize);
    }
}
