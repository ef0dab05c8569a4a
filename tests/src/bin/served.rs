//! Holds what `remora replay` finds in a capture against nginx's access log, request for request.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use testkit::served::compare;

/// Holds what `remora replay` finds in a capture against nginx's access log, request for request.
#[derive(Parser)]
#[command(
    after_help = "Example:\n  served --remora target/release/remora small.pcap small.access.log\n\nExit code 1: they differ."
)]
struct Cli {
    /// The program.
    #[arg(long, default_value = "remora")]
    remora: PathBuf,
    /// The capture.
    capture: PathBuf,
    /// `$msec $remote_addr:$remote_port $connection $connection_requests "$request" $status $request_length $body_bytes_sent`.
    access_log: PathBuf,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let log =
        std::fs::read_to_string(&cli.access_log).with_context(|| cli.access_log.display().to_string())?;
    ensure!(!log.is_empty(), "{} is empty", cli.access_log.display());
    File::open(&cli.capture).with_context(|| cli.capture.display().to_string())?;
    let mut remora = Command::new(&cli.remora)
        .args(["replay", "--json"])
        .arg(&cli.capture)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", cli.remora.display()))?;
    let output = remora.stdout.take().context("no pipe")?;
    let account = compare(&log, BufReader::with_capacity(1 << 20, output));
    let status = remora.wait()?;
    let account = account?;
    ensure!(status.success(), "remora replay ended with {status}");
    account.described.iter().for_each(|text| println!("  {text}"));
    println!(
        "{}: logged {}, found {}, equal {} ({} of them cut off by the client), never served {}, different {}; {} clients",
        cli.capture.display(),
        account.logged,
        account.found,
        account.equal,
        account.cut,
        account.unserved,
        account.different,
        account.clients
    );
    Ok(if account.different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
