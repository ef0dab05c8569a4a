//! The whole way over real eBPF, in namespaces and cgroups of its own: capture, items, scripts, alerts.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::live::{Background, PATIENCE, is_root, wait_until_quiet};
use common::{REMORA, Ran, alert, alert_scripts, remora};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testkit::load::{self, LoadConfig};
use testkit::netns::{Cgroup, VethPair};
use testkit::nginx::Nginx;
use testkit::slack::{FakeConfig, SlackFake};

const REQUESTS: u64 = 10_000;

fn server() -> SocketAddr {
    "10.77.0.2:80".parse().unwrap()
}

/// Starts nginx at the server's end.
fn nginx(pair: &VethPair) -> Nginx {
    pair.server.run(|| Nginx::start(server(), |command| command)).unwrap()
}

fn tcpdump(pair: &VethPair, dir: &Path) -> Background {
    let mut command = Command::new("tcpdump");
    command.args(["-i", VethPair::SERVER, "-s", "0", "-B", "262144", "-n", "-U", "--nano", "-w"]);
    command.arg(dir.join("tcpdump.pcap")).arg("tcp port 80");
    Background::start(&pair.server, &command, dir, "tcpdump", "listening on")
}

fn load(pair: &VethPair, config: &LoadConfig) -> Vec<load::Observed> {
    pair.client.run(|| load::run(config)).unwrap()
}

#[test]
fn ten_thousand_requests_each_once_with_its_own_response() {
    if !is_root("ten_thousand_requests") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let nginx = nginx(&pair);
    let dump = tcpdump(&pair, dir.path());
    let args = ["--interface", VethPair::SERVER, "--port", "80", "--json", "--stats"];
    let tap = Background::tap(&pair.server, dir.path(), &args);
    let observed = load(
        &pair,
        &LoadConfig { per_connection: 500, echo: true, ..LoadConfig::new(server(), 16, REQUESTS) },
    );
    assert_eq!(observed.len() as u64, REQUESTS);
    let connections = observed.iter().map(|o| o.client).collect::<BTreeSet<_>>().len();
    tap.wait_for_lines(usize::try_from(REQUESTS).unwrap());
    let ran = tap.end().exits(0);
    wait_until_quiet(&dir.path().join("tcpdump.pcap"));
    let recorded = dump.end();
    let log = nginx.stop().unwrap();

    // First, for it says where something was lost.
    check_nothing_lost(&ran, connections);
    check_each_once(&ran, &observed);
    check_access_log(&ran.items(), &log);
    assert!(recorded.stderr.contains("\n0 packets dropped by kernel"), "{}", recorded.stderr);
    check_same_from_file(&ran.items(), &dir.path().join("tcpdump.pcap"));
}

/// Every number once, paired with the response that says the same number, on the connection that the client used.
fn check_each_once(ran: &Ran, observed: &[load::Observed]) {
    let mut seen = BTreeMap::new();
    for item in ran.items() {
        let target = item["request"]["target"].as_str().expect("a request").to_owned();
        assert_eq!(item["error"], Value::Null, "{item}");
        assert_eq!(
            item["response"]["content"]["text"],
            format!("you asked for {target}\n"),
            "paired with another's"
        );
        assert_eq!(item["capture"], json!({ "source": "ebpf", "gaps": 0, "truncated": false }));
        let client =
            format!("{}:{}", item["src"]["ip"].as_str().unwrap(), item["src"]["port"].as_str().unwrap());
        assert_eq!(seen.insert(target.clone(), client), None, "{target} twice");
    }
    let sent: BTreeMap<_, _> =
        observed.iter().map(|o| (format!("/r/{}", o.id), o.client.to_string())).collect();
    let missing: Vec<_> = sent.keys().filter(|target| !seen.contains_key(*target)).take(5).collect();
    assert!(missing.is_empty(), "{} missing, such as {missing:?}", sent.len() - seen.len());
    assert_eq!(seen, sent);
}

fn check_nothing_lost(ran: &Ran, connections: usize) {
    let stats = ran.stats();
    let number = |path: &str| {
        stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {stats}"))
    };
    assert_eq!(number("/lost/queue"), 0, "{stats}");
    assert_eq!((number("/gaps"), number("/malformed")), (0, 0), "{stats}");
    assert_eq!(number("/items/http"), REQUESTS, "{stats}");
    assert_eq!(number("/streams"), connections as u64, "{stats}");
    common::check_kernel_books(&stats);
}

