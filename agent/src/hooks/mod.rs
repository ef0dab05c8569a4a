//! Users' scripts: one thread and one QuickJS runtime for each, a bounded queue of items before it.
//!
//! ```text
//! Scripts::deliver ──► queue ──► worker (thread) ──► engine (QuickJS) ──► hook
//!                      bounded   pauses, restarts    clock, heap         │ helpers ──► outbox, PCAP store, data folder
//! ```
//!
//! Invariants:
//! - Delivering never waits for a script, but for room in its queue in a replay ([`Backpressure::Wait`]).
//! - Which scripts run is one list, replaced as a whole: delivering takes no lock to read it ([`reload`] does the replacing).
//! - Scripts share nothing: what one does to its globals, its time or its memory, no other notices.
//! - Every limit ([`ScriptLimits`]) ends the call with a log line that names hook, script, line and limit, and is
//!   counted ([`ScriptStats`]); the next item is delivered as if nothing had happened.
//! - From JavaScript nothing of the host is reachable but the helpers of `helpers`, and values of `env` whose names
//!   look like secrets are cut out of every line logged.

mod clock;
mod closed;
mod ending;
mod engine;
mod errors;
mod heap;
mod helpers;
mod hook;
mod lazy;
mod limits;
mod lint;
mod log;
mod metrics;
mod modules;
mod outline;
mod packets;
mod pause;
mod pod;
mod queue;
mod raw;
mod registered;
mod rehearsal;
mod rejections;
mod reload;
mod running;
mod services;
mod shared;
mod source;
mod spot;
mod stamp;
mod stats;
mod watch;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::captured::{Captured, ClosedStream};

pub use engine::ScriptKind;
pub use limits::ScriptLimits;
pub use lint::{DECLARATIONS, Declared, Finding, Severity, declared};
pub use log::{Level, ScriptLog, TracingLog};
pub use outline::{Outline, check};
pub use packets::PacketInfo;
pub use pod::PodEvent;
pub use queue::Backpressure;
pub use rehearsal::{Rehearsal, WebhookRequest};
pub use services::{HostServices, NamesBySecond};
pub use source::ScriptFailure;
pub use stats::ScriptStats;
pub use watch::scripts_at;

use hook::Hook;
use reload::Reloader;
use shared::Shared;
use worker::Event;

/// The scripts that run.
pub struct Scripts {
    shared: Arc<Shared>,
    /// Until [`Scripts::watch`].
    reloader: Mutex<Option<Reloader>>,
    watcher: Mutex<Option<Watcher>>,
}

/// The thread that follows the files.
struct Watcher {
    /// Dropped, it ends.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Scripts {
    /// Starts each script on a thread of its own, and waits until all have run their top level. A path may be a folder:
    /// then every `*.js` in it is a script. What does not compile, throws or hangs at its top level is reported; the
    /// others run. `backpressure` says what [`Scripts::deliver`] does when a script is slower than its items.
    #[must_use]
    pub fn load(
        paths: &[PathBuf],
        limits: &ScriptLimits,
        backpressure: Backpressure,
        services: HostServices,
    ) -> (Self, Vec<ScriptFailure>) {
        let shared = Arc::new(Shared::new(limits, backpressure, services));
        let mut reloader = Reloader::new(Arc::clone(&shared), paths);
        let failures = reloader.load();
        (Self { shared, reloader: Mutex::new(Some(reloader)), watcher: Mutex::default() }, failures)
    }

    /// From now on follows the files: what is edited, added or removed takes effect within 2 s, and the log says so. An
    /// edited script that does not run leaves the version before running.
    ///
    /// # Errors
    /// When the thread for it does not start.
    pub fn watch(&self) -> std::io::Result<()> {
        let Some(reloader) = lock(&self.reloader).take() else { return Ok(()) };
        let (stop, stopped) = channel();
        let thread =
            std::thread::Builder::new().name("js-reload".to_owned()).spawn(move || reloader.run(&stopped))?;
        *lock(&self.watcher) = Some(Watcher { stop, thread });
        Ok(())
    }

    /// Hands an item to every script that defines `onItemCaptured`, or registered a hook whose filter matches. Where there is no
    /// room it is dropped and counted.
    pub fn deliver(&self, item: &Arc<Captured>) {
        let common = &self.shared.common;
        for script in self.shared.running().iter().filter(|script| script.wants_items()) {
            if let Some(targets) = script.targets(item, common) {
                script.push(Event::Item(Arc::clone(item), targets), item.memory());
            }
        }
    }

    /// Hands a stream that is over to every script that defines `onStreamClosed` or `onPcapReady`. Where there is no room it
    /// is dropped and counted.
    pub fn stream_closed(&self, stream: &Arc<ClosedStream>) {
        let bytes = stream.memory();
        let wants = [Hook::StreamClosed, Hook::PcapReady];
        for script in
            self.shared.running().iter().filter(|script| wants.iter().any(|hook| script.wants(*hook)))
        {
            script.push(Event::Closed(Arc::clone(stream)), bytes);
        }
    }

