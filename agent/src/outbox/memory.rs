//! The outbox in memory: what waits is lost with the process; what it bounds and promises is said in [`super`].
//!
//! ```text
//! State.lanes: destination ─► Lane {queue, the one under way}   one task each, while something waits
//! ```
//!
//! Room is reserved before anything is copied, so that two scripts cannot both take the last of it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::config::OutboxConfig;
use super::slack::{SlackApi, SlackError};
use super::spool::{Attachment, Source, Spool};
use super::stats::{Counters, DeliveryStats};
use super::worker::{self, Destination, Job};
use super::{Alert, Delivery, DeliveryId, Outbox, OutboxError, check};

/// The outbox in memory. Dropping it ends deliveries and removes the spool.
#[derive(Debug)]
pub struct MemoryOutbox {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// What was left when waiting for the outbox ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Empty if everything was sent or given up.
    pub undelivered: Vec<Undelivered>,
}

/// Deliveries that still wait for one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undelivered {
    /// Where to; without secrets.
    pub destination: String,
    /// How many.
    pub count: usize,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.undelivered.is_empty() {
            return f.write_str("the outbox is empty");
        }
        let total: usize = self.undelivered.iter().map(|u| u.count).sum();
        write!(f, "{total} not delivered:")?;
        for (i, Undelivered { destination, count }) in self.undelivered.iter().enumerate() {
            write!(f, "{} {count} for {destination}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: OutboxConfig,
    pub(super) slack: SlackApi,
    pub(super) counters: Counters,
    /// True ends the workers.
    pub(super) stop: watch::Sender<bool>,
    spool: Spool,
    state: Mutex<State>,
    /// Told whenever something was delivered or given up.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    lanes: HashMap<Destination, Lane>,
    waiting: usize,
    bytes: u64,
    last_id: u64,
    last_move: Instant,
    closed: bool,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Job>,
    under_way: bool,
}

/// What a worker gets when it asks for work.
#[derive(Debug)]
pub(super) enum Taken {
    Job(Box<Job>),
    /// Nothing now; ask again once the pace allows a message.
    Nothing,
    /// The lane is closed: the next delivery starts a new worker.
    Closed,
}

impl MemoryOutbox {
    /// Makes the spool folder; deliveries run on `runtime`.
    ///
    /// # Errors
    /// When the spool folder cannot be made or the API URL is none.
    pub fn start(config: OutboxConfig, runtime: &Handle) -> Result<Arc<Self>> {
        let shared = Shared {
            slack: SlackApi::new(&config)?,
            spool: Spool::create(&config.spool_dir)?,
            counters: Counters::default(),
            stop: watch::Sender::new(false),
            state: Mutex::new(State {
                lanes: HashMap::new(),
                waiting: 0,
                bytes: 0,
                last_id: 0,
                last_move: Instant::now(),
                closed: false,
            }),
            moved: Notify::new(),
            config,
        };
        Ok(Arc::new(Self { shared: Arc::new(shared), runtime: runtime.clone() }))
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> DeliveryStats {
        let waiting = self.shared.lock().waiting;
        self.shared.counters.snapshot(waiting)
    }

    /// Waits until nothing waits, or nothing has been delivered or given up for `idle`.
    pub async fn drain(&self, idle: Duration) -> Drained {
        let began = Instant::now();
        loop {
            let moved = self.shared.moved.notified();
            let (drained, last_move) = {
                let state = self.shared.lock();
                (state.undelivered(), state.last_move)
            };
            if drained.undelivered.is_empty() {
                return drained;
            }
            let deadline = last_move.max(began) + idle;
            if tokio::time::timeout_at(deadline, moved).await.is_err() {
                return self.shared.lock().undelivered();
            }
        }
    }

    /// Takes nothing more, drains as [`MemoryOutbox::drain`] does, then ends the workers and lets go of what is left.
    pub async fn shutdown(&self, idle: Duration) -> Drained {
        self.shared.lock().closed = true;
        let drained = self.drain(idle).await;
        self.shared.stop.send_replace(true);
        let mut state = self.shared.lock();
        state.lanes.clear();
        state.waiting = 0;
        state.bytes = 0;
        drained
    }
}

impl Drop for MemoryOutbox {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

impl Outbox for MemoryOutbox {
    fn enqueue(&self, script: &str, delivery: Delivery) -> Result<DeliveryId, OutboxError> {
        let queued = self.shared.enqueue(script, delivery);
        match queued {
            Ok((id, new_lane)) => {
                self.shared.counters.queued.add();
                if let Some(destination) = new_lane {
                    self.runtime.spawn(worker::run(Arc::clone(&self.shared), destination));
                }
                Ok(id)
            }
            Err(error) => {
                self.shared.counters.refused.add();
                Err(error)
            }
        }
    }
}

impl Shared {
    /// Every change is whole before the lock is let go: a panic elsewhere leaves nothing torn.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery over; its destination, if that needs a worker.
    fn enqueue(
        &self,
        script: &str,
        delivery: Delivery,
    ) -> Result<(DeliveryId, Option<Destination>), OutboxError> {
        check::arguments(&delivery)?;
        let text = check::text_bytes(&delivery);
        let (destination, alert, fields, files) = split(delivery);
        let sources =
            files.iter().map(|(name, path)| Source::open(name, path)).collect::<Result<Vec<_>, _>>()?;
        self.lock().reserve(text, &self.config)?;
        let (files, copied) = self.take_over(sources);
        let job = Job {
            id: DeliveryId(0),
            script: script.to_owned(),
            alert,
            fields,
            files,
            made: SystemTime::now(),
            bytes: text + copied,
        };
        Ok(self.lock().push(destination, job))
    }

    /// Copies what there is room for; the rest is named in the message.
    fn take_over(&self, sources: Vec<Source>) -> (Vec<Attachment>, u64) {
        let most = self.config.max_delivery_bytes;
        let mut files = Vec::with_capacity(sources.len());
        let mut copied = 0u64;
        for source in sources {
            let size = source.size;
            if copied.saturating_add(size) > most {
                files.push(
                    source.without_content(format!("the files of one message may have {most} bytes in all")),
                );
            } else if !self.lock().reserve_bytes(size, self.config.max_bytes) {
                files.push(source.without_content("too much is waiting to be sent".to_owned()));
            } else {
                copied += size;
                files.push(self.spool.copy(source));
            }
        }
        (files, copied)
    }

    pub(super) fn take(&self, destination: &Destination, may_close: bool) -> Taken {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(destination) else { return Taken::Closed };
        if let Some(job) = lane.queue.pop_front() {
            lane.under_way = true;
            return Taken::Job(Box::new(job));
        }
        if may_close {
            state.lanes.remove(destination);
            return Taken::Closed;
        }
        Taken::Nothing
    }

    /// The delivery was sent or given up: its room is free again, its copies are gone.
    pub(super) fn finish(&self, destination: &Destination, job: Job, error: Option<SlackError>) {
        let bytes = job.bytes;
        drop((job, error));
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(destination) {
            lane.under_way = false;
            state.waiting = state.waiting.saturating_sub(1);
            state.bytes = state.bytes.saturating_sub(bytes);
        }
        drop(state);
        self.moved();
    }

    /// Something was delivered: whoever drains may wait on.
    pub(super) fn moved(&self) {
        self.lock().last_move = Instant::now();
        self.moved.notify_waiters();
    }
}

impl State {
    /// Room for one more delivery and its text.
    fn reserve(&mut self, text: u64, config: &OutboxConfig) -> Result<(), OutboxError> {
        if self.closed {
            return Err(OutboxError::Closed);
        }
        if self.waiting >= config.max_waiting {
            return Err(OutboxError::Full { limit: config.max_waiting });
        }
        if !self.reserve_bytes(text, config.max_bytes) {
            return Err(OutboxError::FullBytes { limit: config.max_bytes });
        }
        self.waiting += 1;
        Ok(())
    }

    fn reserve_bytes(&mut self, bytes: u64, most: u64) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= most;
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    fn push(&mut self, destination: Destination, mut job: Job) -> (DeliveryId, Option<Destination>) {
        self.last_id += 1;
        job.id = DeliveryId(self.last_id);
        let id = job.id;
        match self.lanes.get_mut(&destination) {
            Some(lane) => {
                lane.queue.push_back(job);
                (id, None)
            }
            None => {
                let lane = Lane { queue: VecDeque::from([job]), under_way: false };
                self.lanes.insert(destination.clone(), lane);
                (id, Some(destination))
            }
        }
    }

    fn undelivered(&self) -> Drained {
        let left = self.lanes.iter().map(|(destination, lane)| Undelivered {
            destination: destination.label(),
            count: lane.queue.len() + usize::from(lane.under_way),
        });
        let mut undelivered: Vec<_> = left.filter(|u| u.count > 0).collect();
        undelivered.sort_by(|a, b| a.destination.cmp(&b.destination));
        Drained { undelivered }
    }
}

type Parts = (Destination, Alert, Vec<(String, String)>, Vec<(String, PathBuf)>);

fn split(delivery: Delivery) -> Parts {
    match delivery {
        Delivery::SlackWebhook { url, alert } => (Destination::Webhook(url), alert, Vec::new(), Vec::new()),
        Delivery::SlackBot { token, channel, alert, fields, files } => {
            (Destination::Bot { token, channel }, alert, fields, files)
        }
    }
}
