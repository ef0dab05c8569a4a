//! One script's QuickJS runtime: started, called, and thrown away when a limit left it unusable.
//!
//! An engine lives on its script's own thread. Nothing a script does leaves a call unfinished: the clock ends it, its
//! promise jobs are run or the engine says that it has to be replaced.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rquickjs::context::EvalOptions;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Error, Function, Module, Object, Persistent, Promise, Runtime, Value};

use crate::captured::Captured;
use crate::view::ItemView;

use super::clock::{Clock, Ended};
use super::errors::Thrown;
use super::heap::{Heap, Meter};
use super::lazy::Lazies;
use super::limits::{ScriptLimits, duration_text, size_text};
use super::modules::FolderModules;
use super::raw;
use super::registered::{Registered, Registry};
use super::rejections::Rejections;
use super::source::{Place, ScriptFailure, Source};
use super::spot;

/// The hooks that are called.
const CALLED: [&str; 3] = ["onItemCaptured", "onStreamClosed", "onPcapReady"];
/// Hooks of the contract that this version does not call: a script that defines one is told.
const NOT_YET_CALLED: [&str; 5] =
    ["onPacketCaptured", "onItemQueried", "onJobPassed", "onJobFailed", "onPodEvent"];
/// Where a module leaves its hooks for us; gone before any hook runs.
const HANDOVER: &str = "__remora_hooks";

/// A hook that is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hook {
    ItemCaptured,
    StreamClosed,
    PcapReady,
}

impl Hook {
    pub(crate) const fn name(self) -> &'static str {
        CALLED[self as usize]
    }
}

/// How a script's text is to be evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScriptKind {
    /// A global, sloppy-mode script: what scripts for Kubeshark are.
    Script,
    /// An ES module: `.mjs`, or text with `import`, `export` or top-level `await`.
    Module,
}

/// A limit that a call ran into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    Time,
    Memory,
    Stack,
}

/// How a call of a hook ended.
#[derive(Debug)]
pub(crate) enum CallEnd {
    Done,
    Threw(Thrown),
    Hit(Limit, Option<Place>),
    /// The script is being stopped.
    Stopped,
}

