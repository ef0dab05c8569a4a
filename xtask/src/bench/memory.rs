//! `cargo xtask bench memory`: what an engine holds, as the operating system sees it.
//!
//! Measured by `agent-core/examples/memory.rs`: idle streams that each had a request and a response, streams that come and go, and
//! one body of gigabytes. It does not depend on what else the machine does.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Output;
use super::report::Table;
use crate::sys::{interrupt, run};

/// Idle streams, and the most memory that the last of them may take in all.
const IDLE: [u32; 3] = [25_000, 50_000, 100_000];
const MOST_IDLE: u64 = 64 << 20;
/// Streams a second, and the most memory that the last of them may take: of six seconds, at 512 bytes each.
const RATES: [u32; 3] = [1_000, 10_000, 30_000];
const MOST_RATE: u64 = 30_000 * 6 * 512;
/// GiB of the bodies, and the most memory that one may take.
const BODY_GIB: u32 = 4;
const MOST_BODY: u64 = 8 << 20;

/// Bytes.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident: u64,
    counted: u64,
}

/// The command.
pub(super) fn run(output: Output) -> Result<()> {
    let program = super::example("agent-core", "memory")?;
    let idle = IDLE.iter().map(|&streams| Ok((streams, measure(&program, &["idle", &streams.to_string()])?)));
    let idle = idle.collect::<Result<Vec<_>>>()?;
    let rates = RATES.iter().map(|&rate| Ok((rate, measure(&program, &["rate", &rate.to_string()])?)));
    let rates = rates.collect::<Result<Vec<_>>>()?;
    let gib = BODY_GIB.to_string();
    let body = ["length", "chunked"].map(|kind| Ok((kind, measure(&program, &["body", &gib, kind])?)));
    let body = body.into_iter().collect::<Result<Vec<_>>>()?;
    let held = |held: &Held| json!({ "resident_bytes": held.resident, "counted_bytes": held.counted });
    let of_idle = idle.iter().map(|(streams, with)| (streams.to_string(), held(with)));
    let of_rates = rates.iter().map(|(rate, with)| (rate.to_string(), held(with)));
    let of_body = body.iter().map(|(kind, with)| ((*kind).to_owned(), held(with)));
    let figures = json!({
        "part": "memory",
        "idle_streams": Value::Object(of_idle.collect()),
        "streams_a_second": Value::Object(of_rates.collect()),
        "body": Value::Object(of_body.collect()),
    });
    output.give(&figures, &table(&idle, &rates, &body))?;
    let good = idle.iter().all(|(_, held)| held.resident <= MOST_IDLE)
        && rates.iter().all(|(_, held)| held.resident <= MOST_RATE)
        && body.iter().all(|(_, held)| held.resident <= MOST_BODY);
    ensure!(good, "the engine's memory misses a budget");
    Ok(())
}

fn measure(program: &Path, arguments: &[&str]) -> Result<Held> {
    interrupt::check()?;
    let said = run::output(run::command(program).args(arguments))?;
    parse(&said).with_context(|| format!("it said: {said}"))
}

fn parse(said: &str) -> Option<Held> {
    let figures = said.lines().find_map(|line| line.strip_prefix("figures: "))?;
    let of = |name: &str| {
        let mut pairs = figures.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name)?.1.parse().ok()
    };
    Some(Held { resident: of("resident")?, counted: of("counted")? })
}

fn table(idle: &[(u32, Held)], rates: &[(u32, Held)], body: &[(&str, Held)]) -> Table {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let row = |what: String, held: &Held, each: String, bar: u64| {
        vec![what, mib(held.resident), mib(held.counted), each, format!("<= {} MiB", bar >> 20)]
    };
    let streams = idle.iter().map(|(streams, held)| {
        let each = (held.resident / u64::from(*streams)).to_string();
        row(format!("{streams} idle streams, an exchange each"), held, each, MOST_IDLE)
    });
    let rates = rates.iter().map(|(rate, held)| {
        row(format!("{rate} streams a second, an exchange each"), held, String::new(), MOST_RATE)
    });
    let bodies = body.iter().map(|(kind, held)| {
        row(format!("a body of {BODY_GIB} GiB, by {kind}"), held, String::new(), MOST_BODY)
    });
    Table {
        part: "memory",
        title: String::from("Memory of an engine"),
        notes: vec![String::from(
            "Resident: what the operating system counts more than before the first packet. Counted: what the engine itself says. \
             A stream that has closed is kept for five seconds.",
        )],
        head: vec!["what", "resident MiB", "counted MiB", "bytes a stream", "bar"],
        rows: streams.chain(rates).chain(bodies).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_read() {
        let held = parse("100 idle streams\nfigures: resident=51200 counted=48800\n").unwrap();
        assert_eq!((held.resident, held.counted), (51_200, 48_800));
        assert!(parse("figures: resident=x counted=1").is_none());
        let table = table(&[(100, held)], &[(10, held)], &[("length", held)]);
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
        assert_eq!(table.rows[0][3], "512");
    }
}
