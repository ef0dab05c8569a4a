//! `cargo xtask bench live`: what capturing costs the application and the machine, beside tcpdump, with no load left out.
//!
//! Each round runs every load with nothing attached, under `tcpdump -w` and under Remora (engine, store, and one script
//! with a registered filter that matches nothing), in another order each time; medians count. What Remora found is held
//! against nginx's own log in every round: a speed of wrong results is no speed.

mod table;
mod times;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::table::{Line, table};
use self::times::{CpuTimes, cpu_seconds, peak_mib};
use super::Output;
use super::median;
use super::web::{Shape, Web, on_cpus};
use crate::setup::{self, Ready, Setup};
use crate::suite::steps;
use crate::sys::run::Running;
use crate::sys::{interrupt, netns, project, term};
use crate::world::INTERFACE;

/// Most time from the start to the first captured packet, in ms.
const START_MS: f64 = 300.0;
/// Between the start and the load: what is under way then has ended.
const SETTLE: Duration = Duration::from_millis(300);
/// Most of a core that is used with nothing to do.
const IDLE: f64 = 0.002;

const ALL: [Shape; 10] = [
    Shape::Small,
    Shape::Medium,
    Shape::Large,
    Shape::Huge,
    Shape::Trimmed,
    Shape::Close,
    Shape::Connections,
    Shape::Chunked,
    Shape::Gzip,
    Shape::Loss,
];

/// How much.
#[derive(Args, Debug)]
pub(crate) struct Live {
    /// Only these loads (repeatable) [default: all].
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    /// Times that each is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Seconds of each load.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Seconds without traffic over which the idle agent is watched; 0: not.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u32,
    /// Workers of Remora [default: its own].
    #[arg(long)]
    workers: Option<u16>,
}

/// Who captures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Nobody,
    Tcpdump,
    Remora,
}

/// A load under one of them.
#[derive(Clone, Copy, Default, Debug)]
struct Run {
    per_second: f64,
    packets: u64,
    /// While there was traffic.
    cpu_seconds: f64,
    /// Before that.
    start_seconds: f64,
    lost: u64,
    /// Packets that the store refused.
    unstored: u64,
    /// Requests that nginx answered and nobody found, or the other way round.
    missing: i64,
    /// Requests that nginx answered.
    served: u64,
    /// The most memory of its own that the process had resident, in MiB.
    memory: f64,
    /// Of the time of all CPUs, the part that a virtual machine's host had for others.
    stolen: f64,
}

impl Run {
    fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds / (self.packets.max(1) as f64 / 1e6)
    }

    /// CPU time of a request with its response, and of its connection where each has one of its own, in µs.
    fn cpu_per_request(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.served.max(1) as f64
    }
}

/// The command.
pub(super) fn run(options: &Live, output: Output) -> Result<()> {
    netns::possible()?;
    let ready = if output.json {
        // Standard output is the JSON's alone: what is missing then shows when it is built.
        Ready { can_build_ebpf: true, ..Ready::default() }
    } else {
        setup::prepare(&Setup::default())?
    };
    ensure!(ready.can_build_ebpf, "the eBPF programs cannot be built here: see above");
    steps::build_release(&ready)?;
    let shapes = if options.shape.is_empty() { ALL.to_vec() } else { options.shape.clone() };
    let mut lines = Vec::new();
    for shape in shapes {
        lines.push(measure(shape, options)?);
    }
    let start = start_ms(options.rounds)?;
    let idle = if options.idle_seconds > 0 { Some(idle(options.idle_seconds)?) } else { None };
    let table = table(&lines, options, start, idle);
    let of_lines: Vec<_> = lines.iter().map(Line::json).collect();
    output
        .give(&json!({ "part": "live", "live": of_lines, "start_ms": start, "idle_cores": idle }), &table)?;
    let good = lines.iter().all(Line::good) && start <= START_MS && idle.is_none_or(|share| share <= IDLE);
    ensure!(good, "live capture misses a budget");
    Ok(())
}

