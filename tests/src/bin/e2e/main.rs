//! The chart's agents on a cluster of namespaces: what `cargo xtask e2e` runs.

mod capabilities;
mod churn;
mod client;
mod interrupt;
mod naming;
mod rolling;
mod say;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use testkit::cluster::kubelet::Image;

use client::Client;
use world::World;

/// The chart's agents on a cluster of namespaces.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the cluster and try what the agents do in it.
    Run(Run),
    /// Send requests, a line for each; what this program runs in pods.
    #[command(hide = true)]
    Client(Client),
}

#[derive(Args)]
struct Run {
    /// The image's root: a folder with /remora.
    #[arg(long)]
    image: PathBuf,
    /// Only this part; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// What takes less than a minute: fewer cases, fewer pods.
    #[arg(long)]
    brief: bool,
    /// Pods that come and go in the part `churn`.
    #[arg(long, default_value_t = 5000)]
    pods: u32,
}

/// Of the end of an agent's log, when something failed.
const LOG_LINES: usize = 60;

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// Traffic on one node and across, by addresses and by Services: alerts name all ends.
    Naming,
    /// Each capability taken away, and an old seccomp profile: what is said.
    Capabilities,
    /// All agents replaced under load, while Slack is down, and one killed: what is lost, and what is told.
    Rolling,
    /// Thousands of pods that come and go: names, memory, requests.
    Churn,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Client(client) => client.run(),
        Command::Run(options) => interrupt::install().and_then(|()| run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Run) -> Result<()> {
    testkit::cluster::check()?;
    let root = options.image.canonicalize().with_context(|| options.image.display().to_string())?;
    ensure!(root.join("remora").is_file(), "{} has no /remora", root.display());
    let image = Image { root, entrypoint: vec!["/remora".to_owned()], user: (65532, 65532) };
    say::section("A cluster");
    let mut world = World::new(image)?;
    let result = parts(&mut world, options);
    if result.is_err() {
        for (node, agent) in &world.agents {
            say::section(&format!("The log of the agent on {node}"));
            let log = agent.container.log();
            let lines: Vec<_> = log.lines().collect();
            say::line(&lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
        }
    }
    result
}

fn parts(world: &mut World, options: &Run) -> Result<()> {
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    if wanted(Part::Naming) {
        naming::run(world)?;
    }
    if wanted(Part::Capabilities) {
        capabilities::run(world, options.brief)?;
    }
    if wanted(Part::Rolling) {
        rolling::run(world, options.brief)?;
    }
    if wanted(Part::Churn) {
        churn::run(world, if options.brief { options.pods.min(200) } else { options.pods })?;
    }
    Ok(())
}
