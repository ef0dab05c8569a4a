//! `cargo xtask bench replay`: a capture file → items as JSON, against others' tools on the same file in the same run.
//!
//! The load is made here (`load`): nginx and wrk in a network namespace, recorded by tcpdump, several shapes. What is
//! measured is right: before the rounds, `served` holds the items against nginx's own access log, request for request. Then
//! all tools take turns, as often as asked for, and the medians count. The file is in the page cache for all.

mod load;
mod peers;
mod report;
mod workers;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use super::web::Shape;
use super::{Output, median};
use crate::sys::{NotPermitted, calm, interrupt, is_root, project, run, term};
use load::{Capture, SHAPES};
use peers::{Peer, Run};

/// A tool that takes more seconds for a file than this is run once: it is far behind, however often it is asked.
const SLOW: f64 = 12.0;

/// How much, and of what.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo cargo xtask bench replay\n  sudo cargo xtask bench replay --shape small --rounds 9\n  \
                  sudo cargo xtask bench replay --dir /var/tmp/loads --write\n  sudo cargo xtask bench replay --workers 1,2,4 --write\n  cargo xtask bench --json replay --dir /var/tmp/loads"
)]
pub(crate) struct Replay {
    /// Only this shape of load; may be repeated [default: all].
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    /// Times that each tool is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each load lasts. Some tools take half a minute for what one second brings.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Folder for the captures, which are kept, and used again where they are there [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only against this tool; may be repeated [default: all that are installed].
    #[arg(long, value_enum)]
    peer: Vec<Peer>,
    /// Instead of other tools, measure so many workers in turn, such as 1,2,4; without --shape on small exchanges.
    #[arg(long, value_name = "N,N", value_delimiter = ',', conflicts_with = "peer", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Vec<u16>,
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
    shape: &'static str,
    packets: u64,
    bytes: u64,
    served: u64,
    tools: Vec<Measured>,
}

/// The command.
pub(super) fn run(options: &Replay, output: Output) -> Result<()> {
    let wanted = match &options.shape[..] {
        [] if !options.workers.is_empty() => &[Shape::Small],
        [] => &SHAPES[..],
        shapes => shapes,
    };
    let there = |shape: &Shape| options.dir.as_ref().is_some_and(|dir| Capture::is_there(dir, *shape));
    if !is_root() && !wanted.iter().all(there) {
        return Err(
            NotPermitted("making a load takes a network namespace, which needs root".to_owned()).into()
        );
    }
    let wanted: Vec<Shape> = wanted.iter().copied().filter(|shape| SHAPES.contains(shape)).collect();
    build()?;
    let temporary = tempfile::tempdir().context("making a folder")?;
    let dir = match &options.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => temporary.path().to_owned(),
    };
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    if !options.workers.is_empty() {
        return scaling(options, &wanted, &dir, output);
    }
    let peers = installed(options, output.json);
    let mut lines = Vec::new();
    for shape in wanted {
        interrupt::check()?;
        let capture = Capture::have(&dir, shape, options.seconds)?;
        let line = measure(options, &capture, &peers, temporary.path())?;
        if !output.json {
            report::show(&line);
        }
        lines.push(line);
    }
    if output.json {
        term::say(&report::json(&lines, options.rounds).to_string());
    }
    if output.write {
        report::table(&lines, options.rounds).write()?;
    }
    let missed: Vec<String> = lines.iter().flat_map(report::missed).collect();
    ensure!(missed.is_empty(), "bars that were missed: {}", missed.join("; "));
    Ok(())
}

/// Several numbers of workers on the same files.
fn scaling(options: &Replay, wanted: &[Shape], dir: &Path, output: Output) -> Result<()> {
    let mut all = Vec::new();
    for &shape in wanted {
        interrupt::check()?;
        let capture = Capture::have(dir, shape, options.seconds)?;
        all.push(workers::measure(&capture, &options.workers, options.rounds)?);
    }
    let table = workers::table(&all, options.rounds);
    if output.json {
        term::say(&workers::json(&all, options.rounds).to_string());
    } else {
        table.show();
    }
    if output.write { table.write() } else { Ok(()) }
}

/// Remora optimised and without eBPF, which a file does not need; the judges as they are.
fn build() -> Result<()> {
    let remora =
        ["build", "--release", "--locked", "-p", "agent", "--no-default-features", "--bin", "remora"];
    calm::cargo(project::cargo(None).args(remora))?;
    let judges = ["build", "--locked", "-p", "testkit", "--bin", "served", "--bin", "mangle"];
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

fn measure(options: &Replay, capture: &Capture, peers: &[Peer], scratch: &Path) -> Result<Line> {
    capture.verify()?;
    let remora = || Run::of(peers::remora(&capture.pcap, 1), None);
    let peer = |peer: &Peer| peer.run(&capture.pcap, scratch);
    // A round that does not count brings the file into memory, and tells what each finds.
    remora()?;
    let first = peers.iter().map(peer).collect::<Result<Vec<_>>>()?;
    let found: Vec<_> = first.iter().map(|run| run.found).collect();
    let mut times = vec![(Vec::new(), Vec::new()); peers.len() + 1];
    let mut note = |tool: usize, run: &Run| {
        times[tool].0.push(run.wall);
        times[tool].1.push(run.cpu);
    };
    for (tool, run) in first.iter().enumerate().filter(|(_, run)| run.wall > SLOW) {
        note(tool + 1, run);
    }
    for round in 0..options.rounds {
        note(0, &remora()?);
        for (tool, one) in peers.iter().enumerate().filter(|(tool, _)| first[*tool].wall <= SLOW) {
            note(tool + 1, &peer(one)?);
        }
        eprintln!("{}: round {} of {}", capture.shape.name(), round + 1, options.rounds);
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
        shape: capture.shape.name(),
        packets: capture.packets,
        bytes: std::fs::metadata(&capture.pcap)?.len(),
        served: capture.served,
        tools: std::iter::once(own).chain(tools).collect(),
    })
}

/// The program that judges or damages captures.
fn judge(name: &str) -> std::process::Command {
    run::command(project::built(name))
}

/// Where the optimised program is.
fn remora() -> PathBuf {
    project::optimised("remora")
}
