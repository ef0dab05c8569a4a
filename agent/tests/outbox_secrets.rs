//! No token and no webhook URL in any log line, at any level, of ours or of the libraries below.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

#[expect(dead_code, reason = "each test crate uses a part of what they share")]
mod outbox_common;

use std::time::Duration;

use agent::outbox::{Delivery, Outbox as _, OutboxConfig, RetryPolicy};
use agent::secret::Secret;
use outbox_common::{Bench, alert, bot, quick};
use testkit::canary;
use testkit::slack::{FakeConfig, Fault, Injection};

#[test]
fn secrets_are_in_no_log_line_at_trace_level() {
    canary::listen();

    let retry = RetryPolicy { deadline: Duration::from_secs(2), ..quick().retry };
    let bench = Bench::new(FakeConfig::default(), OutboxConfig { retry, ..quick() });
    let secret_token = "xoxb-4242424242-hushhush-verysecrettoken";
    let secret_hook = "/services/T0SECRET/B0SECRET/hushhushverysecrethook";
    let echo = format!("token {secret_token} at {secret_hook}");
    for (method, fault) in [
        ("chat.postMessage", Fault::Half),
        ("chat.postMessage", Fault::Error(echo.clone())),
        ("chat.postMessage", Fault::Status { code: 302, retry_after: None, body: echo.clone() }),
        ("webhook", Fault::Silent),
        ("webhook", Fault::Status { code: 404, retry_after: None, body: echo.clone() }),
        ("upload", Fault::Status { code: 403, retry_after: None, body: echo }),
    ] {
        bench.fake.fail(Injection::new(method, 1, fault));
    }
    let path = bench.file("p", b"bytes");
    let foreign = |channel: &str| Delivery::SlackBot {
        token: Secret::new(secret_token),
        channel: channel.to_owned(),
        alert: alert("t"),
        fields: Vec::new(),
        files: Vec::new(),
        fold: None,
    };
    for _ in 0..3 {
        bench.outbox.enqueue("s.js", foreign(FakeConfig::CHANNEL)).unwrap();
    }
    bench.drain();
    bench.outbox.enqueue("s.js", bot(FakeConfig::CHANNEL, "t", &[("p", path)])).unwrap();
    for url in
        [bench.fake.webhook_url(), bench.fake.url() + secret_hook, format!("http://127.0.0.1:1{secret_hook}")]
    {
        let delivery = Delivery::SlackWebhook { url: Secret::new(&url), alert: alert("w"), fold: None };
        for _ in 0..2 {
            bench.outbox.enqueue("s.js", delivery.clone()).unwrap();
        }
    }
    bench.drain();

    let log = canary::heard();
    for secret in [secret_token, "verysecret", FakeConfig::TOKEN, FakeConfig::WEBHOOK, canary::MARK] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in: {line:?}");
    }
    // The log is there, libraries included, and says what a user can act on.
    assert!(
        log.contains("slackBot: channel C00000ALERTS: not delivered: invalid_auth: the token is not valid"),
        "{log}"
    );
    assert!(log.contains("not delivered: no_service: the webhook is gone"), "{log}");
    assert!(
        log.contains("webhook at 127.0.0.1: not delivered: unreachable (Connection refused (os error 111)"),
        "{log}"
    );
    assert!(log.contains("reqwest::connect") || log.contains("hyper_util"), "{log}");
    assert!(log.contains("DEBUG") && log.contains("TRACE"), "{log}");
}