fn measure(shape: Shape, options: &Live) -> Result<Line> {
    let mut web = Web::open(shape)?;
    // What it costs to fill caches, nobody pays.
    web.load(1)?;
    web.served()?;
    // A file of tcpdump's holds some GB a second of these.
    let large = matches!(shape, Shape::Large | Shape::Huge | Shape::Trimmed);
    let seconds = if large { options.seconds.min(2) } else { options.seconds };
    let mut runs: [Vec<Run>; 3] = Default::default();
    let order = [Who::Nobody, Who::Tcpdump, Who::Remora];
    for round in 0..options.rounds as usize {
        for turn in 0..order.len() {
            let who = order[(round + turn) % order.len()];
            let run = one(who, &mut web, seconds, options.workers)
                .with_context(|| format!("{}, {who:?}, round {round}", shape.title()))?;
            runs[who as usize].push(run);
        }
        if !term::coloured() {
            eprintln!("{}: round {} of {}", shape.title(), round + 1, options.rounds);
        }
    }
    let [bare, tcpdump, remora] = &runs;
    let middle = |runs: &[Run], of: fn(&Run) -> f64| median(runs.iter().map(of).collect());
    Ok(Line {
        shape,
        bare: middle(bare, |run| run.per_second),
        tcpdump: middle(tcpdump, |run| run.per_second),
        remora: middle(remora, |run| run.per_second),
        tcpdump_cpu: middle(tcpdump, Run::cpu_per_million),
        remora_cpu: middle(remora, Run::cpu_per_million),
        request_cpu: middle(remora, Run::cpu_per_request),
        memory: middle(remora, |run| run.memory),
        start_cpu: middle(remora, |run| run.start_seconds),
        tcpdump_lost: tcpdump.iter().map(|run| run.lost).sum(),
        remora_lost: remora.iter().map(|run| run.lost).sum(),
        unstored: remora.iter().map(|run| run.unstored).sum(),
        missing: remora.iter().map(|run| run.missing).sum(),
        stolen: remora.iter().map(|run| run.stolen).fold(0.0, f64::max),
    })
}

fn one(who: Who, web: &mut Web, seconds: u32, workers: Option<u16>) -> Result<Run> {
    match who {
        Who::Nobody => {
            let load = web.load(seconds)?;
            web.served()?;
            Ok(Run { per_second: load.per_second, ..Run::default() })
        }
        Who::Tcpdump => under_tcpdump(web, seconds),
        Who::Remora => under_remora(web, seconds, workers),
    }
}

fn under_tcpdump(web: &mut Web, seconds: u32) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let program = project::program("tcpdump").context("tcpdump is not installed")?;
    let mut command = on_cpus(&web.world.server, None, program);
    // A buffer of 32 MiB, as all of Remora's rings together have.
    command.args(["-i", INTERFACE, "-s", "0", "-B", "32768", "-Z", "root", "-w"]);
    command.arg(folder.path().join("all.pcap")).arg("tcp port 8080");
    let log = folder.path().join("log");
    let mut tcpdump =
        Running::start("tcpdump", &command, Stdio::null(), Stdio::from(fs::File::create(&log)?))?;
    wait_for_line(&log, "listening on", &mut tcpdump)?;
    pause(SETTLE)?;
    let start_seconds = cpu_seconds(tcpdump.id())?;
    let load = web.load(seconds)?;
    web.served()?;
    let cpu_seconds = cpu_seconds(tcpdump.id())? - start_seconds;
    tcpdump.interrupt(Duration::from_secs(60))?;
    let said = fs::read_to_string(&log)?;
    let number = |what: &str| {
        let line = said.lines().find(|line| line.ends_with(what));
        line.and_then(|line| line.split(' ').next()?.parse::<u64>().ok())
            .with_context(|| format!("tcpdump said: {said}"))
    };
    let packets = number("captured")?;
    Ok(Run {
        per_second: load.per_second,
        packets,
        cpu_seconds,
        start_seconds,
        lost: number("dropped by kernel")?,
        ..Run::default()
    })
}

/// `remora tap` as the live bars want it: engine, store, one script.
struct Tap {
    process: Running,
    log: PathBuf,
    _folder: TempDir,
}

