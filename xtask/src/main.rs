//! The one door for automation: `cargo xtask setup|demo|test|…`.
//!
//! Everything that a person or a machine does with this project, beside plain cargo, is a command here. It depends on few
//! crates and no system library, so that a fresh clone on a fresh machine gets to it at once.

mod bench;
mod corpus;
mod counts;
mod demo;
mod e2e;
mod fuzz;
mod image;
mod load;
mod loss;
mod mutate;
mod record;
mod setup;
mod suite;
mod sys;
mod tidy;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use sys::{NotPermitted, Said, interrupt, term};

/// Automation for Remora. On a fresh clone: `cargo xtask demo`, then `cargo xtask test`.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:\n  cargo xtask setup --check\n  cargo xtask demo\n  cargo xtask test --quick\n\n\
                  Exit codes: 0 done; 1 failed; 2 bad usage; 3 not permitted here, or something needed is missing."
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, testing and the demo need (Debian); says what it does.
    Setup(setup::Setup),
    /// Show the whole: traffic, capture, script, alert with its PCAP. Ends by itself and leaves nothing running.
    Demo(demo::Demo),
    /// Check everything; the last line says how many tests passed, failed and were skipped.
    Test(suite::Test),
    /// Hold `remora replay` against what an oracle found in a folder of captures.
    Corpus(corpus::Corpus),
    /// Remove packets from big captures at random, and hold what is found in the rest to account.
    Loss(loss::Loss),
    /// Hold what is found in captures of real loads against nginx's access log, request for request.
    Load(load::Load),
    /// Record a fixture from real servers and clients (root).
    Record(record::Record),
    /// Measure: against budgets, and against others' tools in the same run.
    Bench(bench::Bench),
    /// Hold the instructions that a packet and an item cost against those written down.
    Counts(counts::Counts),
    /// Make the container image: the static binary, certificates, licences and SBOM, from scratch.
    Image(image::Image),
    /// Try the chart's agents on a cluster of namespaces: names, permissions, updates (root).
    E2e(e2e::E2e),
    /// Run the fuzz targets for a while.
    Fuzz(fuzz::Fuzz),
    /// Weaken the script runtime in one place after the other, and demand that its attack tests notice.
    Mutate(mutate::Mutate),
    /// Check the project's own rules: direction of dependencies, module docs, licences, …
    Tidy,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match interrupt::install().and_then(|()| run(&cli.task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Said(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            eprintln!("{} {error:#}", term::red("error:"));
            ExitCode::from(if error.is::<NotPermitted>() { 3 } else { 1 })
        }
    }
}

fn run(task: &Task) -> Result<()> {
    match task {
        Task::Setup(options) => setup::run(options),
        Task::Demo(options) => demo::run(options),
        Task::Record(options) => record::run(options),
        Task::Test(options) => suite::run(options),
        Task::Corpus(options) => corpus::run(options),
        Task::Loss(options) => loss::run(options),
        Task::Load(options) => load::run(options),
        Task::Bench(options) => bench::run(options),
        Task::Counts(options) => counts::run(options),
        Task::Image(options) => image::run(options),
        Task::E2e(options) => e2e::run(options),
        Task::Fuzz(options) => fuzz::run(options),
        Task::Mutate(options) => mutate::run(options),
        Task::Tidy => tidy::run(),
    }
}
