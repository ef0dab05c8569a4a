//! Order, rate, patience and bounds of the outbox.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod outbox_common;

use std::time::{Duration, Instant};

use agent::outbox::{Delivery, Outbox as _, OutboxConfig, OutboxError, Rate, RetryPolicy};
use agent::secret::Secret;
use outbox_common::{Bench, alert, bot, quick};
use testkit::slack::{Channel, FakeConfig, Fault, Injection};

const CHANNEL: &str = FakeConfig::CHANNEL;
const OTHER: &str = "C0000000OTHER";

fn two_channels() -> FakeConfig {
    FakeConfig {
        channels: vec![Channel::new(CHANNEL, "alerts"), Channel::new(OTHER, "other")],
        ..FakeConfig::default()
    }
}

fn texts(bench: &Bench, channel: &str) -> Vec<String> {
    let all = bench.fake.messages().into_iter().filter(|m| m.channel == channel);
    all.map(|m| m.attachments[0]["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn order_is_kept_in_each_channel_under_every_fault() {
    let bench = Bench::new(two_channels(), quick());
    let faults = [
        Fault::Status { code: 500, retry_after: None, body: String::new() },
        Fault::Status { code: 429, retry_after: Some(1), body: String::new() },
        Fault::Error("fatal_error".to_owned()),
        Fault::SlowMs(100),
        Fault::Half,
        Fault::Silent,
    ];
    for fault in faults {
        bench.fake.fail(Injection::new("chat.postMessage", 2, fault));
    }
    let expected: Vec<String> = (0..30).map(|i| format!("alert {i}")).collect();
    for text in &expected {
        for channel in [CHANNEL, OTHER] {
            bench.outbox.enqueue("s.js", bot(channel, text, &[])).unwrap();
        }
    }
    bench.drain();
    assert_eq!(texts(&bench, CHANNEL), expected);
    assert_eq!(texts(&bench, OTHER), expected);
    let stats = bench.outbox.stats();
    assert_eq!((stats.sent, stats.failed, stats.retried, stats.unanswered), (60, 0, 10, 4));
}

#[test]
fn one_destination_does_not_wait_for_another() {
    let config = OutboxConfig { request_timeout: Duration::from_secs(4), ..quick() };
    let bench = Bench::new(two_channels(), config);
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::Silent).channel(CHANNEL));
    let down = Fault::Status { code: 503, retry_after: None, body: String::new() };
    bench.fake.fail(Injection::new("chat.postMessage", 1_000, down).channel(CHANNEL));
    let start = Instant::now();
    for i in 0..5 {
        for channel in [CHANNEL, OTHER] {
            bench.outbox.enqueue("s.js", bot(channel, &i.to_string(), &[])).unwrap();
        }
    }
    while texts(&bench, OTHER).len() < 5 {
        assert!(start.elapsed() < Duration::from_secs(3), "waited for the silent one");
        std::thread::sleep(Duration::from_millis(5));
    }
    bench.drain();
    assert!(texts(&bench, CHANNEL).is_empty());
    let stats = bench.outbox.stats();
    assert_eq!((stats.sent, stats.failed), (5, 5));
}

#[test]
fn the_rate_is_never_passed() {
    let config = FakeConfig { messages_per_second: Some(20), ..FakeConfig::default() };
    let bench =
        Bench::new(config, OutboxConfig { slack_rate: Rate { per_second: 20.0, burst: 1 }, ..quick() });
    let start = Instant::now();
    for i in 0..30 {
        bench.outbox.enqueue("s.js", bot(CHANNEL, &i.to_string(), &[])).unwrap();
    }
    // A lane that ran empty must not forget when it sent last.
    bench.drain();
    bench.outbox.enqueue("s.js", bot(CHANNEL, "30", &[])).unwrap();
    bench.drain();
    assert!(start.elapsed() >= Duration::from_millis(30 * 50));
    assert_eq!(texts(&bench, CHANNEL).len(), 31);
    assert!(bench.fake.requests().iter().all(|r| r.outcome == "ok"), "no 429");
    let times: Vec<u64> = bench.fake.messages().iter().map(|m| m.received_us).collect();
    assert!(times.windows(2).all(|w| w[1] - w[0] >= 49_000), "{times:?}");
    assert_eq!(bench.outbox.stats().retried, 0);
}

