//! Mode `matched`: packets wait in memory for a short while, and only those of streams that somebody asks for are stored.
//!
//! ```text
//! worker ─ Matched ─commit─► Window ──kept streams──► Appender ─► Log …
//!                              ▲ keep(stream): what of it still waits, in order
//!                           reader
//! ```
//!
//! Invariants: a stream's packets reach the log in their order, each once; the window is within its bytes (but for one
//! batch) and its age; the lock is held for work in memory only.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_core::item::StreamId;
use agent_core::{LinkType, Origin, Packet, Timestamp};

use super::index::Spread;
use super::{PcapAppender, lock};

/// A batch is handed over by itself at this size, in bytes.
const BATCH: usize = 1 << 20;
/// Batches are put together up to this size, in bytes, so that small ones cost little.
const CHUNK: usize = 256 << 10;
/// Streams that may be kept at a time by a worker; those that were quiet longest are let go.
const MOST_KEPT: usize = 1 << 18;
/// Memory of a stream's place in a map, in bytes.
const ENTRY: usize = 32;
const NONE: u64 = u64::MAX;

/// What a window holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Memory, in bytes.
    pub(super) bytes: usize,
    pub(super) age: Duration,
    /// Streams kept.
    pub(super) kept: usize,
}

impl Limits {
    pub(super) fn new(bytes: usize, age: Duration) -> Self {
        Self { bytes, age, kept: MOST_KEPT }
    }
}

/// What a window counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    /// Memory at the moment, in bytes.
    pub(super) bytes: usize,
    /// Packets that left the window without having been asked for.
    pub(super) passed: u64,
    /// Streams that were asked for and let go again, for there were too many.
    pub(super) let_go: u64,
}

struct Held {
    stream: Option<StreamId>,
    /// Number of the stream's packet before it; [`NONE`]: none waits.
    previous: u64,
    time: Timestamp,
    link: LinkType,
    interface: u32,
    at_socket: bool,
    original_len: u32,
    data: Range<u32>,
    /// It is in the log already.
    moved: bool,
}

#[derive(Default)]
struct Chunk {
    since: Option<Instant>,
    /// Number of its first packet.
    first: u64,
    bytes: Vec<u8>,
    held: Vec<Held>,
}

impl Chunk {
    fn memory(&self) -> usize {
        self.bytes.len() + self.held.len() * (size_of::<Held>() + ENTRY)
    }

    fn push(&mut self, stream: Option<StreamId>, packet: &Packet<'_>) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(packet.data);
        self.held.push(Held {
            stream,
            previous: NONE,
            time: packet.time,
            link: packet.link,
            interface: packet.origin.interface,
            at_socket: packet.origin.at_socket,
            original_len: packet.original_len,
            data: start..self.bytes.len() as u32,
            moved: false,
        });
    }
}

type Streams = HashMap<StreamId, u64, BuildHasherDefault<Spread>>;

/// The packets of one worker that wait to be asked for.
pub(super) struct Window {
    limits: Limits,
    /// Where asked-for packets go. It lives as long as the store: a stream may be asked for when its worker has ended.
    log: Box<dyn PcapAppender>,
    chunks: VecDeque<Chunk>,
    next: u64,
    /// Number of the last packet of each stream that waits here.
    last: Streams,
    /// Streams that were asked for, with the number of the packet last stored of each.
    kept: Streams,
    highest: Option<StreamId>,
    counts: Counts,
}

impl Window {
    pub(super) fn new(limits: Limits, log: Box<dyn PcapAppender>) -> Self {
        Self {
            limits,
            log,
            chunks: VecDeque::new(),
            next: 0,
            last: Streams::default(),
            kept: Streams::default(),
            highest: None,
            counts: Counts::default(),
        }
    }

    /// From now on the stream is stored, with what of it waits here. `false`: no packet of it was ever seen.
    pub(super) fn keep(&mut self, stream: StreamId) -> bool {
        if self.highest.is_none_or(|highest| stream > highest) {
            return false;
        }
        if self.kept.insert(stream, self.next).is_none() {
            self.let_go();
            self.store_waiting(stream);
        }
        true
    }

    /// Whether the stream is among those stored.
    pub(super) fn is_kept(&self, stream: StreamId) -> bool {
        self.kept.contains_key(&stream)
    }

    /// Stores all that waits.
    pub(super) fn store_all(&mut self) {
        let log = &mut self.log;
        for chunk in std::mem::take(&mut self.chunks) {
            chunk
                .held
                .iter()
                .filter(|held| !held.moved)
                .for_each(|held| put(log.as_mut(), held, &chunk.bytes));
        }
        log.commit();
        self.last.clear();
        self.counts.bytes = 0;
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { bytes: self.counts.bytes + self.kept.len() * ENTRY, ..self.counts }
    }

