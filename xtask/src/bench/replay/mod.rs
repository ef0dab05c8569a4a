//! `cargo xtask bench replay`: a capture file → items as JSON, against others' tools on the same file in the same run.
//!
//! The loads are those of `web`, recorded by tcpdump (`load`). What is
//! measured is right: before the rounds, `served` holds the items against nginx's own access log, request for request. Then
//! all tools take turns, as often as asked for, and the medians count. The file is in the page cache for all.

mod load;
mod peers;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::median;
use super::report::{self, Table};
use super::web::Shape;
use crate::sys::{NotPermitted, calm, interrupt, is_root, project, term};
use load::Capture;
use peers::{Peer, Run};

/// How much, and of what.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo cargo xtask bench replay\n  sudo cargo xtask bench replay --shape small --rounds 9\n  \
                  sudo cargo xtask bench replay --dir /var/tmp/loads\n  sudo cargo xtask bench --write replay\n  cargo xtask bench --json replay --dir /var/tmp/loads"
)]
pub(crate) struct Replay {
    /// Only this shape of load; may be repeated [default: all].
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    /// Times that each tool is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each load lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Folder for the captures, which are kept, and used again where they are there [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only against this tool; may be repeated [default: all that are installed].
    #[arg(long, value_enum)]
    peer: Vec<Peer>,
}

/// One tool on one capture.
#[derive(Debug)]
struct Measured {
    tool: String,
    /// Seconds by the clock, and of all its threads.
    wall: f64,
    cpu: f64,
    /// Transactions that it told of, where it tells of any.
    found: Option<u64>,
    /// Its time as a multiple of Remora's.
    times: f64,
    /// The least that this must be.
    bar: Option<f64>,
}

/// All tools on one capture; Remora is the first.
#[derive(Debug)]
struct Line {
    shape: Shape,
    packets: u64,
    bytes: u64,
    served: u64,
    tools: Vec<Measured>,
}

/// The command.
pub(super) fn run(options: &Replay, as_json: bool, write: bool) -> Result<()> {
    let wanted = if options.shape.is_empty() { Shape::value_variants() } else { &options.shape };
    let there = |shape: &Shape| options.dir.as_ref().is_some_and(|dir| Capture::is_there(dir, *shape));
    if !is_root() && !wanted.iter().all(there) {
        return Err(
            NotPermitted("making a load takes a network namespace, which needs root".to_owned()).into()
        );
    }
    build()?;
    let temporary = tempfile::tempdir().context("making a folder")?;
    let dir = match &options.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => temporary.path().to_owned(),
    };
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let peers = installed(options, as_json);
    let mut lines = Vec::new();
    for &shape in wanted {
        interrupt::check()?;
        let capture = Capture::have(&dir, shape, options.seconds)?;
        lines.push(measure(options, &capture, &peers, temporary.path())?);
    }
    let table = table(&lines, options.rounds, &peers);
    if as_json {
        term::say(&json(&lines, options.rounds).to_string());
    } else {
        table.show();
    }
    if write {
        table.write()?;
    }
    let missed: Vec<String> = lines.iter().flat_map(missed).collect();
    ensure!(missed.is_empty(), "bars that were missed: {}", missed.join("; "));
    Ok(())
}

/// Remora optimised and without eBPF, which a file does not need; the judges as they are.
fn build() -> Result<()> {
    let remora =
        ["build", "--release", "--locked", "-p", "agent", "--no-default-features", "--bin", "remora"];
    calm::cargo(project::cargo(None).args(remora))?;
    let judges = ["build", "--locked", "-p", "testkit", "--bin", "served"];
    calm::cargo(project::cargo(None).args(judges))
}

/// The peers that are asked for and are there; says how to get the others.
fn installed(options: &Replay, quiet: bool) -> Vec<Peer> {
    let wanted = if options.peer.is_empty() { Peer::value_variants() } else { &options.peer };
    let (there, missing): (Vec<Peer>, Vec<Peer>) = wanted.iter().partition(|peer| peer.is_installed());
    for peer in missing.iter().filter(|_| !quiet) {
        term::say(&format!("{} is not installed, and is left out. To install it:", peer.name()));
        peer.install().iter().for_each(|command| term::say(&format!("  {command}")));
    }
    there
}

