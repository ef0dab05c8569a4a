//! The lanes and what of the outbox's bounds is used. Every change is made whole under one lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::outbox::OutboxError;
use crate::outbox::config::OutboxConfig;
use crate::outbox::delivery::{DeliveryId, Destination, Job};
use crate::outbox::drained::{Drained, Undelivered};
use crate::outbox::sender::Batch;

#[derive(Debug)]
pub(super) struct State {
    pub(super) lanes: HashMap<Destination, Lane>,
    pub(super) waiting: usize,
    pub(super) bytes: u64,
    /// Bytes of text that are only in memory.
    pub(super) memory: u64,
    pub(super) next_id: u64,
    pub(super) last_move: Instant,
    pub(super) closed: bool,
    pub(super) warned: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) queue: VecDeque<Waiting>,
    /// Sent but for what may come later, with what was said of it: the database may not have that yet.
    pub(super) arrived: VecDeque<(Waiting, String)>,
    /// Taken out of these, and neither back nor gone.
    pub(super) under_way: usize,
    /// Something was queued.
    news: Arc<Notify>,
}

/// A delivery in a lane.
#[derive(Debug)]
pub(in crate::outbox) struct Waiting {
    pub(in crate::outbox) id: DeliveryId,
    pub(in crate::outbox) bytes: u64,
    /// In ms since 1970.
    pub(in crate::outbox) queued: u64,
    /// Attempts that failed, and those of them that a server answered.
    pub(in crate::outbox) attempts: u32,
    pub(in crate::outbox) answered: u32,
    /// What the disk refused.
    pub(in crate::outbox) memory: Option<Box<Job>>,
}

/// What a worker gets when it asks for work.
#[derive(Debug)]
pub(in crate::outbox) enum Taken {
    Batch(Vec<Waiting>),
    /// Nothing now; told when there is.
    Nothing(Arc<Notify>),
    /// The lane is closed: the next delivery starts a new worker.
    Closed,
}

impl State {
    pub(super) fn new(next_id: u64) -> Self {
        Self {
            lanes: HashMap::new(),
            waiting: 0,
            bytes: 0,
            memory: 0,
            next_id,
            last_move: Instant::now(),
            closed: false,
            warned: None,
        }
    }

    /// Room for one more delivery and its text.
    pub(super) fn reserve(&mut self, text: u64, config: &OutboxConfig) -> Result<DeliveryId, OutboxError> {
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
        let id = DeliveryId(self.next_id);
        self.next_id += 1;
        Ok(id)
    }

    pub(super) fn reserve_bytes(&mut self, bytes: u64, most: u64) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= most;
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Room for what is there already, whatever the bounds say.
    pub(super) fn occupy(&mut self, bytes: u64) {
        self.waiting += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn release(&mut self, bytes: u64) {
        self.waiting = self.waiting.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether the lane is new and needs a worker.
    pub(super) fn push(&mut self, destination: &Destination, waiting: Waiting) -> bool {
        if let Some(lane) = self.lanes.get_mut(destination) {
            lane.queue.push_back(waiting);
            lane.news.notify_one();
            return false;
        }
        let lane = Lane { queue: VecDeque::from([waiting]), ..Lane::default() };
        self.lanes.insert(destination.clone(), lane);
        true
    }

    /// The next batch of a lane, or its end.
    pub(super) fn take(&mut self, destination: &Destination, batch: Batch, may_close: bool) -> Taken {
        let Some(lane) = self.lanes.get_mut(destination) else { return Taken::Closed };
        let (mut taken, mut bytes) = (Vec::new(), 0u64);
        while taken.len() < batch.jobs.max(1)
            && let Some(next) = lane.queue.front()
            && (taken.is_empty() || bytes.saturating_add(next.bytes) <= batch.bytes)
        {
            bytes = bytes.saturating_add(next.bytes);
            taken.extend(lane.queue.pop_front());
        }
        lane.under_way += taken.len();
        if !taken.is_empty() {
            return Taken::Batch(taken);
        }
        if may_close && lane.arrived.is_empty() && lane.under_way == 0 {
            self.lanes.remove(destination);
            return Taken::Closed;
        }
        Taken::Nothing(Arc::clone(&lane.news))
    }

    /// Takes a delivery out of its lane, unless it is under way.
    pub(super) fn forget(&mut self, id: DeliveryId) {
        for lane in self.lanes.values_mut() {
            let queued = lane.queue.iter().position(|waiting| waiting.id == id);
            let arrived = lane.arrived.iter().position(|(waiting, _)| waiting.id == id);
            let dropped = queued.and_then(|at| lane.queue.remove(at));
            let dropped = dropped.or_else(|| Some(lane.arrived.remove(arrived?)?.0));
            if let Some(Waiting { bytes, .. }) = dropped {
                self.release(bytes);
                return;
            }
        }
    }

    pub(super) fn undelivered(&self) -> Drained {
        let left = self.lanes.iter().map(|(destination, lane)| Undelivered {
            destination: destination.label(),
            count: lane.queue.len() + lane.arrived.len() + lane.under_way,
        });
        let mut undelivered: Vec<_> = left.filter(|u| u.count > 0).collect();
        undelivered.sort_by(|a, b| a.destination.cmp(&b.destination));
        Drained { undelivered }
    }
}
