//! The sink of items: the ring of the latest, and those who follow them.
//!
//! Under the ring's lock a worker numbers its batch, puts it in, and only if somebody follows hands it to the thread that
//! makes JSON of it. Whoever begins to follow does so under the same lock: nothing is missed or seen twice. All workers share it, so
//! sizes and copies are made before it is taken.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver as Queue, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::extract::ws::Utf8Bytes;

use super::client::{Client, ClientKind, Receiver};
use super::ring::{Kept, Ring, RingStats};
use crate::captured::Captured;
use crate::kfl::Filter;
use crate::view::ItemView;

/// Batches that may wait for the thread, a second's…
const QUEUE: usize = 16_384;
/// …and the memory that their items hold.
const QUEUE_BYTES: usize = 32 << 20;

/// What the feed keeps, and for how many.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// Latest items kept.
    pub recent_items: usize,
    /// …and the memory that they hold, in bytes.
    pub recent_bytes: usize,
    /// Clients that may follow at a time.
    pub clients: usize,
    /// How items are shown.
    pub view: Arc<ItemView>,
}

impl Default for FeedConfig {
    /// 10,000 items, 32 MiB, 16 clients.
    fn default() -> Self {
        Self { recent_items: 10_000, recent_bytes: 32 << 20, clients: 16, view: Arc::default() }
    }
}

/// See the module.
pub struct Feed {
    shared: Arc<Shared>,
    config: FeedConfig,
    /// Tells numbers of this run from those of another.
    epoch: u32,
}

struct Shared {
    state: Mutex<State>,
    clients: Mutex<Vec<Arc<Client>>>,
    /// Memory of the batches that wait.
    waiting: AtomicUsize,
    /// Whether somebody follows, as [`State::following`] was lately.
    followed: AtomicBool,
    /// Items of batches that found no room, and were not told to clients yet.
    missed: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

struct State {
    ring: Ring,
    following: usize,
    /// `None`: the thread is gone.
    queue: Option<SyncSender<Batch>>,
}

struct Batch {
    first: u64,
    items: Vec<Arc<Captured>>,
    bytes: usize,
}

/// What the feed did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct FeedStats {
    pub(super) recent: RingStats,
    /// By server-sent events, and by WebSocket.
    pub(super) clients: [usize; 2],
    pub(super) sent: u64,
    pub(super) dropped: u64,
}

/// Where a client begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    /// With what comes from now on.
    Now,
    /// With the latest so many.
    Recent(usize),
    /// After the item of that number.
    After(u64),
}

/// A client that follows; dropped, it does no longer.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    /// Only the feed holds it: when that ends, the receiver is told.
    client: Weak<Client>,
    pub(super) filter: Option<Arc<Filter>>,
    pub(super) receiver: Receiver,
    /// Items from before it began.
    pub(super) backlog: VecDeque<Kept>,
    /// Items that it should have begun with and are not there any more.
    pub(super) left_out: u64,
}

/// The latest items that a client may begin with, and the memory that it may pin by that.
const BACKLOG: usize = 1000;
const BACKLOG_BYTES: usize = 4 << 20;

