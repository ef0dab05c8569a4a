//! The kernel side: runs the measuring test of `agent/tests/ebpf_live/cost.rs`, whose lines are JSON behind a mark.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Output;
use super::report::{Table, judged};
use crate::setup::{self, Ready, Setup};
use crate::suite::steps;
use crate::sys::{NotPermitted, is_root, run};

const MARK: &str = "BENCH ";

/// Budgets in nanoseconds, on all CPUs at once.
const FILTERED: u64 = 60;
const SMALL: u64 = 150;
const LARGE: u64 = 300;

pub(super) fn run(output: Output) -> Result<()> {
    if !is_root() {
        return Err(NotPermitted("measuring the eBPF programs needs root".to_owned()).into());
    }
    // Standard output is the JSON's alone: what is missing then shows when it is built.
    let ready = if output.json {
        Ready { can_build_ebpf: true, ..Ready::default() }
    } else {
        setup::prepare(&Setup::default())?
    };
    ensure!(ready.can_build_ebpf, "the eBPF programs cannot be built here: see above");
    let mut cargo = steps::agent_test(&ready, "ebpf_live");
    // The programs are optimised in any build; what is measured is theirs alone.
    cargo.args(["--", "--ignored", "--exact", "cost::cost_of_a_packet", "--nocapture"]);
    let lines = figures(&run::output(&mut cargo)?)?;
    ensure!(!lines.is_empty(), "nothing was measured");
    output.give(&json!({ "part": "kernel", "figures": lines }), &table(&lines))
}

fn table(lines: &[Value]) -> Table {
    Table {
        part: "kernel",
        title: String::from("Nanoseconds a packet in the eBPF programs, less the harness"),
        notes: vec![String::from(
            "By BPF_PROG_TEST_RUN. Budgets speak of all CPUs at once; `median` is of the runs, `ns` their best.",
        )],
        head: vec!["what", "ring MiB", "bytes", "CPUs", "ns", "median", "budget"],
        rows: lines.iter().map(row).collect(),
    }
}

/// The test's lines, each with its budget where it has one.
fn figures(output: &str) -> Result<Vec<Value>> {
    // The test runner's own dots may come before.
    let marked = output.lines().filter_map(|line| line.split_once(MARK));
    marked
        .map(|(_, text)| {
            let mut line: Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
            if let Some(budget) = budget(&line) {
                line["budget_ns"] = budget.into();
            }
            Ok(line)
        })
        .collect()
}

/// The budget speaks of all CPUs at once, with one port, one net and one policy.
fn budget(line: &Value) -> Option<u64> {
    let (what, cpus) = (line["what"].as_str()?, line["cpus"].as_u64()?);
    match (what, line["bytes"].as_u64()?) {
        _ if cpus == 1 => None,
        ("filtered by port", _) => Some(FILTERED),
        ("port, net, policy", bytes) => Some(if bytes <= 64 { SMALL } else { LARGE }),
        _ => None,
    }
}

fn row(line: &Value) -> Vec<String> {
    let number = |name: &str| line[name].as_u64().unwrap_or_default();
    let budget = line["budget_ns"].as_u64();
    vec![
        line["what"].as_str().unwrap_or_default().to_owned(),
        number("ring_mib").to_string(),
        number("bytes").to_string(),
        number("cpus").to_string(),
        judged(number("ns").to_string(), budget.is_none_or(|budget| number("ns") <= budget)),
        number("median_ns").to_string(),
        budget.map_or_else(String::new, |b| b.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_among_others_and_get_their_budget() {
        let output = "running 1 test\n.BENCH {\"what\":\"port, net, policy\",\"bytes\":64,\"cpus\":4,\"ns\":151}\n\
                      BENCH {\"what\":\"filtered by port\",\"bytes\":64,\"cpus\":1,\"ns\":3}\ntest result: ok";
        let lines = figures(output).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["budget_ns"], 150);
        assert!(lines[1]["budget_ns"].is_null());
        assert_eq!(row(&lines[0])[4], "151 (missed)");
        assert!(figures("BENCH {").is_err());
    }
}