/// A started script.
pub(crate) struct Engine {
    // Dropped in this order: what refers to the runtime goes before it.
    registered: Registered,
    called: [Option<Persistent<Function<'static>>>; CALLED.len()],
    context: Context,
    runtime: Runtime,
    /// From the first item on.
    lazies: Option<Rc<Lazies>>,
    rejections: Rc<Rejections>,
    clock: Rc<Clock>,
    meter: Rc<Meter>,
    unusable: bool,
    /// Heap in use after the last collection that we asked for.
    collected: usize,
    uncalled: Vec<&'static str>,
    kind: ScriptKind,
}

impl Engine {
    /// Compiles a script and runs its top level, in a context that `prepare` has put the helpers into.
    ///
    /// # Errors
    /// When it does not compile, throws, or runs into a limit.
    pub(crate) fn start(
        source: &Source,
        limits: &ScriptLimits,
        stop: &Arc<AtomicBool>,
        prepare: impl FnOnce(&Ctx<'_>, &Rc<Clock>, &Rc<Registry>) -> rquickjs::Result<()>,
    ) -> Result<Self, ScriptFailure> {
        match Self::try_start(source, limits, stop, prepare)? {
            (_, Some(failure)) => Err(failure),
            (engine, None) => Ok(engine),
        }
    }

    /// As [`Engine::start`], but what its top level ran into is returned beside it.
    ///
    /// # Errors
    /// When it does not compile.
    pub(crate) fn try_start(
        source: &Source,
        limits: &ScriptLimits,
        stop: &Arc<AtomicBool>,
        prepare: impl FnOnce(&Ctx<'_>, &Rc<Clock>, &Rc<Registry>) -> rquickjs::Result<()>,
    ) -> Result<(Self, Option<ScriptFailure>), ScriptFailure> {
        let meter = Meter::new(limits.memory);
        let clock = Clock::new(limits, Arc::clone(stop), Rc::clone(&meter));
        let (runtime, context) = new_runtime(source, limits, &clock, &meter)
            .map_err(|error| source.failure(too_small(&meter, limits, &error.to_string())))?;
        let rejections = Rejections::watch(&runtime);
        clock.arm();
        let kind = detect_kind(&runtime, source).map_err(|thrown| {
            let cause = if meter.refused() { too_small(&meter, limits, "") } else { thrown.message.clone() };
            source.failure_at(thrown.place().as_ref(), cause)
        })?;
        let registered = Registered(Rc::default());
        context
            .with(|ctx| prepare(&ctx, &clock, &registered.0).map_err(|error| Thrown::take(&ctx, error)))
            .map_err(|thrown| source.failure(too_small(&meter, limits, &thrown.message)))?;
        let mut engine = Self {
            registered,
            called: Default::default(),
            context,
            runtime,
            lazies: None,
            rejections,
            clock,
            meter,
            unusable: false,
            collected: 0,
            uncalled: Vec::new(),
            kind,
        };
        let failure = engine.run_top_level(source, limits).err();
        engine.registered.0.seal();
        engine.find_hooks();
        Ok((engine, failure))
    }

    /// Whether the script defines a hook.
    pub(crate) fn wants(&self, hook: Hook) -> bool {
        self.called.get(hook as usize).is_some_and(Option::is_some)
    }

    /// Names of the hooks that it defines and that are called.
    pub(crate) fn hooks(&self) -> Vec<&'static str> {
        CALLED
            .into_iter()
            .zip(&self.called)
            .filter(|(_, hook)| hook.is_some())
            .map(|(name, _)| name)
            .collect()
    }

    /// Names of hooks that it defines and that this version never calls.
    pub(crate) fn uncalled_hooks(&self) -> &[&'static str] {
        &self.uncalled
    }

    pub(crate) fn kind(&self) -> ScriptKind {
        self.kind
    }

    /// Bytes of JavaScript heap in use.
    pub(crate) fn heap(&self) -> usize {
        self.meter.used()
    }

    /// Whether the last call left a state in which the next one cannot be expected to work.
    pub(crate) fn is_unusable(&self) -> bool {
        self.unusable
    }

    /// Calls `onItemCaptured`.
    pub(crate) fn item_captured(&mut self, item: &Arc<Captured>, view: &Arc<ItemView>) -> CallEnd {
        let hook = self.called.get(Hook::ItemCaptured as usize).cloned().flatten();
        self.call_with_item(hook, item, view)
    }

    fn call_with_item(
        &mut self,
        function: Option<Persistent<Function<'static>>>,
        item: &Arc<Captured>,
        view: &Arc<ItemView>,
    ) -> CallEnd {
        let (mut lazies, meter) = (self.lazies.take(), Rc::clone(&self.meter));
        let mut kept = None;
        let end = self.call_function(function, |ctx| {
            let lazies = match &lazies {
                Some(lazies) => lazies,
                None => lazies.insert(Lazies::new(ctx, view, &meter)?),
            };
            kept.insert(lazies.keep(item)).object(ctx)
        });
        self.lazies = lazies;
        match &kept {
            Some(kept) if kept.settle() && self.is_full() => {
                self.unusable = true;
                if matches!(end, CallEnd::Stopped) { end } else { CallEnd::Hit(Limit::Memory, None) }
            }
            _ => end,
        }
    }

    /// Whether items that the script keeps fill its memory past the limit. Nothing refuses those, unlike allocations.
    fn is_full(&self) -> bool {
        let is_over = || self.meter.used() > self.meter.limit();
        if is_over() {
            self.runtime.run_gc();
        }
        is_over()
    }

    /// Calls what `hooks.on` registered as that number.
    pub(crate) fn item_registered(
        &mut self,
        number: usize,
        item: &Arc<Captured>,
        view: &Arc<ItemView>,
    ) -> CallEnd {
        let function = self.registered.0.function(number);
        self.call_with_item(function, item, view)
    }

    /// What `hooks.on` registered.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registered.0
    }

    /// Calls a hook with one object, given as JSON.
    pub(crate) fn call_with_json(&mut self, hook: Hook, json: &serde_json::Value) -> CallEnd {
        self.call(hook, |ctx| ctx.json_parse(json.to_string()))
    }

    fn call(
        &mut self,
        hook: Hook,
        argument: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<Value<'js>>,
    ) -> CallEnd {
        let function = self.called.get(hook as usize).cloned().flatten();
        self.call_function(function, argument)
    }

    fn call_function(
        &mut self,
        function: Option<Persistent<Function<'static>>>,
        argument: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<Value<'js>>,
    ) -> CallEnd {
        let Some(hook) = function else { return CallEnd::Done };
        self.clock.arm();
        let called = self.context.with(|ctx| {
            let call = || -> rquickjs::Result<()> {
                let hook = hook.restore(&ctx)?;
                let data = argument(&ctx)?;
                hook.call::<_, Value<'_>>((data,)).map(drop)
            };
            call().map_err(|error| Thrown::take(&ctx, error))
        });
        self.finish_call(called.err())
    }