impl Feed {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(config: FeedConfig) -> io::Result<Self> {
        let (sender, queue) = sync_channel(QUEUE);
        let ring = Ring::new(config.recent_items, config.recent_bytes);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { ring, following: 0, queue: Some(sender) }),
            clients: Mutex::default(),
            waiting: AtomicUsize::new(0),
            followed: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let (for_thread, view) = (Arc::clone(&shared), Arc::clone(&config.view));
        std::thread::Builder::new()
            .name("api-feed".to_owned())
            .spawn(move || for_thread.fan_out(&queue, &view))?;
        let mut epoch = [0; 4];
        getrandom::fill(&mut epoch).map_err(io::Error::other)?;
        Ok(Self { shared, config, epoch: u32::from_ne_bytes(epoch) })
    }

    /// Takes the items of a worker's batch. Never waits but for the ring's lock, which nobody holds for long.
    pub fn deliver(&self, items: &[Arc<Captured>]) {
        let kept: Vec<Kept> = items.iter().map(Kept::new).collect();
        let bytes = kept.iter().map(|kept| kept.bytes).sum();
        // Who begins to follow after this has it copied under the lock, once.
        let mut copies = self.shared.followed.load(Ordering::Relaxed).then(|| items.to_vec());
        let mut gone = Vec::with_capacity(items.len());
        {
            let mut state = lock(&self.shared.state);
            let first = state.ring.next();
            for kept in kept {
                state.ring.push(kept, &mut gone);
            }
            if state.following > 0 {
                let items = copies.take().unwrap_or_else(|| items.to_vec());
                self.shared.hand_on(&state, Batch { first, items, bytes });
            }
        }
        drop(gone);
    }

    /// Has a client follow; `None`: there are as many as may be.
    pub(super) fn follow(
        &self,
        kind: ClientKind,
        filter: Option<Arc<Filter>>,
        begin: Begin,
    ) -> Option<Subscription> {
        let mut state = lock(&self.shared.state);
        if state.following >= self.config.clients {
            return None;
        }
        state.following += 1;
        self.shared.followed.store(true, Ordering::Relaxed);
        let next = state.ring.next();
        let (backlog, left_out) = match begin {
            Begin::Now => (VecDeque::new(), 0),
            Begin::Recent(most) => (state.ring.since(0, most.min(BACKLOG), BACKLOG_BYTES).0, 0),
            Begin::After(number) => state.ring.since(number.saturating_add(1), BACKLOG, BACKLOG_BYTES),
        };
        let (client, receiver) = Client::new(kind, next, filter.clone());
        let followed = Arc::new(client);
        let (shared, client) = (Arc::clone(&self.shared), Arc::downgrade(&followed));
        // After the end there is nobody who would end it.
        if state.queue.is_some() {
            lock(&self.shared.clients).push(followed);
        }
        Some(Subscription { shared, client, filter, receiver, backlog, left_out })
    }

    /// Of the latest, those before a number, the newest first.
    pub(super) fn before(&self, number: u64, most: usize) -> Vec<Kept> {
        lock(&self.shared.state).ring.before(number, most)
    }

    /// Ends: who follows gets what waits for them, and then nothing more.
    pub(super) fn close(&self) {
        lock(&self.shared.state).queue = None;
    }

    pub(super) fn view(&self) -> &Arc<ItemView> {
        &self.config.view
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn stats(&self) -> FeedStats {
        let recent = lock(&self.shared.state).ring.stats();
        let clients = lock(&self.shared.clients);
        let of = |kind| clients.iter().filter(|client| client.kind == kind).count();
        FeedStats {
            recent,
            clients: [of(ClientKind::Sse), of(ClientKind::WebSocket)],
            sent: self.shared.sent.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn hand_on(&self, state: &State, batch: Batch) {
        let (bytes, items) = (batch.bytes, batch.items.len() as u64);
        let waiting = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        let fits = waiting == 0 || waiting + bytes <= QUEUE_BYTES;
        let sent = fits && state.queue.as_ref().is_some_and(|queue| queue.try_send(batch).is_ok());
        if !sent {
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            self.missed.fetch_add(items, Ordering::Relaxed);
        }
    }

    /// Gives each item to all who want it, until the feed is dropped.
    fn fan_out(&self, queue: &Queue<Batch>, view: &ItemView) {
        while let Ok(Batch { first, items, bytes }) = queue.recv() {
            let clients = lock(&self.clients).clone();
            self.tell_missed(&clients);
            for (item, number) in items.iter().zip(first..) {
                self.give(number, item, view, &clients);
            }
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            // What did not fit beside this batch, and may be the last for long.
            self.tell_missed(&clients);
        }
        lock(&self.clients).clear();
    }

    fn tell_missed(&self, clients: &[Arc<Client>]) {
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            clients.iter().for_each(|client| client.lose(missed));
            self.dropped.fetch_add(missed * clients.len() as u64, Ordering::Relaxed);
        }
    }

    fn give(&self, number: u64, item: &Captured, view: &ItemView, clients: &[Arc<Client>]) {
        let json = OnceCell::new();
        for client in clients.iter().filter(|client| client.wants(number, item, view)) {
            let taken = client.offer(number, json.get_or_init(|| text(view, item)));
            let counter = if taken { &self.sent } else { &self.dropped };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.following = state.following.saturating_sub(1);
        self.shared.followed.store(state.following > 0, Ordering::Relaxed);
        lock(&self.shared.clients).retain(|client| Arc::as_ptr(client) != self.client.as_ptr());
    }
}

/// An item's JSON.
pub(super) fn text(view: &ItemView, item: &Captured) -> Utf8Bytes {
    let mut json = Vec::new();
    view.json(item, &mut json);
    String::from_utf8(json).unwrap_or_default().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use agent_core::item::{Endpoint, HttpExchange, Item, Record, StreamId};

    use super::*;
    use crate::api::client::Told;
    use crate::captured::{Node, Source};

    fn item() -> Arc<Captured> {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let end = Endpoint { addr: ip, port: 80, cgroup: 0 };
        let exchange = HttpExchange { request: None, response: None, interim: Vec::new() };
        let item = Item::new(StreamId(1), 0, end, end, Record::Http(Box::new(exchange)));
        let node = Arc::new(Node { name: String::new(), ip });
        Arc::new(Captured::nameless(item, node, Source::Pcap))
    }

    #[tokio::test]
    async fn what_a_thread_that_is_behind_has_no_room_for_is_told_to_who_follows() {
        let feed = Feed::start(FeedConfig::default()).unwrap();
        let mut follower = feed.follow(ClientKind::Sse, None, Begin::Now).unwrap();
        let (batch, all) = ([item()], QUEUE as u64 + 100);
        {
            let _held_up = lock(&feed.shared.clients);
            (0..all).for_each(|_| feed.deliver(&batch));
        }
        let (mut seen, mut dropped) = (0, 0);
        let told = async {
            while seen + dropped < all {
                match follower.receiver.next().await {
                    Some(Told::Item(..)) => seen += 1,
                    Some(Told::Dropped(items)) => dropped += items,
                    Some(Told::Quiet) => {}
                    None => panic!("it has ended"),
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), told).await;
        assert!(ended.is_ok() && dropped >= 99, "{seen} and {dropped} of {all}");
    }
}
