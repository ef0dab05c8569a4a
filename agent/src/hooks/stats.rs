//! What became of a script's events: counters, and a snapshot of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::exposition::{self, Kind};

/// Counters of one script, written by its thread and by those who deliver to it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) filtered: AtomicU64,
    pub(crate) sampled: AtomicU64,
    pub(crate) filters_evicted: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) out_of_memory: AtomicU64,
    pub(crate) stack_overflows: AtomicU64,
    pub(crate) pauses: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) packets_dropped: AtomicU64,
    pub(crate) jobs_passed: AtomicU64,
    pub(crate) jobs_failed: AtomicU64,
    pub(crate) paused: AtomicBool,
    pub(crate) busy_ns: AtomicU64,
    pub(crate) heap: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, name: &str, title: Option<String>, waiting: usize) -> ScriptStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ScriptStats {
            name: name.to_owned(),
            title,
            running: true,
            calls: read(&self.calls),
            errors: read(&self.errors),
            dropped: read(&self.dropped),
            skipped: read(&self.skipped),
            filtered: read(&self.filtered),
            sampled: read(&self.sampled),
            filters_evicted: read(&self.filters_evicted),
            timeouts: read(&self.timeouts),
            out_of_memory: read(&self.out_of_memory),
            stack_overflows: read(&self.stack_overflows),
            pauses: read(&self.pauses),
            restarts: read(&self.restarts),
            reloads: read(&self.reloads),
            packets_dropped: read(&self.packets_dropped),
            jobs_passed: read(&self.jobs_passed),
            jobs_failed: read(&self.jobs_failed),
            series: 0,
            series_refused: 0,
            paused: self.paused.load(Ordering::Relaxed),
            busy: Duration::from_nanos(read(&self.busy_ns)),
            heap: read(&self.heap),
            waiting,
        }
    }
}

/// One script's statistics since its start.
#[derive(Clone, Debug)]
pub struct ScriptStats {
    /// Name of the script.
    pub name: String,
    /// First comment line of its file.
    pub title: Option<String>,
    /// Whether it runs; else its file is gone.
    pub running: bool,
    /// Calls of hooks, those that ended in an error included.
    pub calls: u64,
    /// Calls that ended in an error of any kind, limits included.
    pub errors: u64,
    /// Events refused because the queue was full (or the script had stopped).
    pub dropped: u64,
    /// Events passed over while the script was paused.
    pub skipped: u64,
    /// Items that a filter of `hooks.on` kept away, once for each registration.
    pub filtered: u64,
    /// Items that matched and that `sample` left out.
    pub sampled: u64,
    /// Compiled filters of `kfl.match` dropped for others.
    pub filters_evicted: u64,
    /// Calls ended by the time limit.
    pub timeouts: u64,
    /// Calls ended by the memory limit.
    pub out_of_memory: u64,
    /// Calls ended by the stack limit.
    pub stack_overflows: u64,
    /// Pauses so far.
    pub pauses: u64,
    /// Starts with fresh state after a limit left the old state unusable.
    pub restarts: u64,
    /// Edits of its file that took effect.
    pub reloads: u64,
    /// Packets that it was not told of: too many waited.
    pub packets_dropped: u64,
    /// Runs of its jobs that went well.
    pub jobs_passed: u64,
    /// Runs of its jobs that ended in an error.
    pub jobs_failed: u64,
    /// Series that it publishes by `prometheus.metric`.
    pub series: usize,
    /// Values of further series that were refused.
    pub series_refused: u64,
    /// Whether it is paused now.
    pub paused: bool,
    /// Time spent in calls, waits included.
    pub busy: Duration,
    /// JavaScript heap after the last call, in bytes.
    pub heap: u64,
    /// Events that wait in its queue.
    pub waiting: usize,
}

/// A script's counter as Prometheus is told of it: name, help, value.
type Told = (&'static str, &'static str, Kind, fn(&ScriptStats) -> f64);

const TOLD: [Told; 22] = [
    ("calls_total", "Calls of hooks and jobs.", Kind::Counter, |s| s.calls as f64),
    ("errors_total", "Calls that ended in an error.", Kind::Counter, |s| s.errors as f64),
    ("timeouts_total", "Calls ended by the time limit.", Kind::Counter, |s| s.timeouts as f64),
    ("out_of_memory_total", "Calls ended by the memory limit.", Kind::Counter, |s| s.out_of_memory as f64),
    ("dropped_total", "Events that found the queue full.", Kind::Counter, |s| s.dropped as f64),
    ("skipped_total", "Events passed over in a pause.", Kind::Counter, |s| s.skipped as f64),
    ("packets_dropped_total", "Packets not told of.", Kind::Counter, |s| s.packets_dropped as f64),
    ("stack_overflows_total", "Calls ended by the stack limit.", Kind::Counter, |s| s.stack_overflows as f64),
    ("filtered_total", "Items that a registered filter kept away.", Kind::Counter, |s| s.filtered as f64),
    ("sampled_total", "Items left out of a sample.", Kind::Counter, |s| s.sampled as f64),
    ("filters_evicted_total", "Filters compiled and forgotten.", Kind::Counter, |s| s.filters_evicted as f64),
    ("jobs_passed_total", "Jobs that passed.", Kind::Counter, |s| s.jobs_passed as f64),
    ("jobs_failed_total", "Jobs that failed.", Kind::Counter, |s| s.jobs_failed as f64),
    ("series", "Series that it publishes.", Kind::Gauge, |s| s.series as f64),
    ("series_refused_total", "Series past the limit.", Kind::Counter, |s| s.series_refused as f64),
    ("pauses_total", "Pauses after limits hit in a row.", Kind::Counter, |s| s.pauses as f64),
    ("restarts_total", "Starts with fresh state after a limit.", Kind::Counter, |s| s.restarts as f64),
    ("reloads_total", "Edits that took effect.", Kind::Counter, |s| s.reloads as f64),
    ("busy_seconds_total", "Time spent in calls.", Kind::Counter, |s| s.busy.as_secs_f64()),
    ("paused", "Whether it is paused now.", Kind::Gauge, |s| f64::from(u8::from(s.paused))),
    ("heap_bytes", "JavaScript heap after the last call.", Kind::Gauge, |s| s.heap as f64),
    ("waiting", "Events that wait.", Kind::Gauge, |s| s.waiting as f64),
];

/// The counters in Prometheus' text format.
pub(crate) fn prometheus(scripts: &[ScriptStats]) -> String {
    let mut text = String::new();
    for (name, help, kind, value) in TOLD.iter().filter(|_| !scripts.is_empty()) {
        let name = format!("remora_script_{name}");
        exposition::head(&mut text, &name, help, *kind);
        for script in scripts {
            exposition::sample(
                &mut text,
                &name,
                &exposition::label("script", &script.name),
                value(script).into(),
            );
        }
    }
    text
}
