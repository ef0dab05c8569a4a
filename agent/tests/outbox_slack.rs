//! What arrives at Slack, and how: message first, files into its thread, every trouble told.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod outbox_common;

use std::time::{Duration, Instant};

use agent::outbox::{Delivery, Letters, Outbox as _, OutboxConfig, Rate};
use agent::secret::Secret;
use outbox_common::{Bench, alert, bot, quick};
use testkit::slack::{Channel, FakeConfig, Fault, Injection, Message, Token};

const CHANNEL: &str = FakeConfig::CHANNEL;

#[test]
fn message_then_files_byte_for_byte_though_deleted_at_once() {
    let bench = Bench::quick();
    let pcap: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let files = [("s.pcap", bench.file("a", &pcap)), ("data.json", bench.file("b", b"{}"))];
    bench.outbox.enqueue("s.js", bot(CHANNEL, "500 & <!channel>", &files)).unwrap();
    for (_, path) in &files {
        std::fs::remove_file(path).unwrap();
    }
    bench.drain();

    let messages = bench.fake.messages();
    assert_eq!(messages.len(), 1);
    let attachment = &messages[0].attachments[0];
    assert_eq!(attachment["text"], "500 &amp; &lt;!channel&gt;");
    assert_eq!(
        (&attachment["pretext"], &attachment["color"]),
        (&"Server-side Error".into(), &"#ff0000".into())
    );
    let fields: Vec<_> = attachment["fields"].as_array().unwrap().iter().collect();
    assert_eq!(fields.len(), 3);
    assert_eq!((&fields[0]["title"], &fields[0]["value"]), (&"Service".into(), &"shop".into()));
    assert_eq!(fields[1]["value"], "-");
    assert_eq!(fields[2]["title"], "Timestamp");
    assert!(fields[2]["value"].as_str().unwrap().ends_with('Z'));
    assert_eq!(messages[0].options["unfurl_links"], false);
    assert_eq!(messages[0].options["parse"], "none");
    assert!(!messages[0].options.contains_key("link_names"));

    assert_eq!(messages[0].replies.len(), 1, "both files in one reply");
    let received = &messages[0].files;
    assert_eq!(received.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["s.pcap", "data.json"]);
    assert!(bench.fake.file(&received[0].id).unwrap() == pcap);
    assert_eq!(bench.fake.file(&received[1].id).unwrap(), b"{}");
    let order: Vec<_> = bench.fake.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(order.first().map(String::as_str), Some("chat.postMessage"), "{order:?}");
    assert!(bench.fake.violations().is_empty(), "{:?}", bench.fake.violations());
    bench.wait_for_copies(0);
    let stats = bench.outbox.stats();
    assert_eq!((stats.queued, stats.sent, stats.failed, stats.retried, stats.waiting), (1, 1, 0, 0, 0));
}

#[test]
fn a_webhook_says_pretext_text_and_colour() {
    let bench = Bench::quick();
    let url = Secret::new(&bench.fake.webhook_url());
    let long = "<".repeat(10_000);
    for text in ["all <well>", &long] {
        let delivery = Delivery::SlackWebhook { url: url.clone(), alert: alert(text), fold: None };
        bench.outbox.enqueue("s.js", delivery).unwrap();
    }
    bench.drain();
    let messages = bench.fake.messages();
    let of = |i: usize| &messages[i].attachments[0];
    assert_eq!(of(0)["text"], "all &lt;well&gt;");
    assert_eq!(of(0)["color"], "#ff0000");
    assert!(of(0)["ts"].as_u64().unwrap() > 1_700_000_000);
    let text = of(1)["text"].as_str().unwrap();
    assert!(text.len() < 2_100 && text.ends_with("_cut: 10,017 characters in all_"), "{text}");
}