fn measure(options: &Replay, capture: &Capture, peers: &[Peer], scratch: &std::path::Path) -> Result<Line> {
    capture.verify()?;
    let remora = || Run::of(peers::remora(&capture.pcap), None);
    let peer = |peer: &Peer| peer.run(&capture.pcap, scratch);
    // A round that does not count brings the file into memory, and tells what each finds.
    remora()?;
    let found = peers.iter().map(|p| Ok(peer(p)?.found)).collect::<Result<Vec<_>>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); peers.len() + 1];
    for _ in 0..options.rounds {
        let all = std::iter::once(remora()).chain(peers.iter().map(peer));
        for (run, (wall, cpu)) in all.zip(&mut times) {
            let run = run?;
            wall.push(run.wall);
            cpu.push(run.cpu);
        }
    }
    let mut medians = times.into_iter().map(|(wall, cpu)| (median(wall), median(cpu)));
    let (wall, cpu) = medians.next().context("nothing was measured")?;
    let own = Measured { tool: "remora".to_owned(), wall, cpu, found: None, times: 1.0, bar: None };
    let tools = peers.iter().zip(found).zip(medians).map(|((peer, found), (its, cpu))| Measured {
        tool: peer.name().to_owned(),
        wall: its,
        cpu,
        found,
        times: its / wall,
        bar: peer.bar(capture.shape),
    });
    Ok(Line {
        shape: capture.shape,
        packets: capture.packets,
        bytes: std::fs::metadata(&capture.pcap)?.len(),
        served: capture.served,
        tools: std::iter::once(own).chain(tools).collect(),
    })
}

/// Where the optimised program is.
fn remora() -> PathBuf {
    project::optimised("remora")
}

/// What was asked for and not met.
fn missed(line: &Line) -> Vec<String> {
    let below = |tool: &&Measured| tool.bar.is_some_and(|bar| tool.times < bar);
    let told = |tool: &Measured| {
        let bar = tool.bar.unwrap_or_default();
        format!("{}: {:.2} × {}, not {bar}", line.shape.title(), tool.times, tool.tool)
    };
    line.tools.iter().filter(below).map(told).collect()
}

fn json(lines: &[Line], rounds: u32) -> Value {
    let tool = |t: &Measured| json!({ "tool": t.tool, "seconds": t.wall, "cpu_seconds": t.cpu, "times_remora": t.times, "bar": t.bar, "found": t.found });
    let line = |l: &Line| {
        let tools: Vec<Value> = l.tools.iter().map(tool).collect();
        let shape = l.shape.title();
        json!({ "shape": shape, "packets": l.packets, "bytes": l.bytes, "transactions": l.served, "tools": tools })
    };
    let lines: Vec<Value> = lines.iter().map(line).collect();
    json!({ "part": "replay", "rounds": rounds, "machine": report::machine(), "shapes": lines })
}

fn table(lines: &[Line], rounds: u32, peers: &[Peer]) -> Table {
    let row = |line: &Line, tool: &Measured| {
        let first = tool.times == 1.0 && tool.bar.is_none();
        let of_file = |text: String| if first { text } else { String::new() };
        vec![
            if first { line.shape.title().to_owned() } else { String::new() },
            of_file(line.packets.to_string()),
            of_file(format!("{:.0}", line.bytes as f64 / 1e6)),
            of_file(line.served.to_string()),
            tool.tool.clone(),
            format!("{:.3}", tool.wall),
            format!("{:.2}", tool.cpu),
            format!("{:.0}", tool.wall * 1e9 / line.packets as f64),
            format!("{:.2}", tool.times),
            tool.bar.map_or_else(String::new, |bar| format!("≥ {bar}")),
            tool.found.map_or_else(String::new, |found| found.to_string()),
        ]
    };
    let versions: Vec<String> = peers.iter().map(|peer| report::version(peer.name())).collect();
    Table {
        part: "replay",
        title: "Replay: a capture file to items as JSON".to_owned(),
        notes: vec![
            format!(
                "Medians of {rounds}, the tools in turn on one file in the page cache. Remora: one worker, all fields of each item as \
                 JSON to /dev/null, no store; its items were held against nginx's own log first, request for request. \
                 tcpdump reads and writes to /dev/null; Suricata runs in one thread and logs HTTP alone; tcpflow writes streams \
                 into files; tshark prints seven fields. Found: transactions that the tool tells of."
            ),
            versions.join("; "),
        ],
        head: vec![
            "load",
            "packets",
            "MB",
            "requests",
            "tool",
            "seconds",
            "CPU s",
            "ns/packet",
            "× remora",
            "bar",
            "found",
        ],
        rows: lines.iter().flat_map(|line| line.tools.iter().map(move |tool| row(line, tool))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(times: f64) -> Line {
        let tool = |tool: &str, times, bar| Measured {
            tool: tool.to_owned(),
            wall: times / 2.0,
            cpu: 0.7,
            found: None,
            times,
            bar,
        };
        let tools = vec![tool("remora", 1.0, None), tool("suricata", times, Some(10.0))];
        Line { shape: Shape::Small, packets: 10, bytes: 1000, served: 5, tools }
    }

    #[test]
    fn what_is_below_its_bar_is_told() {
        assert!(missed(&line(10.0)).is_empty());
        assert_eq!(missed(&line(9.5)), ["small keep-alive requests: 9.50 × suricata, not 10"]);
        let table = table(&[line(3.0)], 5, &[]);
        assert_eq!(table.rows[1][4..9], ["suricata", "1.500", "0.70", "150000000", "3.00"]);
        assert_eq!(json(&[line(3.0)], 5)["shapes"][0]["tools"][1]["times_remora"], 3.0);
    }
}