    fn store_waiting(&mut self, stream: StreamId) {
        let Some(mut number) = self.last.remove(&stream) else { return };
        let mut chain = Vec::new();
        while let Some((chunk, at)) = self.locate(number) {
            chain.push((chunk, at));
            number = self.chunks[chunk].held[at].previous;
        }
        let log = &mut self.log;
        for (chunk, at) in chain.into_iter().rev() {
            let chunk = &mut self.chunks[chunk];
            let held = &mut chunk.held[at];
            held.moved = true;
            put(log.as_mut(), held, &chunk.bytes);
        }
        log.commit();
    }

    /// Chunk and place of a packet, if it is still here.
    fn locate(&self, number: u64) -> Option<(usize, usize)> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first <= number).checked_sub(1)?;
        let at = usize::try_from(number - self.chunks.get(chunk)?.first).ok()?;
        (at < self.chunks[chunk].held.len()).then_some((chunk, at))
    }

    /// Takes a batch: what is of a kept stream is stored, the rest waits.
    fn take(&mut self, batch: &mut Chunk) {
        let log = &mut self.log;
        batch.first = self.next;
        for (number, held) in (self.next..).zip(&mut batch.held) {
            let Some(stream) = held.stream else { continue };
            self.highest = self.highest.max(Some(stream));
            if let Some(stored) = self.kept.get_mut(&stream) {
                *stored = number;
                held.moved = true;
                put(log.as_mut(), held, &batch.bytes);
            } else {
                held.previous = self.last.insert(stream, number).unwrap_or(NONE);
            }
        }
        self.next += batch.held.len() as u64;
        log.commit();
        self.counts.bytes += batch.memory();
        if !batch.held.is_empty() {
            self.add(batch);
        }
        self.shrink();
    }

    /// Puts the batch at the end; the caller's is empty afterwards.
    fn add(&mut self, batch: &mut Chunk) {
        // Packets that wait together go together: they must be of about the same age.
        let young = self.limits.age / 16;
        match self.chunks.back_mut() {
            Some(last)
                if last.memory() + batch.memory() <= CHUNK
                    && last.since.is_some_and(|since| since.elapsed() <= young) =>
            {
                let shift = last.bytes.len() as u32;
                last.bytes.append(&mut batch.bytes);
                last.held.extend(batch.held.drain(..).map(|mut held| {
                    held.data = held.data.start + shift..held.data.end + shift;
                    held
                }));
            }
            _ => {
                let chunk = std::mem::take(batch);
                self.chunks.push_back(Chunk { since: Some(Instant::now()), ..chunk });
            }
        }
    }

    /// Lets the oldest packets go until the window is within its limits.
    fn shrink(&mut self) {
        let old = |chunk: &Chunk| chunk.since.is_some_and(|since| since.elapsed() > self.limits.age);
        while self.chunks.front().is_some_and(|first| self.counts.bytes > self.limits.bytes || old(first)) {
            let Some(gone) = self.chunks.pop_front() else { break };
            self.counts.bytes -= gone.memory();
            for (number, held) in (gone.first..).zip(&gone.held).filter(|(_, held)| !held.moved) {
                self.counts.passed += 1;
                if let Some(stream) = held.stream
                    && self.last.get(&stream) == Some(&number)
                {
                    self.last.remove(&stream);
                }
            }
        }
    }

    /// Lets the kept streams go that were quiet longest, an eighth of them, once there are too many.
    fn let_go(&mut self) {
        if self.kept.len() <= self.limits.kept {
            return;
        }
        let mut ages: Vec<(u64, StreamId)> = self.kept.iter().map(|(&stream, &at)| (at, stream)).collect();
        let count = (ages.len() / 8).max(1);
        if count < ages.len() {
            ages.select_nth_unstable(count);
        }
        for (_, stream) in ages.into_iter().take(count) {
            self.kept.remove(&stream);
            self.counts.let_go += 1;
        }
    }
}

fn put(log: &mut dyn PcapAppender, held: &Held, bytes: &[u8]) {
    let data = bytes.get(held.data.start as usize..held.data.end as usize).unwrap_or_default();
    let origin = Origin { interface: held.interface, at_socket: held.at_socket, ..Origin::default() };
    let packet = Packet { time: held.time, link: held.link, data, original_len: held.original_len, origin };
    log.append(held.stream, &packet);
}

/// The worker's half of a window.
pub(super) struct Matched {
    window: Arc<Mutex<Window>>,
    batch: Chunk,
}

impl Matched {
    pub(super) fn new(window: Arc<Mutex<Window>>) -> Self {
        Self { window, batch: Chunk::default() }
    }
}

impl PcapAppender for Matched {
    fn append(&mut self, stream: Option<StreamId>, packet: &Packet<'_>) {
        self.batch.push(stream, packet);
        if self.batch.bytes.len() >= BATCH {
            lock(&self.window).take(&mut self.batch);
        }
    }

    fn commit(&mut self) {
        lock(&self.window).take(&mut self.batch);
    }
}

impl Drop for Matched {
    fn drop(&mut self) {
        self.commit();
    }
}
