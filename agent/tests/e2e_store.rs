//! The PCAP store from the command line: streams out of it while it is written, modes, and a disk that is filled.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{REMORA, remora};
use testkit::slack::{FakeConfig, SlackFake};
use testkit::synth::Capture;

const PATIENCE: Duration = Duration::from_secs(30);

/// A capture of so many connections with an exchange each, `size` bytes of response body.
fn capture(path: &Path, connections: u16, size: usize) {
    let mut capture = Capture::create(path).unwrap();
    let body = vec![b'x'; size];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    let response = [head.as_bytes(), &body].concat();
    for n in 0..connections {
        let mut connection = capture.open(10_000 + n).unwrap();
        let request = format!("GET /{n} HTTP/1.1\r\nHost: shop\r\n\r\n");
        capture.exchange(&mut connection, request.as_bytes(), &response).unwrap();
        capture.close(connection).unwrap();
    }
}

struct Replay {
    child: Child,
    items: std::sync::mpsc::Receiver<String>,
    said: Arc<Mutex<String>>,
    saying: std::thread::JoinHandle<()>,
}

impl Replay {
    /// `remora replay -`, whose items are read as they come.
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(REMORA);
        command.args(["replay", "-", "--json", "--stats"]).args(args).env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, items) = std::sync::mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        // Read all the time: who logs into a full pipe waits.
        let log = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let to = Arc::clone(&said);
        let saying = std::thread::spawn(move || {
            for line in log.lines() {
                let line = line.unwrap();
                to.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        Self { child, items, said, saying }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn expect_items(&self, count: usize) {
        for n in 0..count {
            self.items.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("item {n}: {error}"));
        }
    }

    /// Waits until this was said. Gives what else was said if it is not.
    fn expect_said(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.lock().unwrap().contains(what) {
            let said =
                || self.said.lock().unwrap().lines().filter(|l| !l.contains("have /")).collect::<String>();
            assert!(Instant::now() < deadline, "{what}: {}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the input. Gives what was said on standard error.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        self.saying.join().unwrap();
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        let status = self.child.wait().unwrap();
        assert!(status.success() && !said.contains("panicked"), "{said}");
        said
    }
}

fn stats(said: &str) -> serde_json::Value {
    let line = said.lines().rev().find(|line| line.starts_with('{')).expect("a line of --stats");
    serde_json::from_str(line).unwrap()
}

/// Runs `body` with a disk of 64 MiB.
fn on_a_small_disk(body: impl FnOnce(&Path) + Send) {
    assert!(nix::unistd::geteuid().is_root(), "a file system of its own needs root");
    testkit::disk::with_small_disk(64, body);
}

/// Alerts as a user's script makes them, who thinks of no failure: the PCAP, the item as a temporary file, the message.
const ALERT: &str = "function onItemCaptured(data) {
    var path = pcap.path(data.stream);
    console.log('have ' + data.request.path);
    if (['/500', '/1200', '/1500', '/1800', '/2900'].indexOf(data.request.path) < 0) return;
    var files = {};
    files[data.stream + '.pcap'] = path;
    if (env.ITEM) {
        var item = file.temp('data', '', 'json');
        file.write(item, JSON.stringify(data));
        files['data.json'] = item;
    }
    vendor.slackBot(SLACK_AUTH_TOKEN, SLACK_CHANNEL_ID, 'Alert', data.request.path, '#ff0000', {}, files);
    if (env.ITEM) file.delete(item);
}";

/// Replays 3,000 exchanges with a store on a disk of 64 MiB that somebody else fills to its end for the second third of
/// them. Gives what was said on standard error.
fn over_a_full_disk(disk: &Path, fake: &SlackFake, more: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.pcap");
    capture(&file, 3000, 10_000);
    let bytes = std::fs::read(&file).unwrap();
    let script = common::script(dir.path(), "alert.js", ALERT);
    let (store, token) = (disk.join("pcap"), format!("SLACK_AUTH_TOKEN={}", FakeConfig::TOKEN));
    let (channel, url) = (format!("SLACK_CHANNEL_ID={}", FakeConfig::CHANNEL), fake.api_url());
    let mut args = vec!["--pcap-dir", store.to_str().unwrap(), "--script", script.to_str().unwrap()];
    args.extend(["--env", &token, "--env", &channel, "--slack-api-url", &url]);
    args.extend(more);
    let mut replay = Replay::start(&args);
    replay.feed(&bytes[..bytes.len() / 3]);
    // The script keeps up: what it asks for long after cannot be had from a disk that others fill.
    replay.expect_said("have /990 ");
    let ballast = disk.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    let mut fed = bytes.len() / 3;
    while fed < bytes.len() / 3 * 2 {
        while file.write(&[0; 1 << 16]).is_ok() {}
        let next = (fed + (500 << 10)).min(bytes.len() / 3 * 2);
        replay.feed(&bytes[fed..next]);
        fed = next;
        replay.expect_said(&format!("have /{} ", next * 3000 / bytes.len() - 10));
    }
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    replay.feed(&bytes[fed..]);
    replay.expect_items(2999);
    replay.end()
}

#[test]
fn items_and_alerts_go_on_while_the_disk_is_full_and_storage_resumes() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: no file system of its own");
        return;
    }
    on_a_small_disk(|disk| {
        let fake = SlackFake::local(FakeConfig::default()).unwrap();
        let said = over_a_full_disk(disk, &fake, &["--env", "ITEM=1"]);
        let stats = stats(&said);
        let store = &stats["store"];
        assert!(store["refused"].as_u64().unwrap() > 0 && store["errors"].as_u64().unwrap() > 0, "{store}");
        assert_eq!(store["in_memory"], store["refused"], "none was lost: {store}");
        assert_eq!(said.matches("has trouble with its disk").count(), 1, "once a minute at most: {said}");
        assert!(said.contains("takes packets again"), "{said}");
        let telling: Vec<_> = said.lines().filter(|line| !line.contains("have /")).collect();
        assert_eq!(said.matches("have /").count(), 3000, "{telling:#?}");
        let messages = fake.messages();
        let texts: Vec<_> = messages.iter().map(|m| m.attachments[0]["text"].clone()).collect();
        assert_eq!(texts, ["/500", "/1200", "/1500", "/1800", "/2900"]);
        for (message, text) in messages.iter().zip(&texts) {
            assert_eq!(message.files.len(), 2, "{message:?}");
            let pcap = message.files.iter().find(|file| file.name.ends_with(".pcap")).unwrap();
            let path = disk.join(&pcap.name);
            std::fs::write(&path, fake.file(&pcap.id).unwrap()).unwrap();
            let items = remora(["replay", path.to_str().unwrap(), "--json"]).exits(0).items();
            assert_eq!((items.len(), &items[0]["request"]["path"]), (1, text), "the very request");
            assert_eq!(items[0]["response"]["bodySize"], 10_000, "and its whole response");
        }
    });
}

