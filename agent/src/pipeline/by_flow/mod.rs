//! Several workers for one file: each has the flows that a hash gives it, with an engine of its own.
//!
//! ```text
//!                        ┌─► worker 0 (engine → items, or their JSON) ─┐
//! file ─► blocks ─► deal ┼─► worker 1                                  ┼─► merge ─► numbers ─► output, scripts, sinks
//!                        └─► …                                         ┘
//! ```
//!
//! Invariants:
//! - What comes out is what one worker would tell, in its order, with its numbers: each find bears the number of the packet that
//!   brought it, and every worker is told the time of every packet, so that streams end with the packet they would end with.
//!   Two things differ. Limits of memory are shared out, so a capture that reaches one may show it elsewhere. And two holes
//!   that are given up at the same nanosecond, in streams of two workers, are told by worker.
//! - Packets are not copied: workers hold on to the file's blocks.
//! - A block is dealt to all workers before the next, and each has at most [`WAITING`] of them: that bounds the blocks. What a
//!   worker found waits in pieces of at most a share of [`FOUND_BYTES`] and one item more. Everybody waits for everybody:
//!   a file can.

mod deal;
mod lines;
mod merge;
mod share;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::thread::{Builder, ScopedJoinHandle};

use agent_core::engine::Turn;
use agent_core::shard::Sharder;
use agent_core::{EngineConfig, EngineStats, Limits, StreamId, StreamSummary, Timestamp};
use anyhow::Context as _;

use super::{Pulse, Sinks, WorkerReport, panicked};
use crate::capture::Loss;
use crate::capture::file::{Block, BlockSource};
use crate::captured::{Captured, Name};
use crate::hooks::PacketInfo;
use crate::pcap::PcapAppender;
use crate::view::{ItemView, Page};
use deal::Dealer;
use merge::Merge;
use share::Share;

/// Blocks that wait for a worker, and pieces of what it found that wait for the merge.
const WAITING: usize = 4;
/// Memory of what was found that all workers together hand on at once, in bytes.
const FOUND_BYTES: usize = 8 << 20;

/// What a worker is made of.
pub struct Part {
    /// Its number, from 0.
    pub id: u16,
    /// Where its packets are stored.
    pub store: Option<Box<dyn PcapAppender>>,
    /// How its engine is set up; limits are those of all workers together.
    pub engine: EngineConfig,
    /// By which others see that it gets on.
    pub pulse: Arc<Pulse>,
}

/// A replay by several workers, ready to run.
pub struct ByFlow {
    /// The file.
    pub source: Box<dyn BlockSource>,
    /// The workers.
    pub parts: Vec<Part>,
    /// Where it all goes.
    pub sinks: Sinks,
    /// Items are JSON lines on standard output and nothing else: then the workers write them. [`Sinks::output`] has no items.
    pub lines: Option<Arc<ItemView>>,
}

/// A packet of a worker.
#[derive(Debug)]
struct Dealt {
    time: Timestamp,
    /// Where its data is in the block, or among what was held.
    start: u32,
    len: u32,
    original_len: u32,
    interface: u32,
    /// Its place among all packets of the block.
    index: u32,
    link: u16,
    held: bool,
    /// Only to be counted.
    given_up: bool,
}

/// What a worker is given of a block.
struct Hand {
    block: Arc<Block>,
    /// Data of packets that were held.
    held: Vec<u8>,
    packets: Vec<Dealt>,
    /// The latest time up to each packet of the block, other workers' included.
    times: Arc<Vec<Timestamp>>,
    /// Number of the block's first packet.
    first: u64,
}

/// When something was found: the order of all finds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Moment {
    /// Number of the packet with which it was.
    packet: u64,
    turn: Turn,
}

/// Something that a worker found.
enum Find {
    /// A stream began that the worker calls so.
    Opened(StreamId),
    /// An item.
    Item(Box<Captured>),
    /// An item as a line in [`Finds::text`], behind room for a longer head.
    Line { stream: StreamId, start: usize, end: usize },
    /// An item that was filtered: it has a number.
    Filtered,
    /// A stream is over.
    Closed(Box<StreamSummary>, Box<(Name, Name)>),
    /// A packet, for scripts.
    Packet(PacketInfo),
}