#[test]
fn a_text_too_long_becomes_a_file() {
    let bench = Bench::quick();
    let long = "line with <markup>\n".repeat(1_000);
    bench.outbox.enqueue("s.js", bot(CHANNEL, &long, &[])).unwrap();
    bench.drain();
    let message = &bench.fake.messages()[0];
    let shown = message.attachments[0]["text"].as_str().unwrap();
    assert!(shown.chars().count() < 2_100 && shown.contains("message.txt"), "{shown}");
    assert_eq!(message.files[0].name, "message.txt");
    let whole = String::from_utf8(bench.fake.file(&message.files[0].id).unwrap()).unwrap();
    assert!(whole.contains(&long) && whole.contains("Service: shop"));
}

#[test]
fn payloads_that_slack_refuses_are_mended() {
    let bench = Bench::quick();
    for (times, word) in [(1, "msg_too_long"), (2, "invalid_attachments")] {
        bench.fake.fail(Injection::new("chat.postMessage", times, Fault::Error(word.to_owned())));
        bench.outbox.enqueue("s.js", bot(CHANNEL, "text", &[])).unwrap();
        bench.drain();
    }
    let messages = bench.fake.messages();
    assert_eq!(messages[0].attachments[0]["text"], "text", "one refusal: shorter");
    assert!(messages[1].attachments.is_empty() && messages[1].text.contains("text"), "two refusals: plain");
    let whole = bench.fake.file(&messages[1].files[0].id).unwrap();
    assert!(String::from_utf8(whole).unwrap().contains("Service: shop"), "nothing is lost");
    assert_eq!(bench.outbox.stats().sent, 2);
}

#[test]
fn a_channel_not_joined_is_joined_once_for_the_files() {
    let config =
        FakeConfig { channels: vec![Channel::new(CHANNEL, "alerts").not_joined()], ..FakeConfig::default() };
    let bench = Bench::new(config, quick());
    let path = bench.file("a", b"x");
    for _ in 0..2 {
        bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("a.pcap", path.clone())])).unwrap();
    }
    bench.drain();
    assert!(bench.fake.messages().iter().all(|m| m.files.len() == 1));
    let joins = bench.fake.requests().iter().filter(|r| r.method == "conversations.join").count();
    assert_eq!(joins, 1);
    assert_eq!(bench.outbox.stats().files_failed, 0);
}

#[test]
fn an_app_that_may_post_only_where_it_is_joins_first() {
    let config = FakeConfig {
        tokens: vec![Token::new(FakeConfig::TOKEN).without("chat:write.public")],
        channels: vec![Channel::new(CHANNEL, "alerts").not_joined()],
        ..FakeConfig::default()
    };
    let bench = Bench::new(config, quick());
    for text in ["first", "second"] {
        bench.outbox.enqueue("s.js", bot(CHANNEL, text, &[])).unwrap();
    }
    bench.drain();
    assert_eq!(bench.fake.messages().len(), 2);
    let joins = bench.fake.requests().iter().filter(|r| r.method == "conversations.join").count();
    assert_eq!((joins, bench.outbox.stats().failed), (1, 0));
}

#[test]
fn without_the_scope_to_join_the_thread_says_what_to_do() {
    let config = FakeConfig {
        tokens: vec![Token::new(FakeConfig::TOKEN).without("channels:join")],
        channels: vec![Channel::new(CHANNEL, "alerts").not_joined()],
        ..FakeConfig::default()
    };
    let bench = Bench::new(config, quick());
    let path = bench.file("a", &[7; 12_345]);
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("<a>.pcap", path)])).unwrap();
    bench.drain();
    let message = &bench.fake.messages()[0];
    assert!(message.files.is_empty());
    let note = &message.replies[0].text;
    for part in
        ["`&lt;a&gt;.pcap`", "12,345 bytes", "not_in_channel", "missing_scope", "/invite", "channels:join"]
    {
        assert!(note.contains(part), "{part} is not in: {note}");
    }
    let stats = bench.outbox.stats();
    assert_eq!((stats.sent, stats.failed, stats.files_failed), (1, 0, 1));
}

