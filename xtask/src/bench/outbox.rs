//! `cargo xtask bench outbox`: alerts that scripts can queue in a second, each on the disk when its call returns, against
//! what the same disk takes of small synced writes; and messages that one channel takes in a second.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use super::Output;
use super::report::{Table, judged};
use crate::sys::{interrupt, run};

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
pub(super) fn run(options: &Outbox, output: Output) -> Result<()> {
    let program = super::example("agent", "outbox_bench")?;
    let folder = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("making a folder")?;
    interrupt::check()?;
    let said = run::output(run::command(program).arg(folder.path()).arg(options.seconds.to_string()))?;
    let all: Value = serde_json::from_str(&said)?;
    let number = |name: &str| all[name].as_f64().unwrap_or_default();
    let good = number("one_script") >= LEAST_ONE * number("synced_writes");
    let row = |what: &str, name: &str| vec![what.to_owned(), format!("{:.0}", number(name))];
    let many = format!("alerts, {} scripts", all["scripts"]);
    let table = Table {
        part: "outbox",
        title: String::from("The outbox: how many a second"),
        notes: vec![format!("Bar: one script gets {LEAST_ONE} of the disk's own synced writes.")],
        head: vec!["what", "a second"],
        rows: vec![
            row("synced writes of the disk", "synced_writes"),
            vec![String::from("alerts, one script"), judged(format!("{:.0}", number("one_script")), good)],
            row(&many, "many_scripts"),
            row("the same, with a file each", "with_a_file"),
            row("messages to one channel", "channel"),
            row("the same at a rate of 100/s", "channel_at_100"),
            row("the same with a file each", "channel_with_a_file"),
        ],
    };
    output.give(&all, &table)?;
    ensure!(good, "one script gets less than {LEAST_ONE} of what the disk takes");
    Ok(())
}
