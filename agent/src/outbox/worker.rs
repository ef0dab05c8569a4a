//! One task for each destination that has something waiting: takes its deliveries in order, a batch at a time, and does
//! with each what its sender says: delivered, again, smaller, dead. What is left to do for those that arrived (a message's
//! files) is done beside it, for a few at a time, in tasks that end with it: it never holds up the next message, however many
//! wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::config::RetryPolicy;
use super::delivery::{Destination, Job};
use super::failure::Failure;
use super::folds;
use super::queue::{Shared, Taken, Waiting};
use super::retry::{Pace, pause};
use super::sender::{self, Batch, Outcome, Sender};

/// After so many failures in a row the log says that a destination is in trouble.
const WORTH_A_WARNING: u32 = 3;

/// Deliveries to one destination that are finished at the same time.
const FINISHING: usize = 4;

/// Delivers until nothing waits and the pace would let a newcomer go at once.
pub(super) async fn run(shared: Arc<Shared>, destination: Destination) {
    let mut stop = shared.stop.subscribe();
    let sender = sender::open(&destination);
    let mut lane = Lane::new(shared, destination, sender);
    loop {
        let go_on = tokio::select! {
            go_on = lane.turn() => go_on,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        if !go_on {
            return;
        }
    }
}

struct Lane {
    shared: Arc<Shared>,
    destination: Destination,
    sender: Arc<dyn Sender>,
    pace: Arc<Pace>,
    finishing: JoinSet<()>,
    most: Batch,
    /// Jobs in the next batch: fewer after a split.
    now: usize,
    trouble: Option<Trouble>,
}

/// Nothing has been delivered since.
struct Trouble {
    /// Put off by what the server asked us to wait.
    since: Instant,
    failures: u32,
}

impl Lane {
    fn new(shared: Arc<Shared>, destination: Destination, sender: Arc<dyn Sender>) -> Self {
        let pace = Arc::new(Pace::new(sender.rate(&shared.config)));
        let (most, finishing) = (sender.batch(), JoinSet::new());
        Self { shared, destination, sender, pace, finishing, most, now: most.jobs, trouble: None }
    }

    /// A batch, or a wait; false ends the worker.
    async fn turn(&mut self) -> bool {
        self.finish();
        let batch = Batch { jobs: self.now, ..self.most };
        let may_close = self.pace.is_free() && self.trouble.is_none();
        match self.shared.take(&self.destination, batch, may_close) {
            Taken::Batch(batch) => {
                let waiting = self.load(batch);
                if let Some(pause) = self.deliver(waiting).await {
                    tokio::time::sleep(pause).await;
                }
                true
            }
            Taken::Nothing(news) => {
                self.trouble = None;
                if !self.pace.is_free() || !self.finishing.is_empty() {
                    tokio::select! {
                        () = news.notified() => {}
                        Some(_) = self.finishing.join_next() => {}
                        () = self.pace.rest(), if !self.pace.is_free() => {}
                    }
                }
                true
            }
            Taken::Closed => false,
        }
    }

    /// Has what arrived finished.
    fn finish(&mut self) {
        while self.finishing.try_join_next().is_some() {}
        let room = FINISHING.saturating_sub(self.finishing.len());
        for _ in 0..room.min(self.shared.arrived(&self.destination)) {
            let (shared, destination) = (Arc::clone(&self.shared), self.destination.clone());
            let (sender, pace) = (Arc::clone(&self.sender), Arc::clone(&self.pace));
            self.finishing.spawn(async move { finish(&shared, &destination, &*sender, &pace).await });
        }
    }

    fn load(&self, batch: Vec<Waiting>) -> Vec<(Waiting, Job)> {
        let loaded = batch.into_iter().filter_map(|waiting| {
            let job = self.shared.load(&self.destination, &waiting)?;
            Some((waiting, job))
        });
        let (aged, fresh): (Vec<_>, Vec<_>) = loaded.partition(|(waiting, job)| {
            let age = folds::now().saturating_sub(waiting.queued);
            // What has arrived is no longer of yesterday.
            job.progress.is_none() && u128::from(age) > self.shared.config.max_age.as_millis()
        });
        for (waiting, job) in aged {
            let hours = self.shared.config.max_age.as_secs() / 3_600;
            self.bury(&waiting, job, &format!("expired: it waited longer than {hours} h"));
        }
        fresh
    }

    /// How long to wait before the next.
    async fn deliver(&mut self, batch: Vec<(Waiting, Job)>) -> Option<Duration> {
        if batch.is_empty() {
            return None;
        }
        let (mut waiting, jobs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let shared = Arc::clone(&self.shared);
        let mut outcomes = self.sender.send(&shared.turn(&self.pace), &jobs).await.into_iter();
        let (mut again, mut worst, mut split) = (Vec::new(), None::<Failure>, false);
        let alone = jobs.len() == 1;
        let sent = jobs.len();
        for (mut waiting, job) in waiting.drain(..).zip(jobs) {
            // A sender that gives too few outcomes has not said that the rest arrived.
            let silent = || Outcome::Retry(Failure::no_answer("no outcome".to_owned()));
            match outcomes.next().unwrap_or_else(silent) {
                Outcome::Delivered => {
                    self.trouble = None;
                    delivered(&shared, &self.destination, &waiting, job);
                }
                Outcome::Arrived(progress) => {
                    self.trouble = None;
                    shared.has_arrived(&self.destination, waiting, &job, progress);
                }
                Outcome::Dead(failure) => {
                    // A service that refuses for good is there and works.
                    self.trouble = None;
                    self.bury(&waiting, job, &failure.to_string());
                }
                Outcome::Split(failure) if alone => self.bury(&waiting, job, &failure.to_string()),
                Outcome::Split(_) => {
                    split = true;
                    again.push(waiting);
                }
                Outcome::Retry(failure) => match self.again(&mut waiting, failure) {
                    Ok(failure) => {
                        worst = Some(worse(worst, failure));
                        again.push(waiting);
                    }
                    Err(failure) => self.bury(&waiting, job, &failure.to_string()),
                },
            }
        }
        self.now = if split { (sent / 2).max(1) } else { (self.now * 2).min(self.most.jobs) };
        self.shared.put_back(&self.destination, again);
        // The next goes out only when it is written down that this one has: a kill repeats one batch at most.
        self.shared.flush().await;
        worst.map(|failure| self.pause(&failure))
    }

    fn bury(&self, waiting: &Waiting, job: Job, why: &str) {
        self.shared.counters.failed.add();
        tracing::error!(
            script = %job.script, delivery = job.id.0, "{}: not delivered: {why}", self.destination.label()
        );
        self.shared.finish(&self.destination, waiting, job, Some(why.to_owned()));
    }

    /// Whether there is another attempt; if not, why.
    fn again(&mut self, waiting: &mut Waiting, failure: Failure) -> Result<Failure, Failure> {
        let policy = &self.shared.config.retry;
        waiting.attempts = waiting.attempts.saturating_add(1);
        if !failure.unreachable && failure.retry_after.is_none() {
            waiting.answered = waiting.answered.saturating_add(1);
        }
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert(Trouble { since: now, failures: 0 });
        let over = failure.retry_after.is_none() && now.duration_since(trouble.since) >= policy.deadline;
        if over || waiting.answered >= policy.max_attempts {
            return Err(failure.given_up(waiting.attempts));
        }
        self.shared.counters.retried.add();
        if failure.unanswered {
            self.shared.counters.unanswered.add();
        }
        self.shared.tried(waiting, &failure);
        Ok(failure)
    }

    fn pause(&mut self, failure: &Failure) -> Duration {
        let policy = &self.shared.config.retry;
        let trouble = self.trouble.get_or_insert(Trouble { since: Instant::now(), failures: 0 });
        if let Some(asked) = failure.retry_after {
            // Orderly waiting is not failing.
            let asked = asked.min(policy.longest_retry_after);
            trouble.since += asked;
            return asked;
        }
        trouble.failures = trouble.failures.saturating_add(1);
        let pause = within(policy, trouble, pause(policy, trouble.failures));
        if trouble.failures == WORTH_A_WARNING {
            let label = self.destination.label();
            tracing::warn!("{label}: tried {WORTH_A_WARNING} times, and will again: {failure}");
        } else {
            tracing::debug!("outbox: {}: again in {} ms", failure.code, pause.as_millis());
        }
        pause
    }
}

/// Finishes one after the other until none is left.
async fn finish(shared: &Shared, destination: &Destination, sender: &dyn Sender, pace: &Pace) {
    while let Some((waiting, progress)) = shared.take_arrived(destination) {
        if let Some(mut job) = shared.load(destination, &waiting) {
            job.progress = Some(progress);
            sender.finish(&shared.turn(pace), &job).await;
            delivered(shared, destination, &waiting, job);
        }
    }
}

fn delivered(shared: &Shared, destination: &Destination, waiting: &Waiting, job: Job) {
    shared.counters.sent.add();
    tracing::debug!(script = %job.script, delivery = job.id.0, "{}: delivered", destination.label());
    shared.finish(destination, waiting, job, None);
}

/// Not past the deadline: the last attempt comes at it.
fn within(policy: &RetryPolicy, trouble: &Trouble, pause: Duration) -> Duration {
    let left = policy.deadline.saturating_sub(trouble.since.elapsed());
    pause.min(left.max(policy.first_pause))
}

/// The one that is waited for longer.
fn worse(one: Option<Failure>, other: Failure) -> Failure {
    match one {
        Some(one) if one.retry_after >= other.retry_after => one,
        _ => other,
    }
}

#[cfg(test)]
mod tests;