#[test]
fn retry_after_is_honoured_for_bots_and_webhooks() {
    let bench = Bench::quick();
    let limited = |method| {
        Injection::new(
            method,
            1,
            Fault::Status { code: 429, retry_after: Some(2), body: "rate_limited".to_owned() },
        )
    };
    let webhook = || Delivery::SlackWebhook {
        url: Secret::new(&bench.fake.webhook_url()),
        alert: alert("w"),
        fold: None,
    };
    for (method, delivery) in [("chat.postMessage", bot(CHANNEL, "b", &[])), ("webhook", webhook())] {
        bench.fake.fail(limited(method));
        bench.outbox.enqueue("s.js", delivery).unwrap();
        bench.drain();
        let calls: Vec<_> = bench.fake.requests().into_iter().filter(|r| r.method == method).collect();
        assert_eq!(calls.len(), 2, "{calls:?}");
        let waited = calls[1].at_us - calls[0].at_us;
        assert!((2_000_000..5_000_000).contains(&waited), "{method}: {waited} µs");
    }
}

#[test]
fn slacks_own_limit_is_got_over() {
    let config = FakeConfig { messages_per_second: Some(2), ..FakeConfig::default() };
    let bench = Bench::new(config, quick());
    for i in 0..5 {
        bench.outbox.enqueue("s.js", bot(CHANNEL, &i.to_string(), &[])).unwrap();
    }
    bench.drain();
    assert_eq!(texts(&bench, CHANNEL), ["0", "1", "2", "3", "4"]);
    assert!(bench.outbox.stats().retried >= 2);
}

#[test]
fn terminal_errors_are_given_up_at_once_and_the_next_delivery_goes_on() {
    let bench = Bench::quick();
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::Error("is_archived".to_owned())));
    for text in ["lost", "sent"] {
        bench.outbox.enqueue("s.js", bot(CHANNEL, text, &[])).unwrap();
    }
    bench.drain();
    assert_eq!(texts(&bench, CHANNEL), ["sent"]);
    let stats = bench.outbox.stats();
    assert_eq!((stats.sent, stats.failed, stats.retried), (1, 1, 0));
}

#[test]
fn a_dead_server_is_given_up_at_the_deadline() {
    let retry = RetryPolicy { deadline: Duration::from_millis(300), max_attempts: 1_000, ..quick().retry };
    let bench = Bench::new(FakeConfig::default(), OutboxConfig { retry, ..quick() });
    let down = Fault::Status { code: 502, retry_after: None, body: String::new() };
    bench.fake.fail(Injection::new("chat.postMessage", 1_000, down));
    let start = Instant::now();
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[])).unwrap();
    bench.drain();
    assert!(start.elapsed() < Duration::from_secs(2));
    let stats = bench.outbox.stats();
    assert_eq!(stats.failed, 1);
    assert!(stats.retried >= 5, "{stats:?}");
}

#[test]
fn a_full_outbox_refuses_and_counts() {
    let bench = Bench::new(FakeConfig::default(), OutboxConfig { max_waiting: 3, ..quick() });
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::SlowMs(300)));
    let results: Vec<_> = (0..5).map(|_| bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[]))).collect();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 3);
    assert!(matches!(results[4], Err(OutboxError::Full { limit: 3 })));
    let stats = bench.outbox.stats();
    assert_eq!((stats.queued, stats.refused, stats.waiting), (3, 2, 3));
    bench.drain();
    assert!(bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[])).is_ok(), "there is room again");
    bench.drain();
}

