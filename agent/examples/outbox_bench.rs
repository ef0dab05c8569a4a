//! What queueing an alert takes, for `cargo xtask bench outbox`: calls a second from one and from many scripts, each on the
//! disk when it returns; beside it, what the disk itself takes of small synced writes. And what delivering takes: messages a
//! second to one channel of the fake Slack, which answers at once. Answers in JSON.
#![expect(clippy::print_stdout, reason = "that is its output")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::outbox::{Alert, Delivery, DurableOutbox, FoldPolicy, Outbox as _, OutboxConfig, Rate};
use agent::secret::Secret;
use anyhow::{Context as _, ensure};
use testkit::slack::{FakeConfig, SlackFake};
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
    let channel = |name: &str, rate, file| delivered(&dir.join(name), rate, file, time);
    let paced = channel("paced", 100.0, 0)?;
    let (free, free_files) = (channel("free", 1e6, 0)?, channel("free-files", 1e6, 50_000)?);
    println!(
        "{}",
        serde_json::json!({
            "synced_writes": synced, "one_script": one, "scripts": MANY, "many_scripts": many, "with_a_file": files,
            "channel_at_100": paced, "channel": free, "channel_with_a_file": free_files,
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
    let outbox = open(folder, "http://127.0.0.1:1/".to_owned(), 1.0, &runtime)?;
    let source = source(folder, file)?;
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

/// Messages that arrive in a second in one channel, where more wait than can be sent; with a file each where it has bytes.
fn delivered(folder: &Path, rate: f64, file: usize, time: Duration) -> anyhow::Result<f64> {
    let runtime = Runtime::new()?;
    let fake = SlackFake::local(FakeConfig::default())?;
    let outbox = open(folder, fake.api_url(), rate, &runtime)?;
    let source = source(folder, file)?;
    let files = || if file == 0 { Vec::new() } else { vec![("s.pcap".into(), source.clone())] };
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time {
        if outbox.stats().waiting < 100 {
            outbox.enqueue("0.js", alert(0, count, files()))?;
            count += 1;
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let (sent, took) = (outbox.stats().sent, start.elapsed().as_secs_f64());
    ensure!(outbox.stats().retried == 0, "it had trouble: {:?}", outbox.stats());
    Ok(f64::from(u32::try_from(sent)?) / took)
}

fn source(folder: &Path, bytes: usize) -> anyhow::Result<PathBuf> {
    let source = folder.join("source");
    std::fs::write(&source, vec![b'p'; bytes])?;
    Ok(source)
}

fn open(
    folder: &Path,
    slack_api_url: String,
    rate: f64,
    runtime: &Runtime,
) -> anyhow::Result<Arc<DurableOutbox>> {
    let config = OutboxConfig {
        slack_api_url,
        slack_rate: Rate { per_second: rate, burst: 1 },
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
        token: Secret::new(FakeConfig::TOKEN),
        channel: if script == 0 { FakeConfig::CHANNEL.to_owned() } else { format!("C{script}") },
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