#[test]
fn empty_and_oversized_files_are_named_in_the_message_and_the_others_arrive() {
    let bench = Bench::new(FakeConfig::default(), OutboxConfig { max_delivery_bytes: 1_000, ..quick() });
    let files = [
        ("empty.txt", bench.file("e", b"")),
        ("big.pcap", bench.file("b", &[1; 1_001])),
        ("small.txt", bench.file("s", b"small")),
    ];
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &files)).unwrap();
    bench.drain();
    let message = &bench.fake.messages()[0];
    assert_eq!(message.files.len(), 1);
    assert_eq!(message.files[0].name, "small.txt");
    let note = message.attachments[0]["text"].as_str().unwrap();
    assert!(note.contains("`empty.txt` (0 bytes)") && note.contains("`big.pcap` (1,001 bytes)"), "{note}");
    assert!(note.contains("empty files") && note.contains("1000 bytes in all"), "{note}");
    assert_eq!(bench.outbox.stats().files_failed, 2);
}

#[test]
fn a_refused_file_does_not_take_the_others_along() {
    let bench = Bench::new(FakeConfig { max_file: 1_000, ..FakeConfig::default() }, quick());
    let files = [("big", bench.file("b", &[1; 2_000])), ("small", bench.file("s", b"s"))];
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &files)).unwrap();
    bench.drain();
    let message = &bench.fake.messages()[0];
    assert_eq!(message.files.len(), 1);
    assert!(message.replies.last().unwrap().text.contains("file_upload_size_restricted"));

    // Refused only when all are completed together: each is then completed by itself.
    let word = Fault::Error("file_type_not_allowed".to_owned());
    bench.fake.fail(Injection::new("files.completeUploadExternal", 2, word));
    let files = [("first", bench.file("f", b"f")), ("second", bench.file("g", b"g"))];
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &files)).unwrap();
    bench.drain();
    let message = &bench.fake.messages()[1];
    assert_eq!(message.files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["second"]);
    assert!(message.replies.last().unwrap().text.contains("`first`"));
}

#[test]
fn every_step_of_an_upload_is_tried_again() {
    let bench = Bench::quick();
    let pcap = vec![9; 300_000];
    let steps = ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"];
    let faults = [
        Fault::Status { code: 503, retry_after: None, body: "<html>".to_owned() },
        Fault::Half,
        Fault::Silent,
        Fault::Error("internal_error".to_owned()),
        Fault::Status { code: 429, retry_after: Some(0), body: String::new() },
    ];
    for step in steps {
        for fault in &faults {
            // An upload is not judged by its body: there an error word is no error.
            if step == "upload" && matches!(fault, Fault::Error(_)) {
                continue;
            }
            bench.fake.fail(Injection::new(step, 1, fault.clone()));
            let path = bench.file("p", &pcap);
            bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("p", path)])).unwrap();
            bench.drain();
            let message = bench.fake.messages().pop().unwrap();
            assert_eq!(message.files.len(), 1, "{step} {fault:?}: {:?}", message.replies);
            assert!(bench.fake.file(&message.files[0].id).unwrap() == pcap);
        }
    }
    assert_eq!(bench.outbox.stats().retried, 14);
}

#[test]
fn a_completion_whose_answer_was_lost_is_not_done_twice() {
    let bench = Bench::quick();
    bench.fake.fail(Injection::new("files.completeUploadExternal", 1, Fault::Half).applied());
    let path = bench.file("p", b"bytes");
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("p", path)])).unwrap();
    bench.drain();
    let message = &bench.fake.messages()[0];
    assert_eq!(message.replies.len(), 1, "one reply with the file, no second one, no note");
    assert_eq!(message.files.len(), 1);
    assert_eq!(bench.outbox.stats().files_failed, 0);
}

