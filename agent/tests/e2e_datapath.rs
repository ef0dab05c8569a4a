//! The kernel's data path under `remora tap`: bodies cut to their headers, full speed with exact books, the agent's own
//! cgroup, pinned workers.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::live::{Background, is_root};
use common::{REMORA, Ran};
use serde_json::Value;
use testkit::netns::{Cgroup, VethPair};
use testkit::nginx::Nginx;

const HUGE: u64 = 24 << 20;

/// One load at a time: these tests ask what a worker can do that gets its share of the machine.
fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nginx(pair: &VethPair) -> Nginx {
    pair.server.run(|| Nginx::start("10.77.0.2:80".parse().unwrap(), |command| command)).unwrap()
}

fn tally(stats: &Value, path: &str) -> u64 {
    stats.pointer(&format!("/kernel{path}/packets")).and_then(Value::as_u64).expect(path)
}

/// offered = filtered + captured + dropped, in packets and bytes; gives what was dropped.
fn assert_balanced(stats: &Value) -> u64 {
    let kernel = &stats["kernel"];
    let sum = |of: &Value, what: &str| -> u64 {
        of.as_object().unwrap().values().map(|tally| tally[what].as_u64().unwrap()).sum()
    };
    for what in ["packets", "bytes"] {
        let captured = kernel["captured"][what].as_u64().unwrap();
        let accounted = sum(&kernel["filtered"], what) + captured + sum(&kernel["dropped"], what);
        assert_eq!(kernel["offered"][what].as_u64().unwrap(), accounted, "{what}: {kernel}");
        let rings = kernel["rings"].as_array().unwrap().iter();
        assert_eq!(rings.map(|ring| ring["captured"][what].as_u64().unwrap()).sum::<u64>(), captured);
    }
    // What the rings took has arrived.
    assert_eq!(tally(stats, "/captured"), stats["packets"].as_u64().unwrap());
    sum(&kernel["dropped"], "packets")
}

/// Four requests on one connection, two of them for a large body, the next request right behind each.
#[test]
fn large_bodies_are_cut_to_their_headers_and_no_item_is_lost_by_it() {
    if !is_root("large bodies") {
        return;
    }
    let _alone = alone();
    for trim in [true, false] {
        let (dir, pair) = (tempfile::tempdir().unwrap(), VethPair::new().unwrap());
        let nginx = nginx(&pair);
        let mut args = vec!["--interface", VethPair::SERVER, "--port", "80", "--json", "--stats"];
        if trim {
            args.push("--trim");
        }
        let tap = Background::tap(&pair.server, dir.path(), &args);
        let targets = ["/huge", "/r/1", "/huge", "/r/2"];
        let urls = targets.map(|target| format!("http://10.77.0.2{target}"));
        // Slower than a veth pair can: at its speed a ring lasts no longer than a worker may have to wait for a core.
        let mut curl = vec![
            "-s",
            "--limit-rate",
            "24M",
            "-o",
            "/dev/null",
            "-o",
            "/dev/null",
            "-o",
            "/dev/null",
            "-o",
            "/dev/null",
        ];
        curl.extend(urls.iter().map(String::as_str));
        pair.client.command("curl", &curl).unwrap();
        tap.wait_for_lines(4);
        let ran = tap.end().exits(0);
        nginx.stop().unwrap();
        let stats = ran.stats();
        assert_eq!(assert_balanced(&stats), 0, "lost: {}", stats["kernel"]);
        let items = ran.items();
        assert_eq!(items.len(), 4);
        for (item, target) in items.iter().zip(targets) {
            assert_eq!(item["request"]["target"], target);
            assert_eq!((&item["error"], &item["capture"]["gaps"]), (&Value::Null, &Value::from(0)), "{item}");
            if target == "/huge" {
                assert_eq!(item["response"]["bodySize"], HUGE);
            }
        }
        assert_eq!(stats["gaps"], 0);
        let (cut, trimmed) = (tally(&stats, "/headers_only"), stats["trimmed"].as_u64().unwrap());
        let cut_bytes = stats["kernel"]["headers_only"]["bytes"].as_u64().unwrap();
        if trim {
            // A quarter of what is beyond the cap: a worker that waits for a core sees half a second of it too late, twice.
            assert!(cut > 100 && trimmed > HUGE / 2 && cut_bytes > trimmed, "{cut} packets, {trimmed} bytes");
        } else {
            assert_eq!((cut, trimmed), (0, 0));
        }
    }
}

