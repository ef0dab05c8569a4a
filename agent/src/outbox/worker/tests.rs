//! A lane with a sender that answers as it is told: batches, parts of them again, splits.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::outbox::config::{OutboxConfig, Rate};
use crate::outbox::delivery::Content;
use crate::outbox::sender::{Sending, Turn};
use crate::outbox::{Alert, Delivery, DurableOutbox, FoldPolicy, LetterState, Letters, Outbox as _};
use crate::secret::Secret;

type Said = Arc<Mutex<Vec<Vec<String>>>>;

/// Puts down each batch and gives the next outcomes; then all is delivered.
#[derive(Debug)]
struct Told {
    batches: Said,
    outcomes: Mutex<VecDeque<Vec<Outcome>>>,
}

impl Sender for Told {
    fn batch(&self) -> Batch {
        Batch { jobs: 4, bytes: 100 }
    }

    fn rate(&self, _: &OutboxConfig) -> Rate {
        Rate { per_second: 1e6, burst: 1 }
    }

    fn send<'a>(&'a self, _: &'a Turn<'_>, batch: &'a [Job]) -> Sending<'a> {
        let text = |job: &Job| {
            let Content::Alert { alert, .. } = &job.content else { panic!("{job:?}") };
            alert.text.clone()
        };
        self.batches.lock().unwrap().push(batch.iter().map(text).collect());
        let next = self.outcomes.lock().unwrap().pop_front();
        let outcomes = next.unwrap_or_else(|| vec![Outcome::Delivered; batch.len()]);
        Box::pin(async move { outcomes })
    }
}

/// Sends `texts`; the batches, the counters, and what is dead.
fn send(texts: &[&str], outcomes: Vec<Vec<Outcome>>) -> (Vec<Vec<String>>, [u64; 3], Vec<String>) {
    let data = tempfile::tempdir().unwrap();
    let config = OutboxConfig {
        folder: data.path().join("outbox"),
        fold: FoldPolicy { flood_limit: 0, ..FoldPolicy::default() },
        retry: RetryPolicy { first_pause: Duration::from_millis(2), ..RetryPolicy::default() },
        ..OutboxConfig::default()
    };
    // Never driven: its own worker never runs.
    let idle = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outbox = DurableOutbox::open(config, idle.handle()).unwrap();
    let delivery = |text: &str| Delivery::SlackWebhook {
        url: Secret::new("http://127.0.0.1:1/x"),
        alert: Alert { text: text.to_owned(), ..Alert::default() },
        fold: None,
    };
    for text in texts {
        outbox.enqueue("s.js", delivery(text)).unwrap();
    }
    let batches = Said::default();
    let sender = Told { batches: Arc::clone(&batches), outcomes: Mutex::new(outcomes.into()) };
    let destination = delivery("").split().destination;
    let mut lane = Lane::new(Arc::clone(outbox.shared()), destination, Arc::new(sender));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { while lane.turn().await {} });
    assert_eq!(outbox.stats().waiting, 0);
    runtime.block_on(outbox.shared().flush());
    let mut dead = Vec::new();
    let letters = Letters::open(data.path()).unwrap();
    letters
        .list(&mut |letter| {
            assert_eq!(letter.state, LetterState::Dead);
            dead.push(letter.content["alert"]["text"].as_str().unwrap().to_owned());
            Ok(())
        })
        .unwrap();
    let stats = outbox.stats();
    let batches = batches.lock().unwrap().clone();
    (batches, [stats.sent, stats.retried, stats.failed], dead)
}

fn again() -> Outcome {
    Outcome::Retry(Failure::status(503))
}

#[test]
fn batches_are_bounded_in_jobs_and_bytes() {
    let long = "x".repeat(70);
    let (batches, counts, _) = send(&["a", "b", "c", "d", "e", &long, &long], Vec::new());
    assert_eq!(batches, [vec!["a", "b", "c", "d"], vec!["e", &long], vec![&long]]);
    assert_eq!(counts, [7, 0, 0]);
}

#[test]
fn what_is_tried_again_keeps_its_place() {
    let dead = || Outcome::Dead(Failure::status(400));
    let first = vec![Outcome::Delivered, again(), dead(), again()];
    let (batches, counts, letters) = send(&["a", "b", "c", "d", "e"], vec![first]);
    assert_eq!(batches, [vec!["a", "b", "c", "d"], vec!["b", "d", "e"]]);
    assert_eq!((counts, letters), ([4, 2, 1], vec!["c".to_owned()]));
}

#[test]
fn what_is_too_much_is_halved_until_one_is_alone() {
    let split = |n| vec![Outcome::Split(Failure::status(413)); n];
    let (batches, counts, letters) = send(&["a", "b", "c", "d"], vec![split(4), split(2), split(1)]);
    assert_eq!(batches, [vec!["a", "b", "c", "d"], vec!["a", "b"], vec!["a"], vec!["b", "c"], vec!["d"]]);
    assert_eq!((counts, letters), ([3, 0, 1], vec!["a".to_owned()]));
}

#[test]
fn a_sender_that_says_too_little_has_delivered_nothing_more() {
    let (batches, counts, _) = send(&["a", "b"], vec![vec![Outcome::Delivered]]);
    assert_eq!(batches, [vec!["a", "b"], vec!["b"]]);
    assert_eq!(counts, [2, 1, 0]);
}
