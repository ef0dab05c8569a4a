//! `cargo xtask bench outbox`: alerts that scripts can queue in a second, each on the disk when its call returns, against
//! what the same disk takes of small synced writes; and messages that one channel takes in a second.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::sys::{calm, interrupt, project, run, term};

/// Least share of the disk's own synced writes that one script gets: a call waits for one commit.
const LEAST_ONE: f64 = 0.1;

/// How long, and where.
#[derive(Args, Debug)]
pub(crate) struct Outbox {
    /// Folder on the disk to measure [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Seconds for each of the seven measurements.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// The command.
pub(super) fn run(options: &Outbox, as_json: bool) -> Result<()> {
    let example = ["build", "--release", "--locked", "-p", "agent", "--no-default-features", "--example"];
    calm::cargo(project::cargo(None).args(example).arg("outbox_bench"))?;
    let folder = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("making a folder")?;
    interrupt::check()?;
    let program = project::optimised("examples/outbox_bench");
    let output = run::output(run::command(program).arg(folder.path()).arg(options.seconds.to_string()))?;
    let all: Value = serde_json::from_str(&output)?;
    let number = |name: &str| all[name].as_f64().unwrap_or_default();
    if as_json {
        term::say(&all.to_string());
    } else {
        term::say(&format!("the disk:      {:.0} synced writes a second", number("synced_writes")));
        term::say(&format!("one script:    {:.0} alerts a second", number("one_script")));
        term::say(&format!("{} scripts:    {:.0} alerts a second", all["scripts"], number("many_scripts")));
        term::say(&format!("  with a file: {:.0} alerts a second", number("with_a_file")));
        term::say(&format!("one channel:   {:.0} messages a second arrive", number("channel")));
        term::say(&format!("  at 100/s:    {:.0} messages a second", number("channel_at_100")));
        term::say(&format!("  with a file: {:.0} messages a second", number("channel_with_a_file")));
    }
    let good = number("one_script") >= LEAST_ONE * number("synced_writes");
    ensure!(good, "one script gets less than {LEAST_ONE} of what the disk takes");
    Ok(())
}
