//! The thread of one script: takes events from its queue, calls the hook, says what went wrong, pauses and restarts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use chrono::Utc;
use rquickjs::Ctx;
use serde_json::json;

use crate::captured::{Captured, ClosedStream};

use super::clock::Clock;
use super::closed;
use super::ending::{CallEnd, Limit};
use super::engine::Engine;
use super::errors::{ErrorTable, Thrown};
use super::helpers::{self, Host, HostSetup, Run};
use super::hook::Hook;
use super::limits::{ScriptLimits, duration_text};
use super::log::{Level, Logger};
use super::packets::{Batch, PacketInfo};
use super::pause::Pause;
use super::pod::PodEvent;
use super::queue::{Popped, Queue};
use super::registered::{Registry, Routes, Targets};
use super::rehearsal::{self, Rehearsal};
use super::source::{ScriptFailure, Source};
use super::stats::Counters;

/// How often a script that could not be started again is thought of without an event.
const RETRY: Duration = Duration::from_secs(1);

/// What a script is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// `onItemCaptured`, and what was registered for such items.
    Item(Arc<Captured>, Targets),
    /// `onStreamClosed`, `onPcapReady`.
    Closed(Arc<ClosedStream>),
    /// `onPacketCaptured`, for each.
    Packets(Batch),
    /// `onPodEvent`, with the pod.
    Pod(PodEvent, Arc<serde_json::Value>),
    /// Every job is to run once.
    Jobs,
    /// `onItemQueried`, with the item as JSON; the answer is what the hook returned, as JSON.
    Queried(Arc<str>, SyncSender<Option<String>>),
}

/// What a script turned out to be when it started.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    /// Hooks that it defines.
    pub(crate) wanted: Vec<Hook>,
    /// Of these, what nothing gives rise to.
    pub(crate) uncalled_hooks: Vec<&'static str>,
    /// How many hooks it registered.
    pub(crate) registered: usize,
    /// Whether its top level scheduled a job.
    pub(crate) has_jobs: bool,
}

/// What the thread is given.
pub(crate) struct Worker {
    pub(crate) source: Source,
    pub(crate) setup: HostSetup,
    pub(crate) queue: Arc<Queue<Event>>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Tells when, and as which turn, to serve the queue.
    pub(crate) turn: Receiver<u64>,
}

/// Closes the queue however the thread ends, so that nobody waits for it; unless another thread has taken over.
struct CloseOnExit<'a>(&'a Queue<Event>, &'a Counters, u64);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        Counters::add(&self.1.dropped, self.0.close_at(self.2) as u64);
    }
}

/// A started script with the host's side of it.
struct Live {
    engine: Engine,
    host: Rc<Host>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // The host keeps functions of the runtime, which must not outlive it.
        self.host.jobs().release();
    }
}

impl Worker {
    /// Starts the script, reports how that went, and serves its queue from its turn on until it is closed.
    pub(crate) fn run(self, report: &SyncSender<Result<Started, ScriptFailure>>) {
        let live = match start(&self.source, &self.setup, &self.stop) {
            Ok(live) => live,
            Err(failure) => {
                // Err: nobody waits for the report any more.
                let _ = report.send(Err(failure));
                return;
            }
        };
        let started = Started {
            wanted: Hook::ALL.into_iter().filter(|hook| live.engine.wants(*hook)).collect(),
            uncalled_hooks: live.engine.uncalled_hooks().to_vec(),
            registered: live.engine.registry().len(),
            has_jobs: live.host.jobs().len() > 0,
        };
        self.routes.replace(live.engine.registry().take_routes());
        let _ = report.send(Ok(started));
        // Err: it is not wanted any more.
        let Ok(turn) = self.turn.recv() else { return };
        let _close = CloseOnExit(&self.queue, &self.counters, turn);
        let limits = &self.setup.limits;
        let table = ErrorTable::new(limits.known_errors, limits.repeat_interval);
        Serving {
            worker: &self,
            live: Some(live),
            table,
            pause: Pause::new(limits),
            turn,
            starts: 0,
            about: String::new(),
        }
        .serve();
    }
}

