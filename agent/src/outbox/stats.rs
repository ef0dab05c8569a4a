//! Counters of deliveries.

use std::sync::atomic::{AtomicU64, Ordering};

/// Deliveries so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeliveryStats {
    /// Taken from scripts to be sent, closing messages of folded alerts included.
    pub queued: u64,
    /// Messages delivered, their files attached or named in a note.
    pub sent: u64,
    /// Calls made again after a passing error.
    pub retried: u64,
    /// Of these, calls to which no answer came, so that the message may have arrived twice.
    pub unanswered: u64,
    /// Deliveries given up.
    pub failed: u64,
    /// Files that a delivered message had to name instead of carry.
    pub files_failed: u64,
    /// Folded by a throttle.
    pub suppressed: u64,
    /// Kept in memory only, because the disk took nothing.
    pub in_memory: u64,
    /// Left by an earlier run, or dead letters sent again by hand.
    pub taken_up: u64,
    /// Dead letters removed because they were past their bounds.
    pub dead_dropped: u64,
    /// Not taken: a bound was reached or an argument was wrong.
    pub refused: u64,
    /// Not yet sent or given up.
    pub waiting: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) queued: Counter,
    pub(super) sent: Counter,
    pub(super) retried: Counter,
    pub(super) unanswered: Counter,
    pub(super) failed: Counter,
    pub(super) files_failed: Counter,
    pub(super) refused: Counter,
    pub(super) suppressed: Counter,
    pub(super) in_memory: Counter,
    pub(super) taken_up: Counter,
    pub(super) dead_dropped: Counter,
}

impl Counters {
    pub(super) fn snapshot(&self, waiting: usize) -> DeliveryStats {
        DeliveryStats {
            queued: self.queued.value(),
            sent: self.sent.value(),
            retried: self.retried.value(),
            unanswered: self.unanswered.value(),
            failed: self.failed.value(),
            files_failed: self.files_failed.value(),
            suppressed: self.suppressed.value(),
            in_memory: self.in_memory.value(),
            taken_up: self.taken_up.value(),
            dead_dropped: self.dead_dropped.value(),
            refused: self.refused.value(),
            waiting: waiting as u64,
        }
    }
}

/// Counts up.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
