//! Removes packets from a big capture at random, many times, and holds what `remora replay` makes of the rest to account.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use testkit::loss::{Baseline, Shape, Trial, Verdict, make};

/// Removes packets from a big capture at random, many times, and holds what `remora replay` makes of the rest to account.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  loss --seeds 10 --percent 5\n  loss --capture a.pcap --access-log a.log --percent 1,5,10\n\n\
                        Without --capture a client and nginx make one in network namespaces of their own (root). Exit code 1: \
                        something wrong was shown, or something is missing without account."
)]
struct Cli {
    /// The program.
    #[arg(long, default_value = "remora")]
    remora: PathBuf,
    /// How the client uses its connections (repeatable).
    #[arg(long, value_enum, value_delimiter = ',', default_value = "keep-alive")]
    shape: Vec<Shape>,
    /// Requests in the capture.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    transactions: u64,
    /// Runs for each percentage; seed 1, 2, and so on.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Packets to remove, in percent.
    #[arg(long, value_delimiter = ',', default_value = "1,5,10")]
    percent: Vec<f64>,
    /// A capture made before.
    #[arg(long, requires = "access_log")]
    capture: Option<PathBuf>,
    /// Its access log: `client-ip:port request-target status` a line, every target once.
    #[arg(long)]
    access_log: Option<PathBuf>,
    /// Keep captures (and access logs) that are made in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Runs at the same time.
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// Write the mangled capture of the first run with something wrong here.
    #[arg(long, value_name = "FILE")]
    wrong: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    ensure!(cli.percent.iter().all(|p| (0.0..=100.0).contains(p)), "--percent is from 0 to 100");
    let mut good = true;
    if let (Some(capture), Some(log)) = (&cli.capture, &cli.access_log) {
        let log = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
        good &= experiment(&cli, "given", capture, log.lines())?;
    } else {
        for &shape in &cli.shape {
            let folder = tempfile::tempdir()?;
            let folder = cli.keep.as_deref().unwrap_or(folder.path());
            let name = format!("{shape:?}").to_lowercase();
            let capture = folder.join(format!("{name}.pcap"));
            let log = make(shape, cli.transactions, &capture)?;
            if cli.keep.is_some() {
                std::fs::write(folder.join(format!("{name}.access.log")), log.join("\n"))?;
            }
            good &= experiment(&cli, &name, &capture, log.iter().map(String::as_str))?;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All runs on one capture. Returns whether all was true.
fn experiment<'a>(
    cli: &Cli,
    name: &str,
    capture: &Path,
    log: impl IntoIterator<Item = &'a str>,
) -> Result<bool> {
    let began = Instant::now();
    let baseline = Baseline::new(&cli.remora, capture, log)?;
    println!(
        "\n{name}: {} transactions in {} packets, all found without loss",
        baseline.transactions(),
        baseline.packets()
    );
    let trials: Vec<Trial> = cli
        .percent
        .iter()
        .flat_map(|&percent| (0..cli.seeds).map(move |n| Trial { percent, seed: cli.first_seed + n }))
        .collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let work = || {
            while let Some(&trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = baseline.run(&cli.remora, trial);
                let failed = result.is_err();
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((trial, result));
                if failed {
                    next.store(trials.len(), Ordering::Relaxed);
                }
            }
        };
        for _ in 0..cli.jobs.clamp(1, 64) {
            scope.spawn(work);
        }
    });
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    let mut good = true;
    for (trial, result) in results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        let verdict = result.with_context(|| format!("{trial:?}"))?;
        if !verdict.is_true() {
            println!(
                "  {} %, seed {}: {} wrong, {} unaccounted for",
                trial.percent, trial.seed, verdict.wrong, verdict.unaccounted
            );
            verdict.described.iter().for_each(|text| println!("    {text}"));
            if let (true, Some(file)) = (good, &cli.wrong) {
                baseline.lossy(trial).save(file)?;
            }
            good = false;
        }
        rows.entry((trial.percent * 1000.0) as u64).or_default().add(&verdict);
    }
    for (percent, row) in &rows {
        row.print(*percent as f64 / 1000.0);
    }
    println!("  {} runs in {:.0} s", trials.len(), began.elapsed().as_secs_f64());
    Ok(good)
}

/// All runs of one percentage.
#[derive(Default)]
struct Row {
    runs: u64,
    least: Option<f64>,
    most: f64,
    sum: Verdict,
}

impl Row {
    fn add(&mut self, verdict: &Verdict) {
        let share = share(verdict.recovered, verdict.transactions);
        self.runs += 1;
        self.least = Some(self.least.map_or(share, |least| least.min(share)));
        self.most = self.most.max(share);
        self.sum.add(verdict);
    }

    fn print(&self, percent: f64) {
        let v = &self.sum;
        let of_all = |n: u64| format!("{n} ({:.3} %)", share(n, v.transactions));
        println!(
            "{percent} % of the packets removed, {} runs: {} transactions, {} packets removed",
            self.runs, v.transactions, v.removed
        );
        println!("  wrong              {}", v.wrong);
        println!(
            "  recovered          {}, from {:.3} to {:.3} % of a run",
            of_all(v.recovered),
            self.least.unwrap_or_default(),
            self.most
        );
        println!(
            "  missing packets    {}: cannot be recovered whole if the packet had bytes",
            of_all(v.touched)
        );
        println!(
            "  collateral         {}: nothing of them is missing, yet not recovered",
            of_all(v.collateral)
        );
        println!("  pair with error    {}", of_all(v.damaged));
        println!("  both, apart        {}", of_all(v.apart));
        println!("  request alone      {}", of_all(v.request_alone));
        println!("  response alone     {}", of_all(v.response_alone));
        println!("  nothing, gap told  {}", of_all(v.in_gaps));
        println!("  nothing, not told  {}: all that would have told was removed as well", of_all(v.untold));
        println!("  unaccounted for    {}", v.unaccounted);
        println!("  items with error   {:?}; gaps in streams: {}", v.errors, v.gaps);
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
