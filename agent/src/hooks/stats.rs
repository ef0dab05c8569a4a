//! What became of a script's events: counters, and a snapshot of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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
    /// Whether it is paused now.
    pub paused: bool,
    /// Time spent in calls, waits included.
    pub busy: Duration,
    /// JavaScript heap after the last call, in bytes.
    pub heap: u64,
    /// Events that wait in its queue.
    pub waiting: usize,
}
