//! The outbox: takes deliveries, keeps what waits in lanes, one for each destination. What it bounds and promises is said
//! in [`super`].
//!
//! Lanes hold numbers; what a delivery says stays in the database until its turn. Only what the disk refused is in
//! memory, within a bound of its own. Room is reserved before anything is copied, so that two scripts cannot both take the
//! last of it. A full outbox refuses the new: the first alerts of an incident say more than the last ones, and the script
//! is told.

mod intake;
mod state;

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::blobs::{self, Blobs};
use super::config::OutboxConfig;
use super::delivery::{DeliveryId, Destination, Job};
use super::drained::Drained;
use super::failure::Failure;
use super::folds::{self, Closing, Folds};
use super::lock::Lock;
use super::refusals::Refusals;
use super::retry::Pace;
use super::sender::{Batch, Services, Turn};
use super::stats::{Counters, DeliveryStats};
use super::store::{Found, Keep, Op, Outside, Queued, Row, Store};
use super::{BLOBS, Delivery, Outbox, OutboxError};

use state::State;
pub(super) use state::{Taken, Waiting};

/// How often is looked for what is due.
const TICK: Duration = Duration::from_millis(200);

/// The outbox on disk. Dropping it ends deliveries; what waits is there at the next start.
#[derive(Debug)]
pub struct DurableOutbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: OutboxConfig,
    pub(super) services: Services,
    pub(super) counters: Arc<Counters>,
    /// True ends the workers.
    pub(super) stop: watch::Sender<bool>,
    pub(super) blobs: Arc<Blobs>,
    // Before the lock: its thread must have ended when the lock goes.
    store: Store,
    folds: Mutex<Folds>,
    state: Mutex<State>,
    refusals: Refusals,
    /// What was held back could not be told when last tried.
    untold: AtomicBool,
    /// Told whenever something was delivered or given up.
    moved: Notify,
    runtime: Handle,
    _lock: Lock,
}

