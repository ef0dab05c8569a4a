//! The agent by HTTP, live in a namespace: health and why not, metrics, items as they come, PCAPs, tokens.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use common::guide::{blocks, is_printed};
use common::http::{Answer, Reading, ask, ask_until};
use common::live::{Background, PATIENCE, is_root};
use common::{REMORA, root, script};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::judge;
use testkit::load::{self, LoadConfig};
use testkit::netns::VethPair;
use testkit::nginx::Nginx;

const API: &str = "http://127.0.0.1:8899";
const METRICS: &str = "http://127.0.0.1:9899";
const TOKEN: &str = "a-token-of-sixteen-or-more";

fn server() -> SocketAddr {
    "10.77.0.2:8081".parse().unwrap()
}

/// An agent beside a server, and a client at the other end.
struct Rig {
    dir: tempfile::TempDir,
    pair: VethPair,
    _server: Nginx,
}

impl Rig {
    fn new() -> Self {
        let pair = VethPair::new().unwrap();
        let nginx = pair.server.run(|| Nginx::start(server(), |command| command)).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), pair, _server: nginx }
    }

    fn start(&self, rest: &str) -> Background {
        let dir = self.dir.path();
        let interfaces = format!("interfaces: [{}], workers: 2, ringMib: 1", VethPair::SERVER);
        let text = format!(
            "dataDir: {}\ncapture: {{{interfaces}}}\ndrainTimeout: 20s\n{rest}",
            dir.join("data").display()
        );
        fs::write(dir.join("agent.yaml"), text).unwrap();
        Background::start(&self.pair.server, &self.command(), dir, "agent", "capturing on")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(REMORA);
        command.arg("agent").arg("--config").arg(self.dir.path().join("agent.yaml"));
        command
    }

    fn requests(&self, count: u64) {
        self.pair.client.run(|| load::run(&LoadConfig::new(server(), 1, count))).unwrap();
    }

    fn ask(&self, url: &str) -> Answer {
        ask(&self.pair.server, url, &[])
    }

    #[track_caller]
    fn ask_until(&self, url: &str, good: impl Fn(&Answer) -> bool) -> Answer {
        ask_until(&self.pair.server, url, good)
    }

    /// The sum of a metric's samples.
    #[track_caller]
    fn metric(&self, name: &str) -> f64 {
        sum(&self.ask(&format!("{METRICS}/metrics")).is(200).text(), name)
    }
}

fn sum(metrics: &str, name: &str) -> f64 {
    let samples = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' '])).then(|| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
    });
    samples.sum()
}

