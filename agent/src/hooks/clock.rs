//! The time of one call: a deadline that QuickJS's interrupt handler asks for, moved back by waits.
//!
//! Once a call has been told to end, it stays told until the next one is armed: whatever the script does with the
//! interruption, the next poll interrupts again.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::heap::Meter;
use super::limits::ScriptLimits;

/// Why a call was ended from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// [`ScriptLimits::call_time`].
    Time,
    /// [`ScriptLimits::memory`].
    Memory,
    /// The script is being stopped.
    Shutdown,
}

/// Watches one call at a time.
pub(crate) struct Clock {
    deadline: Cell<Option<Instant>>,
    ended: Cell<Option<Ended>>,
    waited: Cell<Duration>,
    call_time: Duration,
    wait_total: Duration,
    stop: Arc<AtomicBool>,
    meter: Rc<Meter>,
}

impl Clock {
    pub(crate) fn new(limits: &ScriptLimits, stop: Arc<AtomicBool>, meter: Rc<Meter>) -> Rc<Self> {
        Rc::new(Self {
            deadline: Cell::new(None),
            ended: Cell::new(None),
            waited: Cell::new(Duration::ZERO),
            call_time: limits.call_time,
            wait_total: limits.wait_total,
            stop,
            meter,
        })
    }

    /// Starts a call.
    pub(crate) fn arm(&self) {
        self.meter.rearm();
        self.ended.set(None);
        self.waited.set(Duration::ZERO);
        self.deadline.set(Some(Instant::now() + self.call_time));
    }

    /// Ends a call: why it was cut short, if it was.
    pub(crate) fn disarm(&self) -> Option<Ended> {
        self.deadline.set(None);
        self.ended()
    }

    /// Why the call has to end, if it has to. Too much memory counts even where nothing polled since.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get().or_else(|| self.meter.exceeded().then_some(Ended::Memory))
    }

    /// The interrupt handler: whether the call has to end now.
    pub(crate) fn poll(&self) -> bool {
        if self.ended.get().is_none() {
            self.ended.set(self.verdict());
        }
        self.ended.get().is_some()
    }

    fn verdict(&self) -> Option<Ended> {
        if self.stop.load(Ordering::Relaxed) {
            Some(Ended::Shutdown)
        } else if self.meter.exceeded() {
            Some(Ended::Memory)
        } else if self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline) {
            Some(Ended::Time)
        } else {
            None
        }
    }

    /// Runs host work that the script only waits for. Its time does not count, up to [`ScriptLimits::wait_total`] a call.
    pub(crate) fn wait<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        let credit = began.elapsed().min(self.wait_left());
        self.waited.set(self.waited.get() + credit);
        self.deadline.set(self.deadline.get().map(|deadline| deadline + credit));
        result
    }

    /// How long this call may still wait.
    pub(crate) fn wait_left(&self) -> Duration {
        self.wait_total.saturating_sub(self.waited.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(call_ms: u64, wait_ms: u64) -> (Rc<Clock>, Arc<AtomicBool>, Rc<Meter>) {
        let limits = ScriptLimits {
            call_time: Duration::from_millis(call_ms),
            wait_total: Duration::from_millis(wait_ms),
            ..ScriptLimits::default()
        };
        let (stop, meter) = (Arc::new(AtomicBool::new(false)), Meter::new(1 << 20));
        (Clock::new(&limits, Arc::clone(&stop), Rc::clone(&meter)), stop, meter)
    }

    #[test]
    fn an_ended_call_stays_ended_until_the_next() {
        let (clock, _, _) = clock(1, 0);
        clock.arm();
        std::thread::sleep(Duration::from_millis(3));
        assert!(clock.poll() && clock.poll());
        assert_eq!(clock.disarm(), Some(Ended::Time));
        clock.arm();
        assert_eq!(clock.ended(), None);
    }

    #[test]
    fn waits_do_not_count_but_are_bounded() {
        // The call has 2 s so that a busy machine does not end it; it would be over if the waits counted.
        let (clock, _, _) = clock(2000, 2500);
        clock.arm();
        clock.wait(|| std::thread::sleep(Duration::from_millis(2100)));
        assert!(!clock.poll(), "2.1 s of waiting are free");
        clock.wait(|| std::thread::sleep(Duration::from_millis(2500)));
        assert_eq!(clock.wait_left(), Duration::ZERO);
        assert!(clock.poll(), "but only 2.5 s of them");
    }

    #[test]
    fn a_stop_ends_a_call_without_deadline() {
        let (clock, stop, _) = clock(1000, 0);
        assert!(!clock.poll());
        stop.store(true, Ordering::Relaxed);
        assert!(clock.poll());
        assert_eq!(clock.ended(), Some(Ended::Shutdown));
    }
}
