//! What `bench live` found, as a table and as JSON, and held against the bars.

use serde_json::{Value, json};

use super::super::median;
use super::super::report::{self, Table};
use super::super::web::{Shape, pinned};
use super::{IDLE, Live, START_MS};

/// Least share of the requests a second with nothing attached.
const LEAST_SHARE: f64 = 0.95;
/// By which two medians of the same load differ anyway, as a share.
const NOISE: f64 = 0.01;
/// Most CPU time, as a multiple of tcpdump's.
const MOST_CPU: f64 = 1.5;

/// What a shape came to: medians, and the losses of all rounds.
pub(super) struct Line {
    pub(super) shape: Shape,
    pub(super) bare: f64,
    pub(super) tcpdump: f64,
    pub(super) remora: f64,
    pub(super) tcpdump_cpu: f64,
    pub(super) remora_cpu: f64,
    /// µs a request.
    pub(super) request_cpu: f64,
    /// MiB.
    pub(super) memory: f64,
    /// s of CPU time.
    pub(super) start_cpu: f64,
    pub(super) tcpdump_lost: u64,
    /// In the rings.
    pub(super) remora_lost: u64,
    /// Seen, and refused by the store.
    pub(super) unstored: u64,
    pub(super) missing: i64,
    /// The most in a round of Remora's, as a share.
    pub(super) stolen: f64,
}

impl Line {
    pub(super) fn good(&self) -> bool {
        self.remora >= LEAST_SHARE * self.bare
            && self.remora >= self.tcpdump * (1.0 - NOISE)
            && self.remora_cpu <= MOST_CPU * self.tcpdump_cpu
            && self.remora_lost == 0
            && self.unstored == 0
            && self.missing == 0
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.shape.title().to_owned(),
            format!("{:.0}", self.bare),
            format!("{:.3}", self.tcpdump / self.bare),
            format!("{:.3}", self.remora / self.bare),
            format!("{:.3}", self.tcpdump_cpu),
            format!("{:.3}", self.remora_cpu),
            format!("{:.2}", self.remora_cpu / self.tcpdump_cpu),
            format!("{:.2}", self.request_cpu),
            format!("{:.0}", self.memory),
            self.tcpdump_lost.to_string(),
            self.remora_lost.to_string(),
            self.unstored.to_string(),
            self.missing.to_string(),
            format!("{:.1} %", self.stolen * 100.0),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "shape": self.shape.title(), "requests_per_second": self.bare,
            "tcpdump_share": self.tcpdump / self.bare, "remora_share": self.remora / self.bare,
            "tcpdump_cpu_seconds_per_million_packets": self.tcpdump_cpu,
            "remora_cpu_seconds_per_million_packets": self.remora_cpu,
            "cpu_ratio": self.remora_cpu / self.tcpdump_cpu,
            "remora_cpu_microseconds_per_request": self.request_cpu, "remora_peak_mib": self.memory,
            "remora_start_cpu_seconds": self.start_cpu,
            "tcpdump_dropped": self.tcpdump_lost, "remora_lost": self.remora_lost, "remora_not_stored": self.unstored,
            "remora_missing": self.missing, "stolen_share": self.stolen,
        })
    }
}

pub(super) fn table(lines: &[Line], options: &Live, start: f64, idle: Option<f64>) -> Table {
    let place = if pinned() {
        "nginx and wrk have a CPU each, what captures has the others"
    } else {
        "all share the CPUs"
    };
    let mut notes = vec![
        format!(
            "wrk against nginx over a veth pair, {place}; medians of {} rounds of {} s (1 and 8 MiB responses: 2 s at most), every load with \
             nothing attached, under tcpdump and under Remora in turn. Shares are of the requests a second with nothing \
             attached; CPU is in seconds of the process, from when it had started, for a million packets that it captured, and in us for a request with its response; memory is \
             the most of its own that was resident, without the program and the rings of 32 MiB a worker. Remora: eBPF, engine, store \
             on, one script with a registered filter that matches nothing.",
            options.rounds, options.seconds
        ),
        String::from(
            "Lost: in the kernel's rings; not stored: seen, and refused by the store, which does not hold a worker back. Missing: \
             requests in nginx's log less those in Remora's count, beyond those on their way when wrk stopped. Stolen: the most of the CPUs' \
             time in a round of Remora's that a virtual machine's host had for others.",
        ),
        format!(
            "From the start of the process to the first captured packet: {start:.0} ms (bar: {START_MS:.0} ms). The start takes \
             {:.2} s of CPU time.",
            median(lines.iter().map(|line| line.start_cpu).collect())
        ),
    ];
    if let Some(share) = idle {
        let (share, bar) = (share * 100.0, IDLE * 100.0);
        notes.push(format!("With nothing to capture: {share:.2} % of one core (bar: {bar} %)."));
    }
    notes.push(format!(
        "Bars: share >= {LEAST_SHARE} and no less than tcpdump's (within {NOISE}), CPU <= {MOST_CPU} times tcpdump's, nothing lost. Versions: {}; {}; {}.",
        report::version("tcpdump"),
        report::version("nginx"),
        report::version("wrk")
    ));
    Table {
        part: "live",
        title: String::from("Live capture"),
        notes,
        head: vec![
            "load",
            "requests/s",
            "share tcpdump",
            "share Remora",
            "CPU tcpdump",
            "CPU Remora",
            "ratio",
            "CPU us/request",
            "peak MiB",
            "dropped tcpdump",
            "lost Remora",
            "not stored",
            "missing",
            "stolen",
        ],
        rows: lines.iter().map(Line::cells).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(remora: f64, remora_cpu: f64, remora_lost: u64) -> Line {
        Line {
            shape: Shape::Small,
            bare: 100.0,
            tcpdump: 93.0,
            remora,
            tcpdump_cpu: 1.0,
            remora_cpu,
            request_cpu: 2.0,
            memory: 90.0,
            start_cpu: 0.2,
            tcpdump_lost: 7,
            remora_lost,
            unstored: 0,
            missing: 0,
            stolen: 0.01,
        }
    }

    #[test]
    fn a_line_is_held_against_the_bars() {
        assert!(line(96.0, 1.5, 0).good());
        assert!(!line(94.0, 1.0, 0).good(), "better than tcpdump, and yet too little");
        let tcpdump = 99.0;
        assert!(!Line { tcpdump, ..line(96.0, 1.0, 0) }.good(), "enough, and yet less than tcpdump");
        assert!(Line { tcpdump, ..line(98.5, 1.0, 0) }.good());
        assert!(!line(96.0, 1.6, 0).good());
        assert!(!line(96.0, 1.0, 1).good());
        assert!(!Line { unstored: 1, ..line(96.0, 1.0, 0) }.good());
        assert!(!Line { missing: -3, ..line(96.0, 1.0, 0) }.good());
    }
}
