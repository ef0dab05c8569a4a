//! `cargo xtask bench replay --workers 1,2,4`: the same file by several numbers of workers in turn, and which thread is the
//! busiest: there it bends.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::median;
use super::super::report::{Table, machine};
use super::load::Capture;
use super::peers::{self, Run};
use crate::sys::interrupt;

/// How often threads' times are looked at, in the round that is not counted.
const LOOK: Duration = Duration::from_millis(2);
/// Threads that are told.
const TOLD: usize = 4;

/// One number of workers on one capture.
#[derive(Debug)]
struct Measured {
    workers: u16,
    /// Seconds by the clock, and of all threads.
    wall: f64,
    cpu: f64,
    /// Names and seconds of the busiest threads.
    threads: Vec<(String, f64)>,
}

/// All of them on one capture.
#[derive(Debug)]
pub(super) struct Scaling {
    shape: &'static str,
    packets: u64,
    measured: Vec<Measured>,
}

/// Measures each number of workers as often as asked for.
pub(super) fn measure(capture: &Capture, workers: &[u16], rounds: u32) -> Result<Scaling> {
    capture.verify()?;
    let threads = workers.iter().map(|&n| busiest(capture, n)).collect::<Result<Vec<_>>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); workers.len()];
    for _ in 0..rounds {
        for (&n, (wall, cpu)) in workers.iter().zip(&mut times) {
            let run = Run::of(peers::remora(&capture.pcap, n), None)?;
            wall.push(run.wall);
            cpu.push(run.cpu);
        }
    }
    let all = workers.iter().zip(times).zip(threads);
    let measured = all.map(|((&workers, (wall, cpu)), threads)| Measured {
        workers,
        wall: median(wall),
        cpu: median(cpu),
        threads,
    });
    Ok(Scaling { shape: capture.shape.name(), packets: capture.packets, measured: measured.collect() })
}

/// Runs it once while looking at its threads; a thread's time is the last that was seen before it ended.
fn busiest(capture: &Capture, workers: u16) -> Result<Vec<(String, f64)>> {
    interrupt::check()?;
    let mut command = peers::remora(&capture.pcap, workers);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start remora")?;
    let tasks = format!("/proc/{}/task", child.id());
    let mut seen = BTreeMap::new();
    let status = loop {
        look(&tasks, &mut seen);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    ensure!(status.success(), "remora ended with {status}");
    let mut threads: Vec<(String, f64)> = seen.into_values().collect();
    threads.sort_by(|a, b| b.1.total_cmp(&a.1));
    threads.truncate(TOLD);
    Ok(threads)
}

/// Notes the names and times of the threads that there are now.
fn look(tasks: &str, seen: &mut BTreeMap<String, (String, f64)>) {
    let Ok(entries) = fs::read_dir(tasks) else { return };
    for task in entries.flatten().map(|entry| entry.path()) {
        let read = |name: &str| fs::read_to_string(task.join(name)).ok();
        let (Some(name), Some(times)) = (read("comm"), read("schedstat")) else { continue };
        if let Some(seconds) = on_cpu(&times) {
            seen.insert(task.to_string_lossy().into_owned(), (name.trim().to_owned(), seconds));
        }
    }
}

/// Seconds on a processor: the first field of `schedstat` is nanoseconds.
fn on_cpu(schedstat: &str) -> Option<f64> {
    schedstat.split_ascii_whitespace().next()?.parse::<f64>().ok().map(|nanos| nanos / 1e9)
}

impl Scaling {
    /// How much faster than the first number of workers.
    fn speed(&self, one: &Measured) -> f64 {
        self.measured.first().map_or(1.0, |first| first.wall / one.wall)
    }

    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.measured.iter().map(|one| {
            let threads = one.threads.iter().map(|(name, seconds)| format!("{name} {seconds:.2}"));
            vec![
                self.shape.to_owned(),
                one.workers.to_string(),
                format!("{:.3}", one.wall),
                format!("{:.2}", one.cpu),
                format!("{:.2}", self.packets as f64 / one.wall / 1e6),
                format!("{:.2}", self.speed(one)),
                threads.collect::<Vec<_>>().join(", "),
            ]
        })
    }
}

/// All of it.
pub(super) fn json(all: &[Scaling], rounds: u32) -> Value {
    let one = |s: &Scaling, m: &Measured| {
        let threads: serde_json::Map<_, _> = m.threads.iter().map(|(n, s)| (n.clone(), json!(s))).collect();
        json!({ "workers": m.workers, "seconds": m.wall, "cpu_seconds": m.cpu, "speed": s.speed(m), "threads": threads })
    };
    let shape = |s: &Scaling| {
        let each: Vec<Value> = s.measured.iter().map(|m| one(s, m)).collect();
        json!({ "shape": s.shape, "packets": s.packets, "workers": each })
    };
    json!({
        "part": "replay-workers",
        "rounds": rounds,
        "machine": machine(),
        "shapes": all.iter().map(shape).collect::<Vec<_>>(),
    })
}

/// The table of BENCHMARKS.md.
pub(super) fn table(all: &[Scaling], rounds: u32) -> Table {
    Table {
        part: "replay-workers",
        title: String::from("Replay by several workers"),
        notes: vec![format!(
            "Medians of {rounds} rounds in turn, the file in the page cache, items as JSON to /dev/null. Threads: CPU seconds of the \
             busiest in a round that does not count. One worker is two threads: the engine's, and the writer of JSON."
        )],
        head: vec!["load", "workers", "seconds", "CPU s", "Mpackets/s", "× first", "busiest threads"],
        rows: all.iter().flat_map(Scaling::rows).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_those_against_the_first() {
        let one = |workers, wall| Measured {
            workers,
            wall,
            cpu: 1.0,
            threads: vec![(String::from("worker-0"), 0.4), (String::from("deal"), 0.1)],
        };
        let all = [Scaling { shape: "small", packets: 1_000_000, measured: vec![one(1, 1.0), one(4, 0.4)] }];
        let table = table(&all, 5);
        assert_eq!(
            table.rows[1],
            ["small", "4", "0.400", "1.00", "2.50", "2.50", "worker-0 0.40, deal 0.10"]
        );
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
        assert_eq!(json(&all, 5)["shapes"][0]["workers"][1]["threads"]["deal"], 0.1);
    }

    #[test]
    fn own_threads_are_seen_with_their_time() {
        assert_eq!(on_cpu("2500000000 17 3\n"), Some(2.5));
        assert_eq!(on_cpu(""), None);
        let mut seen = BTreeMap::new();
        look("/proc/self/task", &mut seen);
        assert!(!seen.is_empty());
    }
}
