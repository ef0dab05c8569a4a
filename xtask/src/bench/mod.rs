//! `cargo xtask bench PART`: what things cost on this machine, held against the budgets, as a table or as JSON.

mod kernel;

use anyhow::Result;
use clap::{Args, Subcommand};

/// What to measure.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo cargo xtask bench kernel\n  sudo cargo xtask bench --json kernel > kernel.json"
)]
pub(crate) struct Bench {
    /// One JSON object on standard output instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand, Debug)]
enum Part {
    /// The eBPF programs' own cost of a packet, by BPF_PROG_TEST_RUN, on one CPU and on all at once (root). Other load on the
    /// machine shows in it.
    Kernel,
}

/// The command.
pub(crate) fn run(options: &Bench) -> Result<()> {
    match options.part {
        Part::Kernel => kernel::run(options.json),
    }
}
