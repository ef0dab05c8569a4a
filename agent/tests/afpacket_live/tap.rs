//! `remora tap` by AF_PACKET: the same items as by eBPF, with less privilege, and losses that show.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::load::{self, LoadConfig};
use testkit::netns::{NetNs, VethPair};
use testkit::nginx::Nginx;

use super::common::live::Background;
use super::common::{REMORA, Ran, remora};
use super::rig::{hush, passed, skipped};

const REQUESTS: u64 = 4000;

fn server() -> SocketAddr {
    "10.77.0.2:80".parse().unwrap()
}

fn nginx(pair: &VethPair) -> Nginx {
    pair.server.run(|| Nginx::start(server(), |command| command)).unwrap()
}

fn number(stats: &Value, path: &str) -> u64 {
    stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {stats}"))
}

/// Items by target, without what may differ between two captures of the same traffic.
fn comparable(items: &[Value]) -> BTreeMap<String, Value> {
    let strip = |item: &Value| {
        let mut item = item.clone();
        let fields = item.as_object_mut().unwrap();
        for name in ["id", "index", "stream", "worker", "timestamp", "startTime", "elapsedTime"] {
            fields.remove(name);
        }
        fields["capture"].as_object_mut().unwrap().remove("source");
        // Who it was is eBPF's to know.
        for end in ["src", "dst"] {
            for name in ["cgroupId", "processId", "processName", "containerId"] {
                fields[end].as_object_mut().unwrap().remove(name);
            }
        }
        item
    };
    items.iter().map(|item| (item["request"]["target"].as_str().unwrap().to_owned(), strip(item))).collect()
}

/// No packet socket is left in the namespace.
fn assert_nothing_left(namespace: &NetNs) {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/packet")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn the_items_are_those_of_ebpf() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let nginx = nginx(&pair);
    let tap = |mode: &str| {
        let folder = dir.path().join(mode);
        std::fs::create_dir(&folder).unwrap();
        let args = ["--interface", VethPair::SERVER, "--port", "80", "--json", "--stats", "--mode", mode];
        Background::tap(&pair.server, &folder, &[&args[..], &["--workers", "4"]].concat())
    };
    let (by_ebpf, by_packet) = (tap("ebpf"), tap("af-packet"));
    let load = LoadConfig { per_connection: 100, echo: true, ..LoadConfig::new(server(), 8, REQUESTS) };
    let observed = pair.client.run(|| load::run(&load)).unwrap();
    let wanted = usize::try_from(REQUESTS).unwrap();
    by_ebpf.wait_for_lines(wanted);
    by_packet.wait_for_lines(wanted);
    let (by_ebpf, by_packet) = (by_ebpf.end().exits(0), by_packet.end().exits(0));
    let log = nginx.stop().unwrap();

    assert!(by_packet.stderr.contains("mode: AF_PACKET, because --mode says so"), "{}", by_packet.stderr);
    assert!(by_ebpf.stderr.contains("mode: eBPF"), "{}", by_ebpf.stderr);
    let items = by_packet.items();
    assert_eq!((items.len(), log.len(), observed.len()), (wanted, wanted, wanted));
    assert!(
        items
            .iter()
            .all(|item| item["capture"] == json!({"source": "af_packet", "gaps": 0, "truncated": false}))
    );
    assert_each_its_own(&items);
    let (ours, theirs) = (comparable(&items), comparable(&by_ebpf.items()));
    assert_eq!(ours.len(), wanted);
    for (target, item) in &ours {
        assert_eq!(Some(item), theirs.get(target), "{target}");
    }

    let stats = by_packet.stats();
    let kernel = &stats["kernel"];
    assert_eq!(number(&stats, "/kernel/captured/packets"), number(&stats, "/packets"));
    assert_eq!(number(&stats, "/kernel/captured/bytes"), number(&stats, "/bytes"));
    assert_eq!(number(&stats, "/kernel/dropped/ring_full/packets"), 0);
    assert_eq!(number(&by_ebpf.stats(), "/kernel/captured/packets"), number(&stats, "/packets"));
    for unknown in [&kernel["offered"], &kernel["filtered"]["port"], &kernel["dropped"]["ring_full"]["bytes"]]
    {
        assert_eq!(*unknown, Value::Null, "{stats}");
    }
    assert_nothing_left(&pair.server);
}

