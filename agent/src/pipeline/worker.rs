//! One worker: source → engine → store → sinks, a batch at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::{Engine, EngineConfig, EngineStats, Event, Item, StreamSummary, Timestamp};

use super::{Pace, Sinks};
use crate::capture::{Loss, PacketSource, Progress};
use crate::captured::Captured;
use crate::pcap::PcapAppender;

/// Packets taken before the store is committed and items go out.
const BATCH: usize = 512;
/// Longest wait for a packet: bounds how late timeouts fire and how long a stop takes.
const WAIT: Duration = Duration::from_millis(100);

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
}

/// What a worker did.
#[derive(Debug, Default)]
pub struct WorkerReport {
    /// The engine's counters.
    pub engine: EngineStats,
    /// What the source lost.
    pub loss: Loss,
    /// Why it ended before its source did.
    pub error: Option<anyhow::Error>,
}

impl Worker {
    /// Runs until the source ends, fails, or a stop is asked for; then closes every stream.
    #[must_use]
    pub fn run(self) -> WorkerReport {
        let Self { id, mut source, mut store, engine, pace, sinks } = self;
        let mut engine = Engine::new(engine);
        let mut batch = Batch::default();
        let error = loop {
            let progress = source.poll(BATCH, WAIT, &mut |packet| {
                let handled = engine.handle_packet(packet);
                if let Some(store) = store.as_mut().filter(|_| !handled.copy) {
                    store.append(handled.stream, packet);
                }
            });
            if pace == Pace::Live {
                engine.handle_timeout(now());
            }
            let ended = match progress {
                Ok(Progress::End) => Some(None),
                Err(error) => Some(Some(error)),
                // A live source ends by itself once it is stopped, when what its ring held has been read.
                Ok(_) if sinks.stop.is_set() && pace == Pace::Replay => Some(None),
                Ok(_) => None,
            };
            if ended.is_some() {
                engine.finish();
            }
            if let Some(store) = &mut store {
                store.commit();
            }
            batch.collect(&mut engine, id, &sinks);
            batch.hand_on(&sinks, pace);
            if let Some(error) = ended {
                break error;
            }
        };
        WorkerReport { engine: engine.stats().clone(), loss: source.loss(), error }
    }
}

/// What one batch of packets brought.
#[derive(Default)]
struct Batch {
    items: Vec<Arc<Captured>>,
    streams: Vec<StreamSummary>,
}

impl Batch {
    fn collect(&mut self, engine: &mut Engine, worker: u16, sinks: &Sinks) {
        while let Some(event) = engine.poll_event() {
            match event {
                Event::Item(item) => self.items.push(Arc::new(captured(item, worker, sinks))),
                Event::StreamClosed(summary) => self.streams.push(*summary),
            }
        }
    }

    fn hand_on(&mut self, sinks: &Sinks, pace: Pace) {
        if let Some(scripts) = &sinks.scripts {
            for item in &self.items {
                scripts.deliver(item);
            }
        }
        match &sinks.output {
            Some(output) => output.send(&mut self.items, &mut self.streams, pace),
            None => {
                self.items.clear();
                self.streams.clear();
            }
        }
    }
}

fn captured(item: Box<Item>, worker: u16, sinks: &Sinks) -> Captured {
    let (src, dst) = (sinks.resolver.name(item.client.addr), sinks.resolver.name(item.server.addr));
    Captured {
        outgoing: item.client.cgroup != 0 || sinks.is_local(item.client.addr),
        item,
        src,
        dst,
        node: Arc::clone(sinks.resolver.node()),
        worker,
        source: sinks.source,
    }
}

impl Sinks {
    /// Whether the address is this node's own, where packets are taken from this node at all.
    fn is_local(&self, ip: std::net::IpAddr) -> bool {
        self.source != crate::captured::Source::Pcap && self.resolver.is_local(ip)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