    /// Runs the promise jobs that a call left, and says how it ended.
    fn finish_call(&mut self, mut thrown: Option<Thrown>) -> CallEnd {
        if self.clock.ended().is_none()
            && let Some(from_job) = self.run_jobs()
        {
            thrown.get_or_insert(from_job);
        }
        if let Some(rejection) = self.rejections.take() {
            thrown.get_or_insert(rejection);
        }
        let place = thrown.as_ref().and_then(Thrown::place);
        self.collect();
        match (self.clock.disarm(), thrown) {
            (Some(ended), _) => self.ended(ended, place),
            (None, Some(thrown)) if thrown.is_stack_overflow() => CallEnd::Hit(Limit::Stack, place),
            (None, Some(thrown)) => CallEnd::Threw(thrown),
            (None, None) => CallEnd::Done,
        }
    }

    /// Collects cycles before they fill the heap: QuickJS by itself waits for half as much again as there was, which
    /// may be past the limit.
    fn collect(&mut self) {
        let (used, limit) = (self.meter.used(), self.meter.limit());
        if used > limit / 2 && used > self.collected + limit / 8 {
            self.runtime.run_gc();
            self.collected = self.meter.used();
        }
    }

    fn ended(&mut self, ended: Ended, place: Option<Place>) -> CallEnd {
        // Jobs that were cut short cannot be taken out of QuickJS's queue.
        self.unusable |= self.runtime.is_job_pending();
        match ended {
            Ended::Time => CallEnd::Hit(Limit::Time, place),
            Ended::Shutdown => CallEnd::Stopped,
            Ended::Memory => {
                self.runtime.run_gc();
                self.unusable |= self.meter.used() > self.meter.limit() / 4 * 3;
                CallEnd::Hit(Limit::Memory, place)
            }
        }
    }

    /// Runs promise jobs until none is left or the call has to end; the first error of one, if any.
    fn run_jobs(&self) -> Option<Thrown> {
        let mut first = None;
        while self.runtime.is_job_pending() && !self.clock.poll() {
            if let Err(job) = self.runtime.execute_pending_job() {
                let thrown = job.0.with(|ctx| Thrown::take(&ctx, Error::Exception));
                first.get_or_insert(thrown);
            }
        }
        first
    }

    fn run_top_level(&mut self, source: &Source, limits: &ScriptLimits) -> Result<(), ScriptFailure> {
        self.clock.arm();
        let evaluated = self.context.with(|ctx| {
            match self.kind {
                ScriptKind::Script => evaluate_script(&ctx, source).map(|()| None),
                ScriptKind::Module => evaluate_module(&ctx, source).map(Some),
            }
            .map_err(|error| Thrown::take(&ctx, error))
        });
        let (promise, thrown) = match evaluated {
            Ok(promise) => (promise, None),
            Err(thrown) => (None, Some(thrown)),
        };
        // Where a module's promise was rejected, the rejection is what this finds.
        let end = self.finish_call(thrown);
        if let Some(message) = end.message("its top level", limits) {
            return Err(source.failure_at(end.place(source).as_ref(), message));
        }
        let settled = |promise: Persistent<Promise<'static>>| {
            self.context.with(|ctx| promise.restore(&ctx).is_ok_and(|p| p.state() == PromiseState::Resolved))
        };
        if promise.is_some_and(|promise| !settled(promise)) {
            return Err(source.failure("its top-level await never comes to an end"));
        }
        Ok(())
    }

    /// Takes over the hooks that the script defined.
    fn find_hooks(&mut self) {
        self.clock.arm();
        let (called, uncalled) = self.context.with(|ctx| {
            let handed: Option<Object<'_>> = ctx.globals().get(HANDOVER).unwrap_or_default();
            let find = |name: &str| -> Option<Function<'_>> {
                let found = match (self.kind, &handed) {
                    (ScriptKind::Module, handed) => handed.as_ref().map_or(Ok(None), |hooks| hooks.get(name)),
                    (ScriptKind::Script, _) => ctx.eval(hook_expression(name)),
                };
                // A `const` that the top level never came to.
                found.inspect_err(|_| drop(ctx.catch())).ok().flatten()
            };
            let called = CALLED.map(|name| find(name).map(|hook| Persistent::save(&ctx, hook)));
            let uncalled = NOT_YET_CALLED.into_iter().filter(|name| find(name).is_some()).collect();
            if ctx.globals().remove(HANDOVER).is_err() {
                drop(ctx.catch());
            }
            (called, uncalled)
        });
        self.clock.disarm();
        (self.called, self.uncalled) = (called, uncalled);
    }
}

