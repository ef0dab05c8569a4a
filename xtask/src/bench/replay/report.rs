//! The figures as a table, as JSON, and in BENCHMARKS.md.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::peers::Peer;
use super::{Line, Measured};
use crate::sys::{project, run, term};

/// What a table of BENCHMARKS.md stands between.
const BEGIN: &str = "<!-- begin: cargo xtask bench replay -->";
const END: &str = "<!-- end: cargo xtask bench replay -->";

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

/// Processor, cores, kernel, and what else it was doing.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = run::output(run::command("uname").arg("-sr")).unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{}, {cores} cores, {}, load {load}", model.unwrap_or("unknown processor"), kernel.trim())
}

fn versions() -> Vec<String> {
    Peer::value_variants().iter().filter(|peer| peer.is_installed()).map(|peer| peer.version()).collect()
}

/// Puts the table into BENCHMARKS.md, in the place of the one before.
pub(super) fn write(lines: &[Line], rounds: u32) -> Result<()> {
    let path = project::root().join("BENCHMARKS.md");
    let before = fs::read_to_string(&path).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
    let after = placed(&before, &table(lines, rounds));
    fs::write(&path, after).with_context(|| path.display().to_string())?;
    term::say("BENCHMARKS.md: written");
    Ok(())
}

fn placed(text: &str, table: &str) -> String {
    let block = format!("{BEGIN}\n{table}{END}");
    match (text.find(BEGIN), text.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{block}{}", &text[..begin], &text[end + END.len()..])
        }
        _ => format!("{}\n\n{block}\n", text.trim_end()),
    }
}

fn table(lines: &[Line], rounds: u32) -> String {
    let mut text = format!(
        "## Replay: capture file → items as JSON\n\nMedians of {rounds}, one run, the file in the page cache. Machine: {}.\n\n",
        machine()
    );
    for version in versions() {
        let _ = writeln!(text, "- {version}");
    }
    text.push_str("\n| shape | packets | transactions | tool | seconds | CPU s | × remora |\n|---|---|---|---|---|---|---|\n");
    for line in lines {
        for tool in &line.tools {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {:.3} | {:.2} | {:.2} |",
                line.shape, line.packets, line.served, tool.tool, tool.wall, tool.cpu, tool.times
            );
        }
    }
    text
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
    fn a_table_takes_the_place_of_the_one_before() {
        let first = placed("# Benchmarks\n\nwords\n", "one\n");
        let second = placed(&format!("{first}behind\n"), "two\n");
        assert!(second.starts_with("# Benchmarks\n\nwords\n") && second.ends_with("behind\n"), "{second}");
        assert!(second.contains("two") && !second.contains("one\n"), "{second}");
        assert!(table(&[line(3.0)], 5).contains("| small | 10 | 5 | suricata | 1.500 | 0.70 | 3.00 |"));
    }
}
