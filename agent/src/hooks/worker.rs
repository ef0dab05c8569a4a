//! The thread of one script: takes events from its queue, calls the hook, says what went wrong, pauses and restarts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use rquickjs::Ctx;

use crate::captured::{Captured, ClosedStream};

use super::clock::Clock;
use super::closed;
use super::engine::{CallEnd, Engine, Hook, Limit};
use super::errors::{ErrorTable, Thrown};
use super::helpers::{self, Host, HostSetup};
use super::limits::{ScriptLimits, duration_text};
use super::log::{Level, Logger};
use super::queue::{Popped, Queue};
use super::registered::{Registry, Routes, Targets};
use super::source::{ScriptFailure, Source};
use super::stats::Counters;

/// What a script is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// `onItemCaptured`, and what was registered for such items.
    Item(Arc<Captured>, Targets),
    /// `onStreamClosed`, `onPcapReady`.
    Closed(Arc<ClosedStream>),
}

/// What a script turned out to be when it started.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) hooks: Vec<&'static str>,
    pub(crate) uncalled_hooks: Vec<&'static str>,
    /// How many hooks it registered.
    pub(crate) registered: usize,
}

/// What the thread is given.
pub(crate) struct Worker {
    pub(crate) source: Source,
    pub(crate) setup: HostSetup,
    pub(crate) queue: Arc<Queue<Event>>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// Closes the queue however the thread ends, so that nobody waits for it.
struct CloseOnExit<'a>(&'a Queue<Event>, &'a Counters);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        Counters::add(&self.1.dropped, self.0.close() as u64);
    }
}

impl Worker {
    /// Starts the script, reports how that went, and serves its queue until it is closed.
    pub(crate) fn run(self, report: &SyncSender<Result<Started, ScriptFailure>>) {
        let _close = CloseOnExit(&self.queue, &self.counters);
        let engine = match start(&self.source, &self.setup, &self.stop) {
            Ok(engine) => engine,
            Err(failure) => {
                // Err: nobody waits for the report any more.
                let _ = report.send(Err(failure));
                return;
            }
        };
        let started = Started {
            hooks: engine.hooks(),
            uncalled_hooks: engine.uncalled_hooks().to_vec(),
            registered: engine.registry().len(),
        };
        self.routes.replace(engine.registry().take_routes());
        let _ = report.send(Ok(started));
        let limits = &self.setup.limits;
        let table = ErrorTable::new(limits.known_errors, limits.repeat_interval);
        Serving { worker: &self, engine: Some(engine), table, pause: Pause::new(limits) }.serve();
    }
}

fn start(source: &Source, setup: &HostSetup, stop: &Arc<AtomicBool>) -> Result<Engine, ScriptFailure> {
    let prepare = |ctx: &Ctx<'_>, clock: &Rc<Clock>, registry: &Rc<Registry>| {
        helpers::install(ctx, &Host::new(setup, Rc::clone(clock), Rc::clone(registry)))
    };
    catch_unwind(AssertUnwindSafe(|| Engine::start(source, &setup.limits, stop, prepare)))
        .unwrap_or_else(|_| Err(source.failure("the script runtime panicked while starting it")))
}

struct Serving<'a> {
    worker: &'a Worker,
    /// `None` after a failed restart.
    engine: Option<Engine>,
    table: ErrorTable,
    pause: Pause,
}

impl<'a> Serving<'a> {
    fn serve(mut self) {
        let idle = self.limits().repeat_interval;
        loop {
            match self.worker.queue.pop(idle) {
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
        if !self.may_run() {
            Counters::add(&self.counters().skipped, 1);
            return;
        }
        match event {
            Event::Item(item, targets) => {
                let view = &self.worker.setup.services.view;
                if targets.plain {
                    self.call(Hook::ItemCaptured, |engine| engine.item_captured(item, view));
                }
                for number in targets.registered() {
                    self.call(Hook::ItemCaptured, |engine| engine.item_registered(number, item, view));
                }
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
        }
    }

    fn wants(&self, hook: Hook) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.wants(hook))
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
        let Some(engine) = &mut self.engine else { return };
        let began = Instant::now();
        let end = catch_unwind(AssertUnwindSafe(|| call(engine)));
        let panicked = end.is_err();
        let end = end.unwrap_or_else(|_| CallEnd::Threw(Thrown::plain("the script runtime panicked")));
        let (unusable, heap) = (engine.is_unusable() || panicked, engine.heap());
        let counters = self.counters();
        Counters::add(&counters.calls, 1);
        Counters::add(&counters.busy_ns, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        counters.heap.store(heap as u64, Ordering::Relaxed);
        self.account(hook.name(), &end);
        if unusable && !matches!(end, CallEnd::Stopped) {
            self.restart();
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
        if self.engine.is_none() {
            self.restart();
        }
        self.engine.is_some()
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
        self.engine = None;
        let Worker { source, setup, stop, .. } = self.worker;
        match start(source, setup, stop) {
            Ok(engine) => {
                self.worker.routes.replace(engine.registry().take_routes());
                self.engine = Some(engine);
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

/// When a script that keeps running out of time or memory is left alone, and for how long.
#[derive(Debug)]
struct Pause {
    strikes: u32,
    allowed: u32,
    next: Duration,
    first: Duration,
    longest: Duration,
    until: Option<Instant>,
}

impl Pause {
    fn new(limits: &ScriptLimits) -> Self {
        Self {
            strikes: 0,
            allowed: limits.strikes,
            next: limits.pause_first,
            first: limits.pause_first,
            longest: limits.pause_longest,
            until: None,
        }
    }

    /// One more limit hit; how long to pause, if it is time to.
    fn strike(&mut self, now: Instant) -> Option<Duration> {
        self.strikes = self.strikes.saturating_add(1);
        if self.strikes < self.allowed {
            return None;
        }
        let length = self.next;
        self.until = Some(now + length);
        self.next = (length * 2).min(self.longest);
        Some(length)
    }

    /// The next strike pauses.
    fn demand(&mut self) {
        self.strikes = self.strikes.max(self.allowed.saturating_sub(1));
    }

    /// A call stayed within its limits.
    fn forgive(&mut self) {
        self.strikes = 0;
        self.next = self.first;
    }

    fn is_on(&self) -> bool {
        self.until.is_some()
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    fn end(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_one_good_call_forgives() {
        let limits = ScriptLimits { pause_longest: Duration::from_secs(3), ..ScriptLimits::default() };
        let mut pause = Pause::new(&limits);
        let now = Instant::now();
        assert_eq!([pause.strike(now), pause.strike(now)], [None, None]);
        assert_eq!(pause.strike(now), Some(Duration::from_secs(1)));
        assert!(pause.is_on() && !pause.is_over(now) && pause.is_over(now + Duration::from_secs(1)));
        pause.end();
        assert_eq!(pause.strike(now), Some(Duration::from_secs(2)), "once more is enough now");
        assert_eq!(pause.strike(now), Some(Duration::from_secs(3)), "and it grows to a bound");
        pause.end();
        pause.forgive();
        assert_eq!(pause.strike(now), None);
    }
}
