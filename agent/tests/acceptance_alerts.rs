//! Alerts through the real binary while the service has bad days and the agent is killed: each one arrives, or is a dead letter.
//!
//! `REMORA_ALERTS=10000 REMORA_KILLS=10 cargo test -p agent --test acceptance_alerts -- --nocapture` is the whole run.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{REMORA, Ran, remora, script};
use serde_json::Value;
use testkit::slack::{Channel, FakeConfig, Fault, Injection, SlackFake};
use testkit::synth::Capture;

const CHANNELS: usize = 5;
/// Messages a second and channel, on both sides.
const RATE: u32 = 100;

/// Alerts once for each request, across runs: what was queued is noted behind it.
const SCRIPT: &str = "
var done = -1;
try { var lines = file.read('done').split('\\n'); if (lines.length > 1) done = +lines[lines.length - 2]; } catch (e) {}
file.write('note.txt', 'what happened');
function onItemCaptured(data) {
  var n = +data.request.path.split('/')[2];
  if (n <= done) return;
  vendor.slackBot(TOKEN, 'C0000000000' + n % 5, 'Alert', 'alert ' + n, '#ff0000', {}, n % 25 ? {} : {'note.txt': 'note.txt'});
  file.append('done', n + '\\n');
}";

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn capture(dir: &Path, items: usize, path: impl Fn(usize) -> String) -> PathBuf {
    let file = dir.join("shop.pcap");
    let mut capture = Capture::create(&file).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    for n in 0..items {
        let ask = format!("GET {} HTTP/1.1\r\nHost: shop\r\n\r\n", path(n));
        let answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
        capture.exchange(&mut connection, ask.as_bytes(), answer).unwrap();
    }
    capture.close(connection).unwrap();
    file
}

fn fake(rate: u32) -> SlackFake {
    let channels =
        (0..CHANNELS).map(|c| Channel::new(&format!("C0000000000{c}"), &format!("c{c}"))).collect();
    SlackFake::local(FakeConfig { channels, messages_per_second: Some(rate), ..FakeConfig::default() })
        .unwrap()
}

fn agent(dir: &Path, fake: &SlackFake, more: &[&str]) -> Command {
    let mut command = Command::new(REMORA);
    command
        .arg("replay")
        .arg(dir.join("shop.pcap"))
        .args(["--quiet", "--stats", "--script"])
        .arg(dir.join("alert.js"));
    command.arg("--data-dir").arg(dir.join("data")).args([
        "--slack-api-url",
        &fake.api_url(),
        "--drain-timeout",
        "60",
    ]);
    command.args(["--env", &format!("TOKEN={}", FakeConfig::TOKEN)]).args(more);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    command
}

/// Lets it live so long, and kills it. Whether it was still there to be killed.
fn kill(mut child: Child, life: Duration) -> bool {
    std::thread::sleep(life);
    let lived = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    lived
}

/// The number of the alert in a text.
fn number(text: &str) -> usize {
    text.split("alert ")
        .nth(1)
        .and_then(|t| t.split(|c: char| !c.is_ascii_digit()).next())
        .unwrap()
        .parse()
        .unwrap()
}

/// One thing after the other goes wrong until it is dropped.
struct BadDay {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl BadDay {
    fn begin(fake: &Arc<SlackFake>) -> Self {
        let (stop, fake) = (Arc::new(AtomicBool::new(false)), Arc::clone(fake));
        let told = Arc::clone(&stop);
        let status = |code, retry_after| Fault::Status { code, retry_after, body: String::new() };
        let post = |fault| Injection::new("chat.postMessage", 1, fault);
        let refused = |word: &str| Fault::Error(word.to_owned());
        let run = move || {
            let mut lost = 0;
            for n in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                fake.fail(match n % 12 {
                    0 | 5 => post(status(500, None)),
                    1 | 6 => post(status(429, Some(0))),
                    2 | 7 => post(Fault::SlowMs(150)),
                    3 => post(Fault::Half),
                    // Only the answer is lost.
                    4 | 8 => {
                        lost += 1;
                        post(Fault::Half).applied()
                    }
                    9 => post(refused("restricted_action")),
                    10 => Injection::new("files.getUploadURLExternal", 1, refused("access_denied")),
                    _ => Injection::new("files.completeUploadExternal", 1, status(500, None)),
                });
                std::thread::sleep(Duration::from_millis(250));
            }
            lost
        };
        Self { stop, thread: std::thread::spawn(run) }
    }

