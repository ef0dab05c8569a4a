//! One script that runs: its thread, and what the rest of the agent holds of it.
//!
//! Queue, counters and log belong to the script; thread, stop flags and what it wants to be told to a version of it. An
//! edit replaces the version and keeps the rest.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::captured::Captured;

use super::helpers::{HostSetup, Http};
use super::hook::Hook;
use super::limits::ScriptLimits;
use super::log::{Level, Logger};
use super::metrics::{Metrics, Owner};
use super::packets::{Batch, PacketInfo, Waiting};
use super::queue::{Backpressure, Queue};
use super::registered::{Routes, Targets};
use super::services::HostServices;
use super::source::{ScriptFailure, Source};
use super::stats::{Counters, ScriptStats};
use super::worker::{Event, Started, Worker};

/// Beyond the limits of a call, how long a script's thread may be silent before it is taken to hang in native code.
const GRACE: Duration = Duration::from_secs(30);

/// What all scripts are started with.
pub(super) struct Common {
    pub(super) limits: ScriptLimits,
    pub(super) backpressure: Backpressure,
    pub(super) services: Arc<HostServices>,
    pub(super) http: Arc<Http>,
    pub(super) metrics: Arc<Metrics>,
}

impl Common {
    /// How long a version's start may take.
    pub(super) fn patience(&self) -> Duration {
        self.limits.call_time + self.limits.wait_total + GRACE
    }
}

/// What belongs to a script through all its versions.
#[derive(Clone)]
pub(super) struct Lasting {
    pub(super) name: String,
    pub(super) queue: Arc<Queue<Event>>,
    pub(super) counters: Arc<Counters>,
    pub(super) logger: Arc<Logger>,
    /// Packets that wait for it.
    pub(super) packets: Arc<Waiting>,
    /// Bytes in its data folder.
    used: Arc<AtomicU64>,
}

impl Lasting {
    pub(super) fn new(name: &str, common: &Common) -> Self {
        let (limits, services) = (&common.limits, &common.services);
        let logger = Logger::new(name, Arc::clone(&services.log), &services.env, limits.console_line);
        let queue = Queue::new(limits.queue, limits.queue_bytes, common.backpressure, common.patience());
        Self {
            name: name.to_owned(),
            queue: Arc::new(queue),
            counters: Arc::default(),
            logger: Arc::new(logger),
            packets: Arc::default(),
            used: Arc::default(),
        }
    }
}

/// One version of a script that runs.
pub(super) struct Running {
    pub(super) lasting: Lasting,
    pub(super) path: PathBuf,
    /// Counted over all scripts.
    pub(super) version: u64,
    title: Option<String>,
    wanted: Vec<Hook>,
    /// It registered hooks with `hooks.on`.
    registered: bool,
    routes: Arc<Routes>,
    stop: Arc<AtomicBool>,
    stop_waits: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A version whose top level is being run.
pub(super) struct Starting {
    pub(super) source: Source,
    running: Running,
    report: Receiver<Result<Started, ScriptFailure>>,
    go: SyncSender<u64>,
    since: Instant,
}

/// A version that has started and waits for its turn.
pub(super) struct Ready {
    pub(super) running: Running,
    /// Takes the turn from which on it serves the queue; dropped, it ends.
    pub(super) go: SyncSender<u64>,
}

impl Starting {
    /// Starts a version's thread. `version` tells it from others of the script.
    pub(super) fn begin(
        source: Source,
        lasting: Lasting,
        version: u64,
        common: &Common,
    ) -> Result<Self, ScriptFailure> {
        let (stop_waits, stop_receiver) = watch::channel(false);
        let stop = Arc::new(AtomicBool::new(false));
        let setup = HostSetup {
            name: lasting.name.clone(),
            limits: common.limits.clone(),
            services: Arc::clone(&common.services),
            logger: Arc::clone(&lasting.logger),
            http: Arc::clone(&common.http),
            counters: Arc::clone(&lasting.counters),
            metrics: Arc::clone(&common.metrics),
            series: Owner { script: lasting.name.clone(), version },
            used: Arc::clone(&lasting.used),
            stop: stop_receiver,
        };
        let (report, started) = sync_channel(1);
        let (go, turn) = sync_channel(1);
        let routes = Arc::new(Routes::new(common.backpressure));
        let worker = Worker {
            source: source.clone(),
            routes: Arc::clone(&routes),
            setup,
            queue: Arc::clone(&lasting.queue),
            counters: Arc::clone(&lasting.counters),
            stop: Arc::clone(&stop),
            turn,
        };
        let thread = std::thread::Builder::new()
            .name(format!("js:{}", source.name))
            .stack_size(common.limits.stack + ScriptLimits::NATIVE_STACK)
            .spawn(move || worker.run(&report))
            .map_err(|error| source.failure(format!("its thread does not start: {error}")))?;
        let running = Running {
            lasting,
            path: source.path.clone(),
            version,
            title: source.title(),
            wanted: Vec::new(),
            registered: false,
            routes,
            stop,
            stop_waits,
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self { source, running, report: started, go, since: Instant::now() })
    }

