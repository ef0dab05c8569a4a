//! `cargo xtask counts`: instructions that a packet and an item cost, by valgrind, held against those of `xtask/counts.json`.
//!
//! Counts, not seconds: the same program on the same packets executes the same instructions however busy the machine is. Each
//! is counted twice, with few and with more exchanges; what the difference is, is theirs, and not the program's start. They
//! are a compiler's: with another one, or a processor without AVX2, nothing is held against them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::sys::{calm, interrupt, project, run, term};

/// Most that a count may be above what is written down, in percent.
const TOLERANCE: u64 = 4;
/// Exchanges of the two runs.
const FEW: u64 = 500;
const MORE: u64 = 2500;

/// Whether to look or to write down.
#[derive(Args, Debug, Default)]
#[command(
    after_help = "Examples:\n  cargo xtask counts\n  cargo xtask counts --whole --renew     (after a change that is worth what it costs)"
)]
pub(crate) struct Counts {
    /// Write down what is counted now.
    #[arg(long)]
    renew: bool,
    /// Count `remora replay --json` as a whole, too, which is built for that.
    #[arg(long)]
    whole: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// None above its bound.
    Good,
    /// Not counted, or not compared, and why.
    Skipped(String),
}

/// The command.
pub(crate) fn run(options: &Counts) -> Result<()> {
    if options.whole {
        calm::cargo(project::cargo(None).args(["build", "--locked", "-p", "agent", "--bin", "remora"]))?;
    }
    match check(options.renew, options.whole)? {
        Verdict::Good => Ok(()),
        Verdict::Skipped(why) => {
            term::say(&format!("Not compared: {why}."));
            Ok(())
        }
    }
}

/// Counts and compares. `whole`: the agent's program is there, and up to date.
pub(crate) fn check(renew: bool, whole: bool) -> Result<Verdict> {
    if project::program("valgrind").is_none() {
        return Ok(Verdict::Skipped("valgrind is not installed (`cargo xtask setup` does that)".to_owned()));
    }
    let engine = ["build", "--release", "--locked", "-p", "agent-core", "--example", "counts"];
    calm::cargo(project::cargo(None).args(engine))?;
    let folder = tempfile::tempdir()?;
    let mut counted = Map::new();
    for shape in ["small", "fresh", "body20k", "gzip", "close"] {
        let count = match twice(|exchanges| (engine_on(shape, exchanges), None), folder.path()) {
            Ok(count) => count,
            Err(error) => return unsupported(error),
        };
        counted.insert(format!("engine, {shape}: an exchange"), count.into());
    }
    if whole {
        // As `cargo xtask test` builds it: not the fastest, but its counts go up and down with those of the fastest.
        let file = folder.path().join("small.pcap");
        let replay = |exchanges: u64| {
            let mut replay = Command::new(project::built("remora"));
            replay.args(["replay", "--json"]).arg(&file);
            let mut make = engine_on("small", exchanges);
            make.arg(&file);
            (replay, Some(make))
        };
        match twice(replay, folder.path()) {
            Ok(count) => {
                counted.insert(
                    "remora replay --json (debug profile), small: an exchange".to_owned(),
                    count.into(),
                );
            }
            Err(error) => return unsupported(error),
        }
    }
    let path = project::root().join("xtask/counts.json");
    if renew {
        // What was not counted now stays as it was.
        if let Some(old) =
            fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok())
            && old["made with"] == maker()?
        {
            for (what, count) in old["instructions"].as_object().into_iter().flatten() {
                counted.entry(what).or_insert_with(|| count.clone());
            }
        }
        let text = serde_json::to_string_pretty(&json!({ "made with": maker()?, "instructions": counted }))?;
        fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
        counted.iter().for_each(|(what, count)| term::say(&format!("{count:>8}  {what}")));
        return Ok(Verdict::Good);
    }
    let known: Value = serde_json::from_str(&fs::read_to_string(&path).context("xtask/counts.json")?)?;
    if known["made with"] != maker()? {
        let other = format!(
            "they were made with {}; `cargo xtask counts --whole --renew` makes them anew",
            known["made with"]
        );
        counted.iter().for_each(|(what, count)| term::say(&format!("{count:>8}  {what}")));
        return Ok(Verdict::Skipped(other));
    }
    let lines: Vec<Compared> = counted.iter().map(|(what, now)| compare(what, now, &known)).collect();
    lines.iter().for_each(|line| term::say(&line.text));
    ensure!(
        lines.iter().all(|line| line.good),
        "more instructions than xtask/counts.json allows; if they are worth it: cargo xtask counts --whole --renew"
    );
    Ok(Verdict::Good)
}