fn check_access_log(items: &[Value], log: &[String]) {
    let text =
        |item: &Value, path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ours: BTreeSet<_> = items
        .iter()
        .map(|item| {
            let (ip, port) = (text(item, "/src/ip"), text(item, "/src/port"));
            format!("{ip}:{port} {} {}", text(item, "/request/target"), item["response"]["status"])
        })
        .collect();
    let theirs: BTreeSet<_> = log.iter().cloned().collect();
    assert_eq!(ours, theirs);
}

/// What `remora replay` finds in tcpdump's file of the same traffic is the same, stream ids and times aside.
fn check_same_from_file(live: &[Value], file: &Path) {
    let ran = remora(["replay".as_ref(), file.as_os_str(), "--json".as_ref()]).exits(0);
    let (live, replayed) = (comparable(live), comparable(&ran.items()));
    assert_eq!(live.len(), replayed.len());
    for (target, item) in &live {
        assert_eq!(Some(item), replayed.get(target), "{target}");
    }
}

/// Items by target, without what may differ between two captures of the same traffic.
fn comparable(items: &[Value]) -> BTreeMap<String, Value> {
    let strip = |item: &Value| {
        let mut item = item.clone();
        let fields = item.as_object_mut().unwrap();
        for name in
            ["id", "index", "stream", "worker", "timestamp", "startTime", "elapsedTime", "outgoing", "node"]
        {
            fields.remove(name);
        }
        fields["capture"].as_object_mut().unwrap().remove("source");
        for end in ["src", "dst"] {
            fields[end].as_object_mut().unwrap().remove("cgroupId");
        }
        item
    };
    items.iter().map(|item| (item["request"]["target"].as_str().unwrap().to_owned(), strip(item))).collect()
}

