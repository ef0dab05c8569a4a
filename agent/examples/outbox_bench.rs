//! What queueing an alert takes, for `cargo xtask bench outbox`: calls a second from one and from many scripts, each on the
//! disk when it returns; beside it, what the disk itself takes of small synced writes. Answers in JSON.
#![expect(clippy::print_stdout, reason = "that is its output")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::outbox::{Alert, Delivery, DurableOutbox, FoldPolicy, Outbox as _, OutboxConfig};
use agent::secret::Secret;
use anyhow::{Context as _, ensure};
use tokio::runtime::Runtime;

/// Scripts that queue at once.
const MANY: usize = 16;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = PathBuf::from(args.first().context("outbox_bench DIR SECONDS")?);
    let seconds: f64 = args.get(1).context("outbox_bench DIR SECONDS")?.parse()?;
    let time = Duration::from_secs_f64(seconds);
    let synced = synced_writes(&dir.join("synced"), time)?;
    let (one, many) = (calls(&dir.join("one"), 1, 0, time)?, calls(&dir.join("many"), MANY, 0, time)?);
    let files = calls(&dir.join("files"), MANY, 50_000, time)?;
    println!(
        "{}",
        serde_json::json!({
            "synced_writes": synced, "one_script": one, "scripts": MANY, "many_scripts": many, "with_a_file": files,
        })
    );
    Ok(())
}

/// Appends of 500 bytes, each synced, in a second.
fn synced_writes(path: &Path, time: Duration) -> anyhow::Result<f64> {
    let mut file = File::create(path)?;
    let (start, mut count) = (Instant::now(), 0u32);
    while start.elapsed() < time {
        file.write_all(&[b'x'; 500])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// Calls in a second by `scripts` threads; nothing is delivered, for nobody listens.
fn calls(folder: &Path, scripts: usize, file: usize, time: Duration) -> anyhow::Result<f64> {
    let runtime = Runtime::new()?;
    let outbox = open(folder, &runtime)?;
    let source = folder.join("source");
    std::fs::write(&source, vec![b'p'; file])?;
    let start = Instant::now();
    let counts = std::thread::scope(|scope| {
        let work = |script: usize| {
            let (outbox, source) = (&outbox, &source);
            scope.spawn(move || -> anyhow::Result<u32> {
                let (name, mut count) = (format!("{script}.js"), 0);
                while start.elapsed() < time {
                    let files = if file == 0 { Vec::new() } else { vec![("s.pcap".into(), source.clone())] };
                    outbox.enqueue(&name, alert(script, count, files))?;
                    count += 1;
                }
                Ok(count)
            })
        };
        let threads: Vec<_> = (0..scripts).map(work).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a script panicked"))?)
            .sum()
    });
    let (count, took): (anyhow::Result<u32>, _) = (counts, start.elapsed());
    let (count, stats) = (count?, outbox.stats());
    ensure!(stats.waiting == u64::from(count) && stats.in_memory == 0, "not all is on the disk: {stats:?}");
    Ok(f64::from(count) / took.as_secs_f64())
}

fn open(folder: &Path, runtime: &Runtime) -> anyhow::Result<Arc<DurableOutbox>> {
    let config = OutboxConfig {
        slack_api_url: "http://127.0.0.1:1/".to_owned(),
        folder: folder.to_owned(),
        max_waiting: usize::MAX,
        max_bytes: u64::MAX,
        fold: FoldPolicy { flood_limit: 0, script_budget: 0, total_budget: 0, ..FoldPolicy::default() },
        ..OutboxConfig::default()
    };
    DurableOutbox::open(config, runtime.handle())
}

fn alert(script: usize, count: u32, files: Vec<(String, PathBuf)>) -> Delivery {
    Delivery::SlackBot {
        token: Secret::new("xoxb-0"),
        channel: format!("C{script}"),
        alert: Alert {
            pretext: "Server-side Error".to_owned(),
            text: format!("{count} {}", "x".repeat(300)),
            color: "#ff0000".to_owned(),
        },
        fields: vec![("Service".to_owned(), "shop".to_owned())],
        files,
        fold: None,
    }
}
