//! From the kernel's monotonic time to wall-clock time.
//!
//! The programs stamp packets with `CLOCK_MONOTONIC`. The offset to `CLOCK_REALTIME` is read once a second, so a
//! stamp is off by what the wall clock was slewed or stepped since, plus well under a microsecond of reading.
//! A ring's time never goes backwards: packets of several CPUs that were stamped a moment before they were put in
//! order are given the time of the one before, and when the wall clock is set back, ours runs a tenth slower until
//! the two meet again.

use std::time::Duration;

use agent_core::time::Timestamp;

const REFRESH: u64 = 1_000_000_000;
/// While the wall clock is behind ours: how much of the passing time is given up.
const SLOWING: u64 = 10;

/// One ring's clock.
#[derive(Debug)]
pub(super) struct Clock {
    /// Wall time minus monotonic time, nanoseconds.
    offset: i64,
    /// Monotonic time of the last reading.
    read_at: u64,
    last: Timestamp,
}

impl Clock {
    pub(super) fn new() -> Self {
        let (monotonic, wall) = read();
        Self { offset: offset(monotonic, wall), read_at: monotonic, last: Timestamp(0) }
    }

    /// Reads the offset again if the last time is long past. Call once a batch.
    pub(super) fn refresh(&mut self) {
        let now = nanos(libc::CLOCK_MONOTONIC);
        if now.saturating_sub(self.read_at) >= REFRESH {
            let (monotonic, wall) = read();
            self.adjust(monotonic, wall);
        }
    }

    fn adjust(&mut self, monotonic: u64, wall: u64) {
        let target = offset(monotonic, wall);
        let passed = monotonic.saturating_sub(self.read_at);
        let most = i64::try_from(passed / SLOWING).unwrap_or(i64::MAX);
        self.offset = target.max(self.offset.saturating_sub(most));
        self.read_at = monotonic;
    }

    /// Wall time of a stamp.
    pub(super) fn wall(&mut self, monotonic: u64) -> Timestamp {
        let time = Timestamp(monotonic.saturating_add_signed(self.offset)).max(self.last);
        self.last = time;
        time
    }
}

/// Both clocks as of one moment: the closest of three tries.
fn read() -> (u64, u64) {
    let mut best = (0, 0);
    let mut width = u64::MAX;
    for _ in 0..3 {
        let before = nanos(libc::CLOCK_MONOTONIC);
        let wall = nanos(libc::CLOCK_REALTIME);
        let after = nanos(libc::CLOCK_MONOTONIC);
        if after.saturating_sub(before) < width {
            width = after.saturating_sub(before);
            best = (before + width / 2, wall);
        }
    }
    best
}

fn offset(monotonic: u64, wall: u64) -> i64 {
    i64::try_from(i128::from(wall) - i128::from(monotonic)).unwrap_or(0)
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid struct to write to. Both clocks are always there.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos).as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn clock(offset: i64) -> Clock {
        Clock { offset, read_at: 100 * SECOND, last: Timestamp(0) }
    }

    #[test]
    fn stamps_become_wall_time() {
        let mut clock = Clock::new();
        let (monotonic, wall) = read();
        let error = clock.wall(monotonic).0.abs_diff(wall);
        assert!(error < 10_000_000, "{error} ns");
    }

    #[test]
    fn time_never_goes_backwards() {
        let mut clock = clock(0);
        assert_eq!(clock.wall(1000), Timestamp(1000));
        assert_eq!(clock.wall(990), Timestamp(1000));
        assert_eq!(clock.wall(1001), Timestamp(1001));
    }

    #[test]
    fn a_wall_clock_set_forward_is_followed_at_once() {
        let mut clock = clock(0);
        clock.adjust(101 * SECOND, 500 * SECOND);
        assert_eq!(clock.wall(101 * SECOND), Timestamp(500 * SECOND));
    }

    #[test]
    fn a_wall_clock_set_back_is_met_by_running_slower() {
        let mut clock = clock(0);
        let mut last = clock.wall(100 * SECOND);
        // Set back by one second: ten seconds later the two agree.
        for second in 101..=115 {
            clock.adjust(second * SECOND, (second - 1) * SECOND);
            let now = clock.wall(second * SECOND);
            assert!(now > last);
            last = now;
        }
        assert_eq!(last, Timestamp(114 * SECOND));
    }
}
