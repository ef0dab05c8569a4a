//! Puts the parts together: a worker takes packets from its source, through its engine and into its segment log, and
//! hands what came out to the sinks. The only module that knows them all.
//!
//! Invariants:
//! - A worker owns its flows from source to item; nothing on that way takes a lock for each packet.
//! - A batch is stored and committed before its items reach a sink: what a script asks for is there.
//! - A file's flows may be several workers' ([`ByFlow`]): what they find is put back into the order of one.
//! - Live, no sink can hold a worker back: each has a bounded queue and counts what it refused. In replay the worker
//!   waits instead, because a file can.

mod by_flow;
mod names;
mod output;
mod pulse;
mod render;
mod sinks;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use by_flow::{ByFlow, Part};
pub use names::Told;
pub use output::{Format, Output, OutputConfig, OutputStats};
pub use pulse::{ItemCounts, Progress, Pulse};
pub use sinks::{ItemSinks, Method, SecretFrom, SinkConfig, SinkStats, Sync, check_sinks, read_sinks};
pub(crate) use worker::panicked;
pub use worker::{Worker, WorkerReport};

use crate::api::Feed;
use crate::captured::Source;
use crate::hooks::Scripts;
use crate::kfl::Filter;
use crate::process::Processes;
use crate::resolve::Resolver;
use crate::view::ItemView;

/// Whether a full queue makes the worker wait or drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Traffic does not wait: drop, and count.
    Live,
    /// A file does.
    Replay,
}

/// Set once, by a signal or by a reader that went away: every worker ends after its batch.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks all workers to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all workers share.
#[derive(Clone)]
pub struct Sinks {
    /// Names for addresses.
    pub resolver: Resolver,
    /// Who knows the processes at the ends of streams, if anybody does.
    pub processes: Option<Arc<dyn Processes>>,
    /// Who hears of names as they are used.
    pub told: Option<Arc<Told>>,
    /// Where packets come from, as items tell it.
    pub source: Source,
    /// Which items go to sinks, seen by this view; `None`: all.
    pub filter: Option<(Arc<Filter>, Arc<ItemView>)>,
    /// The users' scripts.
    pub scripts: Option<Arc<Scripts>>,
    /// Items to where a configuration says.
    pub items: Option<Arc<ItemSinks>>,
    /// The latest items, and whoever follows them by HTTP.
    pub api: Option<Arc<Feed>>,
    /// Items and streams as lines.
    pub output: Option<Arc<Output>>,
    /// The common end.
    pub stop: Stop,
}