fn engine_on(shape: &str, exchanges: u64) -> Command {
    let mut command = Command::new(project::optimised("examples/counts"));
    command.args([shape, &exchanges.to_string()]);
    command
}

/// Instructions of one exchange: `make` gives the command for so many, and one that has to be run before it.
fn twice(make: impl Fn(u64) -> (Command, Option<Command>), folder: &Path) -> Result<u64> {
    let count = |exchanges| -> Result<u64> {
        interrupt::check()?;
        let (command, before) = make(exchanges);
        if let Some(mut before) = before {
            run::output(&mut before)?;
        }
        instructions(&command, folder)
    };
    let (few, more) = (count(FEW)?, count(MORE)?);
    ensure!(more > few, "{MORE} exchanges take {more} instructions, {FEW} take {few}");
    Ok((more - few) / (MORE - FEW))
}

/// All that a program executes, in all its threads.
fn instructions(command: &Command, folder: &Path) -> Result<u64> {
    let out = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(command.get_program()).args(command.get_args());
    run::output(&mut valgrind)?;
    let text = fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    total(&text).context("callgrind wrote no total")
}

fn total(text: &str) -> Option<u64> {
    let line = |mark: &str| {
        text.lines().find_map(|line| line.strip_prefix(mark)?.split_whitespace().next()?.parse().ok())
    };
    line("totals:").or_else(|| line("summary:"))
}

/// Where valgrind does not know the processor's instructions, nothing is wrong with the project.
fn unsupported(error: anyhow::Error) -> Result<Verdict> {
    let text = format!("{error:#}").to_lowercase();
    let unknown =
        ["unrecognised instruction", "illegal instruction", "sigill", "signal: 4", "unhandled instruction"];
    if unknown.iter().any(|words| text.contains(words)) {
        return Ok(Verdict::Skipped(
            "this valgrind does not know all of this processor's instructions".to_owned(),
        ));
    }
    Err(error)
}

/// What the counts depend on besides the project.
fn maker() -> Result<String> {
    let rustc = run::output(run::command("rustc").arg("--version"))?;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let wide = cpu.split_ascii_whitespace().any(|flag| flag == "avx2");
    let wide = if wide { "AVX2" } else { "no AVX2" };
    Ok(format!("{}, {}, {wide}", rustc.trim(), std::env::consts::ARCH))
}

struct Compared {
    text: String,
    good: bool,
}

fn compare(what: &str, now: &Value, known: &Value) -> Compared {
    let (now, known) = (now.as_u64().unwrap_or_default(), known["instructions"][what].as_u64());
    let Some(before) = known else {
        return Compared { text: format!("{now:>8}  {what}: not written down yet"), good: true };
    };
    let change = now as f64 / before as f64 - 1.0;
    let good = now * 100 <= before * (100 + TOLERANCE);
    let percent = format!("{:+.1} %", change * 100.0);
    let percent = if good { term::green(&percent) } else { term::red(&percent) };
    Compared { text: format!("{now:>8}  {what}: {percent} of {before}"), good }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_held_against_its_bound() {
        let known = json!({ "instructions": { "a": 1000 } });
        assert!(compare("a", &json!(1040), &known).good && compare("a", &json!(500), &known).good);
        assert!(!compare("a", &json!(1041), &known).good);
        assert!(compare("b", &json!(7), &known).good);
    }

    #[test]
    fn totals_are_read() {
        assert_eq!(total("events: Ir\nsummary: 12\n1 2\ntotals: 34\n"), Some(34));
        assert_eq!(total("events: Ir\nsummary: 12\n"), Some(12));
        assert_eq!(total("fn=(1)"), None);
    }

    #[test]
    fn only_what_valgrind_does_not_know_is_skipped() {
        let says = |text: &str| unsupported(anyhow::anyhow!(text.to_owned()));
        assert!(matches!(says("valgrind: Unrecognised instruction at address"), Ok(Verdict::Skipped(_))));
        assert!(says("no such file").is_err());
    }
}
