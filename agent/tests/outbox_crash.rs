//! A process that queues and sends is killed at random moments, under load and under faults: what it was told is queued
//! arrives, in order, with its file, and nothing arrives twice but what was on its way.
//!
//! `REMORA_CRASHES=200` kills that often (default 8).

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

#[expect(dead_code, reason = "each test crate uses a part of what they share")]
mod outbox_common;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::outbox::{DurableOutbox, Letters, Outbox as _, OutboxConfig, RetryPolicy};
use outbox_common::{bot, quick};
use testkit::slack::{Channel, FakeConfig, Fault, Injection, Message, SlackFake};
use tokio::runtime::Runtime;

const CHANNELS: usize = 5;
/// Messages a second and channel, on both sides.
const RATE: u32 = 100;
const CHILD: &str = "REMORA_OUTBOX_CRASH_CHILD";

fn channel(c: usize) -> String {
    format!("C0000000000{c}")
}

fn config(dir: &Path, api: String) -> OutboxConfig {
    let retry = RetryPolicy { max_attempts: 1_000, ..quick().retry };
    let mut config = OutboxConfig { slack_api_url: api, folder: dir.join("outbox"), retry, ..quick() };
    config.slack_rate.per_second = f64::from(RATE);
    config
}

/// The process that is killed: queues for ever, and notes what was acknowledged.
#[test]
fn the_process_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [dir, api, round] = told.split('|').collect::<Vec<_>>().try_into().unwrap();
    let dir = PathBuf::from(dir);
    let runtime = Runtime::new().unwrap();
    let outbox = DurableOutbox::open(config(&dir, api.to_owned()), runtime.handle()).unwrap();
    std::thread::scope(|scope| {
        for c in 0..CHANNELS {
            let (outbox, dir) = (&outbox, &dir);
            scope.spawn(move || {
                let mut notes = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(dir.join(format!("notes-{c}")))
                    .unwrap();
                let file = dir.join(format!("file-{c}"));
                for n in 0..u64::MAX {
                    let text = format!("{round} {n}");
                    std::fs::write(&file, &text).unwrap();
                    let files = [("f.txt", file.clone())];
                    let files = if n % 3 == 0 { &files[..] } else { &[] };
                    outbox.enqueue("s.js", bot(&channel(c), &text, files)).unwrap();
                    std::fs::remove_file(&file).unwrap();
                    notes.write_all(format!("{text}\n").as_bytes()).unwrap();
                    std::thread::sleep(Duration::from_millis(4));
                }
            });
        }
    });
}

fn run(dir: &Path, api: &str, round: u64, life: Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(CHILD, format!("{}|{api}|{round}", dir.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let begun = |c| {
        let notes = std::fs::read_to_string(dir.join(format!("notes-{c}"))).unwrap_or_default();
        notes.lines().any(|line| line.starts_with(&format!("{round} ")))
    };
    while !begun(0) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it does not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Round and number.
fn number(message: &Message) -> (u64, u64) {
    let text = message.attachments[0]["text"].as_str().unwrap();
    let (round, n) = text.lines().next().unwrap().split_once(' ').unwrap();
    (round.parse().unwrap(), n.parse().unwrap())
}

fn check_channel(dir: &Path, fake: &SlackFake, messages: &[&Message], c: usize, rounds: u64) -> usize {
    let mut first: Vec<(u64, u64)> = Vec::new();
    let mut times: HashMap<(u64, u64), usize> = HashMap::new();
    for message in messages {
        let number = number(message);
        *times.entry(number).or_default() += 1;
        if times[&number] == 1 {
            first.push(number);
        }
        let mut notes: Vec<&str> = message.replies.iter().map(|r| r.text.as_str()).collect();
        notes.extend(message.attachments[0]["text"].as_str());
        assert!(!notes.iter().any(|text| text.contains("could not")), "channel {c}: {notes:?}");
        if number.1.is_multiple_of(3) && times[&number] == 1 {
            // The one that a kill interrupted may have been sent again with its file.
            let whole = format!("{} {}", number.0, number.1);
            for file in &message.files {
                assert_eq!(fake.file(&file.id).unwrap(), whole.as_bytes());
            }
        }
    }
    assert!(first.is_sorted(), "channel {c}: out of order");
    let notes = std::fs::read_to_string(dir.join(format!("notes-{c}"))).unwrap();
    for line in notes.lines() {
        let (round, n) = line.split_once(' ').unwrap();
        let number = (round.parse().unwrap(), n.parse().unwrap());
        assert!(times.contains_key(&number), "channel {c}: {line} was acknowledged and is missing");
        let with_file = messages.iter().any(|m| self::number(m) == number && !m.files.is_empty());
        assert!(number.1 % 3 != 0 || with_file, "channel {c}: {line} has no file");
    }
    let twice: usize = times.values().map(|n| n - 1).sum();
    assert!(twice as u64 <= rounds, "channel {c}: {twice} duplicates of {rounds} kills");
    twice
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let crashes = std::env::var("REMORA_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(8u64);
    let channels = (0..CHANNELS).map(|c| Channel::new(&channel(c), &format!("c{c}"))).collect();
    let fake =
        SlackFake::local(FakeConfig { channels, messages_per_second: Some(RATE), ..FakeConfig::default() })
            .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut random = std::collections::hash_map::DefaultHasher::new();
    for round in 0..crashes {
        use std::hash::{Hash as _, Hasher as _};
        let faults = [
            Fault::Status { code: 500, retry_after: None, body: String::new() },
            Fault::Status { code: 429, retry_after: Some(0), body: String::new() },
            Fault::Half,
            Fault::SlowMs(30),
        ];
        for fault in faults {
            fake.fail(Injection::new("chat.postMessage", 3, fault.clone()));
            fake.fail(Injection::new("files.completeUploadExternal", 1, fault));
        }
        round.hash(&mut random);
        run(dir.path(), &fake.api_url(), round, Duration::from_millis(random.finish() % 400));
    }
    fake.clear_faults();

    let runtime = Runtime::new().unwrap();
    let outbox = DurableOutbox::open(config(dir.path(), fake.api_url()), runtime.handle()).unwrap();
    let waited = outbox.stats().taken_up;
    let drained = runtime.block_on(outbox.shutdown(Duration::from_secs(30)));
    assert!(drained.undelivered.is_empty(), "{drained}");
    let stats = outbox.stats();
    assert_eq!((stats.failed, stats.files_failed), (0, 0));
    drop((outbox, runtime));

    let limited = fake.requests().iter().filter(|r| r.outcome.contains("rate")).count();
    assert_eq!(limited, 0, "never over the rate that the server enforces");
    let messages = fake.messages();
    let mut twice = 0;
    for c in 0..CHANNELS {
        let own: Vec<&Message> = messages.iter().filter(|m| m.channel == channel(c)).collect();
        twice += check_channel(dir.path(), &fake, &own, c, crashes);
    }
    println!(
        "{crashes} kills, {} messages, {twice} of them twice; {waited} waited at the end",
        messages.len()
    );
    let left = std::fs::read_dir(dir.path().join("outbox/blobs")).unwrap().count();
    assert_eq!(left, 0, "copies that nobody needs");
    let mut letters = 0;
    Letters::open(dir.path())
        .unwrap()
        .list(&mut |_| {
            letters += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(letters, 0);
}