    /// Hands packets to every script that defines `onPacketCaptured`. Live, those for which there is no room
    /// ([`ScriptLimits::packets`]) are dropped and counted, a batch as a whole.
    pub fn packets_captured(&self, packets: &Arc<[PacketInfo]>) {
        for script in self.shared.running().iter().filter(|script| script.wants(Hook::PacketCaptured)) {
            script.push_packets(packets, &self.shared.common);
        }
    }

    /// Tells every script that defines `onPodEvent` what happened to a pod (Kubernetes' own object).
    pub fn pod_event(&self, event: PodEvent, pod: &Arc<serde_json::Value>) {
        let mut bytes = None;
        for script in self.shared.running().iter().filter(|script| script.wants(Hook::PodEvent)) {
            let bytes = *bytes.get_or_insert_with(|| pod.to_string().len());
            script.push(Event::Pod(event, Arc::clone(pod)), bytes);
        }
    }

    /// Asks every script that defines `onItemQueried`, one after the other, what is to be shown of an item: each gets what
    /// the one before returned. The JSON of that; `None` if no script returned an object. Waits for each at most
    /// `patience`; one that does not answer in time is passed over.
    #[must_use]
    pub fn item_queried(&self, item: &Captured, patience: Duration) -> Option<String> {
        let running = self.shared.running();
        let mut asked = running.iter().filter(|script| script.wants(Hook::ItemQueried)).peekable();
        asked.peek()?;
        let mut json = Vec::new();
        self.shared.common.services.view.json(item, &mut json);
        let mut shown: Arc<str> = String::from_utf8(json).ok()?.into();
        let mut replaced = false;
        for script in asked {
            let (answer, answered) = sync_channel(1);
            if script.push(Event::Queried(Arc::clone(&shown), answer), shown.len())
                && let Ok(Some(returned)) = answered.recv_timeout(patience)
            {
                (shown, replaced) = (returned.into(), true);
            }
        }
        replaced.then(|| shown.to_string())
    }

    /// Has every job of every script run once, as if its time had come.
    pub fn run_jobs(&self) {
        for script in self.shared.running().iter() {
            script.push(Event::Jobs, 0);
        }
    }

    /// Whether any script wants to know of streams that are over.
    #[must_use]
    pub fn wants_streams(&self) -> bool {
        self.wants(Hook::StreamClosed) || self.wants(Hook::PcapReady)
    }

    /// Whether any script wants items at all.
    #[must_use]
    pub fn wants_items(&self) -> bool {
        self.shared.running().iter().any(|script| script.wants_items())
    }

    /// Whether any script wants packets.
    #[must_use]
    pub fn wants_packets(&self) -> bool {
        self.wants(Hook::PacketCaptured)
    }

    fn wants(&self, hook: Hook) -> bool {
        self.shared.running().iter().any(|script| script.wants(hook))
    }

    /// Number of scripts that run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.running().len()
    }

    /// Whether no script runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until every queue is empty and every call has returned. Gives up, with `false`, once nothing has been
    /// finished for `timeout`.
    #[must_use]
    pub fn drain(&self, timeout: Duration) -> bool {
        let finished =
            || self.shared.running().iter().map(|script| script.lasting.queue.finished()).sum::<u64>();
        let idle = || self.shared.running().iter().all(|script| script.lasting.queue.is_idle());
        let (mut seen, mut since) = (finished(), Instant::now());
        let mut nap = Duration::from_micros(100);
        while !idle() {
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

    /// What became of each script's events so far, of scripts that ended too.
    #[must_use]
    pub fn stats(&self) -> Vec<ScriptStats> {
        self.shared.stats()
    }

    /// Files whose scripts do not run as they are now, with why; of an edited one the version before may run on.
    #[must_use]
    pub fn failures(&self) -> Vec<ScriptFailure> {
        self.shared.failures().values().cloned().collect()
    }

    /// What scripts publish by `prometheus.metric`, and their counters, in Prometheus' text format (version 0.0.4).
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = stats::prometheus(&self.stats());
        self.shared.common.metrics.render(&mut text);
        text
    }

    /// What scripts publish by `prometheus.metric` alone.
    #[must_use]
    pub fn published(&self) -> String {
        let mut text = String::new();
        self.shared.common.metrics.render(&mut text);
        text
    }

    /// Ends all scripts: running calls are interrupted, waits broken off, items that still wait dropped and counted.
    /// Returns the last statistics. A thread that does not end within `timeout` is left behind, and that is logged.
    pub fn shutdown(&self, timeout: Duration) -> Vec<ScriptStats> {
        let until = Instant::now() + timeout;
        self.stop();
        if let Some(Watcher { thread, .. }) = lock(&self.watcher).take() {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Once more: one may have been put in place meanwhile.
        self.stop();
        self.shared.running().iter().for_each(|script| script.join(until));
        self.shared.stats()
    }

    fn stop(&self) {
        drop(lock(&self.reloader).take());
        if let Some(watcher) = lock(&self.watcher).as_ref() {
            // Err: it has ended.
            let _ = watcher.stop.send(());
        }
        self.shared.running().iter().for_each(|script| script.close());
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
