//! The figures as a table, as JSON, and in BENCHMARKS.md.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::super::report::{Table, machine, version};
use super::peers::Peer;
use super::{Line, Measured, SLOW};
use crate::sys::term;

/// Says one capture's figures.
pub(super) fn show(line: &Line) {
    term::section(&format!(
        "{}: {} packets, {:.0} MB, {} transactions",
        line.shape,
        line.packets,
        line.bytes as f64 / 1e6,
        line.served
    ));
    term::say(&format!(
        "{:<10} {:>9} {:>9} {:>10} {:>11} {:>12}   bar",
        "tool", "seconds", "CPU s", "× remora", "ns/packet", "found"
    ));
    for tool in &line.tools {
        let times = format!("{:>10.2}", tool.times);
        let times = match tool.bar {
            Some(bar) if tool.times < bar => term::red(&times),
            Some(_) => term::green(&times),
            None => times,
        };
        term::say(&format!(
            "{:<10} {:>9.3} {:>9.2} {times} {:>11.0} {:>12}   {}",
            tool.tool,
            tool.wall,
            tool.cpu,
            tool.wall * 1e9 / line.packets as f64,
            tool.found.map_or_else(String::new, |n| n.to_string()),
            tool.bar.map_or_else(String::new, |bar| format!(">= {bar}")),
        ));
    }
}

/// What was asked for and not met.
pub(super) fn missed(line: &Line) -> Vec<String> {
    let below = |tool: &&Measured| tool.bar.is_some_and(|bar| tool.times < bar);
    let told = |tool: &Measured| {
        format!("{}: {:.2} × {}, not {}", line.shape, tool.times, tool.tool, tool.bar.unwrap_or_default())
    };
    line.tools.iter().filter(below).map(told).collect()
}

/// All of it.
pub(super) fn json(lines: &[Line], rounds: u32) -> Value {
    let tool = |t: &Measured| json!({ "tool": t.tool, "seconds": t.wall, "cpu_seconds": t.cpu, "times_remora": t.times, "bar": t.bar, "found": t.found });
    let line = |l: &Line| {
        let tools: Vec<Value> = l.tools.iter().map(tool).collect();
        json!({ "shape": l.shape, "packets": l.packets, "bytes": l.bytes, "transactions": l.served, "tools": tools })
    };
    json!({
        "part": "replay",
        "rounds": rounds,
        "machine": machine(),
        "versions": versions(),
        "shapes": lines.iter().map(line).collect::<Vec<_>>(),
    })
}

fn versions() -> Vec<String> {
    Peer::value_variants()
        .iter()
        .filter(|peer| peer.is_installed())
        .map(|peer| version(peer.name()))
        .collect()
}

/// The table of BENCHMARKS.md.
pub(super) fn table(lines: &[Line], rounds: u32) -> Table {
    let row = |line: &Line, tool: &Measured| {
        vec![
            line.shape.to_owned(),
            line.packets.to_string(),
            line.served.to_string(),
            tool.tool.clone(),
            format!("{:.3}", tool.wall),
            format!("{:.2}", tool.cpu),
            format!("{:.2}", tool.times),
            tool.bar.map_or_else(String::new, |bar| format!(">= {bar}")),
        ]
    };
    Table {
        part: "replay",
        title: String::from("Replay: capture file → items as JSON"),
        notes: vec![
            format!(
                "Medians of {rounds} rounds in turn, the file in the page cache, items held against nginx's log before. A tool that takes more than {SLOW} s for a file is run once."
            ),
            format!("Versions: {}.", versions().join("; ")),
        ],
        head: vec!["load", "packets", "transactions", "tool", "seconds", "CPU s", "× Remora", "bar"],
        rows: lines.iter().flat_map(|line| line.tools.iter().map(|tool| row(line, tool))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(times: f64) -> Line {
        let tool = |tool: &str, times, bar| Measured {
            tool: tool.to_owned(),
            wall: times / 2.0,
            cpu: 0.7,
            found: None,
            times,
            bar,
        };
        let tools = vec![tool("remora", 1.0, None), tool("suricata", times, Some(10.0))];
        Line { shape: "small", packets: 10, bytes: 1000, served: 5, tools }
    }

    #[test]
    fn what_is_below_its_bar_is_told() {
        assert!(missed(&line(10.0)).is_empty());
        assert_eq!(missed(&line(9.5)), ["small: 9.50 × suricata, not 10"]);
    }

    #[test]
    fn each_tool_has_a_row() {
        let table = table(&[line(3.0)], 5);
        assert_eq!(table.rows[1], ["small", "10", "5", "suricata", "1.500", "0.70", "3.00", ">= 10"]);
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
    }
}
