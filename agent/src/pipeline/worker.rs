//! One worker: source → engine → store → sinks, a batch at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::engine::Trim;
use agent_core::{Engine, EngineConfig, EngineStats, Event, Item, Packet, StreamSummary, Timestamp};

use super::names::StreamNames;
use super::render::Rendered;
use super::{ItemCounts, Pace, Progress as Told, Pulse, Sinks};
use crate::capture::{Loss, PacketSource, Progress};
use crate::captured::{Captured, ClosedStream, Source};
use crate::hooks::PacketInfo;
use crate::pcap::PcapAppender;
use crate::process::Remembered;

/// Packets taken before the store is committed and items go out: what they bring stays in the caches until it is used.
const BATCH: usize = 64;
/// Memory of items that ends a batch before that, in bytes.
const BATCH_BYTES: usize = 4 << 20;
/// In replay batches go on together up to this much memory of items, in bytes, while packets are at hand: each is a thread woken.
const TOGETHER: usize = 256 << 10;
/// Longest wait for a packet: bounds how late timeouts fire and how long a stop takes, and is what idling costs.
const WAIT: Duration = Duration::from_millis(500);

/// A worker, ready to run on a thread of its own.
pub struct Worker {
    /// Its number, from 0.
    pub id: u16,
    /// Where its packets come from.
    pub source: Box<dyn PacketSource>,
    /// Where they are stored.
    pub store: Option<Box<dyn PcapAppender>>,
    /// How its engine is set up.
    pub engine: EngineConfig,
    /// Whether sinks may hold it back.
    pub pace: Pace,
    /// What it shares with the others.
    pub sinks: Sinks,
    /// By which others see that it gets on.
    pub pulse: Arc<Pulse>,
}

/// What a worker did.
#[derive(Debug, Default)]
pub struct WorkerReport {
    /// The engine's counters.
    pub engine: EngineStats,
    /// Items that `--filter` kept from the sinks.
    pub filtered: u64,
    /// What the source lost.
    pub loss: Loss,
    /// Why it ended before its source did.
    pub error: Option<anyhow::Error>,
}

/// The error of a thread that panicked.
pub(crate) fn panicked(who: &str) -> anyhow::Error {
    anyhow::anyhow!("{who} panicked: this is a defect of remora, please report it")
}

impl Worker {
    /// Runs until the source ends, fails, or a stop is asked for; then closes every stream.
    #[must_use]
    pub fn run(self) -> WorkerReport {
        let Self { id, mut source, store, engine, pace, sinks, pulse } = self;
        let mut line = Line {
            id,
            engine: Engine::new(engine),
            store,
            pace,
            names: StreamNames::new(
                sinks.resolver.clone(),
                sinks.processes.clone().map(Remembered::new),
                sinks.told.clone(),
            ),
            sinks,
            packets: None,
            batch: Batch::default(),
            home: (pace == Pace::Replay).then(channel),
            filtered: 0,
            items: ItemCounts::default(),
            wishes: Vec::new(),
        };
        line.packets = line.sinks.wants_packets().then(Vec::new);
        let error = loop {
            let progress = source.poll(BATCH, WAIT, &mut |packet| line.packet(packet));
            if pace == Pace::Live {
                line.engine.handle_timeout(now());
            }
            let ended = match progress {
                Ok(Progress::End) => Some(None),
                Err(error) => Some(Some(error)),
                // A live source ends by itself once it is stopped, when what its ring held has been read.
                Ok(_) if line.sinks.stop.is_set() && pace == Pace::Replay => Some(None),
                Ok(_) => None,
            };
            if ended.is_some() {
                line.engine.finish();
            }
            line.draw();
            for wish in line.wishes.drain(..) {
                source.trim(&wish);
            }
            if ended.is_some() || !line.waits_for_more(source.as_ref()) {
                line.hand_on();
            }
            if let Some(error) = ended {
                break error;
            }
            if pulse.beat() {
                pulse.tell(line.told());
            }
        };
        pulse.end(line.told());
        WorkerReport {
            engine: line.engine.stats().clone(),
            filtered: line.filtered,
            loss: source.loss(),
            error,
        }
    }
}

/// What a packet passes from source to sinks.
struct Line {
    id: u16,
    engine: Engine,
    store: Option<Box<dyn PcapAppender>>,
    pace: Pace,
    names: StreamNames,
    sinks: Sinks,
    /// Packets that scripts are to be told of; `None` while none wants to be.
    packets: Option<Vec<PacketInfo>>,
    batch: Batch,
    /// In replay items end where they were made, so that their memory is used again while it is in this processor's cache.
    /// Live, the sink's thread has the time for it.
    home: Option<(Sender<Items>, Receiver<Items>)>,
    /// Items that did not match.
    filtered: u64,
    /// All items.
    items: ItemCounts,
    /// What the source is told after its batch.
    wishes: Vec<Trim>,
}

