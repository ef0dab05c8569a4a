//! A client that follows items: a queue bounded in number and bytes, and an account of what found it full.
//!
//! What was dropped is told where it is missing: with the next item that was not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::mpsc;

use crate::captured::Captured;
use crate::kfl::Filter;
use crate::view::ItemView;

/// Items that may wait for a client…
pub(super) const QUEUE: usize = 1024;
/// …and bytes of JSON.
pub(super) const QUEUE_BYTES: usize = 4 << 20;
/// Without anything else, something is said so often.
const QUIET: Duration = Duration::from_secs(10);

/// How a client follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClientKind {
    /// Server-sent events.
    Sse,
    /// A WebSocket.
    WebSocket,
}

/// The feed's end.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) kind: ClientKind,
    /// Items before this number are not for it.
    pub(super) from: u64,
    pub(super) filter: Option<Arc<Filter>>,
    queue: mpsc::Sender<Queued>,
    backlog: Arc<Backlog>,
}

/// What both ends count.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Bytes that wait.
    bytes: AtomicUsize,
    /// Items that were dropped since one was queued last.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Queued {
    number: u64,
    /// Items that were dropped before it.
    lost: u64,
    json: Utf8Bytes,
}

/// The other end.
#[derive(Debug)]
pub(super) struct Receiver {
    queue: mpsc::Receiver<Queued>,
    backlog: Arc<Backlog>,
    /// An item whose losses were told first.
    next: Option<(u64, Utf8Bytes)>,
}

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// An item, with its number.
    Item(u64, Utf8Bytes),
    /// So many that might have been of interest are missing here.
    Dropped(u64),
    /// Nothing has come for a while.
    Quiet,
}

impl Client {
    pub(super) fn new(kind: ClientKind, from: u64, filter: Option<Arc<Filter>>) -> (Self, Receiver) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let backlog = Arc::new(Backlog::default());
        let receiver = Receiver { queue, backlog: Arc::clone(&backlog), next: None };
        (Self { kind, from, filter, queue: sender, backlog }, receiver)
    }

    /// Whether it wants the item.
    pub(super) fn wants(&self, number: u64, item: &Captured, view: &ItemView) -> bool {
        number >= self.from && self.filter.as_ref().is_none_or(|filter| filter.matches(item, view))
    }

    /// Queues an item. `false`: there was no room. Only one thread may call this.
    pub(super) fn offer(&self, number: u64, json: &Utf8Bytes) -> bool {
        let waiting = self.backlog.bytes.load(Ordering::Acquire);
        let fits = waiting == 0 || waiting + json.len() <= QUEUE_BYTES;
        match self.queue.try_reserve() {
            Ok(place) if fits => {
                self.backlog.bytes.fetch_add(json.len(), Ordering::AcqRel);
                let lost = self.backlog.lost.swap(0, Ordering::AcqRel);
                place.send(Queued { number, lost, json: json.clone() });
                true
            }
            _ => {
                self.lose(1);
                false
            }
        }
    }

    /// Notes that items were dropped which may have been for it.
    pub(super) fn lose(&self, items: u64) {
        self.backlog.lost.fetch_add(items, Ordering::AcqRel);
    }
}

impl Receiver {
    /// What is to be told next; `None`: nothing ever.
    pub(super) async fn next(&mut self) -> Option<Told> {
        if let Some((number, json)) = self.next.take() {
            return Some(Told::Item(number, json));
        }
        match tokio::time::timeout(QUIET, self.queue.recv()).await {
            Ok(None) => None,
            Ok(Some(Queued { number, lost, json })) => {
                self.backlog.bytes.fetch_sub(json.len(), Ordering::AcqRel);
                if lost == 0 {
                    return Some(Told::Item(number, json));
                }
                self.next = Some((number, json));
                Some(Told::Dropped(lost))
            }
            // Whatever was dropped after the last one that was queued.
            Err(_) => match self.backlog.lost.swap(0, Ordering::AcqRel) {
                0 => Some(Told::Quiet),
                lost => Some(Told::Dropped(lost)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_dropped_is_told_where_it_is_missing() {
        let (client, mut receiver) = Client::new(ClientKind::Sse, 1, None);
        let json = Utf8Bytes::from("{}");
        for number in 0..QUEUE as u64 {
            assert!(client.offer(number, &json));
        }
        assert!(!client.offer(5000, &json) && !client.offer(5001, &json));
        assert_eq!(receiver.next().await, Some(Told::Item(0, json.clone())));
        assert!(client.offer(5002, &json));
        client.lose(7);
        for number in 1..QUEUE as u64 {
            assert_eq!(receiver.next().await, Some(Told::Item(number, json.clone())));
        }
        assert_eq!(receiver.next().await, Some(Told::Dropped(2)));
        assert_eq!(receiver.next().await, Some(Told::Item(5002, json.clone())));
        assert_eq!(receiver.next().await, Some(Told::Dropped(7)), "at the end, after a while");
        assert_eq!(receiver.next().await, Some(Told::Quiet));
        drop(client);
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_one_item_alone_may_be_larger() {
        let (client, mut receiver) = Client::new(ClientKind::Sse, 1, None);
        let large = Utf8Bytes::from("x".repeat(QUEUE_BYTES + 1));
        assert!(client.offer(1, &large) && !client.offer(2, &Utf8Bytes::from("x")));
        assert!(matches!(receiver.next().await, Some(Told::Item(1, _))));
        assert!(client.offer(3, &Utf8Bytes::from("x")));
        assert_eq!(receiver.next().await, Some(Told::Dropped(1)));
    }
}
