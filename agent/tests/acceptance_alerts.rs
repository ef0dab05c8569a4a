//! Alerts through the real binary while the service has bad days and the agent is killed: each one arrives, or is a dead letter.
//!
//! `REMORA_ALERTS=10000 REMORA_KILLS=10 cargo test -p agent --test acceptance_alerts -- --nocapture` is the whole run.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{REMORA, Ran, remora, script};
use testkit::slack::{Channel, FakeConfig, Fault, Injection, SlackFake};
use testkit::synth::Capture;

const CHANNELS: usize = 5;
/// Messages a second and channel, on both sides.
const RATE: u32 = 100;
/// Every so many calls meet a fault.
const CALLS_PER_FAULT: usize = 20;
/// Every so many alerts have a file.
const WITH_FILE: usize = 24;
/// What it holds, as the script writes it.
const NOTE: &str = "what happened";
/// Alerts of one channel whose files the agent brings at the same time.
const FINISHING: usize = 4;

/// Alerts once for each request, across runs: what was queued is noted behind it.
const SCRIPT: &str = "
var done = -1;
try { var lines = file.read('done').split('\\n'); if (lines.length > 1) done = +lines[lines.length - 2]; } catch (e) {}
file.write('note.txt', 'what happened');
function onItemCaptured(data) {
  var n = +data.request.path.split('/')[2];
  if (n <= done) return;
  vendor.slackBot(TOKEN, 'C0000000000' + n % 5, 'Alert', 'alert ' + n, '#ff0000', {}, n % 24 ? {} : {'note.txt': 'note.txt'});
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

/// Lets it live so long from its first call on, and kills it. Whether it was still there to be killed.
fn kill(mut child: Child, fake: &SlackFake, life: Duration) -> bool {
    let (calls, patience) = (fake.calls(), Instant::now() + Duration::from_secs(20));
    while fake.calls() == calls && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < patience, "it makes no calls");
        std::thread::sleep(Duration::from_millis(5));
    }
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

