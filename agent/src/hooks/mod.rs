//! Users' scripts: one thread and one QuickJS runtime for each, a bounded queue of items before it.
//!
//! ```text
//! Scripts::deliver ──► queue ──► worker (thread) ──► engine (QuickJS) ──► hook
//!                      bounded   pauses, restarts    clock, heap         │ helpers ──► outbox, PCAP store, data folder
//! ```
//!
//! Invariants:
//! - Delivering never waits for a script, but for room in its queue in a replay ([`Backpressure::Wait`]).
//! - Scripts share nothing: what one does to its globals, its time or its memory, no other notices.
//! - Every limit ([`ScriptLimits`]) ends the call with a log line that names hook, script, line and limit, and is
//!   counted ([`ScriptStats`]); the next item is delivered as if nothing had happened.
//! - From JavaScript nothing of the host is reachable but the helpers of `helpers`, and values of `env` whose names
//!   look like secrets are cut out of every line logged.

mod clock;
mod closed;
mod engine;
mod errors;
mod heap;
mod helpers;
mod limits;
mod log;
mod modules;
mod outline;
mod queue;
mod raw;
mod rejections;
mod services;
mod source;
mod spot;
mod stats;
mod worker;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::captured::{Captured, ClosedStream};

pub use engine::ScriptKind;
pub use limits::ScriptLimits;
pub use log::{Level, ScriptLog, TracingLog};
pub use outline::{Outline, check};
pub use queue::Backpressure;
pub use services::{HostServices, ItemJson};
pub use source::ScriptFailure;
pub use stats::ScriptStats;

use engine::Hook;
use helpers::{HostSetup, Http};
use log::Logger;
use queue::Queue;
use source::Source;
use stats::Counters;
use worker::{Event, Started, Worker};

/// Beyond the limits of a call, how long a script's thread may be silent before it is taken to hang in native code.
const GRACE: Duration = Duration::from_secs(30);

/// The scripts that run.
pub struct Scripts {
    running: Vec<Running>,
}

/// One script that runs. Self-contained: to replace one is to start another and stop this.
struct Running {
    name: String,
    title: Option<String>,
    queue: Arc<Queue<Event>>,
    counters: Arc<Counters>,
    logger: Arc<Logger>,
    wants_items: bool,
    wants_streams: bool,
    stop: Arc<AtomicBool>,
    stop_waits: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// A script whose top level is being run.
struct Starting {
    source: Source,
    running: Running,
    report: Receiver<Result<Started, ScriptFailure>>,
}

impl Scripts {
    /// Starts each script on a thread of its own, and waits until all have run their top level. What does not compile,
    /// throws or hangs at its top level is reported; the others run. `backpressure` says what
    /// [`Scripts::deliver`] does when a script is slower than its items.
    #[must_use]
    pub fn load(
        paths: &[PathBuf],
        limits: &ScriptLimits,
        backpressure: Backpressure,
        services: HostServices,
    ) -> (Self, Vec<ScriptFailure>) {
        let http = Arc::new(Http::new(services.trust.clone()));
        let services = Arc::new(services);
        let mut taken = HashSet::new();
        let mut failures = Vec::new();
        let mut starting = Vec::new();
        for path in paths {
            let begun = Source::read(path, limits.source).and_then(|mut source| {
                source::name_apart(&mut source, &mut taken);
                begin(source, limits, backpressure, &services, &http)
            });
            match begun {
                Ok(script) => starting.push(script),
                Err(failure) => failures.push(failure),
            }
        }
        let mut running = Vec::new();
        for script in starting {
            match script.finish(limits) {
                Ok(script) => running.push(script),
                Err(failure) => failures.push(failure),
            }
        }
        (Self { running }, failures)
    }

    /// Hands an item to every script that defines `onItemCaptured`. Where there is no room it is dropped and counted.
    pub fn deliver(&self, item: &Arc<Captured>) {
        let bytes = item.memory();
        for script in self.running.iter().filter(|script| script.wants_items) {
            if !script.queue.push(Event::Item(Arc::clone(item)), bytes) {
                Counters::add(&script.counters.dropped, 1);
            }
        }
    }

    /// Hands a stream that is over to every script that defines `onStreamClosed` or `onPcapReady`. Where there is no room it
    /// is dropped and counted.
    pub fn stream_closed(&self, stream: &Arc<ClosedStream>) {
        let bytes = stream.memory();
        for script in self.running.iter().filter(|script| script.wants_streams) {
            if !script.queue.push(Event::Closed(Arc::clone(stream)), bytes) {
                Counters::add(&script.counters.dropped, 1);
            }
        }
    }

    /// Whether any script wants to know of streams that are over.
    #[must_use]
    pub fn wants_streams(&self) -> bool {
        self.running.iter().any(|script| script.wants_streams)
    }

