//! When to try again, and when not: one [`Budget`] for each call that is tried until it succeeds.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::config::RetryPolicy;
use super::slack::{Kind, SlackError};
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
    pub(super) async fn again(&mut self, error: SlackError) -> Result<(), SlackError> {
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
            None => self.pause(),
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

    /// Doubles with each attempt; the upper half is random, so that many agents do not come back at once.
    fn pause(&self) -> Duration {
        let doubled = self.policy.first_pause.saturating_mul(1 << (self.attempts - 1).min(20));
        let whole = doubled.min(self.policy.longest_pause);
        whole / 2 + (whole / 2).mul_f64(random_fraction())
    }
}

/// In 0..1, from the standard library's seeds: good enough for jitter, and no crate for it.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// Keeps messages to one destination apart.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, next: Instant::now() }
    }

    /// Waits until a message may go.
    pub(super) async fn wait(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// A message went, answered or not.
    pub(super) fn sent(&mut self) {
        self.next = Instant::now() + self.interval;
    }

    pub(super) fn is_free(&self) -> bool {
        Instant::now() >= self.next
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
        let (policy, counters) = (policy(), Counters::default());
        let mut budget = Budget::new(&policy, &counters, Duration::from_secs(1));
        for (attempt, longest) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (40, 1000)] {
            budget.attempts = attempt;
            for _ in 0..100 {
                let pause = budget.pause().as_millis();
                assert!(pause >= longest / 2 && pause <= longest, "attempt {attempt}: {pause} ms");
            }
        }
    }

    #[tokio::test]
    async fn ends_at_the_deadline_and_after_the_last_attempt() {
        let counters = Counters::default();
        let passing = || SlackError::word("internal_error");
        let policy = RetryPolicy { first_pause: Duration::from_millis(1), max_attempts: 3, ..policy() };
        let mut budget = Budget::new(&policy, &counters, Duration::from_secs(60));
        assert!(budget.again(passing()).await.is_ok());
        assert!(budget.again(passing()).await.is_ok());
        let error = budget.again(passing()).await.unwrap_err();
        assert!(error.to_string().contains("3 attempts"), "{error}");
        let mut budget = Budget::new(&policy, &counters, Duration::ZERO);
        assert!(budget.again(passing()).await.is_err());
        let mut budget = Budget::new(&policy, &counters, Duration::from_secs(60));
        assert!(budget.again(SlackError::word("invalid_auth")).await.is_err(), "terminal at once");
    }
}
