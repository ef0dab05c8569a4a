//! What scripts take, for `cargo xtask bench hooks`. Answers in JSON.
#![expect(clippy::print_stdout, reason = "that is its output")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::capture::file::FileSource;
use agent::captured::{Captured, Known, Name, Node, Source};
use agent::hooks::{Backpressure, HostServices, ScriptLimits, ScriptStats, Scripts, TracingLog};
use agent::outbox::{Delivery, DeliveryId, Outbox, OutboxError};
use agent::pipeline::{Pace, Sinks, Stop, Worker};
use agent::resolve::Resolver;
use agent_core::item::{Body, Endpoint, HeaderBlock, Message, Request, Response, Span, StreamId};
use agent_core::{EngineConfig, HttpExchange, Item, Record, Timestamp};
use anyhow::{Context as _, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use testkit::synth::Capture;

/// The hook that the budget speaks of.
const STATUS: &str = "function onItemCaptured(data) {
    if (data.response && data.response.status >= 500) console.log(data.id);
}";
/// A filter that no item matches. Where there is no `hooks.on` it does not start.
const FILTERED: &str =
    "hooks.on('itemCaptured', { filter: 'http && response.status >= 500' }, function (data) {
    console.log(data.id);
});";
/// Looks at some of each item, and keeps the last hundred of them.
const KEEPING: &str = "const kept = []; let n = 0;
function onItemCaptured(data) {
    kept[n++ % 100] = data;
    if (data.response && data.response.status >= 500) console.log(data.id);
    data.mark = data.request.headers['x-request-id'] + data.src.ip;
}";
const LOOPING: &str = "function onItemCaptured() { for (;;); }";
const WAITING: &str = "function onItemCaptured() { vendor.webhook('POST', NOBODY, ''); }";

const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let answer = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["rate", items] => rate(STATUS, items.parse()?)?.context("the script does not start")?,
        ["filtered", items] => rate(FILTERED, items.parse()?)?.unwrap_or(Value::Null),
        ["memory", millions] => memory(millions.parse()?)?,
        ["make", file, exchanges] => make(Path::new(file), exchanges.parse()?)?,
        ["capture", file, script] => capture(Path::new(file), script)?,
        _ => bail!(
            "rate ITEMS | filtered ITEMS | memory MILLIONS | make FILE EXCHANGES | capture FILE none|looping|waiting"
        ),
    };
    println!("{answer}");
    Ok(())
}

/// Nothing is sent by these scripts.
struct NoOutbox;

impl Outbox for NoOutbox {
    fn enqueue(&self, _script: &str, _delivery: Delivery) -> Result<DeliveryId, OutboxError> {
        Ok(DeliveryId(0))
    }
}

struct Rig {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { folder: tempfile::tempdir()?, runtime })
    }

    /// Starts a script; `None` when it does not start.
    fn start(
        &self,
        text: &str,
        backpressure: Backpressure,
        env: BTreeMap<String, String>,
    ) -> anyhow::Result<Option<Scripts>> {
        let path: PathBuf = self.folder.path().join("bench.js");
        std::fs::write(&path, text)?;
        let services = HostServices {
            trust: agent::tls::Trust::default(),
            s3_endpoint: None,
            names: Arc::new(BTreeMap::new),
            store: None,
            outbox: Arc::new(NoOutbox),
            env: Arc::new(env),
            data_dir: self.folder.path().join("data"),
            runtime: self.runtime.handle().clone(),
            node_name: "bench".to_owned(),
            view: Arc::default(),
            log: Arc::new(TracingLog),
            rehearsal: None,
        };
        let (scripts, _) = Scripts::load(&[path], &ScriptLimits::default(), backpressure, services);
        Ok((!scripts.is_empty()).then_some(scripts))
    }
}

/// Lets a script finish; the statistics of one that did its work without an error.
fn end(scripts: &Scripts) -> anyhow::Result<ScriptStats> {
    ensure!(scripts.drain(PATIENCE), "the script does not get through its items");
    let stats = scripts.shutdown(PATIENCE).pop().context("no script")?;
    ensure!(stats.errors == 0 && stats.dropped == 0 && stats.skipped == 0, "not all went well: {stats:?}");
    Ok(stats)
}

/// Items a second through one script. `None`: it does not start.
fn rate(script: &str, count: u64) -> anyhow::Result<Option<Value>> {
    let rig = Rig::new()?;
    let items: Vec<Arc<Captured>> = (0..1024).map(|n| Arc::new(item(n))).collect();
    let Some(scripts) = rig.start(script, Backpressure::Wait, BTreeMap::new())? else { return Ok(None) };
    let started = Instant::now();
    for item in items.iter().cycle().take(usize::try_from(count)?) {
        scripts.deliver(item);
    }
    ensure!(scripts.drain(PATIENCE), "the script does not get through its items");
    let seconds = started.elapsed().as_secs_f64();
    let stats = end(&scripts)?;
    Ok(Some(json!({
        "items": count,
        "calls": stats.calls,
        "items_per_second": (count as f64 / seconds) as u64,
        "ns_in_a_call": (stats.busy.as_nanos() as f64 / stats.calls.max(1) as f64) as u64,
    })))
}