#[test]
fn health_and_metrics_are_told_and_why_it_is_not_ready() {
    if !is_root("health_and_metrics_are_told") {
        return;
    }
    let rig = Rig::new();
    let counting = script(
        rig.dir.path(),
        "counting.js",
        "// Counts\nlet n = 0;\nfunction onItemCaptured() { n++; prometheus.metric('seen', 'Items.', 1, n); }",
    );
    let agent = rig.start(&format!("scripts: {{paths: [{}]}}\n", counting.display()));
    assert!(agent.said().contains("health and metrics on http://127.0.0.1:9899"), "{}", agent.said());
    assert_eq!(rig.ask(&format!("{METRICS}/healthz")).is(200).text(), "ok\n");
    assert_eq!(rig.ask(&format!("{METRICS}/readyz")).is(200).text(), "ready\n");
    rig.ask(&format!("{METRICS}/api/items")).is(404);
    rig.requests(20);
    let told = |answer: &Answer| {
        let at_least = |name, least| sum(&answer.text(), name) >= least;
        at_least("seen", 20.0)
            && at_least("remora_store_packets_total", 40.0)
            && at_least("remora_ring_captured_packets_total", 40.0)
    };
    let all = rig.ask_until(&format!("{METRICS}/metrics"), told).text();
    for (line, least) in [
        ("remora_build_info{version=\"0.1.0\"", 1.0),
        ("remora_capture_info{mode=\"ebpf\"}", 1.0),
        ("remora_items_total{protocol=\"http\",status=\"2xx\"}", 20.0),
        ("remora_streams_opened_total", 1.0),
        ("remora_store_packets_total", 20.0),
        ("remora_script_calls_total{script=\"counting.js\"}", 20.0),
        ("remora_api_recent_items", 20.0),
        ("process_resident_memory_bytes", 1e6),
    ] {
        let value = all.lines().find(|of| of.starts_with(line)).map(|of| of.rsplit(' ').next().unwrap());
        assert!(
            value.is_some_and(|value| value.parse::<f64>().unwrap() >= least),
            "{line} {value:?} in {all}"
        );
    }
    assert_eq!(sum(&all, "remora_ring_dropped_packets_total"), 0.0);

    // What is wrong is told by who finds it, in words and as JSON.
    fs::remove_file(&counting).unwrap();
    let not = rig.ask_until(&format!("{METRICS}/readyz"), |answer| answer.status == 503).text();
    assert!(not.starts_with("not ready\nscripts: none runs"), "{not}");
    let json = ask(&rig.pair.server, &format!("{METRICS}/readyz"), &["--header", "accept: application/json"]);
    let json = json.is(503).json();
    assert_eq!((&json["ok"], &json["reasons"][0]["check"]), (&Value::Bool(false), &Value::from("scripts")));
    rig.ask(&format!("{METRICS}/healthz")).is(200);
    fs::write(&counting, "function onItemCaptured() {").unwrap();
    let not = rig.ask_until(&format!("{METRICS}/readyz"), |answer| answer.text().contains("counting.js:1"));
    assert_eq!(not.status, 503);
    fs::write(&counting, "function onItemCaptured() {}").unwrap();
    rig.ask_until(&format!("{METRICS}/readyz"), |answer| answer.status == 200);
    rig.pair.server.ip(&format!("link del {}", VethPair::SERVER)).unwrap();
    let not = rig.ask_until(&format!("{METRICS}/readyz"), |answer| answer.status == 503).text();
    assert!(not.contains("capture: nothing is attached"), "{not}");
    agent.signal(Signal::SIGTERM);
    agent.ended();
}