#[test]
fn a_completion_in_doubt_is_told_as_such() {
    // An app made from an older manifest may lack files:read.
    let tokens = vec![Token::new(FakeConfig::TOKEN).without("files:read")];
    let bench = Bench::new(FakeConfig { tokens, ..FakeConfig::default() }, quick());
    bench.fake.fail(Injection::new("files.completeUploadExternal", 1, Fault::Half).applied());
    let path = bench.file("p", b"bytes");
    bench.outbox.enqueue("s.js", bot(CHANNEL, "t", &[("p", path)])).unwrap();
    bench.drain();
    let message = &bench.fake.messages()[0];
    assert_eq!(message.files.len(), 1, "not uploaded twice");
    assert!(message.replies.last().unwrap().text.contains("may be attached all the same"));
}

#[test]
fn a_channel_can_be_given_by_name() {
    let bench = Bench::quick();
    let path = bench.file("p", b"bytes");
    bench.outbox.enqueue("s.js", bot("#alerts", "t", &[("p", path)])).unwrap();
    bench.drain();
    assert_eq!(bench.fake.messages()[0].files.len(), 1);
}

#[test]
fn files_never_hold_up_the_next_message() {
    let bench = Bench::quick();
    bench.fake.fail(Injection::new("files.getUploadURLExternal", 1_000, Fault::Silent));
    let path = bench.file("p", b"bytes");
    let mut ids = Vec::new();
    for n in 0..12 {
        let alert = bot(CHANNEL, &n.to_string(), &[("p", path.clone())]);
        ids.push(bench.outbox.enqueue("s.js", alert).unwrap().0);
    }
    let start = Instant::now();
    while bench.fake.messages().len() < 12 {
        assert!(start.elapsed() < Duration::from_millis(1_400), "a message waits for another one's file");
        std::thread::sleep(Duration::from_millis(2));
    }
    let texts: Vec<_> = bench.fake.messages().iter().map(|m| m.attachments[0]["text"].clone()).collect();
    assert_eq!(texts, (0..12).map(|n| n.to_string()).collect::<Vec<_>>(), "in order");
    let uploads = bench.fake.requests().iter().filter(|r| r.method == "files.getUploadURLExternal").count();
    assert_eq!(uploads, 4, "so many at a time");
    assert_eq!(bench.outbox.stats().waiting, 12, "none is done");

    // Whoever drops a letter by hand drops the file that is still to come.
    let last = *ids.last().unwrap();
    Letters::open(bench.folder.path()).unwrap().drop(Some(&[last])).unwrap();
    let start = Instant::now();
    while bench.outbox.stats().waiting == 12 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    bench.fake.clear_faults();
    bench.drain();
    let with_file = |m: &Message| m.files.len();
    let files: Vec<_> = bench.fake.messages().iter().map(with_file).collect();
    assert_eq!(files, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    let stats = bench.outbox.stats();
    assert_eq!((stats.sent, stats.failed, stats.waiting), (11, 0, 0));
    bench.wait_for_copies(0);
}

#[test]
fn a_note_about_a_file_keeps_to_the_rate() {
    let rate = Rate { per_second: 20.0, burst: 1 };
    let config = FakeConfig { messages_per_second: Some(20), ..FakeConfig::default() };
    let bench = Bench::new(config, OutboxConfig { slack_rate: rate, ..quick() });
    bench.fake.fail(Injection::new("files.getUploadURLExternal", 30, Fault::Error("access_denied".into())));
    let path = bench.file("p", b"bytes");
    for n in 0..30 {
        bench.outbox.enqueue("s.js", bot(CHANNEL, &n.to_string(), &[("p", path.clone())])).unwrap();
    }
    bench.drain();
    assert!(bench.fake.requests().iter().all(|r| r.outcome != "ratelimited"));
    assert!(bench.fake.messages().iter().all(|m| m.replies.len() == 1));
    assert_eq!(bench.fake.messages().len(), 30);
}
