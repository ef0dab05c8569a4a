//! The steps of `cargo xtask test`, one function each.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Outcome;
use super::heard::Heard;
use super::summary::Counts;
use crate::setup::{self, Ready};
use crate::sys::{calm, is_root, project, run, term};

pub(super) fn format() -> Result<Outcome> {
    let colour = if term::coloured() { "always" } else { "never" };
    run::ok(project::cargo(None).args(["fmt", "--all", "--check", "--", "--color", colour]))?;
    // A workspace of its own.
    run::ok(project::cargo(None).args([
        "fmt",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--check",
        "--",
        "--color",
        colour,
    ]))?;
    Ok(Outcome::Passed)
}

/// Licences, advisories, bans and sources, by deny.toml. Building cargo-deny would take minutes, so it has to be there.
pub(super) fn deny() -> Result<Outcome> {
    if project::program("cargo-deny").is_none() {
        let why = "cargo-deny is not installed, and building it takes minutes; `cargo install cargo-deny --locked` does it";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let checks = ["deny", "--log-level", "warn", "check", "bans", "licenses", "sources"];
    run::ok(project::cargo(None).args(checks))?;
    Ok(Outcome::Passed)
}

/// `cargo` for the whole workspace, less the programs for the kernel, which agent's build script compiles.
fn workspace(ready: &Ready, subcommand: &str) -> Command {
    let mut cargo = project::cargo(ready.ebpf_toolchain.as_deref());
    cargo.args([subcommand, "--workspace", "--exclude", "agent-ebpf", "--locked"]);
    without_ebpf(&mut cargo, ready);
    cargo
}

/// Leaves the eBPF programs out where they cannot be built.
fn without_ebpf(cargo: &mut Command, ready: &Ready) {
    if !ready.can_build_ebpf {
        cargo.arg("--no-default-features");
    }
}

/// The agent's binary, and the helper programs of the test crate.
pub(crate) fn build(ready: &Ready) -> Result<()> {
    programs(ready, &[])
}

/// The same, optimised.
pub(crate) fn build_release(ready: &Ready) -> Result<()> {
    programs(ready, &["--release"])
}

fn programs(ready: &Ready, options: &[&str]) -> Result<()> {
    let mut cargo = project::cargo(ready.ebpf_toolchain.as_deref());
    cargo.args(["build", "--locked", "-p", "agent", "-p", "testkit", "--bins"]).args(options);
    without_ebpf(&mut cargo, ready);
    calm::cargo(&mut cargo)
}

/// `cargo test` for one of agent's test programs.
pub(crate) fn agent_test(ready: &Ready, name: &str) -> Command {
    let mut cargo = project::cargo(ready.ebpf_toolchain.as_deref());
    cargo.args(["test", "--locked", "-p", "agent", "--test", name]);
    without_ebpf(&mut cargo, ready);
    cargo
}

pub(super) fn clippy(ready: &Ready) -> Result<Outcome> {
    calm::cargo(workspace(ready, "clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
    Ok(Outcome::Passed)
}

/// agent-core for a target that has no files, sockets, threads or clock: if it builds there, it uses none.
pub(super) fn wasm() -> Result<Outcome> {
    if !setup::has_target(setup::WASM) {
        return Ok(Outcome::Skipped(format!("the target {} is not installed", setup::WASM)));
    }
    calm::cargo(project::cargo(None).args([
        "build",
        "--locked",
        "-p",
        "agent-core",
        "--target",
        setup::WASM,
    ]))?;
    Ok(Outcome::Passed)
}

/// The captures that lie beside the project on some machines.
pub(super) fn corpus() -> Result<Outcome> {
    let folder = project::root().join("../shared/pcaps");
    if !folder.join("expected").is_dir() {
        return Ok(Outcome::Skipped("no folder ../shared/pcaps with captures here".to_owned()));
    }
    crate::corpus::check(&folder)?;
    Ok(Outcome::Passed)
}

/// What a packet and an item cost, in instructions.
pub(super) fn counts() -> Result<Outcome> {
    Ok(match crate::counts::check(false, true)? {
        crate::counts::Verdict::Good => Outcome::Passed,
        crate::counts::Verdict::Skipped(why) => Outcome::Skipped(why),
    })
}

/// A debug image, made and tried, where what makes images was asked for.
pub(super) fn image(ready: &Ready) -> Result<Outcome> {
    if !crate::image::is_ready() || !ready.can_build_ebpf || !is_root() {
        let why = "needs root, the eBPF toolchain, and `cargo xtask setup --only image`";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    crate::image::check()?;
    Ok(Outcome::Passed)
}

/// The chart's agents on a cluster of namespaces, in brief.
pub(super) fn cluster(ready: &Ready) -> Result<Outcome> {
    if let Some(why) = crate::e2e::obstacle(ready) {
        return Ok(Outcome::Skipped(why));
    }
    let Some(first) = crate::e2e::briefly()? else { return Ok(Outcome::Passed) };
    term::say(&format!("\n{}", term::yellow("Once more: a busy machine may have been the cause")));
    match crate::e2e::briefly()? {
        None => Ok(Outcome::PassedAgain(first)),
        Some(second) => bail!("failed twice: {first}\n  and then: {second}"),
    }
}

/// A few seconds of each fuzz target.
pub(super) fn fuzz() -> Result<Outcome> {
    if setup::fuzz_toolchain().is_none() {
        return Ok(Outcome::Skipped("cargo-fuzz, or a nightly compiler for it, is not installed".to_owned()));
    }
    crate::fuzz::briefly()?;
    Ok(Outcome::Passed)
}

/// Where the tests put down what they let out.
fn records() -> std::path::PathBuf {
    project::target().join("records")
}

/// What the tests let out, searched for the secrets that they used. It is kept only where one was found.
pub(super) fn secrets() -> Result<Outcome> {
    run::ok(run::command(project::built("canaries")).arg(records()))?;
    std::fs::remove_dir_all(records())?;
    Ok(Outcome::Passed)
}

/// All tests, with what the runner says passed on and its summaries counted. What failed runs once more, alone.
pub(super) fn tests(ready: &Ready, filter: &[String], counts: &mut Counts) -> Result<Outcome> {
    let records = records();
    if records.exists() {
        std::fs::remove_dir_all(&records)?;
    }
    std::fs::create_dir_all(records.join("rightful"))?;
    if setup::helm_program().is_none() {
        term::say("Helm is not there (`cargo xtask setup --only helm`): the tests of the chart are skipped.");
    }
    let heard = runner(ready, filter)?;
    *counts = heard.counts;
    if counts.is_empty() {
        bail!("no test ran: does the filter match any?");
    }
    if heard.success {
        return Ok(Outcome::Passed);
    }
    let again = heard.again();
    let names = again.join(", ");
    if again.is_empty() {
        bail!("`cargo test` ended with an error{}", heard.names());
    }
    term::say(&format!("\n{}", term::yellow(&format!("Once more, alone: {names}"))));
    let options = ["--exact", "--test-threads=1"].map(str::to_owned);
    if !runner(ready, &[&options, again].concat())?.passed(again) {
        bail!("failed twice, the second time alone: {names}");
    }
    counts.pass_again();
    Ok(Outcome::PassedAgain(names))
}

/// `cargo test` with these arguments for the test programs.
fn runner(ready: &Ready, arguments: &[String]) -> Result<Heard> {
    let mut cargo = workspace(ready, "test");
    cargo.arg("--no-fail-fast").env("REMORA_BIN", project::built("remora"));
    cargo.env("REMORA_TRACE_DIR", records());
    if let Some(python) = setup::judge_python() {
        cargo.env("REMORA_JUDGE_PYTHON", python);
    }
    if let Some(server) = setup::s3_server() {
        cargo.env("REMORA_MOTO_SERVER", server);
    }
    if let Some(helm) = setup::helm_program() {
        cargo.env("REMORA_HELM", helm);
    }
    if !arguments.is_empty() {
        cargo.arg("--").args(arguments);
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn().with_context(|| run::shown(&cargo))?;
    let stdout = child.stdout.take().context("no pipe")?;
    let mut heard = Heard::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        heard.line(&line);
        term::say(&line);
    }
    heard.success = child.wait()?.success();
    Ok(heard)
}
