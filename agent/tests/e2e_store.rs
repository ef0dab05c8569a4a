//! The PCAP store from the command line: streams out of it while it is written, modes, and a disk that is filled.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{REMORA, remora};
use testkit::synth::Capture;

const PATIENCE: Duration = Duration::from_secs(60);

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
    said: std::thread::JoinHandle<String>,
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
        let mut log = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            log.read_to_string(&mut said).unwrap();
            said
        });
        Self { child, items, said }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn expect_items(&self, count: usize) {
        for n in 0..count {
            self.items.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("item {n}: {error}"));
        }
    }

    /// Ends the input. Gives what was said on standard error.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let said = self.said.join().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success() && !said.contains("panicked"), "{said}");
        said
    }
}

fn stats(said: &str) -> serde_json::Value {
    let line = said.lines().rev().find(|line| line.starts_with('{')).expect("a line of --stats");
    serde_json::from_str(line).unwrap()
}

/// Runs `body` in a mount namespace of its own, with a tmpfs of 64 MiB.
fn on_a_small_disk(body: impl FnOnce(&Path) + Send) {
    assert!(nix::unistd::geteuid().is_root(), "a file system of its own needs root");
    std::thread::scope(|scope| {
        let run = || {
            use nix::mount::{MntFlags, MsFlags, mount, umount2};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            let dir = tempfile::tempdir().unwrap();
            mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
            body(dir.path());
            umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
        };
        scope.spawn(run).join().unwrap();
    });
}

#[test]
fn items_go_on_while_the_disk_is_full_and_storage_resumes() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: no file system of its own");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("load.pcap");
    capture(&file, 3000, 10_000);
    let bytes = std::fs::read(&file).unwrap();
    let script = dir.path().join("asks.js");
    let text = "function onItemCaptured(data) {
        try { pcap.path(data.stream); console.log('have ' + data.request.path) }
        catch (e) { console.log('lack ' + data.request.path + ' ' + e.message) } }";
    std::fs::write(&script, text).unwrap();
    on_a_small_disk(|disk| {
        let store = disk.join("pcap");
        let mut replay =
            Replay::start(&["--pcap-dir", store.to_str().unwrap(), "--script", script.to_str().unwrap()]);
        replay.feed(&bytes[..bytes.len() / 3]);
        replay.expect_items(900);
        let ballast = disk.join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        let mut fed = bytes.len() / 3;
        let began = Instant::now();
        // Until the store has given up all it had and gets no room any more, at the latest until two thirds are read.
        while fed < bytes.len() / 3 * 2 {
            while file.write(&[0; 1 << 16]).is_ok() {}
            let next = (fed + (100 << 10)).min(bytes.len() / 3 * 2);
            replay.feed(&bytes[fed..next]);
            fed = next;
            assert!(began.elapsed() < PATIENCE, "reading stands still");
        }
        replay.expect_items(900);
        drop(file);
        std::fs::remove_file(&ballast).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        replay.feed(&bytes[fed..]);
        replay.expect_items(1200);
        let said = replay.end();
        let stats = stats(&said);
        let store = &stats["store"];
        assert!(store["refused"].as_u64().unwrap() > 0 && store["errors"].as_u64().unwrap() > 0, "{store}");
        assert_eq!(said.matches("has trouble with its disk").count(), 1, "once a minute at most: {said}");
        assert!(said.contains("takes packets again"), "{said}");
        let last = |what: &str| said.rfind(what);
        assert!(last("lack /").is_some() && last("have /2999") > last("lack /"), "it is told and it is over");
        assert_eq!(said.matches("have /").count() + said.matches("lack /").count(), 3000);
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
