//! `cargo xtask load DIR`: captures of real loads held against nginx's access log, request for request.
//!
//! `DIR` has `PROFILE.pcap` and `PROFILE.access.log`; a script can make them: `SCRIPT DIR PROFILE SECONDS CONNECTIONS`, which says in
//! `PROFILE.tcpdump.txt` whether the capture is complete.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::setup::{self, Setup};
use crate::suite::steps;
use crate::sys::{Said, interrupt, project, run, term};

const PROFILES: [&str; 5] = ["small", "mixed", "close", "pipeline", "large"];

/// Which captures.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  cargo xtask load ../loads --make ../make_load.sh\n  cargo xtask load ../loads small mixed"
)]
pub(crate) struct Load {
    /// Folder with the captures and their access logs.
    dir: PathBuf,
    /// Which of them [default: small, mixed, close, pipeline, large; without --make those that are there].
    profiles: Vec<String>,
    /// Script that makes them first (root).
    #[arg(long, value_name = "SCRIPT")]
    make: Option<PathBuf>,
    /// How long each load lasts.
    #[arg(long, default_value_t = 2, requires = "make", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Connections at once.
    #[arg(long, default_value_t = 32, requires = "make", value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
}

/// The command.
pub(crate) fn run(options: &Load) -> Result<()> {
    let ready = setup::prepare(&Setup::default())?;
    steps::build_release(&ready)?;
    let dir = std::path::absolute(&options.dir)?;
    let there = |p: &str| dir.join(format!("{p}.pcap")).is_file();
    let mut profiles = options.profiles.clone();
    if profiles.is_empty() {
        profiles =
            PROFILES.iter().filter(|p| options.make.is_some() || there(p)).map(ToString::to_string).collect();
    }
    ensure!(!profiles.is_empty(), "{} has no captures of a load", dir.display());
    let mut differ = Vec::new();
    for profile in &profiles {
        interrupt::check()?;
        if let Some(script) = &options.make {
            make(script, &dir, profile, options)?;
        }
        complete(&dir, profile)?;
        let mut served = run::command(project::optimised("served"));
        served.arg("--remora").arg(project::optimised("remora"));
        served.arg(dir.join(format!("{profile}.pcap"))).arg(dir.join(format!("{profile}.access.log")));
        if !served.status()?.success() {
            differ.push(profile.as_str());
        }
    }
    if !differ.is_empty() {
        term::say(&format!("not equal to nginx's access log: {}", differ.join(", ")));
        return Err(Said(1).into());
    }
    Ok(())
}

fn make(script: &Path, dir: &Path, profile: &str, options: &Load) -> Result<()> {
    let mut bash = run::command("bash");
    bash.arg(std::path::absolute(script)?).arg(dir).arg(profile);
    bash.args([options.seconds.to_string(), options.connections.to_string()]);
    run::output(&mut bash).map(drop)
}

/// What tcpdump dropped is not in the capture, and could not be found.
fn complete(dir: &Path, profile: &str) -> Result<()> {
    let path = dir.join(format!("{profile}.tcpdump.txt"));
    if !path.is_file() {
        return Ok(());
    }
    let said = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if !said.contains("\n0 packets dropped by kernel") {
        bail!("{profile}: the capture is not complete: {}", said.trim());
    }
    Ok(())
}