/// wrk as fast as it can for `REMORA_LOAD_SECONDS` (3): the books balance, and what was not lost was found, once.
#[test]
fn at_full_speed_the_books_balance_and_every_request_is_found() {
    if !is_root("full speed") {
        return;
    }
    let _alone = alone();
    let seconds: u64 = std::env::var("REMORA_LOAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let (ran, log) = wrk(seconds, &[], |_| ());
    let stats = ran.stats();
    let lost = assert_balanced(&stats);
    let (found, whole) = found(&ran, &log);
    eprintln!(
        "{} requests, {found} found, {lost} packets lost: {} {}",
        log.len(),
        stats["items"],
        stats["lost"]
    );
    assert_eq!(lost, 0, "{}", stats["kernel"]);
    // The engine found them all; of those, what the printing was too slow for is counted.
    let unprinted = usize::try_from(stats["lost"]["queue"].as_u64().unwrap()).unwrap();
    assert!(stats["items"]["http"].as_u64().unwrap() >= log.len() as u64, "{}", stats["items"]);
    assert!(found + unprinted >= log.len(), "{found} found and {unprinted} not printed of {}", log.len());
    assert_eq!(whole, found);
    if unprinted == 0 {
        assert_eq!(found, log.len());
    }
}

/// Rings far too small: what is lost is counted and told as gaps, and nothing is paired with another's response.
#[test]
fn with_rings_too_small_what_is_lost_is_told_and_no_pair_is_wrong() {
    if !is_root("small rings") {
        return;
    }
    let _alone = alone();
    let pauses = |tap: &Background| {
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(200));
            tap.pause(Duration::from_millis(150));
        }
    };
    let (ran, log) = wrk(2, &["--workers", "2", "--ring-mib", "1"], pauses);
    let stats = ran.stats();
    let lost = assert_balanced(&stats);
    let (found, whole) = found(&ran, &log);
    eprintln!("{} requests, {lost} packets lost, {found} found, {whole} whole", log.len());
    assert_eq!(stats["lost"]["kernel_ring"].as_u64().unwrap(), lost);
    assert!(lost > 0, "nothing was lost, although nothing was read for a while");
    assert!(stats["gaps"].as_u64().unwrap() > 0, "a loss that is told nowhere");
    assert!(ran.stderr.contains("raise --ring-mib"), "{}", ran.stderr);
    // What was captured between the pauses was not for nothing.
    assert!(whole > log.len() / 4, "{whole} of {}", log.len());
}

/// Runs wrk against nginx under `tap`, each request with a target of its own; gives the run and nginx's account.
fn wrk(seconds: u64, more: &[&str], meanwhile: impl FnOnce(&Background)) -> (Ran, Vec<String>) {
    let (dir, pair) = (tempfile::tempdir().unwrap(), VethPair::new().unwrap());
    let nginx = nginx(&pair);
    let script = dir.path().join("numbered.lua");
    fs::write(
        &script,
        "local n, t = 0, 0\nlocal threads = 0\nfunction setup(thread) thread:set('id', threads); threads = threads + 1 end\n\
         function request() n = n + 1; return wrk.format('GET', '/r/' .. id .. '-' .. n) end\n",
    )
    .unwrap();
    let mut args = vec!["--interface", VethPair::SERVER, "--port", "80", "--json", "--stats"];
    args.extend(more);
    let tap = Background::tap(&pair.server, dir.path(), &args);
    let duration = format!("{seconds}s");
    let script = script.display().to_string();
    let load = ["-t", "2", "-c", "32", "-d", &duration, "-s", &script, "http://10.77.0.2/"];
    std::thread::scope(|scope| {
        let wrk = scope.spawn(|| pair.client.command("wrk", &load).unwrap());
        meanwhile(&tap);
        wrk.join().unwrap();
    });
    let log = nginx.stop().unwrap();
    // wrk leaves without its last responses: their items come with the end of their streams.
    std::thread::sleep(Duration::from_millis(500));
    (tap.end().exits(0), log)
}