/// One thing after the other goes wrong until it ends.
struct BadDay {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl BadDay {
    /// One in so many calls fails. By calls and not by time: faults that piled up while the agent holds back would leave no call
    /// without one, which is not a bad day but an outage.
    fn begin(fake: &Arc<SlackFake>) -> Self {
        let (stop, fake) = (Arc::new(AtomicBool::new(false)), Arc::clone(fake));
        let told = Arc::clone(&stop);
        let run = move || {
            let (mut n, mut next) = (0, 0);
            while !told.load(Ordering::Relaxed) {
                if fake.calls() >= next {
                    next = fake.calls() + CALLS_PER_FAULT;
                    fake.fail(trouble(n));
                    n += 1;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        Self { stop, thread: std::thread::spawn(run) }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// The nth thing that goes wrong.
fn trouble(n: usize) -> Injection {
    let status = |code, retry_after| Fault::Status { code, retry_after, body: String::new() };
    let post = |fault| Injection::new("chat.postMessage", 1, fault);
    let refused = |word: &str| Fault::Error(word.to_owned());
    match n % 15 {
        0 | 9 => post(status(500, None)),
        1 | 10 => post(status(429, Some(0))),
        2 | 11 => post(Fault::SlowMs(150)),
        3 => post(Fault::Half),
        // Only the answer is lost.
        4 | 12 => post(Fault::Half).applied(),
        5 => post(refused("restricted_action")),
        6 => Injection::new("files.getUploadURLExternal", 1, refused("access_denied")),
        7 => Injection::new("upload", 1, status(500, None)),
        8 => Injection::new("upload", 1, Fault::Half),
        13 => Injection::new("files.completeUploadExternal", 1, Fault::Half).applied(),
        _ => Injection::new("files.completeUploadExternal", 1, status(500, None)),
    }
}

/// What arrived.
#[derive(Default)]
struct Arrived {
    /// How often each alert.
    times: BTreeMap<usize, usize>,
    /// Alerts with their file, as often as it came, and alerts whose thread says why it did not.
    files: BTreeMap<usize, usize>,
    notes: BTreeSet<usize>,
}

/// Asserts the order in each channel.
fn arrived(fake: &SlackFake) -> Arrived {
    let mut arrived = Arrived::default();
    let mut last = [None; CHANNELS];
    for message in fake.messages() {
        let n = number(message.attachments[0]["text"].as_str().unwrap());
        let c = n % CHANNELS;
        assert_eq!(message.channel, format!("C0000000000{c}"));
        let times = arrived.times.entry(n).or_default();
        *times += 1;
        assert!(*times > 1 || last[c] < Some(n), "channel {c}: {n} after {:?}", last[c]);
        last[c] = last[c].max(Some(n));
        for file in &message.files {
            assert_eq!(fake.file(&file.id).unwrap(), NOTE.as_bytes(), "{file:?}");
            *arrived.files.entry(n).or_default() += 1;
        }
        let told = |text: &str| text.contains("`note.txt`") && text.contains("access_denied");
        if message.replies.iter().any(|reply| told(&reply.text)) {
            arrived.notes.insert(n);
        }
    }
    arrived
}

/// Calls that met a fault.
fn met(fake: &SlackFake, method: &str, what: &str) -> usize {
    let calls = fake.requests();
    let met = |outcome: &str| outcome.starts_with("fault: ") && outcome.contains(what);
    calls.iter().filter(|call| call.method == method && met(&call.outcome)).count()
}

/// The most messages that any channel took in any second.
fn fastest(fake: &SlackFake) -> usize {
    let mut recent: BTreeMap<String, VecDeque<u64>> = BTreeMap::new();
    let calls = fake.requests().into_iter();
    let taken = calls.filter(|call| call.method == "chat.postMessage" && call.outcome == "ok");
    let rates = taken.map(|call| {
        let recent = recent.entry(call.channel.unwrap()).or_default();
        recent.push_back(call.at_us);
        while recent.front().is_some_and(|first| call.at_us - first >= 1_000_000) {
            recent.pop_front();
        }
        recent.len()
    });
    rates.max().unwrap()
}

/// What was given up, each because it was refused for good.
fn dead_letters(dir: &Path) -> BTreeSet<usize> {
    let data = dir.join("data");
    let letters =
        remora(["outbox", "list", "--dead", "--json", "--data-dir", data.to_str().unwrap()]).exits(0);
    let lines = letters.stdout.lines();
    lines.inspect(|line| assert!(line.contains("restricted_action"), "{line}")).map(number).collect()
}

#[test]
fn every_alert_arrives_or_is_a_dead_letter_whatever_happens() {
    let (alerts, kills) = (setting("REMORA_ALERTS", 1_500), setting("REMORA_KILLS", 4));
    let dir = tempfile::tempdir().unwrap();
    capture(dir.path(), alerts, |n| format!("/n/{n}"));
    script(dir.path(), "alert.js", SCRIPT);
    let fake = Arc::new(fake(RATE));
    let rate = RATE.to_string();
    let mut flags = vec!["--slack-rate", rate.as_str(), "--slack-burst", "1"];
    flags.extend(["--flood-limit", "0", "--script-alerts", "0", "--total-alerts", "0"]);
    let begun = Instant::now();
    let mut killed = 0;
    let day = BadDay::begin(&fake);
    // Not at all: the connection stays open without an answer.
    let silent = || Injection::new("chat.postMessage", 1, Fault::Silent);
    let wait = Fault::Status { code: 429, retry_after: Some(1), body: String::new() };
    for round in 0..kills {
        // Those that nobody met would silence the next one again.
        fake.clear_faults();
        fake.fail(if round % 2 == 0 { silent() } else { silent().applied() });
        fake.fail(Injection::new("chat.postMessage", 1, wait.clone()));
        let child = agent(dir.path(), &fake, &flags).stderr(Stdio::null()).spawn().unwrap();
        killed += usize::from(kill(child, &fake, Duration::from_millis(300 + (round as u64 * 709) % 1_700)));
    }
    fake.clear_faults();
    fake.fail(silent().applied());
    let rounds = begun.elapsed().as_secs_f64();
    let ran: Ran = agent(dir.path(), &fake, &flags).output().unwrap().into();
    let took = begun.elapsed().as_secs_f64();
    day.end();
    let ran = ran.never_panicked();
    let stats = ran.stats();
    assert_eq!(stats["deliveries"]["waiting"], 0, "{stats}");
    // A run that gave something up says so.
    assert_eq!(ran.code == 0, stats["deliveries"]["failed"] == 0, "{}", ran.stderr);

    let (arrived, dead) = (arrived(&fake), dead_letters(dir.path()));
    let missing: Vec<usize> =
        (0..alerts).filter(|n| !arrived.times.contains_key(n) && !dead.contains(n)).collect();
    assert!(missing.is_empty(), "neither arrived nor dead: {missing:?}");
    let refused = met(&fake, "chat.postMessage", "restricted_action");
    assert!(dead.len() <= refused, "{} dead letters of {refused} refusals", dead.len());

    // Twice, or also dead: where an answer was lost, to a fault, or to a kill (one under way in each channel, and the one
    // being noted).
    let twice: usize = arrived.times.values().map(|times| times - 1).sum();
    let also_dead = dead.iter().filter(|n| arrived.times.contains_key(n)).count();
    let lost = met(&fake, "chat.postMessage", "applied");
    let may = lost + killed * (CHANNELS + 1);
    assert!(twice + also_dead <= may, "{twice} duplicates, {also_dead} also dead; {may} answers were lost");

    // A note is a message as well, and may itself be refused for good.
    let with_file = |n: &usize| n.is_multiple_of(WITH_FILE);
    let bare = |n: &usize| !arrived.files.contains_key(n) && !arrived.notes.contains(n);
    let untold: Vec<usize> = arrived.times.keys().copied().filter(|n| with_file(n) && bare(n)).collect();
    let notes_refused = refused - dead.len();
    assert!(
        untold.len() <= notes_refused,
        "neither file nor note: {untold:?}; {notes_refused} notes refused"
    );
    let files_refused = met(&fake, "files.getUploadURLExternal", "access_denied");
    assert!(arrived.notes.len() <= files_refused, "{} notes of {files_refused}", arrived.notes.len());
    assert!(arrived.files.keys().all(with_file));
    let files_twice: usize = arrived.files.values().map(|times| times - 1).sum();
    let files_may = may + killed * CHANNELS * FINISHING;
    assert!(files_twice <= files_may, "{files_twice} files twice of {files_may}");

    let limited = fake.requests().iter().filter(|r| r.outcome.contains("rate")).count();
    assert_eq!(limited, 0, "never over the rate that the server enforces");
    assert!(fake.violations().is_empty(), "{:?}", fake.violations());
    println!(
        "{alerts} alerts, {killed} kills in {rounds:.1} s, {took:.1} s in all: {} arrived, {twice} twice and {also_dead} also dead (answers lost: {lost} to \
         faults, up to {} to kills); {} dead letters of {refused} refusals; {} alerts with their file ({files_twice} twice), {} with \
         a note, {} with neither (notes refused: up to {notes_refused}); fastest channel: {} messages in a second; {} calls met a \
         fault; the last run: {}",
        arrived.times.len(),
        may - lost,
        dead.len(),
        arrived.files.len(),
        arrived.notes.len(),
        untold.len(),
        fastest(&fake),
        fake.requests().iter().filter(|call| call.outcome.starts_with("fault: ")).count(),
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
