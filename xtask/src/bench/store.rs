//! `cargo xtask bench store`: the PCAP store's budgets.
//!
//! Writing is compared with `tcpdump -w` of the same packets from the same file, in turn, and the medians count.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::median;
use crate::sys::{calm, interrupt, project, run, term};

/// Least share of tcpdump's rate.
const LEAST_RATIO: f64 = 0.8;
/// Most time for a stream's file, in ms.
const MEDIAN_MS: f64 = 10.0;
const P99_MS: f64 = 50.0;

/// How much.
#[derive(Args, Debug)]
pub(crate) struct Store {
    /// Folder for the files, about three times the store's size [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Packets written.
    #[arg(long, default_value_t = 1_000_000)]
    packets: u64,
    /// Size of the store that streams are asked of, in GiB.
    #[arg(long, default_value_t = 4)]
    gib: u64,
    /// Times that writing is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// The command.
pub(super) fn run(options: &Store, as_json: bool) -> Result<()> {
    let build = [
        "build",
        "--release",
        "--locked",
        "-p",
        "agent",
        "--no-default-features",
        "--example",
        "store_bench",
    ];
    calm::cargo(project::cargo(None).args(build))?;
    let folder = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("making a folder")?;
    let writing = writing(options, folder.path())?;
    let path = bench(&["path", &inside(folder.path(), "large"), &options.gib.to_string()])?;
    let memory = bench(&["memory", &inside(folder.path(), "many")])?;
    let ratio = writing["ratio"].as_f64().unwrap_or_default();
    let (median, p99) = (path["median_ms"].as_f64(), path["p99_ms"].as_f64());
    let bytes = memory["index_bytes"].as_f64().unwrap_or_default();
    let per_stream = bytes / memory["streams"].as_f64().unwrap_or(1.0);
    if as_json {
        term::say(&json!({ "writing": writing, "path": path, "index": memory }).to_string());
    } else {
        term::say(&format!("writing: {ratio:.2} times the rate of tcpdump -w (at least {LEAST_RATIO})"));
        term::say(&format!(
            "         {:.3} s against {:.3} s for {} packets",
            writing["store_seconds"].as_f64().unwrap_or_default(),
            writing["tcpdump_seconds"].as_f64().unwrap_or_default(),
            writing["packets"]
        ));
        term::say(&format!(
            "path:    {:.2} ms median, {:.2} ms 99th percentile for 1,000 packets out of {} GiB while {} packets/s are written (at most {MEDIAN_MS}, {P99_MS})",
            median.unwrap_or_default(),
            p99.unwrap_or_default(),
            options.gib,
            path["packets_per_second_meanwhile"]
        ));
        term::say(&format!("index:   {per_stream:.1} bytes a stream, live or closed"));
    }
    let good = ratio >= LEAST_RATIO
        && median.is_some_and(|ms| ms <= MEDIAN_MS)
        && p99.is_some_and(|ms| ms <= P99_MS);
    ensure!(good, "the store misses its budget");
    Ok(())
}

fn inside(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

fn bench(args: &[&str]) -> Result<Value> {
    interrupt::check()?;
    let program = project::optimised("examples/store_bench");
    let output = run::output(run::command(program).args(args))?;
    if output.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&output)?) }
}

fn writing(options: &Store, folder: &Path) -> Result<Value> {
    let capture = inside(folder, "capture.pcap");
    bench(&["make", &capture, &options.packets.to_string()])?;
    let (mut store, mut tcpdump) = (Vec::new(), Vec::new());
    let mut packets = Value::Null;
    for _ in 0..options.rounds {
        let out = folder.join("tcpdump.pcap");
        let started = Instant::now();
        // Else tcpdump changes to a user who may not write here.
        let user = if nix::unistd::geteuid().is_root() { &["-Z", "root"][..] } else { &[] };
        run::output(run::command("tcpdump").args(["-r", &capture, "-w"]).arg(&out).args(user))?;
        tcpdump.push(started.elapsed().as_secs_f64());
        std::fs::remove_file(&out)?;

        let dir = folder.join("store");
        let started = Instant::now();
        packets = bench(&["write", &capture, &dir.to_string_lossy()])?["packets"].clone();
        store.push(started.elapsed().as_secs_f64());
        std::fs::remove_dir_all(&dir)?;
    }
    let (store, tcpdump) = (median(store), median(tcpdump));
    Ok(json!({
        "packets": packets,
        "store_seconds": store,
        "tcpdump_seconds": tcpdump,
        "ratio": tcpdump / store,
    }))
}