fn start(source: &Source, setup: &HostSetup, stop: &Arc<AtomicBool>) -> Result<Live, ScriptFailure> {
    let mut kept = None;
    let prepare = |ctx: &Ctx<'_>, clock: &Rc<Clock>, registry: &Rc<Registry>| {
        let host = Host::new(setup, Rc::clone(clock), Rc::clone(registry));
        kept = Some(Rc::clone(&host));
        helpers::install(ctx, &host)
    };
    let started = catch_unwind(AssertUnwindSafe(|| Engine::try_start(source, &setup.limits, stop, prepare)))
        .unwrap_or_else(|_| Err(source.failure("the script runtime panicked while starting it")));
    let (engine, failure) = started?;
    let Some(host) = kept else { return Err(source.failure("its helpers could not be made")) };
    let live = Live { engine, host };
    failure.map_or(Ok(live), Err)
}

struct Serving<'a> {
    worker: &'a Worker,
    /// `None` after a failed restart.
    live: Option<Live>,
    table: ErrorTable,
    pause: Pause,
    turn: u64,
    /// Runtimes that were started after the first.
    starts: u64,
    /// What the call at hand is about, for whoever watches.
    about: String,
}

impl<'a> Serving<'a> {
    fn serve(mut self) {
        let idle = self.limits().repeat_interval;
        loop {
            self.run_jobs();
            let due = match &self.live {
                Some(live) => live.host.jobs().wait(Utc::now()),
                None => Some(RETRY),
            };
            match self.worker.queue.pop(self.turn, due.map_or(idle, |due| due.min(idle))) {
                Popped::Event(event) => self.handle(&event),
                Popped::Nothing => {}
                Popped::Closed => break,
            }
            let now = Instant::now();
            if self.table.due(now) {
                self.tell_repeats(now);
            }
        }
        self.tell_repeats(Instant::now());
    }

    fn handle(&mut self, event: &Event) {
        if self.rehearsal().is_some() {
            self.about = rehearsal::about(event);
        }
        if let Event::Packets(batch) = event {
            return self.packets(&batch.packets);
        }
        if !self.may_run() {
            Counters::add(&self.counters().skipped, 1);
            return;
        }
        match event {
            Event::Item(item, targets) => {
                self.item(item, targets);
            }
            Event::Closed(stream) => {
                if self.wants(Hook::StreamClosed) {
                    let info = closed::closed(stream);
                    self.call(Hook::StreamClosed, |engine| engine.call_with_json(Hook::StreamClosed, &info));
                }
                if self.wants(Hook::PcapReady) {
                    self.pcap_ready(stream);
                }
            }
            Event::Packets(_) => {}
            Event::Jobs => {
                if let Some(live) = &self.live {
                    live.host.jobs().ask_for_all();
                }
                self.run_jobs();
            }
            Event::Pod(event, pod) => {
                let values = [json!(event.as_str()), serde_json::Value::clone(pod)];
                self.call(Hook::PodEvent, |engine| engine.call_with_values(Hook::PodEvent, &values));
            }
            Event::Queried(item, answer) => {
                let mut shown = None;
                self.call(Hook::ItemQueried, |engine| {
                    let (end, returned) = engine.item_queried(item);
                    shown = returned;
                    end
                });
                // Err: whoever asked has given up.
                let _ = answer.try_send(shown);
            }
        }
    }

    fn item(&mut self, item: &Arc<Captured>, targets: &Targets) {
        let Worker { routes, setup, counters, .. } = self.worker;
        let view = &setup.services.view;
        let asked_anew = if routes.are_meant_by(targets) {
            None
        } else {
            Some(routes.targets(item, view, targets.plain, counters))
        };
        let targets = match &asked_anew {
            None => targets,
            Some(Some(targets)) => targets,
            Some(None) => return,
        };
        if targets.plain {
            self.call(Hook::ItemCaptured, |engine| engine.item_captured(item, view));
        }
        for number in targets.registered() {
            self.call_as(Hook::ItemCaptured.name(), |engine| engine.item_registered(number, item, view));
        }
    }

