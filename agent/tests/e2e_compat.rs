//! Scripts that use only what Kubeshark documents (`compat/`), on a small capture: they run unchanged, and do what they say.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};

use common::rehearsal::Played;
use common::root;
use testkit::synth::Capture;

/// `GET /` answered with 200, then `POST /pay` with 500, on two streams.
fn capture(dir: &Path) -> PathBuf {
    let path = dir.join("shop.pcap");
    let mut capture = Capture::create(&path).unwrap();
    for (port, request, response) in [
        (40_000, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            40_001,
            "POST /pay HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
        ),
    ] {
        let mut connection = capture.open(port).unwrap();
        capture.exchange(&mut connection, request.as_bytes(), response.as_bytes()).unwrap();
        capture.close(connection).unwrap();
    }
    path
}

#[track_caller]
fn play(name: &str, env: &[(&str, &str)], flags: &[&str]) -> Played {
    let dir = tempfile::tempdir().unwrap();
    let script = root().join("agent/tests/compat").join(name);
    let ran = common::remora(["scripts", "check", script.to_str().unwrap()]).exits(0);
    assert!(!ran.stdout.contains(": error: "), "{}", ran.stdout);
    let played = Played::new(&script, &capture(dir.path()), env, flags);
    assert!(!played.stdout.contains("hushhush"), "no secret is shown: {}", played.stdout);
    played
}

#[test]
fn slack() {
    let env = [
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.example/services/hushhush"),
        ("SLACK_AUTH_TOKEN", "xoxb-hushhush"),
        ("SLACK_CHANNEL_ID", "C0123456789"),
    ];
    let played = play("slack.js", &env, &[]);
    assert_eq!((played.failures(), played.code), (vec![], 0));
    let sent = played.deliveries();
    assert_eq!(sent[0]["to"], "slack: webhook at hooks.slack.example");
    assert_eq!(sent[1]["to"], "slackBot: channel C0123456789");
    assert_eq!(sent[1]["content"]["fields"][3], serde_json::json!(["HTTP method", "POST"]));
    let names: Vec<_> =
        sent[1]["files"].as_array().unwrap().iter().map(|file| file["name"].clone()).collect();
    assert_eq!(names, ["000000000002.pcap", "data.json"]);
}

#[test]
fn webhooks() {
    let played = play("webhooks.js", &[], &["--webhook-answer", "fine"]);
    assert_eq!(played.failures(), Vec::<String>::new());
    let sent = played.webhooks();
    assert_eq!((&sent[0]["method"], &sent[0]["body"]), (&"POST".into(), &r#"{"path":"/pay"}"#.into()));
    assert_eq!((&sent[1]["method"], &sent[1]["body"]), (&"PUT".into(), &"status=500&path=%2Fpay".into()));
    assert_eq!(played.console()[0], "answered fine");
    assert!(played.console()[1].starts_with("TypeError: vendor.webhook: argument 2 (url) is missing"));

    let refused = play("webhooks.js", &[], &[]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.failures()[0].contains("nothing is sent while a script is tested"),
        "{:?}",
        refused.failures()
    );
}

#[test]
fn stores() {
    let account = r#"{"type":"service_account","client_email":"a@b.example","private_key":"hushhush","private_key_id":"1"}"#;
    let played = play("stores.js", &[("SA_KEY", account)], &[]);
    assert_eq!(played.failures(), Vec::<String>::new());
    let kinds: Vec<_> = played
        .deliveries()
        .iter()
        .map(|of| of["to"].as_str().unwrap().split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["elastic", "elastic", "influxdb", "s3", "gcs"]);
    assert!(played.console().iter().all(|url| url.starts_with("https://")), "{:?}", played.console());
}

#[test]
fn files() {
    let played = play("files.js", &[], &[]);
    assert_eq!(played.failures(), Vec::<String>::new());
    assert_eq!(played.console(), ["true true"]);
}

#[test]
fn jobs() {
    let played = play("jobs.js", &[], &[]);
    let console = played.console();
    assert_eq!(console[0], "report,fails true");
    assert!(console.contains(&"passed report 0 0 0 1 1 * 2".to_owned()), "{console:?}");
    assert!(console.contains(&"hello world 2".to_owned()), "{console:?}");
    assert!(console.contains(&"failed fails 0 Error: no".to_owned()), "{console:?}");
    assert_eq!(played.failures().len(), 1, "the job that throws: {:?}", played.failures());
    assert!(played.calls().contains(&"onJobFailed".to_owned()), "{:?}", played.calls());
}

#[test]
fn filters() {
    let played = play("filters.js", &[], &[]);
    assert_eq!(played.failures(), Vec::<String>::new());
    assert_eq!(played.console(), ["path: /"]);
    assert!(played.metrics().iter().any(|line| line.starts_with("failed_payments{") && line.ends_with(" 1")));
    assert_eq!(played.summary()["calls"], 2);
}

#[test]
fn hooks() {
    let played = play("hooks.js", &[("TEAM", "shop")], &[]);
    assert_eq!(played.failures(), Vec::<String>::new());
    assert_eq!(played.console(), ["true true string 40001 shop shop"]);
    assert!(played.calls().contains(&"onPacketCaptured".to_owned()));
}