/// Where not even the outbox finds room for its copies, the message tells of the file that it lacks.
#[test]
fn an_alert_without_room_for_its_files_says_so() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: no file system of its own");
        return;
    }
    on_a_small_disk(|disk| {
        let fake = SlackFake::local(FakeConfig::default()).unwrap();
        let data = disk.join("data");
        over_a_full_disk(disk, &fake, &["--data-dir", data.to_str().unwrap()]);
        let messages = fake.messages();
        let texts: Vec<_> = messages.iter().map(|m| m.attachments[0]["text"].clone()).collect();
        assert_eq!(texts.len(), 5, "{texts:?}");
        for (message, full) in messages.iter().zip([false, true, true, true, false]) {
            let told = format!("{message:?}").contains("could not be copied");
            assert_eq!(told, full, "{message:?}");
            assert_eq!(message.files.len(), usize::from(!full), "{message:?}");
        }
    });
}

#[test]
fn streams_come_out_of_a_store_that_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.pcap");
    capture(&file, 50, 3000);
    let bytes = std::fs::read(&file).unwrap();
    let store = dir.path().join("pcap");
    let store = store.to_str().unwrap();
    let mut replay = Replay::start(&["--pcap-dir", store]);
    replay.feed(&bytes);
    replay.expect_items(49);
    let deadline = Instant::now() + PATIENCE;
    let listed = loop {
        let listed = remora(["streams", "list", "--json", "--pcap-dir", store]).exits(0).stdout;
        if listed.lines().count() >= 50 {
            break listed;
        }
        assert!(Instant::now() < deadline, "{listed}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let first: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&first["client"], &first["server"]), (&"10.9.0.1:10000".into(), &"10.9.0.2:8080".into()));
    let out = dir.path().join("one.pcap");
    let out = out.to_str().unwrap();
    remora(["streams", "pcap", first["stream"].as_str().unwrap(), "--pcap-dir", store, "-o", out]).exits(0);
    let items = remora(["replay", out, "--json"]).exits(0).items();
    assert_eq!((items.len(), &items[0]["request"]["path"]), (1, &"/0".into()));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    replay.end();

    let all = dir.path().join("all.pcapng");
    let all = all.to_str().unwrap();
    remora(["export", "--pcap-dir", store, "-o", all]).exits(0);
    assert_eq!(remora(["replay", all, "--json"]).exits(0).items().len(), 50);
    remora(["export", "--pcap-dir", store, "--from", "2100-01-01T00:00:00Z", "-o", all]).exits(0);
    assert_eq!(remora(["replay", all, "--json"]).exits(0).items().len(), 0);
    let none = dir.path().join("none.pcap");
    let none = none.to_str().unwrap();
    for (stream, code) in [("999999999", 1), ("../1", 2), ("-1", 2), ("1/../2", 2)] {
        let ran = remora(["streams", "pcap", "--pcap-dir", store, "-o", none, "--", stream]);
        assert_eq!(ran.code, code, "{stream}: {}", ran.stderr);
    }
    assert!(!Path::new(none).exists());
    remora(["export", "--pcap-dir", store, "--from", "2", "--to", "1", "-o", all]).exits(2);
    remora(["streams", "list", "--pcap-dir", dir.path().to_str().unwrap()]).exits(1);
}

#[test]
fn only_streams_asked_for_are_kept_in_mode_matched_and_none_in_mode_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.pcap");
    capture(&file, 40, 3000);
    let script = dir.path().join("a.js");
    let text = "function onItemCaptured(data) { if (data.request.path.endsWith('7')) console.log('path ' + pcap.path(data.stream)) }
        function onPcapReady(info) { console.log('ready ' + info.packets) }
        function onStreamClosed(info) { console.log('closed ' + info.reason) }";
    std::fs::write(&script, text).unwrap();
    let (file, script) = (file.to_str().unwrap(), script.to_str().unwrap());
    let store = dir.path().join("pcap");
    let store = store.to_str().unwrap();
    let args = ["replay", file, "--quiet", "--script", script, "--pcap-dir", store, "--pcap-store"];
    let ran = remora(args.into_iter().chain(["matched"])).exits(0);
    assert_eq!(ran.stderr.matches("closed fin").count(), 40, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("path /").count(), 4, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("ready 12").count(), 4, "whole, from the first packet: {}", ran.stderr);
    let listed = remora(["streams", "list", "--json", "--pcap-dir", store]).exits(0).stdout;
    let packets = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["packets"].clone();
    assert!(listed.lines().count() == 4 && listed.lines().all(|line| packets(line) == 12), "{listed}");
    let ran = remora(args.into_iter().chain(["off"]));
    assert!(ran.stderr.contains("the PCAP store is off") && !ran.stderr.contains("ready"), "{}", ran.stderr);
}
