//! When a script that keeps running out of time or memory is left alone, and for how long.

use std::time::{Duration, Instant};

use super::limits::ScriptLimits;

/// Strikes in a row, and the pause that follows.
#[derive(Debug)]
pub(super) struct Pause {
    strikes: u32,
    allowed: u32,
    next: Duration,
    first: Duration,
    longest: Duration,
    until: Option<Instant>,
}

impl Pause {
    pub(super) fn new(limits: &ScriptLimits) -> Self {
        Self {
            strikes: 0,
            allowed: limits.strikes,
            next: limits.pause_first,
            first: limits.pause_first,
            longest: limits.pause_longest,
            until: None,
        }
    }

    /// One more limit hit; how long to pause, if it is time to.
    pub(super) fn strike(&mut self, now: Instant) -> Option<Duration> {
        self.strikes = self.strikes.saturating_add(1);
        if self.strikes < self.allowed {
            return None;
        }
        let length = self.next;
        self.until = Some(now + length);
        self.next = (length * 2).min(self.longest);
        Some(length)
    }

    /// The next strike pauses.
    pub(super) fn demand(&mut self) {
        self.strikes = self.strikes.max(self.allowed.saturating_sub(1));
    }

    /// A call stayed within its limits.
    pub(super) fn forgive(&mut self) {
        self.strikes = 0;
        self.next = self.first;
    }

    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    pub(super) fn end(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_one_good_call_forgives() {
        let limits = ScriptLimits { pause_longest: Duration::from_secs(3), ..ScriptLimits::default() };
        let mut pause = Pause::new(&limits);
        let now = Instant::now();
        assert_eq!([pause.strike(now), pause.strike(now)], [None, None]);
        assert_eq!(pause.strike(now), Some(Duration::from_secs(1)));
        assert!(pause.is_on() && !pause.is_over(now) && pause.is_over(now + Duration::from_secs(1)));
        pause.end();
        assert_eq!(pause.strike(now), Some(Duration::from_secs(2)), "once more is enough now");
        assert_eq!(pause.strike(now), Some(Duration::from_secs(3)), "and it grows to a bound");
        pause.end();
        pause.forgive();
        assert_eq!(pause.strike(now), None);
    }
}
