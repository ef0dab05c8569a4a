//! `cargo xtask bench PART`: what things cost on this machine, held against the budgets and, where there is one, against a
//! peer in the same run; as a table or as JSON.

mod hooks;
mod kernel;
mod live;
mod memory;
mod outbox;
mod replay;
mod report;
mod store;
mod web;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use serde_json::Value;

use self::report::Table;
use crate::sys::{calm, interrupt, project, run, term};

/// What to measure; without a part all of them, which takes half an hour.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo cargo xtask bench --write\n  sudo cargo xtask bench kernel\n  sudo cargo xtask bench --json kernel > kernel.json\n  cargo xtask bench store\n  cargo xtask bench hooks\n  sudo cargo xtask bench replay --shape small"
)]
pub(crate) struct Bench {
    /// One JSON object on standard output instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Also put the table into BENCHMARKS.md, in place of the part's last one.
    #[arg(long, global = true)]
    write: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand, Debug)]
enum Part {
    /// The eBPF programs' own cost of a packet, by BPF_PROG_TEST_RUN, on one CPU and on all at once (root). Other load on the
    /// machine shows in it.
    Kernel,
    /// Live capture of wrk against nginx, in several shapes: requests a second and CPU time beside `tcpdump -w`, losses, time to
    /// the first packet, CPU time with nothing to do (root).
    Live(live::Live),
    /// Users' scripts: items a second through a hook and before a filter, memory over many items, and capture beside a script
    /// that does not get on.
    Hooks(hooks::Hooks),
    /// What an engine holds: idle streams, streams that come and go, a body of gigabytes.
    Memory,
    /// The PCAP store: writing against `tcpdump -w`, a stream's file out of a large store, memory of the index.
    Store(store::Store),
    /// The outbox: alerts queued a second, each on the disk when its call returns, against the disk's own synced writes.
    Outbox(outbox::Outbox),
    /// Capture files of real loads → items as JSON, against tcpdump, Suricata, tcpflow and tshark on the same files (root, to make
    /// the loads).
    Replay(replay::Replay),
}

/// Where figures go.
#[derive(Clone, Copy, Debug)]
struct Output {
    json: bool,
    write: bool,
}

impl Output {
    fn give(self, figures: &Value, table: &Table) -> Result<()> {
        if self.json {
            term::say(&figures.to_string());
        } else {
            table.show();
        }
        if self.write { table.write() } else { Ok(()) }
    }
}

/// The command.
pub(crate) fn run(options: &Bench) -> Result<()> {
    let output = Output { json: options.json, write: options.write };
    match &options.part {
        None => all(output),
        Some(Part::Kernel) => kernel::run(output),
        Some(Part::Live(part)) => live::run(part, output),
        Some(Part::Hooks(part)) => hooks::run(part, output),
        Some(Part::Memory) => memory::run(output),
        Some(Part::Store(part)) => store::run(part, output),
        Some(Part::Outbox(part)) => outbox::run(part, output),
        Some(Part::Replay(part)) => replay::run(part, output),
    }
}

/// Every part as by itself. One that misses a bar does not keep the others from being measured.
fn all(output: Output) -> Result<()> {
    let mut failed = Vec::new();
    for part in ["replay", "live", "kernel", "store", "hooks", "memory", "outbox"] {
        interrupt::check()?;
        let mut command = run::command(std::env::current_exe()?);
        command.args(["bench", part]);
        command.args(output.json.then_some("--json")).args(output.write.then_some("--write"));
        if !command.status()?.success() {
            failed.push(part);
        }
    }
    ensure!(failed.is_empty(), "these parts failed, or miss a bar: {}", failed.join(", "));
    Ok(())
}

/// Builds an optimised program of measurements; gives where it is.
fn example(package: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = project::cargo(None);
    cargo.args(["build", "--release", "--locked", "-p", package, "--example", name]);
    if package == "agent" {
        // Nothing that these measure is in the kernel.
        cargo.arg("--no-default-features");
    }
    calm::cargo(&mut cargo)?;
    Ok(project::optimised("examples").join(name))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