#[test]
fn past_its_bytes_the_outbox_gives_up_files_before_texts() {
    let bench = Bench::new(FakeConfig::default(), OutboxConfig { max_bytes: 1_000, ..quick() });
    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::SlowMs(300)));
    let path = bench.file("p", &[1; 600]);
    for _ in 0..2 {
        bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("p", path.clone())])).unwrap();
    }
    assert_eq!(bench.copies().len(), 1);
    let long = bench.outbox.enqueue("s.js", bot(CHANNEL, &"x".repeat(900), &[]));
    assert!(matches!(long, Err(OutboxError::FullBytes { limit: 1_000 })));
    bench.drain();
    let messages = bench.fake.messages();
    assert_eq!(messages.iter().map(|m| m.files.len()).collect::<Vec<_>>(), [1, 0]);
    let text = messages[1].attachments[0]["text"].as_str().unwrap();
    assert!(text.contains("`p` (600 bytes)") && text.contains("too much is waiting"), "{text}");
    assert!(
        bench.outbox.enqueue("s.js", bot(CHANNEL, &"x".repeat(900), &[])).is_ok(),
        "its bytes are free again"
    );
    bench.drain();
    bench.wait_for_copies(0);
}

#[test]
fn wrong_arguments_and_missing_files_are_told_at_once() {
    let bench = Bench::quick();
    let missing = bench.folder.path().join("none.pcap");
    let folder = bench.folder.path().to_owned();
    for (files, cause) in [([("x.pcap", missing)], "No such file"), ([("x.pcap", folder)], "regular file")] {
        let error = bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &files)).unwrap_err().to_string();
        assert!(error.starts_with("files[\"x.pcap\"]") && error.contains(cause), "{error}");
    }
    assert!(bench.outbox.enqueue("s.js", bot("", "t", &[])).is_err());
    let stats = bench.outbox.stats();
    assert_eq!((stats.refused, stats.queued, stats.waiting), (3, 0, 0));
    bench.wait_for_copies(0);
}

#[test]
fn draining_gives_up_only_when_nothing_moves() {
    let config = OutboxConfig { request_timeout: Duration::from_secs(60), ..quick() };
    let bench = Bench::new(two_channels(), config);
    // Slow, but moving: in all longer than the idle time.
    bench.fake.fail(Injection::new("chat.postMessage", 5, Fault::SlowMs(200)).channel(CHANNEL));
    for _ in 0..5 {
        bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[])).unwrap();
    }
    let drained = bench.runtime.block_on(bench.outbox.drain(Duration::from_millis(600)));
    assert!(drained.undelivered.is_empty(), "{drained}");

    bench.fake.fail(Injection::new("chat.postMessage", 1, Fault::Silent).channel(OTHER));
    let path = bench.file("p", b"bytes");
    for _ in 0..3 {
        bench.outbox.enqueue("s.js", bot(OTHER, "t", &[("p", path.clone())])).unwrap();
    }
    let drained = bench.runtime.block_on(bench.outbox.shutdown(Duration::from_millis(300)));
    assert_eq!(drained.to_string(), format!("3 not delivered: 3 for slackBot: channel {OTHER}"));
    assert!(matches!(bench.outbox.enqueue("s.js", bot(OTHER, "t", &[])), Err(OutboxError::Closed)));
}

#[test]
fn a_server_that_is_not_there_is_named_by_its_trouble() {
    let bench = Bench::quick();
    let config = OutboxConfig {
        slack_api_url: "http://127.0.0.1:1/api/".to_owned(),
        folder: bench.folder.path().join("second"),
        retry: RetryPolicy { deadline: Duration::from_millis(100), ..quick().retry },
        ..quick()
    };
    let outbox = agent::outbox::DurableOutbox::open(config, bench.runtime.handle()).unwrap();
    outbox.enqueue("s.js", bot(CHANNEL, "t", &[])).unwrap();
    let drained = bench.runtime.block_on(outbox.drain(Duration::from_secs(10)));
    assert!(drained.undelivered.is_empty());
    let stats = outbox.stats();
    assert_eq!((stats.failed, stats.unanswered), (1, 0), "refused connections cannot have delivered");
    assert!(stats.retried > 0, "{stats:?}");
}
