//! `cargo xtask test`: everything that must hold, cheap checks first, the test runner's own summary last.
//!
//! A check that fails does not keep the others from running: one run tells all. What cannot be checked on this machine
//! is said where it would have been.

mod heard;
pub(crate) mod steps;
mod summary;
mod types;

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Ready, Setup};
use crate::sys::{Said, interrupt, is_root, netns, term};

/// What to test.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --quick            (no corpus, no wasm32, no image, no cluster, no fuzzing)\n  \
                  cargo xtask test -- reassembly      (only tests whose name contains this)"
)]
pub(crate) struct Test {
    /// Leave out what takes longest.
    #[arg(long)]
    quick: bool,
    /// Passed to the test runner, after cargo's own options: a filter, or `--skip NAME`.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// How a step ended.
#[derive(Debug)]
enum Outcome {
    Passed,
    /// Passed only when it ran once more, and what had failed.
    PassedAgain(String),
    /// Not done here, and why.
    Skipped(String),
}

struct Report {
    began: Instant,
    /// Steps that failed, and why.
    failed: Vec<(&'static str, String)>,
    /// Steps that passed only when they ran once more, and what had failed.
    again: Vec<(&'static str, String)>,
}

impl Report {
    fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<Outcome>) -> Result<()> {
        interrupt::check()?;
        term::section(&format!("[{:>4} s] {name}", self.began.elapsed().as_secs()));
        let began = Instant::now();
        let outcome = run();
        interrupt::check()?;
        let took = format!("({:.1} s)", began.elapsed().as_secs_f32());
        match outcome {
            Ok(Outcome::Passed) => {
                term::say(&format!("{name}: {} {}", term::green("passed"), term::dim(&took)));
            }
            Ok(Outcome::PassedAgain(first)) => {
                let word = term::yellow("passed when run again");
                term::say(&format!("{name}: {word} {}", term::dim(&took)));
                self.again.push((name, first));
            }
            Ok(Outcome::Skipped(why)) => term::say(&format!("{name}: {}: {why}", term::yellow("skipped"))),
            Err(error) => {
                term::say(&format!("{name}: {} {}\n  {error:#}", term::red("FAILED"), term::dim(&took)));
                self.failed.push((name, format!("{error:#}")));
            }
        }
        Ok(())
    }

    /// What has to be known of the steps where only the end of the output is read.
    fn end(&self) {
        for (name, first) in &self.again {
            term::say(&format!(
                "\n{} {name}: {first}",
                term::yellow("Failed at first, passed when run again:")
            ));
        }
        for (name, why) in &self.failed {
            term::say(&format!("\n{} {name}: {why}", term::red("Failed:")));
        }
    }
}

/// The command.
pub(crate) fn run(options: &Test) -> Result<()> {
    let ready = setup::prepare(&Setup::default())?;
    for name in netns::sweep() {
        term::say(&format!("  removed the network namespace {name}, left by a run that was killed"));
    }
    let mut report = Report { began: Instant::now(), failed: Vec::new(), again: Vec::new() };
    checks(options, &ready, &mut report)?;
    let mut counts = summary::Counts::default();
    if !is_root() {
        term::say("\nNot root: the tests that make network namespaces or load eBPF programs are skipped.");
    }
    report.step("tests", || steps::tests(&ready, &options.filter, &mut counts))?;
    // A part of the tests may use no secret at all.
    if options.filter.is_empty() {
        report.step("secrets", steps::secrets)?;
    }
    if ready.incomplete {
        term::say(
            "\nThe set-up is incomplete (see its lines at the top): what needs it was skipped or failed.",
        );
    }
    // The counts are the last that is said, whatever happened.
    report.end();
    if !report.failed.is_empty() {
        term::say(&format!("\n{counts}"));
        return Err(Said(1).into());
    }
    if !ready.can_build_ebpf {
        term::say(&format!("\nThe eBPF parts were not tested: no toolchain for them.\n\n{counts}"));
        return Err(Said(3).into());
    }
    term::say(&format!("\n{counts}"));
    Ok(())
}

fn checks(options: &Test, ready: &Ready, report: &mut Report) -> Result<()> {
    report.step("format", steps::format)?;
    report.step("tidy", || crate::tidy::run().map(|()| Outcome::Passed))?;
    report.step("dependencies", steps::deny)?;
    report.step("build", || steps::build(ready).map(|()| Outcome::Passed))?;
    report.step("clippy", || steps::clippy(ready))?;
    if options.quick || !options.filter.is_empty() {
        return Ok(());
    }
    report.step("types of scripts", types::check)?;
    report.step("core without a system", steps::wasm)?;
    report.step("corpus", steps::corpus)?;
    report.step("instruction counts", steps::counts)?;
    report.step("image", || steps::image(ready))?;
    report.step("cluster", || steps::cluster(ready))?;
    report.step("fuzzing", steps::fuzz)
}
