//! `vendor.webhook` and `vendor.webhookForm`: one request, its answer awaited on the agent's reactor.
//!
//! Errors name the method and the host, never path, query, user or header values: those may be secrets.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, Url};

use crate::hooks::limits::{duration_text, size_text};
use crate::hooks::log::Level;
use crate::tls::Trust;

use super::{Call, HelperError, HelperResult, Host};

/// Redirects followed within one host and scheme; to others none, so that headers stay where they were sent.
const REDIRECTS: usize = 5;

/// The HTTP client of all scripts, made when the first one needs it. Proxies are those of the environment (`HTTPS_PROXY`,
/// `HTTP_PROXY`, `NO_PROXY`).
pub(crate) struct Http {
    trust: Trust,
    client: OnceLock<Result<Client, String>>,
}

impl Http {
    pub(crate) fn new(trust: Trust) -> Self {
        Self { trust, client: OnceLock::new() }
    }

    fn client(&self) -> Result<&Client, &str> {
        self.client.get_or_init(|| build(&self.trust)).as_ref().map_err(String::as_str)
    }
}

fn build(trust: &Trust) -> Result<Client, String> {
    let same_origin = reqwest::redirect::Policy::custom(|attempt| {
        let origin = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port());
        let stays = attempt.previous().first().is_some_and(|first| origin(first) == origin(attempt.url()));
        if stays && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
    });
    trust
        .apply(Client::builder())
        .user_agent(concat!("remora/", env!("CARGO_PKG_VERSION")))
        .redirect(same_origin)
        .build()
        .map_err(|error| format!("the HTTP client cannot be made: {}", causes(&error)))
}

pub(super) fn webhook<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (method, url) = target(call)?;
    let (body, is_json) = call.text_or_json(2, "body")?;
    let mut headers = headers(call, 3)?;
    if !headers.contains_key(CONTENT_TYPE) {
        let looks_json = || {
            body.trim_start().starts_with(['{', '['])
                && serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok()
        };
        let json = is_json || looks_json();
        let mime = if json { "application/json" } else { "text/plain; charset=utf-8" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(mime));
    }
    send(host, call, method, url, |request| request.headers(headers).body(body))
}

pub(super) fn webhook_form<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (method, url) = target(call)?;
    call.required(2, "fields")?;
    let fields = call.pairs(2, "fields")?;
    let headers = headers(call, 3)?;
    send(host, call, method, url, |request| request.form(&fields).headers(headers))
}

fn target(call: &Call<'_>) -> Result<(Method, Url), HelperError> {
    let method = call.text(0, "method")?;
    let method = Method::from_bytes(method.trim().to_ascii_uppercase().as_bytes())
        .map_err(|_| call.failed("method", "is not an HTTP method"))?;
    let url = Url::parse(call.text(1, "url")?.trim()).map_err(|error| call.failed("url", error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(call.failed("url", "must begin with http:// or https://"));
    }
    Ok((method, url))
}

fn headers(call: &Call<'_>, index: usize) -> Result<HeaderMap, HelperError> {
    let mut headers = HeaderMap::new();
    for (name, value) in call.pairs(index, "headers")? {
        let argument = format!("headers[{name:?}]");
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| call.failed(&argument, "is not a header name"))?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| call.failed(&argument, "its value holds characters that a header cannot carry"))?;
        value.set_sensitive(true);
        headers.append(header, value);
    }
    Ok(headers)
}

fn send<'js>(
    host: &Host,
    call: &Call<'js>,
    method: Method,
    url: Url,
    fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> HelperResult<'js> {
    let client = host.setup.http.client().map_err(|cause| call.failed_call(cause))?;
    let timeout = host.limits().webhook_timeout.min(host.clock.wait_left());
    if timeout.is_zero() {
        let total = duration_text(host.limits().wait_total);
        return Err(call.failed_call(format!("this call has already waited {total}, the most it may")));
    }
    let what = format!("{method} {}", shown(&url));
    let request = fill(client.request(method, url).timeout(timeout));
    let longest = host.limits().webhook_answer;
    let mut stop = host.setup.stop.clone();
    let exchange = async {
        tokio::select! {
            answer = answer(request, longest, timeout) => answer,
            _ = stop.wait_for(|stop| *stop) => Err("the script is being stopped".to_owned()),
        }
    };
    let answer = host.clock.wait(|| host.services().runtime.block_on(exchange));
    let (text, cut) = answer.map_err(|cause| call.failed("url", format!("no answer to {what}: {cause}")))?;
    if cut {
        let bound = size_text(longest as u64);
        host.logger().about(Level::Warn, &format!("the answer to {what} was cut to {bound}"));
    }
    call.returns(text)
}

/// The answer's text, and whether it was cut.
async fn answer(
    request: RequestBuilder,
    longest: usize,
    timeout: Duration,
) -> Result<(String, bool), String> {
    let say = |error: reqwest::Error| {
        if error.is_timeout() {
            format!("none within {}", duration_text(timeout))
        } else {
            causes(&error.without_url())
        }
    };
    let mut response: Response = request.send().await.map_err(say)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(say)? {
        let room = longest - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((String::from_utf8_lossy(&body).into_owned(), true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((String::from_utf8_lossy(&body).into_owned(), false))
}

/// Scheme, host and port: what of a URL may be shown.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// An error and what caused it, innermost last. reqwest's own words carry no URL after `without_url`.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