    /// Whether any script wants items at all.
    #[must_use]
    pub fn wants_items(&self) -> bool {
        self.running.iter().any(|script| script.wants_items)
    }

    /// Number of scripts that run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether no script runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits until every queue is empty and every call has returned. Gives up, with `false`, once nothing has been
    /// finished for `timeout`.
    #[must_use]
    pub fn drain(&self, timeout: Duration) -> bool {
        let finished = || self.running.iter().map(|script| script.queue.finished()).sum::<u64>();
        let (mut seen, mut since) = (finished(), Instant::now());
        let mut nap = Duration::from_micros(100);
        while !self.running.iter().all(|script| script.queue.is_idle()) {
            if finished() != seen {
                (seen, since) = (finished(), Instant::now());
            } else if since.elapsed() >= timeout {
                return false;
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(10));
        }
        true
    }

    /// What became of each script's items so far.
    #[must_use]
    pub fn stats(&self) -> Vec<ScriptStats> {
        let of = |script: &Running| {
            script.counters.snapshot(&script.name, script.title.clone(), script.queue.len())
        };
        self.running.iter().map(of).collect()
    }

    /// Ends all scripts: running calls are interrupted, waits broken off, items that still wait dropped and counted.
    /// Returns the last statistics. A thread that does not end within `timeout` is left behind, and that is logged.
    pub fn shutdown(mut self, timeout: Duration) -> Vec<ScriptStats> {
        for script in &self.running {
            script.signal_stop();
        }
        let until = Instant::now() + timeout;
        std::mem::take(&mut self.running).into_iter().map(|script| script.join(until)).collect()
    }
}

/// Starts a script's thread.
fn begin(
    source: Source,
    limits: &ScriptLimits,
    backpressure: Backpressure,
    services: &Arc<HostServices>,
    http: &Arc<Http>,
) -> Result<Starting, ScriptFailure> {
    let logger =
        Arc::new(Logger::new(&source.name, Arc::clone(&services.log), &services.env, limits.console_line));
    let (stop_waits, stop_receiver) = watch::channel(false);
    let stall = limits.call_time + limits.wait_total + GRACE;
    let queue = Arc::new(Queue::new(limits.queue, limits.queue_bytes, backpressure, stall));
    let (counters, stop) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
    let setup = HostSetup {
        name: source.name.clone(),
        limits: limits.clone(),
        services: Arc::clone(services),
        logger: Arc::clone(&logger),
        http: Arc::clone(http),
        stop: stop_receiver,
    };
    let worker = Worker {
        source: source.clone(),
        setup,
        queue: Arc::clone(&queue),
        counters: Arc::clone(&counters),
        stop: Arc::clone(&stop),
    };
    let (report, started) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("js:{}", source.name))
        .stack_size(limits.stack + ScriptLimits::NATIVE_STACK)
        .spawn(move || worker.run(&report))
        .map_err(|error| source.failure(format!("its thread does not start: {error}")))?;
    let (name, title) = (source.name.clone(), source.title());
    let (wants_items, wants_streams) = (false, false);
    let running = Running {
        name,
        title,
        queue,
        counters,
        logger,
        wants_items,
        wants_streams,
        stop,
        stop_waits,
        thread,
    };
    Ok(Starting { source, running, report: started })
}

impl Starting {
    /// Waits for the top level to be through.
    fn finish(mut self, limits: &ScriptLimits) -> Result<Running, ScriptFailure> {
        let patience = limits.call_time + limits.wait_total + GRACE;
        match self.report.recv_timeout(patience) {
            Ok(Ok(started)) => {
                let wants = |hook: Hook| started.hooks.contains(&hook.name());
                self.running.wants_items = wants(Hook::ItemCaptured);
                self.running.wants_streams = wants(Hook::StreamClosed) || wants(Hook::PcapReady);
                self.tell_about_hooks(&started);
                Ok(self.running)
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                self.running.signal_stop();
                Err(self.source.failure("hangs at its top level, in native code that cannot be interrupted"))
            }
        }
    }

    fn tell_about_hooks(&self, started: &Started) {
        let logger = &self.running.logger;
        for hook in &started.uncalled_hooks {
            logger.about(Level::Warn, &format!("defines {hook}, which this version does not call"));
        }
        if started.hooks.is_empty() && started.uncalled_hooks.is_empty() {
            logger.about(Level::Warn, "defines no hook, so it will not be called");
        }
    }
}

impl Running {
    fn signal_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_waits.send_replace(true);
        Counters::add(&self.counters.dropped, self.queue.close() as u64);
    }

    fn join(self, until: Instant) -> ScriptStats {
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !self.thread.is_finished() {
            self.logger.about(Level::Error, "does not end: its thread is left behind");
        } else if self.thread.join().is_err() {
            self.logger.about(Level::Error, "its thread panicked");
        }
        self.counters.snapshot(&self.name, self.title, 0)
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        for script in &self.running {
            script.signal_stop();
        }
    }
}