    /// How many answers were lost at most.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn every_alert_arrives_or_is_a_dead_letter_whatever_happens() {
    let (alerts, kills) = (setting("REMORA_ALERTS", 1_500), setting("REMORA_KILLS", 4));
    let dir = tempfile::tempdir().unwrap();
    capture(dir.path(), alerts, |n| format!("/n/{n}"));
    script(dir.path(), "alert.js", SCRIPT);
    let fake = Arc::new(fake(RATE));
    let flags = [
        "--slack-rate",
        &RATE.to_string(),
        "--slack-burst",
        "1",
        "--flood-limit",
        "0",
        "--script-alerts",
        "0",
        "--total-alerts",
        "0",
    ];
    let begun = Instant::now();
    let mut killed = 0;
    let day = BadDay::begin(&fake);
    for round in 0..kills {
        let child = agent(dir.path(), &fake, &flags).stderr(Stdio::null()).spawn().unwrap();
        killed += usize::from(kill(child, Duration::from_millis(300 + (round as u64 * 709) % 1_700)));
    }
    // Not at all: the connection stays open without an answer.
    fake.fail(Injection::new("chat.postMessage", 1, Fault::Silent));
    let ran: Ran = agent(dir.path(), &fake, &flags).output().unwrap().into();
    let took = begun.elapsed();
    let lost = day.end();
    let stats = ran.never_panicked().stats();

    let mut arrived: BTreeMap<usize, usize> = BTreeMap::new();
    let messages = fake.messages();
    for c in 0..CHANNELS {
        let mut last = None;
        for message in messages.iter().filter(|m| m.channel == format!("C0000000000{c}")) {
            let n = number(message.attachments[0]["text"].as_str().unwrap());
            assert_eq!(n % CHANNELS, c);
            let times = arrived.entry(n).or_default();
            *times += 1;
            assert!(*times > 1 || last < Some(n), "channel {c}: {n} after {last:?}");
            last = last.max(Some(n));
        }
    }
    let letters = remora([
        "outbox",
        "list",
        "--dead",
        "--json",
        "--data-dir",
        dir.path().join("data").to_str().unwrap(),
    ])
    .exits(0);
    let dead: BTreeSet<usize> = letters.stdout.lines().map(number).collect();
    let missing: Vec<usize> = (0..alerts).filter(|n| !arrived.contains_key(n) && !dead.contains(n)).collect();
    assert!(missing.is_empty(), "neither arrived nor dead: {missing:?}");
    for line in letters.stdout.lines() {
        let letter: Value = serde_json::from_str(line).unwrap();
        assert!(line.contains("restricted_action"), "refused for good, and only then: {letter}");
    }
    // Twice: where an answer was lost, to a fault, or to a kill (one under way in each channel, and the one being noted).
    let twice: usize = arrived.values().map(|times| times - 1).sum();
    let may = lost + 1 + killed * (CHANNELS + 1);
    assert!(twice <= may, "{twice} duplicates; at most {may} answers were lost");
    let limited = fake.requests().iter().filter(|r| r.outcome.contains("rate")).count();
    assert_eq!(limited, 0, "never over the rate that the server enforces");
    assert!(fake.violations().is_empty(), "{:?}", fake.violations());
    println!(
        "{alerts} alerts, {killed} kills: {} arrived, {} dead letters, {twice} twice (answers lost: up to {may}), {:.1} s; the last run: {}",
        arrived.len(),
        dead.len(),
        took.as_secs_f64(),
        stats["deliveries"]
    );
}

#[test]
fn a_burst_of_identical_errors_is_a_handful_of_messages_that_count_them_all() {
    let errors = setting("REMORA_BURST", 50_000);
    let dir = tempfile::tempdir().unwrap();
    capture(dir.path(), errors, |_| "/pay".to_owned());
    let text = "function onItemCaptured(data) { vendor.slackBot(TOKEN, 'C00000000000', 'Server-side error', 'same', '#ff0000'); }";
    script(dir.path(), "alert.js", text);
    let fake = fake(1);
    let begun = Instant::now();
    let ran: Ran = agent(dir.path(), &fake, &[]).output().unwrap().into();
    let ran = ran.exits(0);
    let messages = fake.messages();
    let told: usize = messages.iter().map(|m| stands_for(m.attachments[0]["text"].as_str().unwrap())).sum();
    assert_eq!(told, errors);
    assert!(messages.len() < 60, "{} messages", messages.len());
    println!(
        "{errors} errors: {} messages in {:.1} s; {}",
        messages.len(),
        begun.elapsed().as_secs_f64(),
        ran.stats()["deliveries"]
    );
}

/// How many alerts a message tells of.
fn stands_for(text: &str) -> usize {
    let count = |after: &str| -> Option<usize> {
        text.split(after).nth(1)?.split(' ').next()?.replace(',', "").parse().ok()
    };
    match (count("_held back: "), count("_the last of ")) {
        (Some(held), _) => 1 + held,
        // A closing message is made of one of those it counts.
        (None, Some(held)) => held,
        (None, None) => 1,
    }
}