/// Resident memory after each million of items, each made anew.
fn memory(millions: u64) -> anyhow::Result<Value> {
    let rig = Rig::new()?;
    let scripts =
        rig.start(KEEPING, Backpressure::Wait, BTreeMap::new())?.context("the script does not start")?;
    let mut resident = Vec::new();
    for million in 0..millions {
        for n in 0..1_000_000 {
            scripts.deliver(&Arc::new(item(million * 1_000_000 + n)));
        }
        ensure!(scripts.drain(PATIENCE), "the script does not get through its items");
        resident.push(resident_bytes()?);
    }
    let heap = end(&scripts)?.heap;
    Ok(json!({ "resident_bytes": resident, "script_heap_bytes": heap }))
}

fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
}

/// Small exchanges over kept-alive connections, a hundred each.
fn make(file: &Path, exchanges: u64) -> anyhow::Result<Value> {
    let mut capture = Capture::create(file)?;
    let mut made = 0;
    for port in (10_000..60_000).cycle() {
        if made >= exchanges {
            break;
        }
        let mut connection = capture.open(port)?;
        for _ in 0..100 {
            let request =
                b"GET /cart?id=7 HTTP/1.1\r\nHost: shop\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
            let response =
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"cart\":[1]}";
            capture.send(&mut connection, testkit::synth::CLIENT, request)?;
            capture.send(&mut connection, testkit::synth::SERVER, response)?;
            made += 1;
        }
        capture.close(connection)?;
    }
    Ok(json!({ "exchanges": made, "packets": capture.packets() }))
}

/// A file through one worker, with a script that does not get on, as in live capture: what is too much is dropped.
fn capture(file: &Path, script: &str) -> anyhow::Result<Value> {
    let rig = Rig::new()?;
    // Takes connections, and never answers.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let env = BTreeMap::from([("NOBODY".to_owned(), format!("http://{}", nobody.local_addr()?))]);
    let text = match script {
        "none" => None,
        "looping" => Some(LOOPING),
        "waiting" => Some(WAITING),
        _ => bail!("no such script: {script}"),
    };
    let start = |text| rig.start(text, Backpressure::DropNewest, env.clone())?.context("it does not start");
    let scripts = text.map(start).transpose()?.map(Arc::new);
    let worker = Worker {
        id: 0,
        source: Box::new(FileSource::open(file)?),
        store: None,
        engine: EngineConfig::default(),
        pace: Pace::Replay,
        sinks: Sinks {
            filter: None,
            resolver: Resolver::of_this_node(),
            processes: None,
            told: None,
            source: Source::Pcap,
            items: None,
            api: None,
            scripts: scripts.clone(),
            output: None,
            stop: Stop::default(),
        },
        pulse: Arc::default(),
    };
    let (started, cpu) = (Instant::now(), own_cpu_time()?);
    let report = worker.run();
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), own_cpu_time()? - cpu);
    if let Some(error) = report.error {
        return Err(error);
    }
    let stats = scripts.and_then(Arc::into_inner).and_then(|scripts| scripts.shutdown(PATIENCE).pop());
    Ok(json!({
        "packets_per_second": report.engine.packets as f64 / seconds,
        "packets_per_cpu_second": report.engine.packets as f64 / cpu.as_secs_f64(),
        "calls": stats.as_ref().map(|stats| stats.calls),
        "dropped": stats.as_ref().map(|stats| stats.dropped),
    }))
}

/// What the calling thread has used: other load on the machine does not show in it.
fn own_cpu_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// A request with ten headers, answered by a 200.
fn item(index: u64) -> Captured {
    let end = |last: u8, port| Endpoint { addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port, cgroup: 0 };
    let started = Timestamp(1_700_000_000_000_000_000 + index * 1000);
    let record = Record::Http(Box::new(exchange(index)));
    let item = Item {
        started,
        finished: Timestamp(started.0 + 1_234_567),
        ..Item::new(StreamId(index / 10), index, end(1, 40_000), end(2, 80), record)
    };
    let node = Arc::new(Node { name: "bench".to_owned(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    Captured { dst: Name::from(Known::pod("shop", "prod")), ..Captured::nameless(item, node, Source::Pcap) }
}

fn exchange(index: u64) -> HttpExchange {
    let id = format!("{index:016x}");
    let common = [("Date", "Sat, 21 Nov 2026 09:55:00 GMT"), ("X-Request-Id", &id)];
    let of_request = [
        ("Host", "shop.prod.svc.cluster.local"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Cookie", "session=0123456789abcdef"),
        ("Authorization", "Bearer 0123456789abcdef"),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
    ];
    let ([method, target], message) =
        message(["GET", "/cart?id=7"], &[&of_request[..], &common].concat(), b"");
    let request = Request { method, target, message };
    let of_response = [("Content-Type", "application/json"), ("Cache-Control", "no-store")];
    let ([reason], message) =
        self::message(["OK"], &[&of_response[..], &common].concat(), br#"{"cart":["fish","remora"]}"#);
    let response = Response { status: 200, reason, message };
    HttpExchange { request: Some(request), response: Some(response), interim: Vec::new() }
}

fn message<const N: usize>(words: [&str; N], fields: &[(&str, &str)], body: &[u8]) -> ([Span; N], Message) {
    let (words, head) = HeaderBlock::with_words(words.map(str::as_bytes), fields);
    let size = body.len() as u64;
    let body = Body { size, bytes: body.into(), ..Body::default() };
    (words, Message { minor_version: 1, head, body, ..Message::default() })
}