impl Line {
    fn told(&self) -> Told {
        let engine = &self.engine;
        let memory = engine.memory() as u64;
        Told { engine: engine.stats().clone(), filtered: self.filtered, items: self.items, memory }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let handled = self.engine.handle_packet(packet);
        if let Some(store) = self.store.as_mut().filter(|_| !handled.copy) {
            store.append(handled.stream, packet);
        }
        if let Some(packets) = self.packets.as_mut().filter(|_| !handled.copy) {
            packets.push(info(packet, handled.fragment));
        }
        self.draw();
        // A packet can bring much more than its own size: compressed bodies, thousands of small messages.
        if self.batch.bytes >= BATCH_BYTES {
            self.hand_on();
        }
    }

    /// Whether what there is may go on together with what comes next: that is at hand, and nobody waits for it.
    fn waits_for_more(&self, source: &dyn PacketSource) -> bool {
        self.pace == Pace::Replay
            && self.batch.bytes < TOGETHER
            && self.batch.streams.len() < BATCH
            && self.packets.is_none()
            && source.has_more()
    }

    /// Takes what the engine found.
    fn draw(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Item(item) => {
                    self.items.add(&item);
                    let item = captured(item, self.id, &self.sinks, &mut self.names);
                    if self.sinks.filter.as_ref().is_some_and(|(filter, view)| !filter.matches(&item, view)) {
                        self.filtered += 1;
                        continue;
                    }
                    let item = Arc::new(item);
                    self.batch.bytes += if self.pace == Pace::Live { item.memory() } else { item.unpacked() };
                    self.batch.items.push(item);
                }
                Event::StreamClosed(summary) => {
                    let (src, dst) = self.names.closed(&summary);
                    if self.sinks.wants_streams() {
                        let closed = ClosedStream { summary: StreamSummary::clone(&summary), src, dst };
                        self.batch.closed.push(Arc::new(closed));
                    }
                    self.batch.streams.push(*summary);
                }
                Event::Trim(wish) => self.wishes.push(*wish),
                Event::Text(_) => {}
            }
        }
    }

    /// Commits the store, then gives the batch to the sinks.
    fn hand_on(&mut self) {
        if let Some(store) = &mut self.store {
            store.commit();
        }
        self.sinks.scripts_and_sinks(&self.batch, self.packets.take().unwrap_or_default(), self.pace);
        self.packets = self.sinks.wants_packets().then(Vec::new);
        let mut batch = std::mem::take(&mut self.batch);
        if let Some((home, done)) = &self.home {
            batch.home = Some(home.clone());
            for mut items in done.try_iter() {
                items.clear();
                self.batch.items = items;
            }
        }
        if let Some(output) = &self.sinks.output {
            output.send(batch, self.pace);
        }
    }
}

type Items = Vec<Arc<Captured>>;

/// What a batch of packets brought.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) items: Items,
    /// What `render` made of the items in their place.
    pub(super) rendered: Option<Rendered>,
    pub(super) streams: Vec<StreamSummary>,
    /// The same for scripts, where one wants them.
    pub(super) closed: Vec<Arc<ClosedStream>>,
    /// Memory that the items hold, in bytes; in replay, what is about to be made of them ([`Captured::unpacked`]).
    pub(super) bytes: usize,
    /// Where its items end, if not with it.
    home: Option<Sender<Items>>,
}

impl Batch {
    /// Gives the items back to where they were made.
    pub(super) fn go_home(&mut self) {
        if let Some(home) = self.home.take() {
            // Err: the worker has ended, and they end here.
            let _ = home.send(std::mem::take(&mut self.items));
        }
    }
}

pub(super) fn info(packet: &Packet<'_>, fragmented: bool) -> PacketInfo {
    let capture_length = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
    PacketInfo { time: packet.time, capture_length, length: packet.original_len, fragmented }
}

pub(super) fn captured(item: Box<Item>, worker: u16, sinks: &Sinks, names: &mut StreamNames) -> Captured {
    let (src, dst, local) = names.of_item(&item);
    Captured {
        outgoing: item.client.cgroup != 0
            || src.known.as_ref().is_some_and(|known| known.watched)
            // Of a file nobody knows on which node it was made.
            || (local && sinks.source != Source::Pcap),
        item,
        src,
        dst,
        node: Arc::clone(sinks.resolver.node()),
        worker,
        source: sinks.source,
    }
}

impl Sinks {
    pub(super) fn wants_packets(&self) -> bool {
        self.scripts.as_ref().is_some_and(|scripts| scripts.wants_packets())
    }

    pub(super) fn wants_streams(&self) -> bool {
        self.scripts.as_ref().is_some_and(|scripts| scripts.wants_streams())
    }

    /// Gives a batch to all but the output.
    pub(super) fn scripts_and_sinks(&self, batch: &Batch, packets: Vec<PacketInfo>, pace: Pace) {
        if let Some(scripts) = &self.scripts {
            if !packets.is_empty() {
                scripts.packets_captured(&packets.into());
            }
            for item in &batch.items {
                scripts.deliver(item);
            }
            for stream in &batch.closed {
                scripts.stream_closed(stream);
            }
        }
        if let Some(items) = self.items.as_ref().filter(|_| !batch.items.is_empty()) {
            items.deliver(&batch.items, pace);
        }
        if let Some(api) = self.api.as_ref().filter(|_| !batch.items.is_empty()) {
            api.deliver(&batch.items);
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
