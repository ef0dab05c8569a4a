//! Hooks registered by `hooks.on(name, {filter, sample, queue}, fn)`: an item that does not match never comes near the script.
//!
//! ```text
//! Scripts::deliver ─► Routes: filter, sample, bound ─► queue ─► worker ─► Registry: the function
//! ```
//!
//! Invariants:
//! - Registering belongs to the script's top level. A script that is started again registers again, in the same order.
//! - Whoever delivers evaluates the filter, on the item in memory; an event says which registrations it is for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use rquickjs::{Ctx, Function, Object, Persistent, Value};

use crate::captured::Captured;
use crate::kfl::Filter;
use crate::view::ItemView;

use super::helpers::{Call, HelperError, HelperResult};
use super::queue::Backpressure;
use super::stats::Counters;

/// Registrations of one script: an event has a bit for each.
const MOST: usize = 63;
/// Largest N of "one in N".
const RAREST: f64 = 1e9;

/// Which items one registration gets.
#[derive(Debug)]
pub(crate) struct Route {
    filter: Option<Filter>,
    /// Of the items that match, from 0 to 1.
    share: f64,
    matched: AtomicU64,
    /// Own bound of events that wait.
    queue: usize,
    waiting: AtomicUsize,
}

impl Route {
    /// Whether the item is for it; counts what is not.
    fn admits(&self, item: &Captured, view: &ItemView, mode: Backpressure, counters: &Counters) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(item, view)) {
            Counters::add(&counters.filtered, 1);
            return false;
        }
        if self.share < 1.0 {
            let before = self.matched.fetch_add(1, Ordering::Relaxed) as f64;
            if ((before + 1.0) * self.share).floor() <= (before * self.share).floor() {
                Counters::add(&counters.sampled, 1);
                return false;
            }
        }
        // A replay loses nothing: there the script's own queue holds the producer up.
        if mode == Backpressure::DropNewest && self.waiting.load(Ordering::Relaxed) >= self.queue {
            Counters::add(&counters.dropped, 1);
            return false;
        }
        true
    }
}

/// The registrations of one version of a script, as those who deliver see them.
#[derive(Debug)]
pub(crate) struct Routes {
    list: ArcSwap<Vec<Route>>,
    mode: Backpressure,
}

impl Routes {
    pub(crate) fn new(mode: Backpressure) -> Self {
        Self { list: ArcSwap::default(), mode }
    }

    /// Takes over what a start registered.
    pub(crate) fn replace(&self, routes: Vec<Route>) {
        self.list.store(Arc::new(routes));
    }

    /// For which hooks the item is; `None` if for none. `plain`: the script defines `onItemCaptured`.
    pub(crate) fn targets(
        &self,
        item: &Captured,
        view: &ItemView,
        plain: bool,
        counters: &Counters,
    ) -> Option<Targets> {
        let routes = self.list.load();
        let mut bits = 0u64;
        for (at, route) in routes.iter().enumerate() {
            if route.admits(item, view, self.mode, counters) {
                bits |= 1 << at;
                route.waiting.fetch_add(1, Ordering::Relaxed);
            }
        }
        (plain || bits != 0).then(|| Targets { plain, bits, routes: Some(Arc::clone(&routes)) })
    }

    /// Whether the numbers of these targets are those of the registrations now. They are not after an edit or a restart,
    /// for what waited then.
    pub(crate) fn are_meant_by(&self, targets: &Targets) -> bool {
        let now = self.list.load();
        targets.routes.as_ref().map_or(now.is_empty(), |then| Arc::ptr_eq(then, &now))
    }
}

/// The hooks that one item is for. While it lives it counts as waiting.
#[derive(Debug)]
pub(crate) struct Targets {
    /// `onItemCaptured`.
    pub(crate) plain: bool,
    bits: u64,
    routes: Option<Arc<Vec<Route>>>,
}

impl Targets {
    /// `onItemCaptured` alone.
    pub(crate) const fn plain() -> Self {
        Self { plain: true, bits: 0, routes: None }
    }