impl DurableOutbox {
    /// Opens the outbox in `config.folder` and sends what waits there; deliveries run on `runtime`.
    ///
    /// # Errors
    /// When the folder or database cannot be made or is in use, or the API URL is none.
    pub fn open(config: OutboxConfig, runtime: &Handle) -> Result<Arc<Self>> {
        let folder = config.folder.clone();
        let within = || format!("outbox in {}", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(within)?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).with_context(within)?;
        let lock = Lock::take(&folder)?;
        let reserve = blobs::reserve(&folder, config.disk_reserve).with_context(within)?;
        let blobs = Blobs::open(folder.join(BLOBS), config.durable, reserve);
        let blobs = Arc::new(blobs.with_context(within)?);
        let counters = Arc::new(Counters::default());
        let keep =
            Keep { blobs: Arc::clone(&blobs), counters: Arc::clone(&counters), dead: config.dead.clone() };
        let later: Arc<OnceLock<Weak<Shared>>> = Arc::default();
        let outside = {
            let later = Arc::clone(&later);
            move |what| {
                if let Some(shared) = later.get().and_then(Weak::upgrade) {
                    shared.outside(what);
                }
            }
        };
        let (store, found) = Store::open(&folder, config.durable, keep, outside).with_context(within)?;
        blobs.collect(&found.copies).with_context(within)?;
        let shared = Arc::new(Shared {
            services: Services::new(&config)?,
            counters,
            stop: watch::Sender::new(false),
            blobs,
            store,
            folds: Mutex::new(Folds::new(config.fold.clone())),
            state: Mutex::new(State::new(found.next_id)),
            refusals: Refusals::default(),
            untold: AtomicBool::new(false),
            moved: Notify::new(),
            runtime: runtime.clone(),
            _lock: lock,
            config,
        });
        let _ = later.set(Arc::downgrade(&shared));
        shared.take_up(found);
        start_clock(&shared)?;
        Ok(Arc::new(Self { shared }))
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> DeliveryStats {
        let waiting = self.shared.lock().waiting;
        self.shared.counters.snapshot(waiting)
    }

    /// Tells what is held back, and waits until nothing waits, or nothing has been delivered or given up for `idle`.
    pub async fn drain(&self, idle: Duration) -> Drained {
        self.shared.tell_due(true);
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

    /// Takes nothing more, drains as [`DurableOutbox::drain`] does, then ends the workers. What is left stays on the disk.
    pub async fn shutdown(&self, idle: Duration) -> Drained {
        self.shared.tell_due(true);
        self.shared.lock().closed = true;
        let drained = self.drain(idle).await;
        self.shared.stop.send_replace(true);
        self.shared.store.flush().await;
        drained
    }
}

impl Drop for DurableOutbox {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

impl Outbox for DurableOutbox {
    fn enqueue(&self, script: &str, delivery: Delivery) -> Result<DeliveryId, OutboxError> {
        let queued = self.shared.enqueue(script, delivery);
        if let Err(error) = &queued {
            self.shared.counters.refused.add();
            self.shared.refusals.add(error, std::time::Instant::now());
        }
        queued
    }

    fn is_crowded(&self) -> bool {
        let (state, config) = (self.shared.lock(), &self.shared.config);
        state.waiting >= config.max_waiting / 2 || state.bytes >= config.max_bytes / 2
    }
}

impl Shared {
    /// Every change is whole before the lock is let go: a panic elsewhere leaves nothing torn.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folds(&self) -> MutexGuard<'_, Folds> {
        self.folds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier run left.
    fn take_up(self: &Arc<Self>, found: Found) {
        {
            let mut folds = self.folds();
            for (key, entry, destination) in found.folds {
                folds.restore(key, entry, destination);
            }
        }
        if !found.waiting.is_empty() {
            tracing::info!("outbox: {} deliveries of an earlier run wait", found.waiting.len());
        }
        for (destination, one) in found.waiting {
            self.take_up_one(destination, one);
        }
    }

    fn take_up_one(self: &Arc<Self>, destination: Destination, one: Queued) {
        self.counters.taken_up.add();
        self.lock().occupy(one.bytes);
        let Queued { id, bytes, queued } = one;
        self.push(destination, Waiting { id, bytes, queued, attempts: 0, answered: 0, memory: None });
    }

    /// Waits until what became of deliveries is on the disk.
    pub(super) async fn flush(&self) {
        self.store.flush().await;
    }

    /// What `remora outbox` did.
    fn outside(self: &Arc<Self>, what: Outside) {
        match what {
            Outside::Retried(destination, one) => self.take_up_one(destination, one),
            Outside::Dropped(id) => {
                self.lock().forget(id);
                self.moved();
            }
        }
    }

    pub(super) fn take(&self, destination: &Destination, batch: Batch, may_close: bool) -> Taken {
        self.lock().take(destination, batch, may_close)
    }

    /// What a sender works with.
    pub(super) fn turn<'a>(&'a self, pace: &'a Pace) -> Turn<'a> {
        let Self { services, config, counters, blobs, .. } = self;
        Turn { services, config, counters, pace, blobs }
    }

    /// How many arrived and are to be finished.
    pub(super) fn arrived(&self, destination: &Destination) -> usize {
        self.lock().lanes.get(destination).map_or(0, |lane| lane.arrived.len())
    }

    /// The next to be finished, with how far it got.
    pub(super) fn take_arrived(&self, destination: &Destination) -> Option<(Waiting, String)> {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(destination)?;
        let next = lane.arrived.pop_front()?;
        lane.under_way += 1;
        Some(next)
    }

    /// What a delivery says; `None`: it is gone, and its room with it.
    pub(super) fn load(&self, destination: &Destination, waiting: &Waiting) -> Option<Job> {
        if let Some(job) = &waiting.memory {
            return Some((**job).clone());
        }
        let why = match self.store.load(waiting.id) {
            Ok(Some(job)) => return Some(job),
            // Dropped by hand.
            Ok(None) => None,
            Err(error) => Some(format!("it cannot be read: {error:#}")),
        };
        if let Some(error) = why {
            tracing::error!(delivery = waiting.id.0, "{}: not delivered: {error}", destination.label());
            self.counters.failed.add();
            self.store.tell(Op::Dead { id: waiting.id, attempts: waiting.attempts, error });
        }
        self.leave(destination, waiting);
        None
    }

    /// Back to the front of its lane, in order.
    pub(super) fn put_back(&self, destination: &Destination, again: Vec<Waiting>) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(destination) {
            lane.under_way = lane.under_way.saturating_sub(again.len());
            again.into_iter().rev().for_each(|waiting| lane.queue.push_front(waiting));
        }
    }

    /// An attempt failed; shown by `remora outbox list`.
    pub(super) fn tried(&self, waiting: &Waiting, error: &Failure) {
        let (id, attempts) = (waiting.id, waiting.attempts);
        self.store.tell(Op::Tried { id, attempts, error: error.to_string() });
    }

    /// What must not be sent again has arrived, the rest is to be finished.
    pub(super) fn has_arrived(
        &self,
        destination: &Destination,
        waiting: Waiting,
        job: &Job,
        progress: String,
    ) {
        if waiting.memory.is_none() && job.progress.as_ref() != Some(&progress) {
            self.store.tell(Op::Progress(job.id, progress.clone()));
        }
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(destination) {
            lane.under_way = lane.under_way.saturating_sub(1);
            lane.arrived.push_back((waiting, progress));
        }
        drop(state);
        self.moved();
    }

    /// The delivery was sent or given up: its room is free again.
    pub(super) fn finish(
        &self,
        destination: &Destination,
        waiting: &Waiting,
        job: Job,
        error: Option<String>,
    ) {
        let Job { id, script, content, files, made, .. } = job;
        match (error, &waiting.memory) {
            (None, None) => self.store.tell(Op::Done(id, files)),
            (None, Some(_)) => self.blobs.remove(&files),
            (Some(error), memory) => {
                if memory.is_some() {
                    // Perhaps the disk takes it by now.
                    let (destination, bytes) = (destination.clone(), waiting.bytes);
                    let row = Row { id, destination, script, made, content, files, bytes };
                    if let Err(cause) = self.store.insert(row) {
                        tracing::error!(delivery = id.0, "outbox: the dead letter is not kept: {cause}");
                    }
                }
                self.store.tell(Op::Dead { id, attempts: waiting.attempts, error });
            }
        }
        self.leave(destination, waiting);
    }

    fn leave(&self, destination: &Destination, waiting: &Waiting) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(destination) {
            lane.under_way = lane.under_way.saturating_sub(1);
        }
        state.release(waiting.bytes);
        if let Some(job) = &waiting.memory {
            state.memory = state.memory.saturating_sub(job.content.bytes());
        }
        drop(state);
        self.moved();
    }

    /// Something was delivered: whoever drains may wait on.
    pub(super) fn moved(&self) {
        self.lock().last_move = Instant::now();
        self.moved.notify_waiters();
    }

    /// Tells what was held back in windows that ended, or in all.
    fn tell_due(self: &Arc<Self>, all: bool) {
        let due = self.folds().due(folds::now(), all);
        let mut refused = None;
        for closing in due {
            let Closing { script, destination, content, .. } = &closing;
            if let Err(error) = self.accept(script, destination.clone(), content.clone()) {
                self.folds().not_told(closing);
                refused = Some(error);
            }
        }
        // This comes round five times a second: said once for each time of trouble.
        let was_refused = self.untold.swap(refused.is_some(), Ordering::Relaxed);
        if let Some(error) = refused.filter(|_| !was_refused) {
            tracing::warn!("outbox: what was held back cannot be told yet: {error}");
        }
        let changed = self.folds().changed();
        if !changed.is_empty() {
            self.store.tell(Op::Folds(changed));
        }
    }
}

/// A thread that tells what is due; it ends with the outbox.
fn start_clock(shared: &Arc<Shared>) -> Result<()> {
    let shared = Arc::downgrade(shared);
    let tick = move || {
        while let Some(shared) = shared.upgrade().filter(|shared| !*shared.stop.borrow()) {
            shared.tell_due(false);
            if let Some(said) = shared.refusals.look(std::time::Instant::now()) {
                tracing::warn!("{said}");
            }
            drop(shared);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("outbox-clock".to_owned()).spawn(tick).context("starting its clock")?;
    Ok(())
}