/// A response that is shown with a request is that request's own.
/// `--direction` and `--exclude` mean the same in both modes: one side of each stream; nothing of that server.
#[test]
fn one_way_and_without_an_endpoint() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let left_out: SocketAddr = "10.77.0.2:8081".parse().unwrap();
    let servers =
        [server(), left_out].map(|at| pair.server.run(|| Nginx::start(at, |command| command)).unwrap());
    for (mode, direction) in [("ebpf", "in"), ("af-packet", "in"), ("ebpf", "out"), ("af-packet", "out")] {
        let folder = dir.path().join(format!("{mode}-{direction}"));
        std::fs::create_dir(&folder).unwrap();
        let streams = folder.join("streams.jsonl");
        let excluded = left_out.to_string();
        let args = ["--interface", VethPair::SERVER, "--json", "--mode", mode, "--direction", direction];
        let more = ["--exclude", &excluded, "--streams", streams.to_str().unwrap()];
        let tap = Background::tap(&pair.server, &folder, &[&args[..], &more].concat());
        pair.client.run(|| one_request(left_out));
        pair.client.run(|| one_request(server()));
        // A side alone is waited for until the end.
        let ran = tap.end().exits(0);
        let (asked, answered) =
            if direction == "in" { ("request", "response") } else { ("response", "request") };
        assert_eq!(ran.items().len(), 1, "{mode} {direction}");
        assert!(
            ran.items()[0][asked].is_object() && ran.items()[0][answered].is_null(),
            "{mode} {direction}"
        );
        let streams = std::fs::read_to_string(&streams).unwrap();
        assert_eq!(streams.lines().count(), 1, "{streams}");
        assert!(!streams.contains(&excluded), "{streams}");
    }
    drop(servers);
}

/// One request to that server, on a connection of its own.
fn one_request(to: SocketAddr) {
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    stream.write_all(b"GET /one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

fn assert_each_its_own(items: &[Value]) {
    let mut seen = BTreeSet::new();
    for item in items.iter().filter(|item| item["error"].is_null()) {
        let target = item["request"]["target"].as_str().unwrap();
        assert_eq!(item["response"]["content"]["text"], format!("you asked for {target}\n"));
        assert!(seen.insert(target.to_owned()), "{target} twice");
    }
}

#[test]
fn what_a_full_ring_lost_is_counted_and_nothing_is_paired_wrongly() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let _nginx = nginx(&pair);
    hush(&pair);
    let args = ["--interface", VethPair::SERVER, "--port", "80", "--json", "--stats", "--mode", "af-packet"];
    let tap = Background::tap(
        &pair.server,
        dir.path(),
        &[&args[..], &["--workers", "2", "--ring-mib", "1"]].concat(),
    );
    let load = |requests| LoadConfig { echo: true, ..LoadConfig::new(server(), 8, requests) };
    let before = passed(&pair.server, VethPair::SERVER);
    // It sleeps through the middle of it.
    std::thread::scope(|scope| {
        let client = scope.spawn(|| pair.client.run(|| load::run(&load(80_000))).unwrap());
        std::thread::sleep(Duration::from_millis(150));
        tap.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(250));
        tap.signal(Signal::SIGCONT);
        assert_eq!(client.join().unwrap().len(), 80_000);
    });
    std::thread::sleep(Duration::from_millis(300));
    let ran = tap.end().exits(0);
    let (stats, passed) = (ran.stats(), passed(&pair.server, VethPair::SERVER) - before);
    let (captured, dropped) =
        (number(&stats, "/kernel/captured/packets"), number(&stats, "/kernel/dropped/ring_full/packets"));
    assert!(dropped > 1000, "{stats}");
    assert_eq!(captured + dropped, passed, "{stats}");
    assert_eq!(number(&stats, "/lost/kernel_ring"), dropped);
    assert_eq!(stats["lost"]["kernel_ring_bytes"], Value::Null);
    assert!(number(&stats, "/gaps") > 0, "{stats}");
    assert!(
        ran.stderr.contains("packets were lost in the kernel's rings: raise --ring-mib"),
        "{}",
        ran.stderr
    );
    let items = ran.items();
    assert_each_its_own(&items);
    let whole = items.iter().filter(|item| item["error"].is_null()).count();
    assert!(whole > 100 && whole < 80_000, "{whole} whole of {}", items.len());
}

/// A copy of the binary that nobody may reach: the build folder may be root's alone.
fn public_copy(dir: &Path) -> PathBuf {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.join("remora");
    std::fs::copy(REMORA, &binary).unwrap();
    binary
}

/// `remora` as the user nobody with these capabilities and no others to be had.
fn as_nobody(binary: &Path, capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}=-all{capabilities}"));
    }
    command.arg(binary);
    command
}

