//! What the log says of an outbox that is full: that it is, how many it refuses, and when it is over. Never a line for each.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::OutboxError;

/// How often it is said that it is still so.
const TELL: Duration = Duration::from_secs(60);
/// When nothing was refused for so long, it is over.
const QUIET: Duration = Duration::from_secs(10);

/// Counts while the outbox is full.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<Trouble>>);

#[derive(Debug)]
struct Trouble {
    since: Instant,
    told: Instant,
    last: Instant,
    untold: u64,
    total: u64,
}

impl Refusals {
    /// A delivery was refused. Says so if it is the first for want of room.
    pub(super) fn add(&self, why: &OutboxError, now: Instant) {
        let full = match why {
            OutboxError::Full { limit } => format!("{limit} deliveries wait"),
            OutboxError::FullBytes { limit } => format!("there is room for {limit} bytes"),
            _ => return,
        };
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = trouble.as_mut() {
            trouble.last = now;
            trouble.untold += 1;
            trouble.total += 1;
            return;
        }
        *trouble = Some(Trouble { since: now, told: now, last: now, untold: 0, total: 1 });
        drop(trouble);
        tracing::error!(
            "outbox: it is full ({full}): deliveries are refused, and the scripts that make them are told; \
             `remora outbox list` shows what waits"
        );
    }

    /// What there is to say just now, if anything.
    pub(super) fn look(&self, now: Instant) -> Option<String> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = guard.as_mut()?;
        if now.duration_since(trouble.last) >= QUIET {
            let Trouble { total, since, last, .. } = *trouble;
            *guard = None;
            let seconds = last.duration_since(since).as_secs();
            return Some(format!(
                "outbox: it takes all again: {total} deliveries were refused in {seconds} s"
            ));
        }
        if trouble.untold == 0 || now.duration_since(trouble.told) < TELL {
            return None;
        }
        trouble.told = now;
        let (untold, total) = (std::mem::take(&mut trouble.untold), trouble.total);
        Some(format!("outbox: it is still full: {untold} more deliveries were refused, {total} in all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_once_a_minute_and_when_they_are_over() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        refusals.add(&OutboxError::Closed, start);
        assert_eq!(refusals.look(at(20)), None, "not for want of room");
        for second in 0..100 {
            refusals.add(&OutboxError::Full { limit: 1 }, at(second));
            let said = refusals.look(at(second));
            let still = "outbox: it is still full: 60 more deliveries were refused, 61 in all";
            assert_eq!(said.as_deref(), (second == 60).then_some(still), "{second}");
        }
        assert_eq!(refusals.look(at(108)), None);
        let over = refusals.look(at(109)).unwrap();
        assert_eq!(over, "outbox: it takes all again: 100 deliveries were refused in 99 s");
        assert_eq!(refusals.look(at(300)), None);
    }
}