#[test]
fn items_are_followed_and_opened_and_their_packets_fetched() {
    if !is_root("items_are_followed_and_opened") {
        return;
    }
    let rig = Rig::new();
    let open =
        "function onItemQueried(data) { return Object.assign({}, data, { opened: data.request.path }); }";
    let open = script(rig.dir.path(), "open.js", open);
    let agent = rig.start(&format!(
        "scripts: {{paths: [{}]}}\napi: {{listen: '0.0.0.0:8899', token: {TOKEN}}}\n",
        open.display()
    ));
    let bearer = format!("authorization: Bearer {TOKEN}");
    let with = ["--header", bearer.as_str()];
    let get = |path: &str| ask(&rig.pair.server, &format!("{API}{path}"), &with);
    get("/healthz").is(200);
    rig.ask(&format!("{API}/healthz")).is(401);
    let url = format!("{API}/api/items/stream?filter=http&recent=5");
    let reading = Reading::start(&rig.pair.server, &url, &with);
    let none =
        Reading::start(&rig.pair.server, &format!("{API}/api/items/stream?filter=status_code==599"), &with);
    none.wait_for(|text| text.contains(": following"));
    reading.wait_for(|text| text.contains(": following"));
    rig.requests(10);
    let text = reading.wait_for(|text| text.matches("event: item").count() >= 10);
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let item: Value = serde_json::from_str(data).unwrap();
    assert_eq!(item["dst"]["port"], "8081");
    assert!(!none.text().contains("event: item"));

    let recent = get("/api/items?limit=3&filter=http").is(200).json();
    assert_eq!(recent["items"].as_array().unwrap().len(), 3, "{recent}");
    let before = get(&format!("/api/items?before={}", recent["next"])).is(200).json();
    assert!(before["items"].as_array().unwrap().len() >= 7 && before["next"].is_null(), "{before}");
    let id = item["id"].as_str().unwrap();
    let one = get(&format!("/api/items/{id}")).is(200).json();
    assert_eq!((&one["id"], &one["opened"]), (&item["id"], &item["request"]["path"]));

    let stream = item["stream"].as_str().unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let streams = get("/api/streams").is(200).json();
        if streams["streams"].as_array().unwrap().iter().any(|of| of["stream"] == stream) {
            break;
        }
        assert!(Instant::now() < deadline, "{streams}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // One with something to hide.
    let header = "authorization: Bearer only-raw-packets-tell";
    let url = format!("http://{}/", server());
    let curl = || Command::new("curl").args(["-sS", "--max-time", "20", "-H", header, &url]).output();
    assert!(rig.pair.client.run(curl).unwrap().status.success());
    let deadline = Instant::now() + PATIENCE;
    let hiding = loop {
        let items = get("/api/items?limit=50&filter=http").is(200).json();
        let items = items["items"].as_array().unwrap();
        let hides = |item: &&Value| item["request"]["headers"]["authorization"] == "[REDACTED]";
        if let Some(item) = items.iter().find(hides) {
            break item["stream"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "{items:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let tells = |query: &str| {
        let file = get(&format!("/api/streams/{hiding}/pcap{query}")).is(200).body;
        file.windows(21).any(|bytes| bytes == b"only-raw-packets-tell")
    };
    assert_eq!((tells(""), tells("?redact=true")), (true, false));
    let raw = get(&format!("/api/streams/{stream}/pcap")).is(200);
    assert_eq!(raw.body[..4], [0x4d, 0x3c, 0xb2, 0xa1], "a classic capture file with nanoseconds");
    let hidden = get(&format!("/api/streams/{stream}/pcap?redact=true")).is(200);
    assert_eq!(raw.body.len(), hidden.body.len());
    get("/api/streams/999999999999/pcap").is(404);

    let scripts = get("/api/scripts").is(200).json();
    assert_eq!(scripts["scripts"][0]["state"], "running", "{scripts}");
    let status = get("/api/status").is(200).json();
    assert_eq!(status["ready"]["ok"], true, "{status}");
    assert_eq!(get("/api/outbox").is(200).json()["counters"]["queued"], 0);
    assert_eq!(rig.metric("remora_api_clients"), 2.0);

    // Who follows is told of the end.
    agent.signal(Signal::SIGTERM);
    let ran = agent.ended().exits(0);
    assert!(reading.ended(), "the stream was cut off: {}", ran.stderr);
    assert!(!ran.stderr.contains(TOKEN) && ran.stderr.contains("raw packets of stream"), "{}", ran.stderr);
}

/// What docs/api.md lists: name, type and labels of each metric.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let guide = fs::read_to_string(root().join("docs/api.md")).unwrap();
    let rows = guide.lines().filter(|line| line.starts_with("| `remora_") || line.starts_with("| `process_"));
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next().unwrap().trim_matches('`').to_owned();
        let kind = cells.next().unwrap().to_owned();
        let labels = cells.next().unwrap().split(", ").filter(|label| !label.is_empty());
        (name, (kind, labels.map(str::to_owned).collect()))
    };
    rows.map(row).collect()
}

#[test]
fn metrics_are_those_of_the_guide_and_others_clients_agree() {
    if !is_root("metrics_are_those_of_the_guide") {
        return;
    }
    let rig = Rig::new();
    let count = script(
        rig.dir.path(),
        "count.js",
        r#"function onItemCaptured(d) { prometheus.metric('shop:seen_total', 'Said "so"\n', 1, 1, { path: d.request.path }); }"#,
    );
    let file = rig.dir.path().join("items.jsonl");
    let agent = rig.start(&format!(
        "scripts: {{paths: [{}]}}\nsinks: [{{kind: jsonFile, path: {}}}]\napi: {{token: {TOKEN}}}\n",
        count.display(),
        file.display()
    ));
    rig.requests(30);
    let metrics = format!("{METRICS}/metrics");
    let text =
        rig.ask_until(&metrics, |answer| sum(&answer.text(), "remora_sink_items_total") == 30.0).text();
    let documented = documented();
    let announced: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .filter(|(name, _)| *name != "shop:seen_total")
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let expected: BTreeMap<_, _> =
        documented.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
    assert_eq!(announced, expected, "docs/api.md on the right");

    let arguments = [METRICS, API, TOKEN, "status_code == 200", "30"];
    let modules = "prometheus_client, websockets";
    let Some(said) = judge::hear_in(Some(&rig.pair.server), "agent_check.py", modules, &arguments) else {
        return;
    };
    let families: Vec<Value> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(families.len(), documented.len(), "{said}");
    for family in families {
        let (kind, labels) = &documented[family["name"].as_str().unwrap()];
        assert_eq!(family["type"], kind.as_str(), "{family}");
        let used = family["labels"].as_array().unwrap();
        // Some have no samples here.
        let known = used.iter().all(|label| labels.contains(label.as_str().unwrap()));
        assert!(known && (used.is_empty() || used.len() == labels.len()), "{family} {labels:?}");
    }
    agent.signal(Signal::SIGTERM);
    agent.ended().exits(0);
}

#[test]
fn every_block_of_the_guide_works() {
    if !is_root("every_block_of_the_guide_works") {
        return;
    }
    let rig = Rig::new();
    let blocks = blocks(&fs::read_to_string(root().join("docs/api.md")).unwrap());
    let token = rig.dir.path().join("api-token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let config = blocks.iter().find(|block| block.name.as_deref() == Some("agent.yaml")).unwrap();
    let config = config.text.replace("[lo]", &format!("[{}]", VethPair::SERVER));
    fs::write(rig.dir.path().join("agent.yaml"), config.replace("api-token", &token.display().to_string()))
        .unwrap();
    let agent = Background::start(&rig.pair.server, &rig.command(), rig.dir.path(), "agent", "capturing on");
    rig.requests(5);
    rig.ask_until(&format!("{METRICS}/metrics"), |answer| {
        sum(&answer.text(), "remora_api_recent_items") == 5.0
    });
    let run = |line: &str| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", rig.pair.server.path().display())).args(["sh", "-c", line]);
        let output = command.env("TOKEN", TOKEN).env("no_proxy", "*").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let mut commands = 0;
    for block in blocks.iter().filter(|block| block.kind == "console") {
        // Each command with what it prints; some of that takes a moment to be so.
        let shown = block.text.split("$ ").skip(1).filter_map(|text| text.split_once('\n'));
        for (line, expected) in shown {
            let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with("# ")).collect();
            let deadline = Instant::now() + PATIENCE;
            loop {
                let printed = run(line);
                if expected.iter().all(|line| is_printed(line, &printed)) {
                    break;
                }
                assert!(Instant::now() < deadline, "{line}: {expected:?} is not printed:\n{printed}");
                std::thread::sleep(Duration::from_millis(200));
            }
            commands += 1;
        }
    }
    assert!(commands >= 6);
    agent.signal(Signal::SIGTERM);
    agent.ended().exits(0);
}

#[test]
fn an_address_that_cannot_be_had_is_told_before_anything_is_captured() {
    if !is_root("an_address_that_cannot_be_had") {
        return;
    }
    let rig = Rig::new();
    let first = rig.start("");
    let second = |rest: &str| {
        let text = format!("capture: {{interfaces: [{}]}}\n{rest}", VethPair::SERVER);
        fs::write(rig.dir.path().join("agent.yaml"), text).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", rig.pair.server.path().display())).arg(REMORA).arg("agent");
        let output = command.arg("--config").arg(rig.dir.path().join("agent.yaml")).output().unwrap();
        common::Ran::from(output)
    };
    for (rest, code, words) in [
        ("", 1, "api.listen 127.0.0.1:8899: the port is in use, perhaps by another remora agent"),
        ("api: {listen: 'off'}\n", 1, "metrics.listen 127.0.0.1:9899: the port is in use"),
        ("api: {listen: '0.0.0.0:1'}\n", 2, "api.listen 0.0.0.0:1: elsewhere than on the loopback"),
        ("api: {listen: '192.0.2.1:80', token: 0123456789abcdef}\n", 1, "does not have the address"),
    ] {
        let said = second(rest).exits(code).stderr;
        assert!(said.contains(words), "{rest}: {said}");
        assert!(!said.contains("mode: ") && !said.contains("0123456789"), "{rest}: {said}");
    }
    first.pause(Duration::from_millis(1));
    first.end().exits(0);
}
