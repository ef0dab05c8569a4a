//! Searches what a run of the tests let out for the secrets that they used.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use testkit::canary::{MARK, TRACE_DIR, search};

/// Most leaks that are shown.
const SHOWN: usize = 20;

/// Searches what a run of the tests let out for the secrets that they used.
#[derive(Parser)]
#[command(
    after_help = "Example:\n  REMORA_TRACE_DIR=/tmp/records cargo test -p agent; canaries /tmp/records\n\nExit code 1: one leaked, or there was nothing to find."
)]
struct Cli {
    /// The folder of records.
    folder: PathBuf,
}

fn main() -> Result<ExitCode> {
    let folder = Cli::parse().folder;
    let found = search(&folder).with_context(|| format!("{} ({TRACE_DIR} of the run)", folder.display()))?;
    for leak in found.leaks.iter().take(SHOWN) {
        println!("{}:{}: …{}…", leak.file.display(), leak.line, leak.text);
    }
    let (files, mib, leaks) = (found.files, found.bytes >> 20, found.leaks.len());
    println!(
        "{leaks} leaks of {MARK:?} in {files} records of {mib} MiB; {} times where it belongs",
        found.rightful
    );
    if files == 0 || found.rightful == 0 {
        println!("no secret was used, or nothing was recorded: this proves nothing");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if leaks == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
