//! `cargo xtask fuzz`: builds all fuzz targets at once, runs each for a while, and tells what they found.
//!
//! A target starts from the committed `fuzz/corpus/TARGET` and from what earlier runs on this machine found worth
//! keeping, in `target/fuzz/corpus`, where its new finds go, too. Whatever breaks an invariant is kept in
//! `target/fuzz/artifacts`, and named together with the command that does it again.

mod stats;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::setup;
use crate::sys::{NotPermitted, calm, interrupt, project, run, term};
use run::Running;
use stats::Stats;

/// What to run.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  cargo xtask fuzz\n  cargo xtask fuzz --seconds 600 --target http1 --target engine"
)]
pub(crate) struct Fuzz {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only this target; may be repeated.
    #[arg(long, value_name = "T")]
    target: Vec<String>,
    /// Targets that run at the same time; as many as there are cores.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// The command.
pub(crate) fn run(options: &Fuzz) -> Result<()> {
    let Some(toolchain) = setup::fuzz_toolchain() else {
        let why = "cargo-fuzz, or a nightly compiler for it, is missing: `cargo xtask setup` installs them";
        return Err(NotPermitted(why.to_owned()).into());
    };
    let names = chosen(&targets()?, &options.target)?;
    let programs = build(&toolchain)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.unwrap_or(cores).max(1);
    let reports = run_all(&names, &programs, options.seconds, jobs)?;
    term::section("Fuzzing");
    term::say(&stats::table(&reports));
    let failed: Vec<_> = reports.iter().filter(|r| !r.stats.fine()).collect();
    for report in &failed {
        say_finding(report, &programs);
    }
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|r| r.target.as_str()).collect();
        bail!("findings in {}", names.join(", "));
    }
    Ok(())
}

/// A short run of all targets, for `cargo xtask test`.
pub(crate) fn briefly() -> Result<()> {
    run(&Fuzz { seconds: 5, target: Vec::new(), jobs: None })
}

/// What a run of one target came to.
struct Report {
    target: String,
    stats: Stats,
}

/// Names of the targets, as fuzz/Cargo.toml has them.
fn targets() -> Result<Vec<String>> {
    let mut cargo = project::cargo(None);
    // The lock file is committed: it must be complete.
    cargo.args(["metadata", "--manifest-path", "fuzz/Cargo.toml", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&run::output(&mut cargo)?)?;
    let ours = |package: &&Value| package["name"] == "remora-fuzz";
    let package = metadata["packages"].as_array().into_iter().flatten().find(ours);
    let all = package.and_then(|p| p["targets"].as_array()).context("no package remora-fuzz in fuzz/")?;
    let bins = all.iter().filter(|t| t["kind"][0] == "bin");
    Ok(bins.filter_map(|t| t["name"].as_str().map(str::to_owned)).collect())
}

fn chosen(all: &[String], wanted: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|w| !all.contains(w)) {
        bail!("no fuzz target {unknown}; there are {}", all.join(", "));
    }
    Ok(if wanted.is_empty() { all.to_vec() } else { wanted.to_vec() })
}

/// Builds all targets. Returns the folder of the programs.
fn build(toolchain: &str) -> Result<PathBuf> {
    let folder = project::target().join("fuzz");
    let mut rustc = run::command("rustup");
    let version = run::output(rustc.args(["run", toolchain, "rustc", "-vV"]))?;
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc names no host")?;
    let mut cargo = run::command("rustup");
    cargo.args(["run", toolchain, "cargo", "fuzz", "build", "--fuzz-dir", "fuzz", "--target", host]);
    cargo.arg("--target-dir").arg(&folder).env_remove("CARGO");
    calm::cargo(&mut cargo)?;
    Ok(folder.join(host).join("release"))
}

fn run_all(names: &[String], programs: &Path, seconds: u32, jobs: usize) -> Result<Vec<Report>> {
    let mut waiting: VecDeque<&String> = names.iter().collect();
    let mut running: Vec<(Running, PathBuf, &String)> = Vec::new();
    let mut reports = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < jobs
            && let Some(name) = waiting.pop_front()
        {
            let (process, log) = start(name, programs, seconds)?;
            running.push((process, log, name));
        }
        interrupt::wait_for(Duration::from_millis(200), || Ok(false))?;
        let mut going_on = Vec::new();
        for (mut process, log, name) in running {
            if let Some(status) = process.ended()? {
                let text = fs::read(&log).with_context(|| project::shown(&log))?;
                let stats = Stats::read(&String::from_utf8_lossy(&text), status.success());
                reports.push(Report { target: name.clone(), stats });
            } else {
                going_on.push((process, log, name));
            }
        }
        running = going_on;
    }
    reports.sort_by_key(|r| names.iter().position(|n| *n == r.target));
    Ok(reports)
}

fn start(name: &str, programs: &Path, seconds: u32) -> Result<(Running, PathBuf)> {
    let folder = project::target().join("fuzz");
    let (found, artifacts, logs) =
        (folder.join("corpus").join(name), folder.join("artifacts"), folder.join("logs"));
    for folder in [&found, &artifacts, &logs] {
        fs::create_dir_all(folder).with_context(|| project::shown(folder))?;
    }
    let log = logs.join(format!("{name}.log"));
    let mut command = run::command(programs.join(name));
    command.args([
        &format!("-max_total_time={seconds}"),
        &format!("-artifact_prefix={}/{name}-", artifacts.display()),
        "-print_final_stats=1",
        // What a target may need, in MiB and in seconds: its inputs are small.
        "-rss_limit_mb=1024",
        "-malloc_limit_mb=256",
        "-timeout=10",
    ]);
    let dictionary = project::root().join(format!("fuzz/{name}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // New finds go to the first folder.
    command.arg(&found);
    let seeds = project::root().join("fuzz/corpus").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let file = File::create(&log).with_context(|| project::shown(&log))?;
    let process = Running::start(name, &command, Stdio::null(), Stdio::from(file))?;
    Ok((process, log))
}

fn say_finding(report: &Report, programs: &Path) {
    let program = project::shown(&programs.join(&report.target));
    term::say(&format!("\n{} {}", term::red("Finding:"), report.target));
    for line in &report.stats.words {
        term::say(&format!("  {line}"));
    }
    match &report.stats.artifact {
        Some(artifact) => {
            let artifact = project::shown(Path::new(artifact));
            term::say(&format!("  input  {artifact}\n  again  {program} {artifact}"));
        }
        None => term::say(&format!(
            "  log    {}/fuzz/logs/{}.log",
            project::shown(&project::target()),
            report.target
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_that_are_there_can_be_chosen() {
        let all = ["a".to_owned(), "b".to_owned()];
        assert_eq!(chosen(&all, &[]).unwrap(), all);
        assert_eq!(chosen(&all, &["b".to_owned()]).unwrap(), ["b"]);
        let error = chosen(&all, &["c".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "no fuzz target c; there are a, b");
    }

    #[test]
    fn every_target_is_known_and_has_a_corpus() {
        let names = targets().unwrap();
        assert_eq!(names.len(), fs::read_dir(project::root().join("fuzz/fuzz_targets")).unwrap().count());
        for name in names {
            let seeds = fs::read_dir(project::root().join("fuzz/corpus").join(&name)).unwrap();
            assert!(seeds.count() > 0, "{name}");
        }
    }
}
