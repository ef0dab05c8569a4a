//! One script's QuickJS runtime: started, called, and thrown away when a limit left it unusable.
//!
//! An engine lives on its script's own thread. Nothing a script does leaves a call unfinished: the clock ends it, its
//! promise jobs are run or the engine says that it has to be replaced.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rquickjs::context::EvalOptions;
use rquickjs::function::Args;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Error, Function, Module, Object, Persistent, Promise, Runtime, Value};

use crate::captured::Captured;
use crate::view::ItemView;

use super::clock::{Clock, Ended};
use super::ending::{CallEnd, Limit};
use super::errors::Thrown;
use super::heap::{Heap, Meter};
use super::hook::{CALLED, Hook, WITHOUT_SOURCE};
use super::lazy::Lazies;
use super::limits::{ScriptLimits, size_text};
use super::modules::FolderModules;
use super::packets::PacketInfo;
use super::raw;
use super::registered::{Registered, Registry};
use super::rejections::Rejections;
use super::source::{Place, ScriptFailure, Source};

/// Where a module leaves its hooks for us; gone before any hook runs.
const HANDOVER: &str = "__remora_hooks";

/// How a script's text is to be evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScriptKind {
    /// A global, sloppy-mode script: what scripts for Kubeshark are.
    Script,
    /// An ES module: `.mjs`, or text with `import`, `export` or top-level `await`.
    Module,
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
    /// Compiles a script and runs its top level, in a context that `prepare` has put the helpers into. What its top level
    /// ran into is returned beside it.
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
            let cause = if meter.exceeded() { too_small(&meter, limits, "") } else { thrown.message.clone() };
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
        let defined = CALLED.into_iter().zip(&self.called).filter(|(_, hook)| hook.is_some());
        defined.map(|(name, _)| name).filter(|name| !self.uncalled.contains(name)).collect()
    }

    /// Names of hooks that it defines and that nothing in this version gives rise to.
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

    /// Calls a hook with several values.
    pub(crate) fn call_with_values(&mut self, hook: Hook, values: &[serde_json::Value]) -> CallEnd {
        let Some(hook) = self.called.get(hook as usize).cloned().flatten() else { return CallEnd::Done };
        self.run(|ctx, _| {
            let mut args = Args::new(ctx.clone(), values.len());
            for value in values {
                args.push_arg(ctx.json_parse(value.to_string())?)?;
            }
            hook.restore(ctx)?.call_arg::<Value<'_>>(args).map(drop)
        })
    }

    /// Calls `onPacketCaptured`.
    pub(crate) fn packet_captured(&mut self, info: &PacketInfo) -> CallEnd {
        self.call(Hook::PacketCaptured, |ctx| {
            let object = Object::new(ctx.clone())?;
            object.set("timestamp", info.time.0 / 1_000_000)?;
            object.set("captureLength", info.capture_length)?;
            object.set("length", info.length)?;
            object.set("truncated", info.capture_length < info.length)?;
            object.set("fragmented", info.fragmented)?;
            Ok(object.into_value())
        })
    }

    /// Calls `onItemQueried`; what it returned, as JSON, if that is an object.
    pub(crate) fn item_queried(&mut self, item: &str) -> (CallEnd, Option<String>) {
        let Some(hook) = self.called.get(Hook::ItemQueried as usize).cloned().flatten() else {
            return (CallEnd::Done, None);
        };
        self.clock.arm();
        let called = self.in_context(|ctx, clock| {
            let data = clock.wait(|| ctx.json_parse(item))?;
            let returned: Value<'_> = hook.restore(ctx)?.call((data,))?;
            Ok(Persistent::save(ctx, returned))
        });
        // An `async` hook has its value once its jobs have run.
        let from_job = self.run_jobs();
        let shown = called.and_then(|returned| {
            self.in_context(|ctx, _| {
                let mut returned = returned.restore(ctx)?;
                if let Some(promise) = returned.as_promise() {
                    let Some(result) = promise.result::<Value<'_>>() else { return Ok(None) };
                    returned = result?;
                }
                let json = if returned.is_object() { ctx.json_stringify(returned)? } else { None };
                json.map(|json| raw::text(&json)).transpose()
            })
        });
        let (shown, thrown) = match shown {
            Ok(shown) => (shown, from_job),
            Err(thrown) => (None, Some(thrown)),
        };
        (self.finish_call(thrown), shown)
    }

    /// Calls a function that a helper kept.
    pub(crate) fn call_kept(
        &mut self,
        function: Persistent<Function<'static>>,
        values: Vec<Persistent<Value<'static>>>,
    ) -> CallEnd {
        self.run(|ctx, _| {
            let mut args = Args::new(ctx.clone(), values.len());
            for value in values {
                args.push_arg(value.restore(ctx)?)?;
            }
            function.restore(ctx)?.call_arg::<Value<'_>>(args).map(drop)
        })
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
        self.run(|ctx, _| {
            let hook = hook.restore(ctx)?;
            let data = argument(ctx)?;
            hook.call::<_, Value<'_>>((data,)).map(drop)
        })
    }

    /// One call: all that runs JavaScript goes through here, or does what this does.
    fn run(&mut self, work: impl for<'js> FnOnce(&Ctx<'js>, &Clock) -> rquickjs::Result<()>) -> CallEnd {
        self.clock.arm();
        let done = self.in_context(work);
        self.finish_call(done.err())
    }

    fn in_context<T>(
        &self,
        work: impl for<'js> FnOnce(&Ctx<'js>, &Clock) -> rquickjs::Result<T>,
    ) -> Result<T, Thrown> {
        self.context.with(|ctx| work(&ctx, &self.clock).map_err(|error| Thrown::take(&ctx, error)))
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
            let defined = |hook: &Hook| called.get(*hook as usize).is_some_and(Option::is_some);
            let uncalled = WITHOUT_SOURCE.into_iter().filter(defined).map(Hook::name).collect();
            if ctx.globals().remove(HANDOVER).is_err() {
                drop(ctx.catch());
            }
            (called, uncalled)
        });
        self.clock.disarm();
        (self.called, self.uncalled) = (called, uncalled);
    }
}

/// Why the runtime itself did not start.
fn too_small(meter: &Meter, limits: &ScriptLimits, cause: &str) -> String {
    if meter.exceeded() {
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
    let modules = FolderModules::new(source, limits.source);
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
    CALLED.iter().map(entry).collect::<Vec<_>>().join(", ")
}

/// The hook if there is one, else `null`: finds `function`, `var`, `let` and `const` alike.
fn hook_expression(name: &str) -> String {
    format!("typeof {name} === \"function\" ? {name} : null")
}