    fn packets(&mut self, packets: &[PacketInfo]) {
        for (done, info) in packets.iter().enumerate() {
            if self.worker.stop.load(Ordering::Relaxed) || !self.may_run() {
                let left = (packets.len() - done) as u64;
                Counters::add(&self.counters().packets_dropped, left);
                return;
            }
            self.call(Hook::PacketCaptured, |engine| engine.packet_captured(info));
        }
    }

    /// Runs each job that is due once, and tells the script how that went.
    fn run_jobs(&mut self) {
        // A script of jobs alone has no event that would start it again.
        if self.live.is_none() && !self.may_run() {
            return;
        }
        let Some(live) = &self.live else { return };
        let (due, starts) = (live.host.jobs().take_due(Utc::now()), self.starts);
        for id in due {
            if self.worker.stop.load(Ordering::Relaxed) {
                return;
            }
            if !self.may_run() {
                Counters::add(&self.counters().skipped, 1);
                continue;
            }
            // A fresh runtime has jobs of its own.
            if self.starts != starts {
                return;
            }
            let Some(run) = self.live.as_ref().and_then(|live| live.host.jobs().begin(id)) else { continue };
            self.run_job(run);
        }
    }

    fn run_job(&mut self, run: Run) {
        let Run { tag, pattern, limit, function, args } = run;
        self.about.clear();
        let failure = self.call_as(&format!("job {tag:?}"), |engine| engine.call_kept(function, args));
        let counters = self.counters();
        let counter = if failure.is_none() { &counters.jobs_passed } else { &counters.jobs_failed };
        Counters::add(counter, 1);
        let hook = if failure.is_none() { Hook::JobPassed } else { Hook::JobFailed };
        if self.wants(hook) && !self.worker.stop.load(Ordering::Relaxed) {
            let mut values = vec![json!(tag), json!(pattern), json!(limit)];
            values.extend(failure.map(serde_json::Value::from));
            self.call(hook, |engine| engine.call_with_values(hook, &values));
        }
    }

