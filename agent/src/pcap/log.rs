//! Where a worker's appender, its writer thread and the readers meet: the index, and what waits to be written.
//!
//! ```text
//! Appender ──commit──► pending blocks ──► writer thread ──► segment files
//!                      index              progress ──► readers who wait for a flush
//! ```
//!
//! The one lock is held for index look-ups and hand-overs only, never over disk work. Invariants: positions grow in
//! the order of commits; everything up to `written` is in the files; `queued` bytes are within the configured limit
//! (but for one block); when writing fails, what waited is dropped and the index is as if it had never been committed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_core::Timestamp;
use agent_core::item::StreamId;

use super::index::{Found, Index};
use super::link::{Ids, Link, Position};
use super::lock;
use super::segment::Segment;

/// Small commits are put together up to this size, in bytes.
const MERGE: usize = 256 << 10;
/// Written blocks kept for their memory.
const SPARES: usize = 2;
/// Larger ones are not kept, in bytes.
const SPARE_BYTES: usize = 4 << 20;

/// Records that are written together, all of one segment.
#[derive(Default)]
pub(super) struct Block {
    pub(super) segment: Option<Arc<Segment>>,
    /// Whether the segment begins with it.
    pub(super) fresh: bool,
    /// Number of its first record in the segment.
    pub(super) first: u32,
    /// Capture time of its first record.
    pub(super) time: Timestamp,
    /// pcapng blocks, whole.
    pub(super) bytes: Vec<u8>,
    pub(super) links: Vec<Link>,
}

impl Block {
    pub(super) fn clear(&mut self) {
        self.segment = None;
        self.fresh = false;
        self.bytes.clear();
        self.links.clear();
    }

    fn number(&self) -> u32 {
        self.segment.as_ref().map_or(0, |s| s.number)
    }

    /// Memory that it takes while it waits, in bytes.
    fn memory(&self) -> usize {
        self.bytes.len() + self.links.len() * size_of::<Link>()
    }

    /// Captured bytes of its records.
    pub(super) fn captured(&self) -> u64 {
        self.links.iter().map(|l| u64::from(l.captured)).sum()
    }

    /// Streams and positions of its records.
    fn positions(&mut self) -> impl DoubleEndedIterator<Item = (&mut Link, Position)> {
        let (segment, first) = (self.number(), self.first);
        self.links
            .iter_mut()
            .enumerate()
            .map(move |(i, link)| (link, Position { segment, record: first.saturating_add(i as u32) }))
    }
}

/// When the writer is woken, and what may wait for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) queue_bytes: usize,
    pub(super) flush_bytes: usize,
    pub(super) flush_age: Duration,
}

/// What became of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commit {
    /// Its records can be found.
    Done,
    /// Too much waits to be written.
    Full,
    /// Writing failed meanwhile: the segment that the records are for is given up.
    Broken,
}

/// What the writer has to do.
pub(super) enum Work {
    Write(Block),
    /// Nothing for a while.
    Idle,
    /// Nothing any more.
    End,
}

/// How a wait for the writer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flushed {
    Done,
    /// Writing failed: positions are no longer what they were.
    Changed,
    /// The writer took too long.
    TimedOut,
}

pub(super) struct Log {
    ids: Ids,
    pace: Pace,
    state: Mutex<State>,
    work: Condvar,
    progress: Condvar,
}

struct State {
    index: Index,
    /// Segments before this one were dropped from the index.
    oldest: u32,
    pending: VecDeque<Block>,
    /// When the oldest of `pending` was committed.
    since: Option<Instant>,
    /// Memory of the blocks pending or being written, in bytes.
    queued: usize,
    spares: Vec<Block>,
    /// The last position committed, packed; 0: none.
    committed: u64,
    /// The last position in the files, packed; 0: none.
    written: u64,
    flush: bool,
    closed: bool,
    /// How often writing failed.
    failures: u64,
    /// The last write failed.
    down: bool,
    /// No use trying before.
    down_until: Option<Instant>,
}

impl Log {
    pub(super) fn new(index: Index, pace: Pace) -> Self {
        let ids = index.ids();
        let state = State {
            index,
            oldest: 0,
            pending: VecDeque::new(),
            since: None,
            queued: 0,
            spares: Vec::new(),
            committed: 0,
            written: 0,
            flush: false,
            closed: false,
            failures: 0,
            down: false,
            down_until: None,
        };
        Self { ids, pace, state: Mutex::new(state), work: Condvar::new(), progress: Condvar::new() }
    }

    /// The log of an earlier run: nothing waits, nothing will be added.
    pub(super) fn finished(index: Index, pace: Pace) -> Self {
        let log = Self::new(index, pace);
        lock(&log.state).written = u64::MAX;
        log
    }

    pub(super) fn ids(&self) -> Ids {
        self.ids
    }

