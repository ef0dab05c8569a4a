//! `cargo xtask bench store`: the PCAP store's budgets.
//!
//! Writing is compared with `tcpdump -w` of the same packets from the same file, in turn, and the medians count.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::report::{Table, judged};
use super::{Output, median};
use crate::sys::{interrupt, project, run};

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
pub(super) fn run(options: &Store, output: Output) -> Result<()> {
    super::example("agent", "store_bench")?;
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
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or_default();
    let row = |what: String, figure: String, budget: String| vec![what, figure, budget];
    let table = Table {
        part: "store",
        title: String::from("The PCAP store"),
        notes: Vec::new(),
        head: vec!["what", "figure", "budget"],
        rows: vec![
            row(
                format!("writing {} packets, of the rate of tcpdump -w", writing["packets"]),
                judged(
                    format!(
                        "{ratio:.2} ({:.3} s against {:.3} s)",
                        number(&writing, "store_seconds"),
                        number(&writing, "tcpdump_seconds")
                    ),
                    ratio >= LEAST_RATIO,
                ),
                format!(">= {LEAST_RATIO}"),
            ),
            row(
                format!(
                    "1,000 packets of a stream out of {} GiB while {} packets/s are written",
                    options.gib, path["packets_per_second_meanwhile"]
                ),
                format!(
                    "{:.2} ms median, {:.2} ms 99th percentile",
                    median.unwrap_or_default(),
                    p99.unwrap_or_default()
                ),
                format!("<= {MEDIAN_MS} ms, {P99_MS} ms"),
            ),
            row(String::from("index of a stream"), format!("{per_stream:.1} bytes"), String::new()),
        ],
    };
    output.give(&json!({ "part": "store", "writing": writing, "path": path, "index": memory }), &table)?;
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
