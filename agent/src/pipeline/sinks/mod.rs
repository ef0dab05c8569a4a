//! Items to where a configuration says, without a script.
//!
//! ```text
//! worker ─► filter ─► queue (bounded) ─► a thread for each sink: JSON, in batches ─► outbox │ file
//! ```
//! Invariants: live, a sink never holds a worker back: what finds no room is dropped and counted; a batch is one delivery of the
//! outbox, hence one fsync for up to 500 items; where half of what the outbox may hold is waiting, items are refused
//! (counted) so that there is room for alerts; hidden values are hidden here as everywhere.

mod config;
mod file;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;

pub use config::{Method, SecretFrom, SinkConfig, check_sinks, read_sinks};
pub use file::Sync;

use super::Pace;
use super::output::Room;
use crate::captured::Captured;
use crate::kfl::Filter;
use crate::outbox::Outbox;
use crate::view::ItemView;

/// Batches of workers that may wait for a sink; [`Room`] bounds their memory.
const QUEUE: usize = 16_384;

/// Items of a worker's batch that a sink wants, with their memory.
type Wanted = (Vec<Arc<Captured>>, usize);

/// The sinks that run.
pub struct ItemSinks {
    view: Arc<ItemView>,
    running: Vec<Running>,
}

struct Running {
    name: String,
    filter: Option<Filter>,
    room: Arc<Room>,
    counters: Arc<Counters>,
    sender: Mutex<Option<SyncSender<Wanted>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a sink did; in items.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct SinkStats {
    /// Handed to the outbox, or written.
    pub items: u64,
    /// Did not match the sink's filter.
    pub filtered: u64,
    /// Found the queue full.
    pub dropped: u64,
    /// Refused by the outbox, or by the disk.
    pub refused: u64,
    /// Deliveries, or writes, that they made.
    pub batches: u64,
    /// Bytes of JSON in these.
    pub bytes: u64,
}

#[derive(Default)]
struct Counters {
    items: AtomicU64,
    filtered: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
}

impl ItemSinks {
    /// Starts all, or none. `outbox` may be missing where no sink needs one.
    ///
    /// # Errors
    /// When one of them cannot be right, a secret is not there, or a file cannot be opened; it is named.
    pub fn start(
        configs: &[SinkConfig],
        view: &Arc<ItemView>,
        outbox: Option<&Arc<dyn Outbox>>,
        pace: Pace,
    ) -> anyhow::Result<Self> {
        let plans = configs.iter().enumerate().map(|(at, config)| config.plan(at + 1));
        let plans = plans.collect::<anyhow::Result<Vec<_>>>()?;
        let mut running = Vec::with_capacity(plans.len());
        for plan in plans {
            let (name, counters, room) =
                (plan.name, Arc::new(Counters::default()), Arc::new(Room::default()));
            let way = worker::Way::open(plan.to, &name, outbox).with_context(|| format!("sink {name}"))?;
            let (sender, receiver) = sync_channel(QUEUE);
            let sink = worker::Sink::new(
                &name,
                Arc::clone(view),
                way,
                pace,
                Arc::clone(&counters),
                Arc::clone(&room),
            );
            let run = move || sink.run(&receiver);
            let thread = std::thread::Builder::new().name(format!("sink-{name}")).spawn(run);
            running.push(Running {
                filter: plan.filter,
                room,
                counters,
                sender: Mutex::new(Some(sender)),
                thread: Mutex::new(Some(
                    thread.with_context(|| format!("sink {name}: starting its thread"))?,
                )),
                name,
            });
        }
        Ok(Self { view: Arc::clone(view), running })
    }

    /// Takes the items of a worker's batch.
    pub(super) fn deliver(&self, items: &[Arc<Captured>], pace: Pace) {
        for sink in &self.running {
            sink.deliver(items, &self.view, pace);
        }
    }

    /// Hands over what waits, and ends. What then is with the outbox is the outbox's to deliver.
    pub fn close(&self) {
        for sink in &self.running {
            drop(sink.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        for sink in &self.running {
            if let Some(thread) = sink.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
                && thread.join().is_err()
            {
                tracing::error!("sink {}: its thread panicked", sink.name);
            }
        }
    }

    /// Counters so far, by name.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<String, SinkStats> {
        self.running.iter().map(|sink| (sink.name.clone(), sink.counters.snapshot())).collect()
    }
}

impl Running {
    fn deliver(&self, items: &[Arc<Captured>], view: &ItemView, pace: Pace) {
        let matches =
            |item: &&Arc<Captured>| self.filter.as_ref().is_none_or(|filter| filter.matches(item, view));
        let wanted: Vec<_> = items.iter().filter(matches).map(Arc::clone).collect();
        Counters::add(&self.counters.filtered, (items.len() - wanted.len()) as u64);
        if wanted.is_empty() {
            return;
        }
        let (count, bytes) = (wanted.len() as u64, wanted.iter().map(|item| item.memory()).sum());
        if !self.room.take(bytes, pace) {
            return Counters::add(&self.counters.dropped, count);
        }
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = match (sender, pace) {
            (None, _) => false,
            (Some(sender), Pace::Replay) => sender.send((wanted, bytes)).is_ok(),
            (Some(sender), Pace::Live) => !matches!(
                sender.try_send((wanted, bytes)),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
            ),
        };
        if !sent {
            self.room.give(bytes);
            Counters::add(&self.counters.dropped, count);
        }
    }
}

impl Counters {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    fn snapshot(&self) -> SinkStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SinkStats {
            items: read(&self.items),
            filtered: read(&self.filtered),
            dropped: read(&self.dropped),
            refused: read(&self.refused),
            batches: read(&self.batches),
            bytes: read(&self.bytes),
        }
    }
}

/// What a sink's thread takes from.
type Queue = Receiver<Wanted>;
