//! `cargo xtask bench hooks`: what users' scripts may take.
//!
//! Measured by `agent/examples/hooks_bench.rs`. What is a ratio comes from the same run: the rounds with and without the
//! script alternate, and the medians count.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::report::{Table, judged};
use super::{Output, median};
use crate::sys::{interrupt, project, run};

/// Least items a second in one script whose hook looks at `data.response.status`.
const LEAST_ITEMS: f64 = 200_000.0;
/// Least items a second before a filter that does not match.
const LEAST_FILTERED: f64 = 2_000_000.0;
/// Most that resident memory may grow from the first million of items to the last, as a share.
const MOST_GROWTH: f64 = 0.05;
/// Least rate of capture beside a script that does not get on, as a share of the rate without.
const LEAST_RATIO: f64 = 0.95;

/// How much.
#[derive(Args, Debug)]
pub(crate) struct Hooks {
    /// Items that rates are measured with.
    #[arg(long, default_value_t = 2_000_000)]
    items: u64,
    /// Millions of items that memory is watched over.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=1000))]
    millions: u64,
    /// Exchanges in the capture that is replayed beside scripts that do not get on.
    #[arg(long, default_value_t = 400_000)]
    exchanges: u64,
    /// Times that each is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// One line of the table.
struct Line {
    what: String,
    figure: String,
    budget: String,
    good: bool,
}

/// The command.
pub(super) fn run(options: &Hooks, output: Output) -> Result<()> {
    super::example("agent", "hooks_bench")?;
    let folder = tempfile::tempdir().context("making a folder")?;
    let rate = rate("rate", options)?.context("the bench answered nothing")?;
    let filtered = rate_of_filter(options)?;
    let memory = bench(&["memory", &options.millions.to_string()])?;
    let capture = capture(options, folder.path())?;
    let mut lines = vec![rate_line("items a second, hook looks at data.response.status", &rate, LEAST_ITEMS)];
    lines.extend(
        filtered.iter().map(|rate| rate_line("items a second, filter does not match", rate, LEAST_FILTERED)),
    );
    lines.push(memory_line(&memory)?);
    lines.extend(["looping", "waiting"].map(|script| ratio_line(script, &capture)));
    let figures =
        json!({ "part": "hooks", "rate": rate, "filtered": filtered, "memory": memory, "capture": capture });
    output.give(&figures, &table(&lines, &memory))?;
    ensure!(lines.iter().all(|line| line.good), "the scripts miss a budget");
    Ok(())
}

fn table(lines: &[Line], memory: &Value) -> Table {
    let resident: Vec<String> =
        resident(memory).iter().map(|bytes| format!("{:.1}", bytes / f64::from(1 << 20))).collect();
    let row =
        |line: &Line| vec![line.what.clone(), judged(line.figure.clone(), line.good), line.budget.clone()];
    Table {
        part: "hooks",
        title: String::from("What scripts take"),
        notes: vec![format!("Resident MiB after each million of items: {}.", resident.join(" "))],
        head: vec!["what", "figure", "budget"],
        rows: lines.iter().map(row).collect(),
    }
}

fn bench(args: &[&str]) -> Result<Value> {
    interrupt::check()?;
    let output = run::output(run::command(project::optimised("examples/hooks_bench")).args(args))?;
    Ok(serde_json::from_str(&output)?)
}

/// The median round of one part. `None`: this version cannot run it.
fn rate(part: &str, options: &Hooks) -> Result<Option<Value>> {
    let rounds = (0..options.rounds).map(|_| bench(&[part, &options.items.to_string()]));
    let mut rounds = rounds.collect::<Result<Vec<_>>>()?;
    if rounds.iter().any(Value::is_null) {
        return Ok(None);
    }
    rounds.sort_by_key(|round| round["items_per_second"].as_u64());
    Ok(rounds.into_iter().nth(options.rounds as usize / 2))
}

/// A filter that let something through would have measured something else.
fn rate_of_filter(options: &Hooks) -> Result<Option<Value>> {
    let rate = rate("filtered", options)?;
    ensure!(rate.iter().all(|rate| rate["calls"] == 0), "the filter let items through: {rate:?}");
    Ok(rate)
}

fn rate_line(what: &str, rate: &Value, least: f64) -> Line {
    let figure = rate["items_per_second"].as_f64().unwrap_or_default();
    Line {
        what: what.to_owned(),
        figure: format!("{:.2} million/s", figure / 1e6),
        budget: format!(">= {:.1} million/s", least / 1e6),
        good: figure >= least,
    }
}

fn resident(memory: &Value) -> Vec<f64> {
    memory["resident_bytes"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn memory_line(memory: &Value) -> Result<Line> {
    let resident = resident(memory);
    let (first, last) = (resident.first().context("nothing measured")?, resident.last().unwrap_or(&f64::MAX));
    let growth = last / first - 1.0;
    Ok(Line {
        what: format!("growth of memory from 1 to {} million items", resident.len()),
        figure: format!("{:+.1} %", growth * 100.0),
        budget: format!("<= {:.0} %", MOST_GROWTH * 100.0),
        good: growth <= MOST_GROWTH,
    })
}

/// Packets a second of a replay without script and beside scripts that do not get on: of the capturing thread's own time,
/// which other load does not change, and of the clock's.
fn capture(options: &Hooks, folder: &Path) -> Result<Value> {
    const SCRIPTS: [&str; 3] = ["none", "looping", "waiting"];
    let file = folder.join("capture.pcap").to_string_lossy().into_owned();
    bench(&["make", &file, &options.exchanges.to_string()])?;
    let mut rates = SCRIPTS.map(|_| (Vec::new(), Vec::new()));
    // One round that does not count, to have the file in memory.
    bench(&["capture", &file, "none"])?;
    for _ in 0..options.rounds {
        for (script, rates) in SCRIPTS.into_iter().zip(&mut rates) {
            let answer = bench(&["capture", &file, script])?;
            rates.0.push(answer["packets_per_cpu_second"].as_f64().context("no rate")?);
            rates.1.push(answer["packets_per_second"].as_f64().context("no rate")?);
            // A script that got on would not have shown anything.
            ensure!(
                script == "none" || answer["dropped"].as_u64() > Some(0),
                "nothing was dropped: {answer}"
            );
        }
    }
    let answers = SCRIPTS.into_iter().zip(rates).map(|(script, (cpu, clock))| {
        let rates = json!({ "packets_per_cpu_second": median(cpu), "packets_per_second": median(clock) });
        (script.to_owned(), rates)
    });
    Ok(Value::Object(answers.collect()))
}

fn ratio_line(script: &str, capture: &Value) -> Line {
    let ratio = |of: &str| {
        let rate = |name: &str| capture[name][of].as_f64().unwrap_or_default();
        rate(script) / rate("none")
    };
    let (cpu, clock) = (ratio("packets_per_cpu_second"), ratio("packets_per_second"));
    Line {
        what: format!("capture beside a {script} script, of that without"),
        figure: format!("{cpu:.3} ({clock:.3} by clock)"),
        budget: format!(">= {LEAST_RATIO} of the thread's own time"),
        good: cpu >= LEAST_RATIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_held_against_their_budgets() {
        assert!(rate_line("x", &json!({ "items_per_second": 200_000 }), LEAST_ITEMS).good);
        assert!(!rate_line("x", &json!({ "items_per_second": 199_999 }), LEAST_ITEMS).good);
        assert!(!rate_line("x", &Value::Null, LEAST_ITEMS).good);
        let grown = |last: u64| memory_line(&json!({ "resident_bytes": [100, 300, last] })).unwrap();
        assert!(grown(104).good && !grown(106).good);
        assert!(memory_line(&Value::Null).is_err());
        let rates = |rate: f64| json!({ "packets_per_cpu_second": rate, "packets_per_second": rate });
        let capture = json!({ "none": rates(100.0), "looping": rates(95.0), "waiting": rates(94.0) });
        assert!(ratio_line("looping", &capture).good && !ratio_line("waiting", &capture).good);
    }
}