impl CallEnd {
    /// What is to be said of it, without position: `None` when all went well.
    pub(crate) fn message(&self, what: &str, limits: &ScriptLimits) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Stopped => Some(format!("{what} was cut short: the script is being stopped")),
            Self::Threw(thrown) => Some(format!("{what} threw {}", thrown.message)),
            Self::Hit(limit, _) => Some(match limit {
                Limit::Time => {
                    format!("{what} exceeded its time limit of {}", duration_text(limits.call_time))
                }
                Limit::Memory => {
                    format!("{what} exceeded its memory limit of {}", size_text(limits.memory as u64))
                }
                Limit::Stack => {
                    format!("{what} exceeded its stack limit of {}", size_text(limits.stack as u64))
                }
            }),
        }
    }

    /// Where it ended, where known.
    pub(crate) fn place(&self, source: &Source) -> Option<Place> {
        match self {
            Self::Threw(thrown) => thrown.place(),
            Self::Hit(Limit::Time, Some(place)) => Some(spot::of_timeout(source, place)),
            Self::Hit(_, place) => place.clone(),
            Self::Done | Self::Stopped => None,
        }
    }
}

/// Why the runtime itself did not start.
fn too_small(meter: &Meter, limits: &ScriptLimits, cause: &str) -> String {
    if meter.refused() {
        format!("its memory limit of {} is too small to start it", size_text(limits.memory as u64))
    } else {
        format!("the script runtime does not start: {cause}")
    }
}

fn new_runtime(
    source: &Source,
    limits: &ScriptLimits,
    clock: &Rc<Clock>,
    meter: &Rc<Meter>,
) -> rquickjs::Result<(Runtime, Context)> {
    let runtime = Runtime::new_with_alloc(Heap(Rc::clone(meter)))?;
    runtime.set_max_stack_size(limits.stack);
    let clock = Rc::clone(clock);
    runtime.set_interrupt_handler(Some(Box::new(move || clock.poll())));
    let modules = FolderModules::new(&source.folder, limits.source);
    runtime.set_loader(modules.clone(), modules);
    let context = Context::full(&runtime)?;
    Ok((runtime, context))
}

/// Compiles the text both ways, in a context of its own so that nothing of it stays.
fn detect_kind(runtime: &Runtime, source: &Source) -> Result<ScriptKind, Thrown> {
    let context = Context::full(runtime).map_err(|error| Thrown::plain(error.to_string()))?;
    context.with(|ctx| {
        let as_script = if Path::new(&source.file).extension().is_some_and(|extension| extension == "mjs") {
            None
        } else {
            match raw::compile_script(&ctx, &source.file, &source.text) {
                Ok(()) => return Ok(ScriptKind::Script),
                Err(error) => Some(Thrown::take(&ctx, error)),
            }
        };
        match Module::declare(ctx.clone(), source.file.as_str(), source.text.as_str()) {
            Ok(_) => Ok(ScriptKind::Module),
            Err(error) => {
                let as_module = Thrown::take(&ctx, error);
                Err(as_script.filter(|_| !looks_like_module(&source.text)).unwrap_or(as_module))
            }
        }
    })
}

/// Whether a line begins as only a module's can. Asked only of text that does not compile.
fn looks_like_module(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        ["import ", "import{", "import\"", "import'", "export ", "export{"]
            .iter()
            .any(|word| line.starts_with(word))
    })
}

fn evaluate_script(ctx: &Ctx<'_>, source: &Source) -> rquickjs::Result<()> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(source.file.clone());
    ctx.eval_with_options::<Value<'_>, _>(source.text.as_str(), options).map(drop)
}

fn evaluate_module(ctx: &Ctx<'_>, source: &Source) -> rquickjs::Result<Persistent<Promise<'static>>> {
    // A module's own names are not global: a line at its end hands the hooks over.
    let text = format!("{}\n;globalThis.{HANDOVER} = {{{}}};", source.text, hook_table());
    let (_, promise) = Module::declare(ctx.clone(), source.file.as_str(), text)?.eval()?;
    Ok(Persistent::save(ctx, promise))
}

/// `onItemCaptured: …, onPacketCaptured: …`.
fn hook_table() -> String {
    let entry = |name: &&str| format!("{name}: {}", hook_expression(name));
    CALLED.iter().chain(&NOT_YET_CALLED).map(entry).collect::<Vec<_>>().join(", ")
}

/// The hook if there is one, else `null`: finds `function`, `var`, `let` and `const` alike.
fn hook_expression(name: &str) -> String {
    format!("typeof {name} === \"function\" ? {name} : null")
}