    /// Hands `block` over and leaves an empty one in its place, unless it cannot be taken. `oldest`: segments before
    /// it are gone. With `wait`, a full queue is waited for.
    pub(super) fn commit(&self, block: &mut Block, failures: u64, oldest: u32, wait: bool) -> Commit {
        let mut state = lock(&self.state);
        loop {
            if state.failures != failures {
                return Commit::Broken;
            }
            if state.queued == 0 || state.queued + block.memory() <= self.pace.queue_bytes {
                break;
            }
            if !wait {
                return Commit::Full;
            }
            state.flush = true;
            self.work.notify_one();
            state = self.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.oldest != oldest {
            state.oldest = oldest;
            state.index.forget_before(oldest);
        }
        for (link, at) in block.positions() {
            link.previous = link.stream.and_then(|stream| state.index.advance(stream, at));
            state.committed = at.pack();
        }
        let before = state.queued;
        state.queued += block.memory();
        let wake = before == 0 || (before < self.pace.flush_bytes && state.queued >= self.pace.flush_bytes);
        state.enqueue(block);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Commit::Done
    }

    /// Whether storing is worth a try (again): how often writing has failed so far, or `None` for not yet.
    pub(super) fn ready(&self) -> Option<u64> {
        let mut state = lock(&self.state);
        if state.down_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        state.down_until = None;
        Some(state.failures)
    }

    /// Whether writing failed and has not succeeded since.
    pub(super) fn is_down(&self) -> bool {
        lock(&self.state).down
    }

    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.work.notify_one();
    }

    /// What to write next; waits up to `idle` for it.
    pub(super) fn next(&self, idle: Duration) -> Work {
        let until = Instant::now() + idle;
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let due = state.since.map(|since| since + self.pace.flush_age);
            let urgent = state.closed || state.flush || state.queued >= self.pace.flush_bytes;
            if (urgent || due.is_some_and(|due| due <= now))
                && let Some(block) = state.pending.pop_front()
            {
                return Work::Write(block);
            }
            if state.closed {
                return Work::End;
            }
            if now >= until {
                return Work::Idle;
            }
            state.flush = false;
            let wait = due.unwrap_or(until).min(until).saturating_duration_since(now);
            state = self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// `block` is in the files; `down`: not in those on the disk.
    pub(super) fn written(&self, mut block: Block, down: bool) {
        let mut state = lock(&self.state);
        if let Some((_, last)) = block.positions().next_back() {
            state.written = last.pack();
        }
        state.queued = state.queued.saturating_sub(block.memory());
        state.down = down;
        if state.pending.is_empty() {
            state.since = None;
        }
        let segment = block.segment.take();
        block.clear();
        if state.spares.len() < SPARES && block.bytes.capacity() <= SPARE_BYTES {
            state.spares.push(block);
        }
        drop(state);
        self.progress.notify_all();
        // Outside the lock: the last holder of a segment that retention took deletes its files.
        drop(segment);
    }

    /// `block` could not be written. What waits behind it is dropped with it, and given back in order of commit.
    pub(super) fn failed(&self, block: Block, pause: Duration) -> Vec<Block> {
        let mut state = lock(&self.state);
        let mut dropped: Vec<Block> =
            std::iter::once(block).chain(std::mem::take(&mut state.pending)).collect();
        for block in dropped.iter_mut().rev() {
            for (link, at) in block.positions().rev() {
                if let Some(stream) = link.stream {
                    state.index.retreat(stream, at, link.previous);
                }
            }
        }
        state.queued = 0;
        state.committed = state.written;
        state.since = None;
        state.failures += 1;
        state.down = true;
        state.down_until = Some(Instant::now() + pause);
        drop(state);
        self.progress.notify_all();
        dropped
    }

    pub(super) fn find(&self, stream: StreamId) -> Found {
        lock(&self.state).index.find(stream)
    }

    /// The last record committed, of whatever stream.
    pub(super) fn last(&self) -> Option<Position> {
        Position::unpack(lock(&self.state).committed)
    }

    /// Drops what is older than `oldest` from the index (a log that is no longer appended to has nobody else to do so).
    pub(super) fn forget_before(&self, oldest: u32) {
        let mut state = lock(&self.state);
        if state.oldest != oldest {
            state.oldest = oldest;
            state.index.forget_before(oldest);
        }
    }

    /// Memory of the index in bytes, and chunks evicted from it.
    pub(super) fn index_use(&self) -> (usize, u64) {
        let state = lock(&self.state);
        (state.index.memory(), state.index.evicted())
    }

    /// Waits until everything up to `at` is in the files.
    pub(super) fn flush(&self, at: Position, patience: Duration) -> Flushed {
        let until = Instant::now() + patience;
        let mut state = lock(&self.state);
        let failures = state.failures;
        while state.written < at.pack() {
            let now = Instant::now();
            if now >= until {
                return Flushed::TimedOut;
            }
            state.flush = true;
            self.work.notify_one();
            state = self.wait(state, until - now);
            if state.failures != failures {
                return Flushed::Changed;
            }
        }
        Flushed::Done
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.progress.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn enqueue(&mut self, block: &mut Block) {
        match self.pending.back_mut() {
            Some(last)
                if last.number() == block.number() && last.bytes.len() + block.bytes.len() <= MERGE =>
            {
                last.bytes.extend_from_slice(&block.bytes);
                last.links.extend_from_slice(&block.links);
                block.clear();
            }
            _ => {
                let spare = self.spares.pop().unwrap_or_default();
                self.pending.push_back(std::mem::replace(block, spare));
            }
        }
        self.since.get_or_insert_with(Instant::now);
    }
}
