//! What the API counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of requests and connections, shared by both addresses.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Answers by the first digit of their status, from 1.
    pub(super) answers: [AtomicU64; 5],
    /// Requests without the token.
    pub(super) unauthorised: AtomicU64,
    /// Requests of a page from another site, or for another host.
    pub(super) foreign: AtomicU64,
    /// Requests that took too long.
    pub(super) timed_out: AtomicU64,
    /// Connections past the most.
    pub(super) connections_refused: AtomicU64,
    /// Clients of streams past the most.
    pub(super) clients_refused: AtomicU64,
    /// Connections now.
    pub(super) connections: AtomicU64,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, status: u16) {
        if let Some(counter) = self.answers.get(usize::from(status / 100).saturating_sub(1)) {
            Self::add(counter);
        }
    }
}

pub(super) fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