/// How many requests of the log were found, and how many of them with the very response. Nothing may be found twice or be
/// wrong.
fn found(ran: &Ran, log: &[String]) -> (usize, usize) {
    let mut logged: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in log {
        let mut fields = line.split(' ');
        let (client, target) = (fields.next().unwrap().to_owned(), fields.next().unwrap().to_owned());
        *logged.entry((client, target)).or_default() += 1;
    }
    let (mut found, mut whole) = (0, 0);
    // One by one: there may be a million of them.
    for line in ran.stdout.lines() {
        let item: Value = serde_json::from_str(line).unwrap();
        let Some(target) = item["request"]["target"].as_str() else { continue };
        let text = |at: &str| item.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let client = format!("{}:{}", text("/src/ip"), text("/src/port"));
        let left = logged.get_mut(&(client.clone(), target.to_owned()));
        let Some(left) = left else {
            // Not answered before wrk left: not in the log.
            assert_ne!(item["error"], Value::Null, "{client} {target} was never served: {item}");
            continue;
        };
        assert!(*left > 0, "{client} {target} twice");
        *left -= 1;
        found += 1;
        if !item["response"].is_null() && item["error"].is_null() {
            assert_eq!(text("/response/content/text"), format!("you asked for {target}\n"), "a wrong pair");
            whole += 1;
        }
    }
    (found, whole)
}

/// What the agent says is not captured, where it is in a cgroup of its own inside the watched one.
#[test]
fn the_agents_own_traffic_is_left_out() {
    if !is_root("own traffic") {
        return;
    }
    let (dir, pair) = (tempfile::tempdir().unwrap(), VethPair::new().unwrap());
    let tree = Cgroup::new("tree").unwrap();
    let (own, other) = (tree.child("agent").unwrap(), tree.child("other").unwrap());
    let nginx = nginx(&pair);
    let script = common::script(
        dir.path(),
        "hook.js",
        "function onItemCaptured(data) { vendor.webhook('POST', 'http://10.77.0.2/r/own', 'x'); }",
    );
    // In its cgroup before its first instruction.
    let start = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", start]).arg(own.path()).arg(REMORA).arg("tap").arg("--cgroup").arg(tree.path());
    command.args(["--json", "--stats", "--pin-workers", "--script"]).arg(&script);
    let tap = Background::start(&pair.client, &command, dir.path(), "tap", "capturing on");
    let curl = Path::new("/usr/bin/curl");
    let mut child = pair.client.run(|| other.spawn(curl, &["-s", "http://10.77.0.2/r/1"], &[])).unwrap();
    assert!(child.wait().unwrap().success());
    tap.wait_for_lines(1);
    std::thread::sleep(Duration::from_millis(700));
    let ran = tap.end().exits(0);
    let log = nginx.stop().unwrap();
    assert!(log.iter().any(|line| line.contains("/r/own")), "the script called: {log:?}\n{}", ran.stderr);
    let targets: Vec<_> = ran.items().iter().map(|item| item["request"]["target"].clone()).collect();
    assert_eq!(targets, ["/r/1"]);
    let stats = ran.stats();
    assert!(tally(&stats, "/filtered/excluded") > 5, "{}", stats["kernel"]);
    assert_balanced(&stats);
}