#[test]
fn one_capability_is_enough_and_taken_by_itself() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let binary = public_copy(dir.path());
    let pair = VethPair::new().unwrap();
    let _nginx = nginx(&pair);
    let mut command = as_nobody(&binary, ",+net_raw");
    command.args(["tap", "--interface", VethPair::SERVER, "--json", "--stats"]);
    let tap = Background::start(&pair.server, &command, dir.path(), "tap", "capturing on");
    let load = LoadConfig { echo: true, ..LoadConfig::new(server(), 4, 200) };
    pair.client.run(|| load::run(&load)).unwrap();
    tap.wait_for_lines(200);
    let ran = tap.end().exits(0);
    assert_eq!(ran.items().len(), 200, "{}", ran.stderr);
    assert_each_its_own(&ran.items());
    let said = &ran.stderr;
    assert!(said.contains("mode: AF_PACKET, because there is no eBPF here: not permitted"), "{said}");
    assert!(said.contains("CAP_BPF") && said.contains("veth1 (AF_PACKET)"), "{said}");
    assert_nothing_left(&pair.server);
}

#[test]
fn without_it_or_for_cgroups_it_says_so() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let binary = public_copy(dir.path());
    let pair = VethPair::new().unwrap();
    let run = |arguments: &[&str]| -> Ran {
        let mut command = as_nobody(&binary, "");
        command.args(arguments).current_dir("/").env("NO_COLOR", "1");
        pair.server.run(|| command.output()).unwrap().into()
    };
    for mode in ["auto", "af-packet"] {
        let ran = run(&["tap", "--interface", VethPair::SERVER, "--mode", mode]).exits(3);
        assert!(ran.stderr.contains("CAP_NET_RAW"), "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("CAP_BPF"), mode == "auto", "{}", ran.stderr);
    }
    let ran = run(&["tap", "--interface", VethPair::SERVER, "--mode", "ebpf"]).exits(3);
    assert!(ran.stderr.contains("CAP_BPF") && !ran.stderr.contains("AF_PACKET"), "{}", ran.stderr);
    let ran = run(&["doctor"]);
    assert!(ran.stdout.contains("AF_PACKET") && ran.stdout.contains("CAP_NET_RAW"), "{}", ran.stdout);
    let tap = |arguments: &[&str]| {
        pair.server.run(|| remora([&["tap", "--mode", "af-packet"], arguments].concat()))
    };
    let ran = tap(&["--cgroup", "/sys/fs/cgroup"]).exits(2);
    assert!(ran.stderr.contains("--cgroup needs eBPF"), "{}", ran.stderr);
    let ran = tap(&["--interface", "nope0"]).exits(1);
    assert!(ran.stderr.contains("nope0") && ran.stderr.contains(VethPair::SERVER), "{}", ran.stderr);
}

/// Clock ticks that a process has used, and its threads.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// An interface that is down and up again goes on, one that is gone ends the run; a killed process leaves nothing; an idle one
/// does next to nothing.
#[test]
fn it_idles_and_ends_as_it_should() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let nginx = nginx(&pair);
    let args = ["--interface", VethPair::SERVER, "--json", "--mode", "af-packet"];
    let tap = Background::tap(&pair.server, dir.path(), &args);
    let before = ticks(tap.id());
    std::thread::sleep(Duration::from_secs(2));
    let used = ticks(tap.id()) - before;
    // A tick is 10 ms; 4 workers for 2 s.
    assert!(used <= 10, "{used} ticks in 2 idle seconds");

    let set = |state: &str| pair.server.ip(&format!("link set {} {state}", VethPair::SERVER)).unwrap();
    let load = LoadConfig { echo: true, ..LoadConfig::new(server(), 4, 100) };
    set("down");
    std::thread::sleep(Duration::from_millis(300));
    let before = ticks(tap.id());
    std::thread::sleep(Duration::from_secs(1));
    assert!(ticks(tap.id()) - before <= 10, "it spins while the interface is down");
    set("up");
    std::thread::sleep(Duration::from_millis(300));
    pair.client.run(|| load::run(&load)).unwrap();
    tap.wait_for_lines(100);
    assert_eq!(tap.lines(), 100);
    drop(nginx);
    pair.server.ip(&format!("link del {}", VethPair::SERVER)).unwrap();
    let ran = tap.ended().exits(1);
    assert!(ran.stderr.contains("interface veth1 is gone"), "{}", ran.stderr);
    assert!(ran.stderr.contains("nothing is left to capture"), "{}", ran.stderr);

    let pair = VethPair::new().unwrap();
    let tap = Background::tap(&pair.server, dir.path(), &args);
    tap.signal(Signal::SIGKILL);
    drop(tap);
    assert_nothing_left(&pair.server);
}
