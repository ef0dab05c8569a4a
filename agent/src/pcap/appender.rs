//! The worker's half: encodes packets into a block of its own and hands it over once a batch.
//!
//! Invariants: no lock and no allocation for a packet (buffers are reused); a position is given once and never moves;
//! whatever cannot be stored is counted, and the next packet is tried as if nothing had been.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use agent_core::item::StreamId;
use agent_core::{LinkType, Origin, Packet};

use super::config::Overflow;
use super::link::{Ids, Link};
use super::log::{Block, Commit, Log};
use super::segment::Segment;
use super::shared::Shared;
use super::{PcapAppender, format};

/// A batch is handed over by itself at this size, in bytes.
const BATCH: usize = 1 << 20;
/// The largest packet stored, in bytes.
const LARGEST: usize = 64 << 20;
/// Interfaces of one segment; packets of more are refused until the next one.
const MAX_INTERFACES: usize = 4096;

/// An interface that is described in the segment. A number seen at a socket is of that one's network namespace, and thus
/// another than the same number seen on an interface.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    interface: u32,
    at_socket: bool,
    link: LinkType,
}

/// The segment that is filled.
struct Open {
    /// Not held: retention may take it when nothing more comes.
    segment: Weak<Segment>,
    since: Instant,
    /// Bytes handed over.
    len: u64,
    /// Records handed over.
    records: u32,
    /// Those described, by their numbers in the segment.
    interfaces: Vec<Known>,
    /// How many of them are described in blocks handed over.
    settled: usize,
    /// The last one used: mostly the next one, too.
    recent: usize,
}

pub(super) struct Appender {
    log: Arc<Log>,
    shared: Arc<Shared>,
    ids: Ids,
    open: Option<Open>,
    block: Block,
    failures: u64,
    /// Storing failed lately.
    paused: bool,
    writer: Option<JoinHandle<()>>,
}

impl Appender {
    pub(super) fn new(log: Arc<Log>, shared: Arc<Shared>, writer: JoinHandle<()>) -> Self {
        let ids = log.ids();
        Self {
            log,
            shared,
            ids,
            open: None,
            block: Block::default(),
            failures: 0,
            paused: false,
            writer: Some(writer),
        }
    }

    /// Starts a block, and a segment where the last one is full, old, or gone.
    fn begin(&mut self) -> bool {
        let config = &self.shared.config;
        let young = |open: &Open| config.segment_age().is_none_or(|age| open.since.elapsed() < age);
        if let Some(open) = self.open.as_ref().filter(|open| open.len < config.segment_bytes && young(open))
            && let Some(segment) = open.segment.upgrade().filter(|segment| !segment.is_to_turn())
        {
            self.block.first = open.records;
            self.block.segment = Some(segment);
            return true;
        }
        let Some(segment) = self.shared.registry.begin() else { return false };
        format::section(&mut self.block.bytes);
        self.block.fresh = true;
        self.block.first = 0;
        self.open = Some(Open {
            segment: Arc::downgrade(&segment),
            since: Instant::now(),
            len: 0,
            records: 0,
            interfaces: Vec::new(),
            settled: 0,
            recent: 0,
        });
        self.block.segment = Some(segment);
        true
    }

    fn store(&mut self, stream: Option<StreamId>, packet: &Packet<'_>) -> Option<()> {
        if packet.data.len() > LARGEST || (self.block.segment.is_none() && !self.begin()) {
            return None;
        }
        let open = self.open.as_mut()?;
        let interface = open.interface(&mut self.block.bytes, packet, &self.shared)?;
        if self.block.links.is_empty() {
            self.block.time = packet.time;
        }
        let offset = u32::try_from(open.len + self.block.bytes.len() as u64).ok()?;
        format::packet(&mut self.block.bytes, interface, packet.time, packet.original_len, packet.data);
        self.block.links.push(Link {
            stream: stream.filter(|&s| self.ids.ordinal(s).is_some()),
            link: packet.link,
            previous: None,
            offset,
            captured: packet.data.len() as u32,
        });
        Some(())
    }

    fn hand_over(&mut self) {
        let (bytes, records) = (self.block.bytes.len() as u64, self.block.links.len() as u32);
        let wait = self.shared.config.overflow == Overflow::Wait;
        let oldest = self.shared.registry.oldest();
        match self.log.commit(&mut self.block, self.failures, oldest, wait) {
            Commit::Done => {
                if let Some(open) = &mut self.open {
                    open.len += bytes;
                    open.records += records;
                    open.settled = open.interfaces.len();
                }
            }
            Commit::Full => self.give_up_block(),
            Commit::Broken => {
                self.give_up_block();
                self.open = None;
                self.paused = true;
            }
        }
    }

    /// Counts the block's packets as refused and leaves the segment as it was before the block.
    fn give_up_block(&mut self) {
        self.shared.counters.refuse(self.block.links.len() as u64, self.block.captured());
        if self.block.fresh {
            self.open = None;
            if let Some(segment) = &self.block.segment {
                self.shared.registry.discard(segment);
            }
        } else if let Some(open) = &mut self.open {
            open.interfaces.truncate(open.settled);
        }
        self.block.clear();
    }

    fn try_again(&mut self) {
        if let Some(failures) = self.log.ready() {
            self.failures = failures;
            self.paused = false;
        }
    }
}

impl Open {
    /// Number of the packet's interface, described first where it is new.
    #[inline]
    fn interface(&mut self, out: &mut Vec<u8>, packet: &Packet<'_>, shared: &Shared) -> Option<u32> {
        let origin = &packet.origin;
        let key = Known { interface: origin.interface, at_socket: origin.at_socket, link: packet.link };
        if self.interfaces.get(self.recent) != Some(&key) {
            self.recent = match self.interfaces.iter().position(|&known| known == key) {
                Some(number) => number,
                None => self.describe(key, origin, out, shared)?,
            };
        }
        Some(self.recent as u32)
    }

    fn describe(&mut self, key: Known, origin: &Origin, out: &mut Vec<u8>, shared: &Shared) -> Option<usize> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return None;
        }
        let info = shared.config.interfaces.as_ref().map(|describe| describe(origin)).unwrap_or_default();
        format::interface(out, key.link, &info);
        self.interfaces.push(key);
        Some(self.interfaces.len() - 1)
    }
}

impl PcapAppender for Appender {
    fn append(&mut self, stream: Option<StreamId>, packet: &Packet<'_>) {
        if self.paused || self.store(stream, packet).is_none() {
            self.shared.counters.refuse(1, packet.data.len() as u64);
        } else if self.block.bytes.len() >= BATCH {
            self.hand_over();
        }
    }

    fn commit(&mut self) {
        if self.paused {
            self.try_again();
        } else if !self.block.links.is_empty() {
            self.hand_over();
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.commit();
        self.log.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the PCAP store's writer panicked");
        }
    }
}