#[test]
fn a_failing_request_becomes_an_alert_with_its_packets() {
    if !is_root("a_failing_request_becomes_an_alert") {
        return;
    }
    for script in alert_scripts() {
        let dir = tempfile::tempdir().unwrap();
        let pair = VethPair::new().unwrap();
        let _nginx = nginx(&pair);
        let fake = pair.server.run(|| SlackFake::local(FakeConfig::default())).unwrap();
        let (token, channel) = (
            format!("SLACK_AUTH_TOKEN={}", FakeConfig::TOKEN),
            format!("SLACK_CHANNEL_ID={}", FakeConfig::CHANNEL),
        );
        let api = fake.api_url();
        let args = [
            "--interface",
            VethPair::SERVER,
            "--port",
            "80",
            "--json",
            "--script",
            script.to_str().unwrap(),
            "--env",
            &token,
            "--env",
            &channel,
            "--slack-api-url",
            &api,
        ];
        let tap = Background::tap(&pair.server, dir.path(), &args);
        load(&pair, &LoadConfig::new(server(), 4, 40));
        load(&pair, &LoadConfig { target: "/fail/{id}".into(), ..LoadConfig::new(server(), 1, 2) });
        load(&pair, &LoadConfig::new(server(), 4, 40));
        tap.wait_for_lines(82);
        let ran = tap.end().exits(0);
        let failed: Vec<Value> =
            ran.items().into_iter().filter(|item| item["response"]["status"] == 500).collect();
        assert_eq!((ran.items().len(), failed.len()), (82, 2));
        let messages = fake.messages();
        assert_eq!(messages.len(), 2, "one for each 500: {}", ran.stderr);
        for (message, item) in messages.iter().zip(&failed) {
            alert::check(&script, &fake, message, item, dir.path());
        }
        assert_eq!(fake.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_cgroup_is_watched_and_named() {
    if !is_root("a_cgroup_is_watched") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let cgroup = Cgroup::new("nginx").unwrap();
    let procs = cgroup.path().join("cgroup.procs");
    let inside = |command: Command| {
        let mut wrapped = Command::new("sh");
        wrapped.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]).arg(&procs);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped
    };
    let nginx = pair.server.run(|| Nginx::start(server(), inside)).unwrap();
    let args = ["--cgroup", cgroup.path().to_str().unwrap(), "--json", "--stats"];
    let tap = Background::tap(&pair.client, dir.path(), &args);
    load(&pair, &LoadConfig { echo: true, ..LoadConfig::new(server(), 4, 400) });
    tap.wait_for_lines(400);
    let ran = tap.end().exits(0);
    drop(nginx);
    let targets: BTreeSet<_> = ran.items().iter().map(|item| item["request"]["target"].to_string()).collect();
    assert_eq!((ran.items().len(), targets.len()), (400, 400), "{}", ran.stderr);
    let id = cgroup.id().unwrap();
    for item in ran.items() {
        assert_eq!(
            item["response"]["content"]["text"],
            format!("you asked for {}\n", item["request"]["target"].as_str().unwrap())
        );
        assert_eq!(item["dst"]["cgroupId"], id, "nginx's cgroup");
    }
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Standard error that nobody reads holds up nothing: not capture, not the store, not scripts.
#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    if !is_root("a_log_that_nobody_reads") {
        return;
    }
    const COUNT: usize = 6000;
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let _nginx = nginx(&pair);
    let text = "var seen = 0;
        function onItemCaptured(data) {
            console.log('x'.repeat(500));
            pcap.path(data.stream);
            if (++seen === 6000) file.write('done', '');
        }";
    let script = common::script(dir.path(), "talks.js", text);
    let (items, data) = (dir.path().join("items"), dir.path().join("data"));
    let tap = Command::new("nsenter")
        .arg(format!("--net={}", pair.server.path().display()))
        .arg(REMORA)
        .args(["tap", "--interface", VethPair::SERVER, "--port", "80", "--json", "--stats", "--script"])
        .arg(&script)
        .arg("--data-dir")
        .arg(&data)
        .stdout(std::fs::File::create(&items).unwrap())
        .stderr(Stdio::piped())
        .spawn();
    let mut tap = Ends(tap.unwrap());
    let mut said = BufReader::new(tap.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("capturing on") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
    }
    let lines = || std::fs::read_to_string(&items).unwrap().lines().count();
    let deadline = Instant::now() + PATIENCE;
    for n in 1..=3 {
        load(&pair, &LoadConfig::new(server(), 8, COUNT as u64 / 3));
        while lines() < COUNT / 3 * n {
            assert!(Instant::now() < deadline, "{} of {COUNT} items", lines());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let done = || {
        let folders = std::fs::read_dir(data.join("scripts")).into_iter().flatten().flatten();
        folders.map(|folder| folder.path().join("done")).any(|file| file.exists())
    };
    while !done() {
        assert!(Instant::now() < deadline, "the script does not come to its end");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Only now it is read, while the process ends.
    kill(Pid::from_raw(i32::try_from(tap.0.id()).unwrap()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(tap.0.wait().unwrap().success());
    let stats: Value =
        serde_json::from_str(rest.lines().rev().find(|l| l.starts_with('{')).unwrap()).unwrap();
    assert_eq!((&stats["items"]["http"], &stats["store"]["refused"]), (&json!(COUNT), &json!(0)), "{stats}");
    assert_eq!(stats["scripts"]["talks.js"]["calls"], COUNT, "{stats}");
    let dropped = stats["lost"]["log"].as_u64().unwrap();
    let told = rest.matches("xxxxx").count() as u64;
    assert!(dropped > 0 && dropped < COUNT as u64, "{stats}");
    assert!(told > 0, "what waited is told");
}

/// What an export says of where its packets were taken, as capinfos reads it.
#[test]
fn exports_name_the_interfaces_that_were_opened_by_name() {
    if !is_root("exports_name_the_interfaces") {
        return;
    }
    for (mode, place) in [("ebpf", "eBPF on interface"), ("af-packet", "AF_PACKET on interface")] {
        let dir = tempfile::tempdir().unwrap();
        let pair = VethPair::new().unwrap();
        let _nginx = nginx(&pair);
        let (store, file) = (dir.path().join("pcap"), dir.path().join("all.pcapng"));
        let (store, file) = (store.to_str().unwrap(), file.to_str().unwrap());
        let args = ["--interface", VethPair::SERVER, "--mode", mode, "--json", "--pcap-dir", store];
        let tap = Background::tap(&pair.server, dir.path(), &args);
        load(&pair, &LoadConfig::new(server(), 1, 5));
        tap.wait_for_lines(5);
        tap.end().exits(0);
        remora(["export", "--pcap-dir", store, "-o", file]).exits(0);
        let info = Command::new("capinfos").arg(file).output().unwrap();
        let told = String::from_utf8_lossy(&info.stdout).into_owned();
        assert!(info.status.success() && told.contains(&format!("Name = {}", VethPair::SERVER)), "{told}");
        assert!(told.contains(&format!("Description = {place}")), "{told}");
    }
}

/// A client that lives for a moment, and a server of two workers, each in a cgroup that looks like a container's.
#[test]
fn both_ends_processes_and_containers_are_in_the_item() {
    if !is_root("both_ends_processes") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pair = VethPair::new().unwrap();
    let outer = Cgroup::new("containers").unwrap();
    let ids = ["c1".repeat(32), "5e".repeat(32)];
    let [client, server_cgroup] =
        ids.each_ref().map(|id| outer.child(&format!("docker-{id}.scope")).unwrap());
    let procs = server_cgroup.path().join("cgroup.procs");
    let inside = |command: Command| {
        let mut wrapped = Command::new("sh");
        wrapped.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]).arg(&procs);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped
    };
    let nginx = pair.server.run(|| Nginx::start(server(), inside)).unwrap();
    let args = ["--cgroup", outer.path().to_str().unwrap(), "--json", "--stats"];
    let tap = Background::tap(&pair.client, dir.path(), &args);
    let mut pids = BTreeMap::new();
    for number in 0..20 {
        let url = format!("http://{}/r/{number}", server());
        let mut curl = pair.client.run(|| client.spawn("curl".as_ref(), &["-sS", &url], &[])).unwrap();
        pids.insert(format!("/r/{number}"), curl.id());
        assert!(curl.wait().unwrap().success());
    }
    tap.wait_for_lines(20);
    let ran = tap.end().exits(0);
    assert_eq!(ran.items().len(), 20, "{}", ran.stderr);
    for item in ran.items() {
        let (src, dst) = (&item["src"], &item["dst"]);
        assert_eq!(src["processName"], "curl", "{item}");
        assert_eq!(src["processId"], pids[item["request"]["target"].as_str().unwrap()], "{item}");
        assert_eq!(dst["processName"], "nginx", "{item}");
        assert_ne!(dst["processId"], nginx.pid(), "a worker's, not the master's");
        assert_eq!((&src["containerId"], &dst["containerId"]), (&json!(ids[0]), &json!(ids[1])));
        assert_eq!(src["cgroupId"], client.id().unwrap());
        assert_eq!(dst["cgroupId"], server_cgroup.id().unwrap());
    }
    let identity = &ran.stats()["kernel"]["identity"];
    assert!(identity["opened"].as_u64() >= Some(40) && identity["refused"] == 0, "{identity}");
    assert!(ran.stderr.contains("processes are named by sock_create"), "{}", ran.stderr);
    drop(nginx);
    drop((client, server_cgroup));
}

#[test]
fn targets_that_are_not_there_are_named() {
    if !is_root("targets_that_are_not_there") {
        return;
    }
    let pair = VethPair::new().unwrap();
    let ran = pair.server.run(|| remora(["tap", "--interface", "nope0"])).exits(1);
    assert!(ran.stderr.contains("nope0") && ran.stderr.contains(VethPair::SERVER), "{}", ran.stderr);
    let ran = pair.server.run(|| remora(["tap", "--cgroup", "/proc"])).exits(1);
    assert!(ran.stderr.contains("/proc is not a cgroup v2 folder"), "{}", ran.stderr);
}

#[test]
fn without_privilege_it_says_which_and_exits_3() {
    if !is_root("without_privilege") {
        return;
    }
    let pair = VethPair::new().unwrap();
    // A copy that nobody may reach: the build folder may be root's alone.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("remora");
    std::fs::copy(REMORA, &binary).unwrap();
    let run = |arg: &str, value: &str| -> Ran {
        let mut command = Command::new(&binary);
        command.args(["tap", arg, value]).current_dir("/").uid(65_534).gid(65_534).env("NO_COLOR", "1");
        pair.server.run(|| command.output()).unwrap().into()
    };
    let ran = run("--interface", VethPair::SERVER).exits(3);
    assert!(ran.stderr.contains("CAP_BPF") || ran.stderr.contains("CAP_NET_ADMIN"), "{}", ran.stderr);
}