    /// Whether there is something to [`Starting::finish`] without waiting.
    pub(super) fn poll(self, common: &Common) -> Result<Result<Ready, ScriptFailure>, Box<Self>> {
        match self.report.try_recv() {
            Ok(report) => Ok(self.reported(report)),
            Err(std::sync::mpsc::TryRecvError::Empty) if self.since.elapsed() < common.patience() => {
                Err(Box::new(self))
            }
            Err(_) => Ok(self.hangs()),
        }
    }

    /// Waits for the top level to be through.
    pub(super) fn finish(self, common: &Common) -> Result<Ready, ScriptFailure> {
        match self.report.recv_timeout(common.patience()) {
            Ok(report) => self.reported(report),
            Err(_) => self.hangs(),
        }
    }

    fn reported(mut self, report: Result<Started, ScriptFailure>) -> Result<Ready, ScriptFailure> {
        let started = report?;
        self.tell_about_hooks(&started);
        self.running.wanted = started.wanted;
        self.running.registered = started.registered > 0;
        Ok(Ready { running: self.running, go: self.go })
    }

    fn hangs(self) -> Result<Ready, ScriptFailure> {
        self.running.signal_stop();
        Err(self.source.failure("hangs at its top level, in native code that cannot be interrupted"))
    }

    fn tell_about_hooks(&self, started: &Started) {
        let logger = &self.running.lasting.logger;
        for hook in &started.uncalled_hooks {
            logger.about(Level::Warn, &format!("defines {hook}, which this version does not call"));
        }
        if started.wanted.is_empty() && started.registered == 0 && !started.has_jobs {
            logger.about(Level::Warn, "defines no hook and no job, so it will not be called");
        }
    }

    /// Breaks it off.
    pub(super) fn abandon(&self) {
        self.running.signal_stop();
    }
}

impl Running {
    /// Whether it defines the hook.
    pub(super) fn wants(&self, hook: Hook) -> bool {
        self.wanted.contains(&hook)
    }

    /// Whether it is called with items, all or some.
    pub(super) fn wants_items(&self) -> bool {
        self.registered || self.wants(Hook::ItemCaptured)
    }

    /// For which of its hooks an item is; `None` if for none.
    pub(super) fn targets(&self, item: &Captured, common: &Common) -> Option<Targets> {
        let plain = self.wants(Hook::ItemCaptured);
        if !self.registered {
            return plain.then(Targets::plain);
        }
        self.routes.targets(item, &common.services.view, plain, &self.lasting.counters)
    }

    /// Queues an event, or counts it as dropped.
    pub(super) fn push(&self, event: Event, bytes: usize) -> bool {
        let taken = self.lasting.queue.push(event, bytes);
        if !taken {
            Counters::add(&self.lasting.counters.dropped, 1);
        }
        taken
    }

    /// Queues packets. In a replay the queue's own bound makes the producer wait; live there is one of packets, too.
    pub(super) fn push_packets(&self, packets: &Arc<[PacketInfo]>, common: &Common) {
        let bound = match common.backpressure {
            Backpressure::DropNewest => common.limits.packets,
            Backpressure::Wait => usize::MAX,
        };
        let bytes = size_of_val::<[PacketInfo]>(packets);
        let batch = Batch::admit(packets, &self.lasting.packets, bound);
        if !batch.is_some_and(|batch| self.lasting.queue.push(Event::Packets(batch), bytes)) {
            Counters::add(&self.lasting.counters.packets_dropped, packets.len() as u64);
        }
    }

    /// Has the version end: its call is interrupted, its waits are broken off.
    pub(super) fn signal_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_waits.send_replace(true);
    }

    /// As [`Running::signal_stop`], and nothing waits for the script any more.
    pub(super) fn close(&self) {
        self.signal_stop();
        Counters::add(&self.lasting.counters.dropped, self.lasting.queue.close() as u64);
    }

    /// Whether its thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread().as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its thread to end, until then; one that does not is left behind, and that is logged.
    pub(super) fn join(&self, until: Instant) {
        while !self.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let Some(thread) = self.thread().take() else { return };
        if !thread.is_finished() {
            self.lasting.logger.about(Level::Error, "does not end: its thread is left behind");
        } else if thread.join().is_err() {
            self.lasting.logger.about(Level::Error, "its thread panicked");
        }
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its counters, with what it publishes.
    pub(super) fn stats(&self, metrics: &Metrics) -> ScriptStats {
        let Lasting { name, counters, queue, .. } = &self.lasting;
        let mut stats = counters.snapshot(name, self.title.clone(), queue.len());
        (stats.series, stats.series_refused) = metrics.counts(name);
        stats
    }
}