impl Tap {
    fn start(web: &Web, more: &[&str], stdout: Stdio) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("quiet.js");
        fs::write(
            &script,
            "hooks.on('itemCaptured', { filter: 'http && response.status == 599' }, () => {});\n",
        )?;
        let mut command = on_cpus(&web.world.server, None, project::optimised("remora"));
        command.args(["tap", "--interface", INTERFACE, "--port", "8080", "--stats"]);
        command.arg("--script").arg(&script).arg("--pcap-dir").arg(folder.path().join("pcap")).args(more);
        let log = folder.path().join("log");
        let mut process = Running::start("remora", &command, stdout, Stdio::from(fs::File::create(&log)?))?;
        wait_for_line(&log, "capturing", &mut process)?;
        Ok(Self { process, log, _folder: folder })
    }

    /// Ends it; its counters.
    fn end(mut self) -> Result<Value> {
        let status = self.process.interrupt(Duration::from_secs(120))?;
        let said = fs::read_to_string(&self.log)?;
        ensure!(status.success(), "remora ended with {status}: {said}");
        let stats = said.lines().rev().find(|line| line.starts_with('{'));
        Ok(serde_json::from_str(stats.with_context(|| format!("no counters: {said}"))?)?)
    }
}

fn under_remora(web: &mut Web, seconds: u32, workers: Option<u16>) -> Result<Run> {
    let workers = workers.map(|workers| workers.to_string());
    let mut more = vec!["--quiet"];
    if web.shape() == Shape::Trimmed {
        more.push("--trim");
    }
    if let Some(workers) = &workers {
        more.extend(["--workers", workers]);
    }
    let tap = Tap::start(web, &more, Stdio::null())?;
    pause(SETTLE)?;
    let start_seconds = cpu_seconds(tap.process.id())?;
    let before = CpuTimes::now()?;
    let load = web.load(seconds)?;
    let stolen = CpuTimes::now()?.stolen_since(before);
    let served = web.served()?;
    let cpu_seconds = cpu_seconds(tap.process.id())? - start_seconds;
    let memory = peak_mib(tap.process.id())?;
    let stats = tap.end()?;
    let number =
        |at: &str| stats.pointer(at).and_then(Value::as_u64).with_context(|| format!("no {at} in {stats}"));
    let found = number("/items/http").unwrap_or(0);
    // What wrk cut off when its time was over has no answer, or no line in the log.
    let whole = i64::try_from(served)? - i64::try_from(found)?;
    let cut = i64::from(web.connections());
    let missing = if whole.abs() <= cut { 0 } else { whole };
    Ok(Run {
        per_second: load.per_second,
        packets: number("/packets")?,
        cpu_seconds,
        start_seconds,
        lost: number("/lost/kernel_ring")?,
        unstored: number("/store/refused")?,
        missing,
        served,
        memory,
        stolen,
    })
}

/// From the start of the process to the first packet that it captured, while requests come all the time: the median, in ms.
fn start_ms(rounds: u32) -> Result<f64> {
    let web = Web::open(Shape::Close)?;
    let mut all = Vec::new();
    for _ in 0..rounds {
        let load = web.wrk(20, 1)?;
        let _load = Running::start("wrk", &load, Stdio::null(), Stdio::null())?;
        std::thread::sleep(Duration::from_millis(300));
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut tap = Tap::start(&web, &["--json"], Stdio::piped())?;
        let stdout = tap.process.stdout().context("no pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let item: Value = serde_json::from_str(&line).with_context(|| format!("the first item: {line}"))?;
        let first = item["timestamp"].as_f64().context("an item without a time")?;
        all.push(first - started.as_secs_f64() * 1e3);
    }
    Ok(median(all))
}

/// The share of a core that is used while nothing is captured.
fn idle(seconds: u32) -> Result<f64> {
    let web = Web::open(Shape::Small)?;
    let tap = Tap::start(&web, &["--quiet"], Stdio::null())?;
    pause(Duration::from_secs(3))?;
    let (before, since) = (cpu_seconds(tap.process.id())?, Instant::now());
    pause(Duration::from_secs(seconds.into()))?;
    let used = cpu_seconds(tap.process.id())? - before;
    let share = used / since.elapsed().as_secs_f64();
    tap.end()?;
    Ok(share)
}

fn pause(time: Duration) -> Result<()> {
    interrupt::wait_for(time, || Ok(false)).map(drop)
}

fn wait_for_line(log: &Path, part: &str, process: &mut Running) -> Result<()> {
    let there = interrupt::wait_for(Duration::from_secs(10), || {
        let said = fs::read_to_string(log)?;
        if let Some(status) = process.ended()? {
            bail!("it ended with {status}: {said}");
        }
        Ok(said.contains(part))
    })?;
    ensure!(there, "no \"{part}\" after 10 s: {}", fs::read_to_string(log)?);
    Ok(())
}