    /// Numbers of the registrations.
    pub(crate) fn registered(&self) -> impl Iterator<Item = usize> + use<> {
        let bits = self.bits;
        (0..MOST).filter(move |at| bits & 1 << at != 0)
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        let routes = self.routes.iter().flat_map(|routes| routes.iter()).enumerate();
        for (_, route) in routes.filter(|(at, _)| self.bits & 1 << at != 0) {
            route.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What the top level registers, on the script's own thread.
#[derive(Default)]
pub(crate) struct Registry {
    functions: RefCell<Vec<Persistent<Function<'static>>>>,
    routes: RefCell<Vec<Route>>,
    sealed: Cell<bool>,
}

impl Registry {
    /// Ends registering; what was registered.
    pub(crate) fn seal(&self) {
        self.sealed.set(true);
    }

    pub(crate) fn take_routes(&self) -> Vec<Route> {
        self.routes.take()
    }

    pub(crate) fn function(&self, at: usize) -> Option<Persistent<Function<'static>>> {
        self.functions.borrow().get(at).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.functions.borrow().len()
    }
}

/// A registry that lets go of its functions before the runtime that they belong to.
pub(crate) struct Registered(pub(crate) Rc<Registry>);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.functions.take();
    }
}

/// `hooks.on(name, options?, fn)`.
pub(crate) fn on<'js>(registry: &Registry, call: &Call<'js>) -> HelperResult<'js> {
    let name = call.text(0, "name")?;
    let called = name.strip_prefix("on").unwrap_or(&name);
    if !called.eq_ignore_ascii_case("itemCaptured") {
        let cause =
            format!("{name:?} cannot be registered, itemCaptured can; define a function of the hook's name");
        return Err(call.failed("name", cause));
    }
    let at = usize::from(call.args().get(1).is_none_or(|second| !second.is_function()));
    let Some(function) = call.required(1 + at, "fn")?.as_function() else {
        return Err(call.wrong_type(1 + at, "fn", "a function", call.required(1 + at, "fn")?));
    };
    let route = match call.given(1).filter(|_| at == 1) {
        Some(_) => route(call, call.object(1, "options")?)?,
        None => Route { filter: None, share: 1.0, matched: 0.into(), queue: usize::MAX, waiting: 0.into() },
    };
    if registry.sealed.get() {
        return Err(call.failed_call("hooks are registered at the script's top level, not later"));
    }
    if registry.len() >= MOST {
        return Err(call.failed_call(format!("a script can register {MOST} hooks")));
    }
    registry.functions.borrow_mut().push(Persistent::save(call.ctx(), function.clone()));
    registry.routes.borrow_mut().push(route);
    call.done()
}

fn route<'js>(call: &Call<'js>, options: &Object<'js>) -> Result<Route, HelperError> {
    for key in options.keys::<String>() {
        let key = key?;
        if !matches!(key.as_str(), "filter" | "sample" | "queue") {
            return Err(call.failed("options", format!("{key:?} is none of filter, sample, queue")));
        }
    }
    let member = |key: &str| -> Result<Option<Value<'js>>, HelperError> {
        let value: Value<'js> = options.get(key)?;
        Ok((!value.is_undefined() && !value.is_null()).then_some(value))
    };
    let filter = match member("filter")? {
        Some(text) => {
            let Some(text) = text.as_string() else {
                return Err(HelperError::Type("hooks.on: options.filter must be a string".to_owned()));
            };
            let text = super::raw::text(text)?;
            Some(Filter::compile(&text).map_err(|error| call.failed("options.filter", error))?)
        }
        None => None,
    };
    let number = |key: &str, least: f64, most: f64, wanted: &str| -> Result<Option<f64>, HelperError> {
        let Some(value) = member(key)? else { return Ok(None) };
        let number = value.as_number().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| call.failed(&format!("options.{key}"), format!("must be {wanted}")))
    };
    let sample =
        number("sample", f64::MIN_POSITIVE, RAREST, "a fraction above 0 and up to 1, or N for one in N")?;
    let queue = number("queue", 1.0, 1e9, "a number of items, 1 or more")?;
    let share = sample.map_or(1.0, |sample| if sample > 1.0 { sample.recip() } else { sample });
    Ok(Route {
        filter,
        share,
        matched: 0.into(),
        queue: queue.map_or(usize::MAX, |queue| queue as usize),
        waiting: 0.into(),
    })
}

/// `hooks` alone, for a script that is looked at and not run.
///
/// # Errors
/// When the heap has no room for it.
pub(crate) fn install_alone<'js>(ctx: &Ctx<'js>, registry: &Rc<Registry>) -> rquickjs::Result<()> {
    let registry = Rc::clone(registry);
    let on_call = move |ctx: Ctx<'js>, args: rquickjs::function::Rest<Value<'js>>| {
        let call = Call::new(ctx, "hooks.on", args.0, crate::kfl::LONGEST);
        on(&registry, &call).map_err(|error| call.throw(error))
    };
    let hooks = Object::new(ctx.clone())?;
    hooks.set("on", Function::new(ctx.clone(), on_call)?)?;
    ctx.globals().set("hooks", hooks)
}
