//! `cargo xtask bench PART`: what things cost on this machine, held against the budgets and, where there is one, against a
//! peer in the same run; as a table or as JSON.

mod hooks;
mod kernel;
mod live;
mod outbox;
mod replay;
mod report;
mod store;
mod web;

use anyhow::Result;
use clap::{Args, Subcommand};

/// What to measure.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo cargo xtask bench kernel\n  sudo cargo xtask bench --json kernel > kernel.json\n  cargo xtask bench store\n  cargo xtask bench hooks\n  sudo cargo xtask bench replay --shape small"
)]
pub(crate) struct Bench {
    /// One JSON object on standard output instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Also put the table into BENCHMARKS.md, in place of the part's last one (live, replay).
    #[arg(long, global = true)]
    write: bool,
    #[command(subcommand)]
    part: Part,
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
    /// The PCAP store: writing against `tcpdump -w`, a stream's file out of a large store, memory of the index.
    Store(store::Store),
    /// The outbox: alerts queued a second, each on the disk when its call returns, against the disk's own synced writes.
    Outbox(outbox::Outbox),
    /// Capture files of real loads → items as JSON, against tcpdump, Suricata, tcpflow and tshark on the same files (root, to make
    /// the loads).
    Replay(replay::Replay),
}

/// The command.
pub(crate) fn run(options: &Bench) -> Result<()> {
    match &options.part {
        Part::Kernel => kernel::run(options.json),
        Part::Live(part) => live::run(part, options.json, options.write),
        Part::Hooks(part) => hooks::run(part, options.json),
        Part::Store(part) => store::run(part, options.json),
        Part::Outbox(part) => outbox::run(part, options.json),
        Part::Replay(part) => replay::run(part, options.json, options.write),
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
