//! From a capture file to Slack: scripts, the message, its files, and what is in them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{alert, alert_scripts, remora, script};
use serde_json::Value;
use testkit::slack::{FakeConfig, Message, SlackFake};
use testkit::synth::{CLIENT, Capture, SERVER};

const TOKEN: &str = FakeConfig::TOKEN;
const CHANNEL: &str = FakeConfig::CHANNEL;

/// Two connections at once; request 2 of the first and request 1 of the second fail.
fn write_capture(path: &Path) {
    let mut capture = Capture::create(path).unwrap();
    let (mut a, mut b) = (capture.open(40_001).unwrap(), capture.open(40_002).unwrap());
    capture.exchange(&mut a, &request("/a/1"), &response(200, "fine")).unwrap();
    capture.send(&mut a, CLIENT, &request("/a/2?token=x")).unwrap();
    capture.send(&mut b, CLIENT, &request("/b/1")).unwrap();
    capture.send(&mut b, SERVER, &response(500, &"b".repeat(4000))).unwrap();
    capture.send(&mut a, SERVER, &response(500, "<!channel> & co")).unwrap();
    capture.exchange(&mut a, &request("/a/3"), &response(200, "fine again")).unwrap();
    capture.close(a).unwrap();
    capture.close(b).unwrap();
}

fn request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nAuthorization: Bearer hushhush\r\n\r\n").into_bytes()
}

fn response(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn one_alert_for_each_500_with_pcap_and_item() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("shop.pcap");
    write_capture(&capture);
    for script in alert_scripts() {
        let fake = SlackFake::local(FakeConfig::default()).unwrap();
        let ran = remora([
            "replay".as_ref(),
            capture.as_os_str(),
            "--json".as_ref(),
            "--script".as_ref(),
            script.as_os_str(),
            "--env".as_ref(),
            format!("SLACK_AUTH_TOKEN={TOKEN}").as_ref(),
            "--env".as_ref(),
            format!("SLACK_CHANNEL_ID={CHANNEL}").as_ref(),
            "--slack-api-url".as_ref(),
            fake.api_url().as_ref(),
        ])
        .exits(0);
        assert!(!ran.stderr.contains(TOKEN), "{}", ran.stderr);
        let failed: Vec<Value> =
            ran.items().into_iter().filter(|item| item["response"]["status"] == 500).collect();
        assert_eq!(failed.len(), 2);
        let messages = fake.messages();
        assert_eq!(messages.len(), 2, "{messages:?}");
        for (message, item) in messages.iter().zip(&failed) {
            alert::check(&script, &fake, message, item, dir.path());
        }
    }
}

#[test]
fn what_traffic_says_cannot_ping_a_channel() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("shop.pcap");
    write_capture(&capture);
    let fake = SlackFake::local(FakeConfig::default()).unwrap();
    let text = "function onItemCaptured(data) {
        if (data.response.status !== 500) return;
        vendor.slack(HOOK, 'pre ' + data.request.path, data.response.content.text.slice(0, 20), 'danger');
    }";
    let script = script(dir.path(), "webhook.js", text);
    let ran = remora([
        "replay".as_ref(),
        capture.as_os_str(),
        "--stats".as_ref(),
        "--script".as_ref(),
        script.as_os_str(),
        "--env".as_ref(),
        format!("HOOK={}", fake.webhook_url()).as_ref(),
    ])
    .exits(0);
    let texts: Vec<String> = fake.messages().iter().map(shown_text).collect();
    assert_eq!(texts.len(), 2, "{}", ran.stderr);
    assert!(texts.iter().any(|text| text.contains("&lt;!channel&gt; &amp; co")), "{texts:?}");
    assert!(!ran.stderr.contains(FakeConfig::WEBHOOK), "a webhook URL is a secret: {}", ran.stderr);
    let stats = ran.stats();
    assert_eq!(
        (stats["deliveries"]["queued"].as_u64(), stats["deliveries"]["sent"].as_u64()),
        (Some(2), Some(2))
    );
}

fn shown_text(message: &Message) -> String {
    message.attachments[0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn what_cannot_be_delivered_is_said_and_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("shop.pcap");
    write_capture(&capture);
    let fake = SlackFake::local(FakeConfig::default()).unwrap();
    let script = script(
        dir.path(),
        "lost.js",
        "function onItemCaptured(d) { if (d.request.path === '/a/1') vendor.slackBot('xoxb-wrong-hushhush', 'C0NOWHERE0', 'p', 't', '#fff'); }",
    );
    let ran = remora([
        "replay".as_ref(),
        capture.as_os_str(),
        "--quiet".as_ref(),
        "--script".as_ref(),
        script.as_os_str(),
        "--slack-api-url".as_ref(),
        fake.api_url().as_ref(),
    ])
    .exits(1);
    assert!(ran.stderr.contains("invalid_auth"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("xoxb-wrong"), "{}", ran.stderr);
}

#[test]
fn items_hide_tokens_and_keep_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("shop.pcap");
    write_capture(&capture);
    let ran = remora(["replay".as_ref(), capture.as_os_str(), "--json".as_ref()]).exits(0);
    assert!(!ran.stdout.contains("hushhush"));
    for item in ran.items() {
        assert_eq!(item["request"]["headers"]["Authorization"], "[REDACTED]");
    }
    let ran =
        remora(["replay".as_ref(), capture.as_os_str(), "--json".as_ref(), "--no-redact".as_ref()]).exits(0);
    assert_eq!(ran.items()[0]["request"]["headers"]["Authorization"], "Bearer hushhush");
}
