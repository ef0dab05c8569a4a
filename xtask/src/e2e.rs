//! `cargo xtask e2e`: the chart's agents on a cluster of namespaces, as the test crate's program `e2e` makes it.
//!
//! What the containers run is the image's root with the static binary where that can be built here (`cargo xtask setup --only
//! image`), else the ordinary binary with the libraries that it needs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::setup::{self, Ready, Setup};
use crate::suite::steps;
use crate::sys::run::Running;
use crate::sys::{NotPermitted, Said, is_root, project, run, term};

/// What to try, and with which binary.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  cargo xtask e2e\n  cargo xtask e2e --only naming --only rolling\n  cargo xtask e2e --release --only churn --pods 5000\n\n\
                  It needs root, cgroup v2 (beside version 1 is enough), crun, nftables and Helm; it makes namespaces and cgroups of its \
                  own, and removes them however it ends."
)]
pub(crate) struct E2e {
    /// Run an optimised agent.
    #[arg(long)]
    release: bool,
    /// Run the ordinary binary with the libraries that it needs, not the static one: saves building that.
    #[arg(long)]
    dynamic: bool,
    /// Only this part: naming, capabilities, rolling, churn; may be repeated.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Pods to create and remove in the part `churn`.
    #[arg(long, value_name = "N")]
    pods: Option<u32>,
}

/// Longer than anything that it does.
const LIMIT: Duration = Duration::from_secs(3600);
/// An error that has said so much is told no further at the end, in bytes.
const LONG: usize = 2000;

/// The command.
pub(crate) fn run(options: &E2e) -> Result<()> {
    let ready = setup::prepare(&Setup::default())?;
    if let Some(why) = obstacle(&ready) {
        return Err(NotPermitted(why).into());
    }
    term::section("Build");
    if options.release {
        steps::build_release(&ready)?;
    } else {
        steps::build(&ready)?;
    }
    let mut more: Vec<String> =
        options.only.iter().flat_map(|part| ["--only".to_owned(), part.clone()]).collect();
    if let Some(pods) = options.pods {
        more.extend(["--pods".to_owned(), pods.to_string()]);
    }
    match go(options.release, options.dynamic, &more)? {
        None => Ok(()),
        // It has said why.
        Some(_) => Err(Said(1).into()),
    }
}

/// What does not take a minute, for `cargo xtask test`; all is built already. Gives what failed, which has been said.
pub(crate) fn briefly() -> Result<Option<String>> {
    go(false, false, &["--brief".to_owned()])
}

/// Why it cannot be done here.
pub(crate) fn obstacle(ready: &Ready) -> Option<String> {
    if !is_root() {
        return Some("a cluster of namespaces takes root".to_owned());
    }
    if !ready.can_build_ebpf {
        return Some("the eBPF programs cannot be built here".to_owned());
    }
    if setup::helm_program().is_none() {
        return Some("Helm is not there: `cargo xtask setup --only helm`".to_owned());
    }
    let missing = ["crun", "nft", "nginx"].into_iter().find(|program| project::program(program).is_none());
    missing.map(|program| format!("{program} is not installed: `cargo xtask setup --only apt`"))
}

fn go(release: bool, dynamic: bool, more: &[String]) -> Result<Option<String>> {
    let made = tempfile::tempdir_in(project::target())?;
    let root = made.path().join("root");
    image(&root, release, dynamic)?;
    let program = if release { project::optimised("e2e") } else { project::built("e2e") };
    let mut command = run::command(program);
    command.arg("run").arg("--image").arg(&root).args(more);
    if let Some(helm) = setup::helm_program() {
        command.env("REMORA_HELM", helm);
    }
    // Should it be killed with us, a guardian of its own cleans up behind it.
    let mut running = Running::start("e2e", &command, Stdio::inherit(), Stdio::piped())?;
    let stderr = running.stderr().context("no pipe")?;
    let told = std::thread::spawn(move || passed_on(BufReader::new(stderr), term::say));
    let status = running.wait(LIMIT)?;
    let why = told.join().map_err(|_| anyhow!("the thread that reads its errors panicked"))?;
    if status.success() {
        return Ok(None);
    }
    Ok(Some(why.unwrap_or_else(|| format!("it ended with {status}"))))
}

/// Hands all lines on, and gives the error with which it ended: from the last line that begins as one.
fn passed_on(lines: impl BufRead, mut hand_on: impl FnMut(&str)) -> Option<String> {
    let mut why: Option<String> = None;
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        hand_on(&line);
        if let Some(begun) = line.strip_prefix("error: ") {
            why = Some(begun.to_owned());
        } else if let Some(why) = why.as_mut().filter(|why| why.len() < LONG) {
            why.push('\n');
            why.push_str(&line);
        }
    }
    why
}

/// Lays out what containers run.
fn image(root: &Path, release: bool, dynamic: bool) -> Result<()> {
    if crate::image::is_ready() && !dynamic {
        return crate::image::root(root, !release);
    }
    if !dynamic {
        term::say(
            "  no static binary here (`cargo xtask setup --only image`): the ordinary one and its libraries",
        );
    }
    let binary = if release { project::optimised("remora") } else { project::built("remora") };
    for folder in ["tmp", "etc", "run", "var/lib", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(&binary, root.join("remora")).with_context(|| binary.display().to_string())?;
    for library in libraries(&binary)? {
        let to = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(to.parent().context("a library is in a folder")?)?;
        fs::copy(&library, to).with_context(|| library.display().to_string())?;
    }
    Ok(())
}

/// Absolute paths of what a binary is linked with.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let said = run::output(run::command("ldd").arg(binary))?;
    let paths: Vec<_> =
        said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    if paths.is_empty() {
        bail!("ldd {} names no library: {said}", binary.display());
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_at_the_end_is_told_with_all_its_lines() {
        let told = |said: &str| {
            let mut handed_on = String::new();
            let why = passed_on(said.as_bytes(), |line| handed_on.extend([line, "\n"]));
            assert_eq!(handed_on, said);
            why
        };
        let why = told("a warning\nerror: an early one\nerror: alerts: missing: {\n  one,\n}\n");
        assert_eq!(why.as_deref(), Some("alerts: missing: {\n  one,\n}"));
        assert_eq!(told("no complaint\n"), None);
        let long = "x".repeat(LONG);
        assert_eq!(told(&format!("error: {long}\nmore\nerror: no\n")).as_deref(), Some("no"));
        assert_eq!(told(&format!("error: {long}\nmore\n")), Some(long));
    }
}
