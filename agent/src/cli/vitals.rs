//! How a live run is: what `/healthz`, `/readyz` and `/metrics` tell of capture and its workers.
//!
//! The loop that watches over capture owns it and tells its books here once a second; workers have a [`Pulse`] each. Nobody
//! who asks waits for either.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::Registry;
use crate::pipeline::{Progress, Pulse};

/// A worker, or the loop that watches, that has not gone round for so long hangs. They do so ten times a second.
const STUCK: Duration = Duration::from_secs(30);

/// Packets and bytes; bytes where the source knows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) packets: u64,
    pub(super) bytes: Option<u64>,
}

/// The books of capture, whichever way it captures.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Books {
    /// How it captures: `ebpf` or `af_packet`.
    pub(super) mode: &'static str,
    /// Every packet that was seen, where that is known.
    pub(super) offered: Option<Tally>,
    /// What was not wanted, by reason.
    pub(super) filtered: Vec<(&'static str, Tally)>,
    pub(super) rings: Vec<Ring>,
    /// Interfaces and cgroups that are captured from now.
    pub(super) attached: u64,
    /// Those that came, went, or could not be captured from.
    pub(super) changes: Vec<(&'static str, u64)>,
    /// Connections whose processes are looked after, by what happened.
    pub(super) connections: Vec<(&'static str, u64)>,
}

/// The books of one ring.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ring {
    pub(super) captured: Tally,
    pub(super) truncated: Tally,
    pub(super) headers_only: Tally,
    /// By reason.
    pub(super) dropped: Vec<(&'static str, Tally)>,
}

/// See the module.
pub(super) struct Vitals {
    phase: AtomicU8,
    workers: Mutex<Vec<Arc<Pulse>>>,
    books: Mutex<Books>,
    /// Of the loop that watches; `None` before and after it.
    watched: Mutex<Option<Instant>>,
}

/// What the run is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Phase {
    /// Capture does not go yet.
    Starting,
    /// It does.
    Capturing,
    /// It does not any more: what is left is being done.
    Ending,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            workers: Mutex::default(),
            books: Mutex::default(),
            watched: Mutex::default(),
        }
    }
}

impl Vitals {
    /// A worker to come.
    pub(super) fn worker(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        lock(&self.workers).push(Arc::clone(&pulse));
        pulse
    }

    /// The loop that watches goes round.
    pub(super) fn watched(&self) {
        *lock(&self.watched) = Some(Instant::now());
    }

    /// Tells the books.
    pub(super) fn tell(&self, books: Books) {
        *lock(&self.books) = books;
    }

    /// The run is at that now.
    pub(super) fn enter(&self, phase: Phase) {
        if phase == Phase::Ending {
            *lock(&self.watched) = None;
        }
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Capturing,
            _ => Phase::Ending,
        }
    }

    /// The books as they were told last.
    pub(super) fn books(&self) -> Books {
        lock(&self.books).clone()
    }

    /// Each worker's counters, and how long ago it went round; `None`: it has ended.
    pub(super) fn workers(&self) -> Vec<(Progress, Option<Duration>)> {
        let workers = lock(&self.workers).clone();
        let told = |pulse: &Arc<Pulse>| (pulse.progress(), (!pulse.has_ended()).then(|| pulse.age()));
        workers.iter().map(told).collect()
    }

    /// Has them checked.
    pub(super) fn checked_by(self: &Arc<Self>, registry: &Registry) {
        let vitals = Arc::clone(self);
        registry.add_alive("workers", move || vitals.stuck());
        let vitals = Arc::clone(self);
        registry.add_ready("capture", move || vitals.not_capturing());
    }

    /// Who has not gone round for too long.
    fn stuck(&self) -> Vec<String> {
        let hangs = |who: &str, age: Duration| format!("{who} has not got on for {} s", age.as_secs());
        let workers = lock(&self.workers).clone();
        let workers = workers.iter().enumerate().filter(|(_, pulse)| !pulse.has_ended());
        let ages = workers.map(|(number, pulse)| (format!("worker {number}"), pulse.age()));
        let watch =
            lock(&self.watched).map(|at| ("the loop that watches over capture".to_owned(), at.elapsed()));
        let late = ages.chain(watch).filter(|(_, age)| *age > STUCK);
        late.map(|(who, age)| hangs(&who, age)).collect()
    }

    fn not_capturing(&self) -> Vec<String> {
        let why = match self.phase() {
            Phase::Starting => "it has not begun yet",
            Phase::Ending => "the agent ends: what was captured is being finished",
            Phase::Capturing if lock(&self.books).attached == 0 => {
                "nothing is attached: no interface or cgroup is as capture.interfaces and capture.cgroups ask; \
                 the log and `remora doctor` say more"
            }
            Phase::Capturing => return Vec::new(),
        };
        vec![why.to_owned()]
    }
}

/// What is in these is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_while_something_is_captured() {
        let (vitals, registry) = (Arc::new(Vitals::default()), Registry::default());
        vitals.checked_by(&registry);
        let said = |registry: &Registry| registry.ready().text("ready", "not ready");
        assert!(registry.alive().ok && said(&registry).contains("capture: it has not begun yet"));
        vitals.enter(Phase::Capturing);
        assert!(said(&registry).contains("nothing is attached"));
        vitals.tell(Books { attached: 1, ..Books::default() });
        assert_eq!(said(&registry), "ready\n");
        vitals.enter(Phase::Ending);
        assert!(registry.alive().ok && said(&registry).contains("the agent ends"));
    }

    #[test]
    fn who_hangs_is_named_and_who_has_ended_does_not() {
        let vitals = Vitals::default();
        let (_first, second) = (vitals.worker(), vitals.worker());
        assert!(vitals.stuck().is_empty());
        let long_ago = Instant::now().checked_sub(STUCK * 2).unwrap();
        *lock(&vitals.watched) = Some(long_ago);
        assert!(vitals.stuck()[0].starts_with("the loop that watches over capture has not got on for 6"));
        vitals.watched();
        assert!(vitals.stuck().is_empty());
        second.end(Progress::default());
        assert_eq!(vitals.workers().iter().filter(|(_, age)| age.is_none()).count(), 1);
    }
}
