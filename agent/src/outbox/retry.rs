//! When to try again, and when not: one [`Budget`] for each call that is tried until it succeeds.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::config::{Rate, RetryPolicy};
use super::failure::{Failure, Kind};
use super::stats::Counters;

/// Before this attempt the log says that a destination is in trouble; it says so once for each call.
const WORTH_A_WARNING: u32 = 3;

/// Attempts and time left for one call.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    policy: &'a RetryPolicy,
    counters: &'a Counters,
    deadline: Instant,
    attempts: u32,
}

impl<'a> Budget<'a> {
    pub(super) fn new(policy: &'a RetryPolicy, counters: &'a Counters, time: Duration) -> Self {
        Self { policy, counters, deadline: Instant::now() + time, attempts: 1 }
    }

    /// Waits as long as is right before the next attempt; gives the error back if there must be none.
    pub(super) async fn again(&mut self, error: Failure) -> Result<(), Failure> {
        if error.kind != Kind::Passing {
            return Err(error);
        }
        let pause = match error.retry_after {
            Some(asked) => {
                let asked = asked.min(self.policy.longest_retry_after);
                // Orderly waiting is not failing.
                self.deadline += asked;
                asked
            }
            None => pause(self.policy, self.attempts),
        };
        if self.attempts >= self.policy.max_attempts || Instant::now() + pause > self.deadline {
            return Err(error.given_up(self.attempts));
        }
        self.attempts += 1;
        self.counters.retried.add();
        if error.unanswered {
            self.counters.unanswered.add();
        }
        if self.attempts == WORTH_A_WARNING && error.retry_after.is_none() {
            tracing::warn!("outbox: tried {} times, and will again: {error}", self.attempts - 1);
        } else {
            tracing::debug!("outbox: {}: again in {} ms", error.code, pause.as_millis());
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// The pause before the attempt after the `failed`th: doubles with each; the upper half is random, so that many agents do
/// not come back at once.
pub(super) fn pause(policy: &RetryPolicy, failed: u32) -> Duration {
    let doubled = policy.first_pause.saturating_mul(1 << failed.saturating_sub(1).min(20));
    let whole = doubled.min(policy.longest_pause);
    whole / 2 + (whole / 2).mul_f64(random_fraction())
}

/// In 0..1, from the standard library's seeds: good enough for jitter, and no crate for it.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// Keeps messages to one destination apart: a rate, and a burst that is saved up in quiet times. Ours rather than a
/// library's, because it counts from the answer to a message: a server that counts arrivals must not see more, however long
/// one of them was on its way.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// How far a burst may run ahead.
    credit: Duration,
    /// When the next would be due without any burst. Locked while a message is on its way: one at a time.
    due: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        let per_second = if rate.per_second.is_finite() { rate.per_second.max(1e-3) } else { 1e6 };
        let interval = Duration::from_secs_f64(1.0 / per_second);
        Self { interval, credit: interval * rate.burst.saturating_sub(1), due: Mutex::new(Instant::now()) }
    }

    /// Sends a message by `call` once it may go; what else wants to go waits for its answer.
    pub(crate) async fn keep<T>(&self, call: impl Future<Output = T>) -> T {
        let mut due = self.due.lock().await;
        tokio::time::sleep_until(due.checked_sub(self.credit).unwrap_or(*due)).await;
        let answer = call.await;
        // It went, answered or not.
        *due = (*due).max(Instant::now()) + self.interval;
        answer
    }

    /// Nothing is on its way or owed: a new pace would say the same.
    pub(super) fn is_free(&self) -> bool {
        self.due.try_lock().is_ok_and(|due| Instant::now() >= *due)
    }

    /// Waits until nothing is owed.
    pub(super) async fn rest(&self) {
        let due = *self.due.lock().await;
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(1),
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = policy();
        for (attempt, longest) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (40, 1000)] {
            for _ in 0..100 {
                let pause = pause(&policy, attempt).as_millis();
                assert!(pause >= longest / 2 && pause <= longest, "attempt {attempt}: {pause} ms");
            }
        }
    }

    #[tokio::test]
    async fn ends_at_the_deadline_and_after_the_last_attempt() {
        let counters = Counters::default();
        let passing = || Failure::status(500);
        let policy = RetryPolicy { first_pause: Duration::from_millis(1), max_attempts: 3, ..policy() };
        let mut budget = Budget::new(&policy, &counters, Duration::from_secs(60));
        assert!(budget.again(passing()).await.is_ok());
        assert!(budget.again(passing()).await.is_ok());
        let error = budget.again(passing()).await.unwrap_err();
        assert!(error.to_string().contains("3 attempts"), "{error}");
        let mut budget = Budget::new(&policy, &counters, Duration::ZERO);
        assert!(budget.again(passing()).await.is_err());
        let mut budget = Budget::new(&policy, &counters, Duration::from_secs(60));
        assert!(budget.again(Failure::status(401)).await.is_err(), "terminal at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_saved_up_and_the_rate_holds() {
        let pace = Pace::new(Rate { per_second: 2.0, burst: 3 });
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..6 {
            pace.keep(async { times.push(start.elapsed().as_millis()) }).await;
        }
        assert_eq!(times[..3], [0, 0, 0]);
        assert!(times[3..].windows(2).all(|w| w[1] - w[0] >= 500), "{times:?}");
        assert!(times[5] >= 1_500, "{times:?}");
        assert!(!pace.is_free());
        pace.rest().await;
        assert!(pace.is_free());
    }

    #[tokio::test(start_paused = true)]
    async fn one_message_is_on_its_way_at_a_time_and_the_rate_counts_from_its_answer() {
        let pace = Pace::new(Rate { per_second: 2.0, burst: 3 });
        let start = Instant::now();
        let message = async || {
            let sent = start.elapsed().as_millis();
            tokio::time::sleep(Duration::from_secs(3)).await;
            (sent, start.elapsed().as_millis())
        };
        let (one, other) = tokio::join!(pace.keep(message()), pace.keep(message()));
        assert_eq!((one, other), ((0, 3_000), (3_000, 6_000)));
        assert!(!pace.is_free());
    }
}