/// What a worker found in a block, or a part of that.
#[derive(Default)]
struct Finds {
    finds: Vec<(Moment, Find)>,
    text: Page,
    /// Whether the block is done with.
    last: bool,
}

impl ByFlow {
    /// Runs until the file ends, fails, or a stop is asked for; then closes every stream. A report for each worker, and one of
    /// what belongs to none. A thread that panicked ends it as well: a report says so, and what the others found is handed on.
    ///
    /// # Errors
    /// When standard output cannot be had, or a thread cannot be started.
    pub fn run(self) -> anyhow::Result<Vec<WorkerReport>> {
        let Self { source, parts, sinks, lines } = self;
        let number = u16::try_from(parts.len()).context("too many workers")?;
        let config = parts.first().map(|part| part.engine.clone()).unwrap_or_default();
        let sharder =
            Sharder::new(number, config.limits, config.hash_seed.rotate_left(32) ^ 0x7368_6172_6465_7273);
        let stored = parts.iter().any(|part| part.store.is_some());
        let mut merge = Merge::new(&sinks, lines.is_some(), stored)?;
        std::thread::scope(|scope| {
            let (mut hands, mut running) = (Vec::new(), Vec::new());
            for part in parts {
                let (hand, dealt) = sync_channel(WAITING);
                let (finds, found) = sync_channel(WAITING);
                let (home, spent) = channel();
                hands.push(hand);
                merge.add(found, home);
                let share = Share::new(part, number, &sinks, lines.clone());
                let thread = Builder::new().name(format!("worker-{}", running.len()));
                let run = move || share.run(&dealt, &finds, &spent);
                running.push(thread.spawn_scoped(scope, run).context("starting a worker")?);
            }
            let dealer = Dealer::new(source, sharder, hands, sinks.stop.clone());
            let deal = Builder::new().name("deal".to_owned()).spawn_scoped(scope, move || dealer.run());
            let deal = deal.context("starting the thread that deals packets")?;
            let merge = Builder::new().name("merge".to_owned()).spawn_scoped(scope, move || merge.run());
            let merge = merge.context("starting the thread that puts items in order")?;
            let merged = joined(merge, "the thread that puts items in order").and_then(|merged| merged);
            if merged.is_err() {
                // Nobody takes what they find any more: they end rather than wait.
                sinks.stop.set();
            }
            let mut reports: Vec<_> = running.into_iter().map(report).collect();
            let (engine, failed) = joined(deal, "the thread that deals packets")
                .unwrap_or_else(|panicked| (EngineStats::default(), Some(panicked)));
            let (filtered, error) = match merged {
                Ok(filtered) => (filtered, failed),
                Err(error) => (0, Some(error)),
            };
            reports.push(WorkerReport { engine, filtered, loss: NOTHING, error });
            Ok(reports)
        })
    }
}

/// A file loses nothing.
const NOTHING: Loss = Loss { packets: 0, bytes: Some(0) };

/// What the dealer came to: its counters, and why it ended before the file did.
type Dealing = (EngineStats, Option<anyhow::Error>);

fn joined<T>(thread: ScopedJoinHandle<'_, T>, who: &str) -> anyhow::Result<T> {
    thread.join().map_err(|_| panicked(who))
}

fn report(worker: ScopedJoinHandle<'_, WorkerReport>) -> WorkerReport {
    joined(worker, "a worker")
        .unwrap_or_else(|error| WorkerReport { error: Some(error), ..WorkerReport::default() })
}

/// The limits of one of so many engines.
fn shared_out(limits: &Limits, workers: u16) -> Limits {
    let among = |all: usize, least: usize| (all / usize::from(workers.max(1))).max(least).min(all);
    Limits {
        streams: among(limits.streams, 1),
        reassembly_total: among(limits.reassembly_total, limits.reassembly_per_direction),
        dissect_total: among(limits.dissect_total, 4 * limits.body),
        fragment_memory: among(limits.fragment_memory, 256 << 10),
        ..limits.clone()
    }
}