    fn rehearsal(&self) -> Option<&'a Arc<dyn Rehearsal>> {
        self.worker.setup.services.rehearsal.as_ref()
    }

    fn wants(&self, hook: Hook) -> bool {
        self.live.as_ref().is_some_and(|live| live.engine.wants(hook))
    }

    /// Has the stream's file made, if the stream is stored at all, and tells the script. The time that takes is not the
    /// script's.
    fn pcap_ready(&mut self, stream: &ClosedStream) {
        let Some(store) = self.worker.setup.services.store.as_ref() else { return };
        let id = stream.summary.stream;
        if !store.is_kept(id) {
            return;
        }
        match store.file(id) {
            Ok(file) => {
                let info = closed::ready(stream, &file);
                self.call(Hook::PcapReady, |engine| engine.call_with_json(Hook::PcapReady, &info));
            }
            Err(error) => {
                self.tell("onPcapReady: no file", &format!("onPcapReady is not called: {error}"));
            }
        }
    }

    fn call(&mut self, hook: Hook, call: impl FnOnce(&mut Engine) -> CallEnd) {
        // Its version may be another than the one that the event was queued for.
        if self.wants(hook) {
            self.call_as(hook.name(), call);
        }
    }

    /// Makes a call and sees to what follows from its end; what went wrong, if anything did.
    fn call_as(&mut self, what: &str, call: impl FnOnce(&mut Engine) -> CallEnd) -> Option<String> {
        if let (Some(rehearsal), true) = (self.rehearsal(), self.live.is_some()) {
            rehearsal.begins(&self.worker.setup.name, what, &self.about);
        }
        let engine = &mut self.live.as_mut()?.engine;
        let began = Instant::now();
        let end = catch_unwind(AssertUnwindSafe(|| call(engine)));
        let panicked = end.is_err();
        let end = end.unwrap_or_else(|_| CallEnd::Threw(Thrown::plain("the script runtime panicked")));
        let (unusable, heap) = (engine.is_unusable() || panicked, engine.heap());
        let counters = self.counters();
        Counters::add(&counters.calls, 1);
        Counters::add(&counters.busy_ns, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        counters.heap.store(heap as u64, Ordering::Relaxed);
        self.account(what, &end);
        if let Some(rehearsal) = self.rehearsal() {
            let source = &self.worker.source;
            let failure = end.message(what, self.limits()).map(|message| message + &at(&end, source));
            rehearsal.ended(&self.worker.setup.name, what, began.elapsed(), failure.as_deref());
        }
        if unusable && !matches!(end, CallEnd::Stopped) {
            self.restart();
        }
        match end {
            CallEnd::Threw(thrown) => Some(thrown.message),
            end => end.message("it", self.limits()),
        }
    }

    /// Whether events are to be handled now; ends a pause whose time is over, and starts a script that could not start.
    fn may_run(&mut self) -> bool {
        if self.pause.is_on() {
            if !self.pause.is_over(Instant::now()) {
                return false;
            }
            self.pause.end();
            self.counters().paused.store(false, Ordering::Relaxed);
            self.logger().about(Level::Warn, "goes on after its pause");
        }
        if self.live.is_none() {
            self.restart();
        }
        self.live.is_some()
    }

    /// Counts and logs how a call ended.
    fn account(&mut self, hook: &str, end: &CallEnd) {
        let strike = match end {
            CallEnd::Done => {
                self.pause.forgive();
                return;
            }
            CallEnd::Stopped => return,
            CallEnd::Threw(thrown) => {
                Counters::add(&self.counters().errors, 1);
                let first_line = format!("{hook} threw {}{}", thrown.message, at(end, &self.worker.source));
                self.tell(&first_line, &format!("{hook} threw {}", thrown.one_line()));
                self.pause.forgive();
                return;
            }
            CallEnd::Hit(limit, _) => {
                let counters = self.counters();
                Counters::add(&counters.errors, 1);
                let counter = match limit {
                    Limit::Time => &counters.timeouts,
                    Limit::Memory => &counters.out_of_memory,
                    Limit::Stack => &counters.stack_overflows,
                };
                Counters::add(counter, 1);
                matches!(limit, Limit::Time | Limit::Memory)
            }
        };
        if let Some(message) = end.message(hook, self.limits()) {
            let line = format!("{message}{}", at(end, &self.worker.source));
            self.tell(&line, &line);
        }
        if strike {
            self.strike();
        } else {
            self.pause.forgive();
        }
    }

    /// Logs an error the first time; `key` tells errors apart.
    fn tell(&mut self, key: &str, line: &str) {
        if self.table.record(key) {
            self.logger().about(Level::Error, line);
        }
    }

    fn strike(&mut self) {
        if let Some(length) = self.pause.strike(Instant::now()) {
            let counters = self.counters();
            Counters::add(&counters.pauses, 1);
            counters.paused.store(true, Ordering::Relaxed);
            let (strikes, length) = (self.limits().strikes, duration_text(length));
            self.logger().about(
                Level::Error,
                &format!(
                    "is paused for {length}: it ran out of time or memory {strikes} times in a row or more; \
                     items that arrive meanwhile are skipped"
                ),
            );
        }
    }

    /// Throws the runtime away and starts the script afresh.
    fn restart(&mut self) {
        self.live = None;
        self.starts += 1;
        let Worker { source, setup, stop, .. } = self.worker;
        match start(source, setup, stop) {
            Ok(live) => {
                self.worker.routes.replace(live.engine.registry().take_routes());
                self.live = Some(live);
                Counters::add(&self.counters().restarts, 1);
                let line = "was started again with fresh state: the old one was unusable after the limit it ran into";
                self.tell(line, line);
            }
            Err(failure) => {
                let line = format!("cannot be started again: {failure}");
                self.tell(&line, &line);
                self.pause.demand();
                self.strike();
            }
        }
    }

    fn tell_repeats(&mut self, now: Instant) {
        for line in self.table.repeats(now) {
            self.logger().about(Level::Error, &line);
        }
    }

    fn counters(&self) -> &'a Counters {
        &self.worker.counters
    }

    fn limits(&self) -> &'a ScriptLimits {
        &self.worker.setup.limits
    }

    fn logger(&self) -> &'a Logger {
        &self.worker.setup.logger
    }
}

/// ` at alert.js:12`, where known; else ` in alert.js`.
fn at(end: &CallEnd, source: &Source) -> String {
    match end.place(source) {
        Some(place) => format!(" at {place}"),
        None => format!(" in {}", source.file),
    }
}
