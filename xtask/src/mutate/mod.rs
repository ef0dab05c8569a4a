//! `cargo xtask mutate hooks`: weakens the script runtime in one place after the other, and demands that its attack tests
//! notice. A test that passes against a weakened runtime proves nothing.
//!
//! A copy of the workspace gets all weaknesses at once, each asleep; it is built once. Awake is the one that
//! `REMORA_WEAKENED` names. With none awake all attack tests have to pass.

mod hooks;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::sys::{interrupt, project, run, term};

/// How long a weakened run may take: a weakness may well make a test hang, and then it has been noticed.
const PATIENCE: Duration = Duration::from_secs(90);
/// Address space of a weakened run in KiB: some weaknesses eat memory without end.
const MEMORY_KIB: u64 = 6 << 20;

/// Which part is weakened.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  cargo xtask mutate hooks\n  cargo xtask mutate hooks time memory")]
pub(crate) struct Mutate {
    /// The part: hooks.
    #[arg(value_parser = ["hooks"])]
    part: String,
    /// Only these weaknesses.
    only: Vec<String>,
}

/// One weakness.
pub(super) struct Weakness {
    /// Its name, and what is weak then.
    name: &'static str,
    /// The file, from the workspace's folder.
    file: &'static str,
    /// A text that is there exactly once.
    find: &'static str,
    /// What comes in its place. `weak("…")` says whether the weakness is awake.
    replace: &'static str,
    /// The tests that have to notice.
    tests: &'static [&'static str],
}

/// The command.
pub(crate) fn run(options: &Mutate) -> Result<()> {
    let all = hooks::WEAKNESSES;
    if let Some(unknown) = options.only.iter().find(|name| all.iter().all(|w| w.name != name.as_str())) {
        let names = all.iter().map(|w| w.name).collect::<Vec<_>>().join(", ");
        bail!("{unknown} is none of the weaknesses: {names}");
    }
    let tree = project::target().join("mutate").join(&options.part);
    copy(&tree)?;
    for weakness in all {
        weaken(&tree, weakness)?;
    }
    term::section("building the copy with all weaknesses asleep");
    let program = build(&tree)?;
    let mut missed = Vec::new();
    if !passes(&program, &tree, None, &["attack_"])? {
        bail!("the attack tests fail with no weakness awake; run: {} attack_", project::shown(&program));
    }
    term::fact("none awake", "all attack tests pass");
    for weakness in all.iter().filter(|w| options.only.is_empty() || options.only.iter().any(|o| o == w.name))
    {
        for test in weakness.tests {
            let noticed = !passes(&program, &tree, Some(weakness.name), &[test, "--exact"])?;
            let verdict = if noticed { term::green("noticed") } else { term::red("not noticed") };
            term::fact(weakness.name, &format!("{verdict} by {test}"));
            if !noticed {
                missed.push(format!("{} by {test}", weakness.name));
            }
        }
    }
    ensure!(missed.is_empty(), "not noticed: {}", missed.join(", "));
    Ok(())
}

/// Copies what git knows of, as it is in the working tree; what has not changed keeps its time, so that cargo builds it once.
fn copy(tree: &Path) -> Result<()> {
    let listed = run::output(run::command("git").args(["ls-files", "-z"]))?;
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (project::root().join(name), tree.join(name));
        // A file that was removed and not yet committed so.
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(tree))?;
        fs::write(&to, bytes).with_context(|| to.display().to_string())?;
    }
    let library = tree.join("agent/src/lib.rs");
    let text = fs::read_to_string(&library)?;
    fs::write(&library, format!("{text}\n{}", hooks::SWITCH))?;
    Ok(())
}

fn weaken(tree: &Path, weakness: &Weakness) -> Result<()> {
    let path = tree.join(weakness.file);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let found = text.matches(weakness.find).count();
    ensure!(
        found == 1,
        "weakness {}: its text is {found} times in {}, not once: the table in xtask/src/mutate needs to follow",
        weakness.name,
        weakness.file
    );
    fs::write(&path, text.replace(weakness.find, &weakness.replace.replace("weak(", "crate::weak(")))?;
    Ok(())
}

/// Builds the copy's tests; dependencies are those of the workspace itself.
fn build(tree: &Path) -> Result<PathBuf> {
    let mut cargo = project::cargo(None);
    cargo.current_dir(tree).env("CARGO_TARGET_DIR", project::target());
    cargo.args(["test", "-p", "agent", "--test", "hooks", "--no-run", "--message-format=json"]);
    cargo.args(["--config", "build.rustflags=[]"]).stderr(Stdio::inherit());
    let told = run::output(&mut cargo)?;
    let program = told
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|told| {
            let is_test = told["target"]["name"] == "hooks" && told["profile"]["test"] == true;
            told["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
        });
    program.context("cargo named no program of the tests")
}

/// Whether the tests pass with that weakness awake; a run that hangs or crashes does not.
fn passes(program: &Path, tree: &Path, weakness: Option<&str>, arguments: &[&str]) -> Result<bool> {
    interrupt::check()?;
    let limits = format!("ulimit -v {MEMORY_KIB}; ulimit -c 0; exec \"$0\" \"$@\"");
    let mut command = run::command("sh");
    command.current_dir(tree.join("agent")).args(["-c", &limits]).arg(program).args(arguments);
    if let Some(name) = weakness {
        command.env("REMORA_WEAKENED", name);
    }
    let mut running = run::Running::start("the attack tests", &command, Stdio::null(), Stdio::null())?;
    let patience = if weakness.is_some() { PATIENCE } else { PATIENCE * 3 };
    let ended = interrupt::wait_for(patience, || Ok(running.ended()?.is_some()))?;
    Ok(ended && running.ended()?.is_some_and(|status| status.success()))
}
