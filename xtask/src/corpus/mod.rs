//! `cargo xtask corpus DIR`: every capture of a folder through `remora replay`, held against what an oracle found in it.
//!
//! `DIR/expected/FILE.jsonl` says what is in `DIR/FILE`, with grades: A must match in every fact, B in 99.5 % of the records, C must
//! only not crash. Nothing may be found that is not there. What is the oracle's own fault stands in a list with reasons.

mod compare;
mod faults;
mod morph;
mod pcaps;
mod record;
mod replay;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::sys::{interrupt, term};
use compare::Verdict;
use faults::Faults;
use record::Record;

/// Which captures.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  cargo xtask corpus ../captures\n  cargo xtask corpus ../captures --only zeek__tcp.pcap\n  \
                        cargo xtask corpus ../captures --morph --json"
)]
pub(crate) struct Corpus {
    /// Folder with captures and, in `expected/`, what is in them.
    dir: PathBuf,
    /// One JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Only these files of the folder.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    only: Vec<String>,
    /// Also with the same bytes carried otherwise by TCP (the folder's morph.py).
    #[arg(long)]
    morph: bool,
    /// Instead: each stream's packets out of the PCAP store against what tshark extracts.
    #[arg(long, conflicts_with_all = ["morph", "json"])]
    pcaps: bool,
}

/// What came of one capture.
struct Capture {
    file: String,
    /// How TCP was changed; "" for the capture as it is.
    morph: &'static str,
    verdict: Verdict,
    /// Why there is no verdict: a crash, an error, a time-out.
    failure: Option<String>,
}

/// The command.
pub(crate) fn run(options: &Corpus) -> Result<()> {
    // Whoever asks for this wants the program as the sources are now.
    replay::build()?;
    if options.pcaps {
        return pcaps::run(options);
    }
    let (captures, faults) = all(options)?;
    if options.json {
        term::say(&report::json(&captures).to_string());
    } else {
        report::print(&captures, &faults);
    }
    report::judge(&captures)
}

/// The part of `cargo xtask test`: all captures as they are, with the program that is built already.
pub(crate) fn check(dir: &Path) -> Result<()> {
    let options = Corpus { dir: dir.to_owned(), json: false, only: Vec::new(), morph: false, pcaps: false };
    let (captures, faults) = all(&options)?;
    report::print(&captures, &faults);
    report::judge(&captures)
}

fn all(options: &Corpus) -> Result<(Vec<Capture>, Vec<String>)> {
    let files = files(&options.dir, &options.only)?;
    let mut faults = Faults::read()?;
    let mut captures = Vec::new();
    for of_file in in_parallel(&files, |file| of_file(options, file)) {
        captures.extend(of_file?);
    }
    captures.iter_mut().for_each(|capture| excuse(capture, &mut faults));
    Ok((captures, faults.stale(&files, options.morph)))
}

/// Runs `task` for all files, as many at a time as there are processors; the results are in the order of the files.
fn in_parallel<T: Send>(files: &[String], task: impl Fn(&str) -> Result<T> + Sync) -> Vec<Result<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < files.len())
                {
                    let result = interrupt::check().and_then(|()| task(&files[at]));
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// A capture as it is, and with `--morph` in all other ways.
fn of_file(options: &Corpus, file: &str) -> Result<Vec<Capture>> {
    let expected = expected(&options.dir, file)?;
    let path = options.dir.join(file);
    let mut captures = vec![one(file, "", &path, &expected)];
    if options.morph {
        for morphed in morph::all(&options.dir, &path)? {
            let expected = if morphed.graded_down { morph::graded_down(&expected) } else { expected.clone() };
            captures.push(one(file, morphed.name, morphed.file.path(), &expected));
        }
    }
    Ok(captures)
}

fn one(file: &str, morph: &'static str, path: &Path, expected: &[Record]) -> Capture {
    let (verdict, failure) = match replay::replay(path) {
        Ok(found) => (compare::compare(expected, &found), None),
        // What was expected is missing, all of it.
        Err(error) => (compare::compare(expected, &[]), Some(format!("{error:#}"))),
    };
    Capture { file: file.to_owned(), morph, verdict, failure }
}

/// Takes out what the list explains.
fn excuse(capture: &mut Capture, faults: &mut Faults) {
    if capture.failure.is_some() {
        return;
    }
    let mut explained = Vec::new();
    capture.verdict.differences.retain(|d| {
        let known = faults.explain(&capture.file, capture.morph, d);
        if known {
            explained.push((d.kind, d.grade.clone(), d.what.clone()));
        }
        !known
    });
    for (kind, grade, what) in explained {
        report::excuse(capture.verdict.tally(kind, &grade), &what);
    }
}

fn files(dir: &Path, only: &[String]) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut files: Vec<String> = names.filter(|n| n.ends_with(".pcap") || n.ends_with(".pcapng")).collect();
    files.sort_unstable();
    if let Some(unknown) = only.iter().find(|o| !files.contains(o)) {
        bail!("{} has no capture {unknown}", dir.display());
    }
    files.retain(|f| only.is_empty() || only.contains(f));
    ensure!(!files.is_empty(), "{} has no captures", dir.display());
    Ok(files)
}

fn expected(dir: &Path, file: &str) -> Result<Vec<Record>> {
    let path = dir.join("expected").join(format!("{file}.jsonl"));
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut records = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let value: Value = serde_json::from_str(line).with_context(|| path.display().to_string())?;
        records.extend(record::expected(&value));
    }
    Ok(records)
}
