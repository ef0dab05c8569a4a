//! What a worker lets others know while it runs: that it gets on, and its counters every now and then.
//!
//! Invariant: telling costs the worker an atomic store a batch, and a copy of its counters four times a second; it never
//! waits for who reads them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_core::{EngineStats, Item, Record};

/// How often counters are told.
const TELL: Duration = Duration::from_millis(250);

/// Shared by a worker and those who look after it.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// Milliseconds from `born` to the last beat.
    beat: AtomicU64,
    /// …and to the last time that counters were told.
    told: AtomicU64,
    ended: AtomicBool,
    progress: Mutex<Progress>,
}

/// A worker's counters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// The engine's.
    pub engine: EngineStats,
    /// Items that `--filter` kept from the sinks.
    pub filtered: u64,
    /// Items by what was answered.
    pub items: ItemCounts,
    /// Memory of the engine, in bytes.
    pub memory: u64,
}

/// Items of HTTP by the first digit of their status: 1 to 5, other, none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ItemCounts {
    http: [u64; 7],
}

impl ItemCounts {
    const CLASSES: [&'static str; 7] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other", "none"];

    /// Counts one.
    pub fn add(&mut self, item: &Item) {
        let Record::Http(exchange) = &item.record else { return };
        let class = match exchange.response.as_ref().map(|response| response.status) {
            Some(status @ 100..=599) => usize::from(status / 100 - 1),
            Some(_) => 5,
            None => 6,
        };
        self.http[class] += 1;
    }

    /// Adds another worker's.
    pub fn plus(&mut self, other: &Self) {
        for (sum, more) in self.http.iter_mut().zip(other.http) {
            *sum += more;
        }
    }

    /// Protocol, status class and number of each.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Self::CLASSES.into_iter().zip(self.http).map(|(class, count)| ("http", class, count))
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            beat: AtomicU64::new(0),
            told: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            progress: Mutex::default(),
        }
    }
}

impl Pulse {
    /// Says that the loop went round. `true`: counters are to be told.
    pub fn beat(&self) -> bool {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(now, Ordering::Relaxed);
        now.saturating_sub(self.told.load(Ordering::Relaxed)) >= TELL.as_millis() as u64
    }

    /// Tells counters, unless somebody is reading them: then the next time.
    pub fn tell(&self, progress: Progress) {
        if let Ok(mut told) = self.progress.try_lock() {
            *told = progress;
            self.told.store(self.beat.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Tells the last ones, and that there will be no more.
    pub fn end(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        self.ended.store(true, Ordering::Release);
    }

    /// Time since the last beat.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.beat.load(Ordering::Relaxed)))
    }

    /// Whether the worker has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Its counters as it told them last.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_every_now_and_then_and_never_waited_for() {
        let pulse = Pulse::default();
        assert!(!pulse.beat(), "not at once");
        std::thread::sleep(TELL);
        assert!(pulse.age() >= TELL);
        assert!(pulse.beat() && pulse.age() < TELL);
        let told = |filtered| Progress { filtered, ..Progress::default() };
        {
            let _reader = pulse.progress.lock().unwrap();
            pulse.tell(told(1));
        }
        assert_eq!(pulse.progress().filtered, 0);
        assert!(pulse.beat(), "it is still to be told");
        pulse.tell(told(2));
        assert!(!pulse.beat() && pulse.progress() == told(2));
        pulse.end(told(3));
        assert!(pulse.has_ended() && pulse.progress() == told(3));
    }
}
