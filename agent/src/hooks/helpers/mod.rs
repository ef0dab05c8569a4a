//! The helpers that scripts see as globals, and the host state behind them.
//!
//! A helper is a Rust function of [`Host`] and [`Call`]: it reads its arguments through `Call`, which words the errors,
//! and returns a value or a [`HelperError`]. Nothing else of the host is reachable from JavaScript.

mod args;
mod console;
mod files;
mod folder;
mod jobs;
mod kfl;
mod metric;
mod small;
mod tarball;
mod vendor;
mod vendor_data;
mod vendor_objects;
mod webhook;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rquickjs::function::Rest;
use rquickjs::{Ctx, Function, Object, Value};
use tokio::sync::watch;

use super::clock::Clock;
use super::limits::ScriptLimits;
use super::log::{Level, Logger};
use super::metrics::{Metrics, Owner};
use super::registered::Registry;
use super::services::HostServices;
use super::stats::Counters;
use crate::kfl::FilterCache;

pub(crate) use args::{Call, HelperError, HelperResult};
use folder::Folder;
pub(crate) use jobs::{Jobs, Run};
pub(crate) use webhook::Http;

/// What a script's thread is given to build its [`Host`] from, each time it starts.
#[derive(Clone)]
pub(crate) struct HostSetup {
    pub(crate) name: String,
    pub(crate) limits: ScriptLimits,
    pub(crate) services: Arc<HostServices>,
    pub(crate) logger: Arc<Logger>,
    pub(crate) http: Arc<Http>,
    pub(crate) counters: Arc<Counters>,
    /// What scripts publish, and as whom this one does.
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) series: Owner,
    /// Bytes in the script's data folder, whichever version of it wrote them.
    pub(crate) used: Arc<AtomicU64>,
    /// Turns true when the script is to stop: waits end.
    pub(crate) stop: watch::Receiver<bool>,
}

/// The host's side of one runtime.
pub(crate) struct Host {
    setup: HostSetup,
    clock: Rc<Clock>,
    folder: Folder,
    jobs: Jobs,
    registry: Rc<Registry>,
    filters: RefCell<FilterCache>,
}

impl Host {
    pub(crate) fn new(setup: &HostSetup, clock: Rc<Clock>, registry: Rc<Registry>) -> Rc<Self> {
        let services = &setup.services;
        let folder = Folder::new(
            services.data_dir.join(super::source::folder_name(&setup.name)),
            services.store.iter().flat_map(|s| [Some(s.folder()), s.memory_folder()]).flatten().collect(),
            setup.limits.file_quota,
            Arc::clone(&setup.used),
        );
        let filters = RefCell::new(FilterCache::new(setup.limits.filters));
        Rc::new(Self { setup: setup.clone(), clock, folder, jobs: Jobs::default(), registry, filters })
    }

    pub(crate) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    pub(crate) fn services(&self) -> &HostServices {
        &self.setup.services
    }

    fn name(&self) -> &str {
        &self.setup.name
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn limits(&self) -> &ScriptLimits {
        &self.setup.limits
    }

    fn logger(&self) -> &Logger {
        &self.setup.logger
    }
}

/// A helper's body.
type Helper = for<'js> fn(&Host, &Call<'js>) -> HelperResult<'js>;

/// Name in its object, full name for errors, body.
type Member = (&'static str, &'static str, Helper);

/// All helper objects: global name and members; with a dot, the member of the one before it.
const HELPERS: &[(&str, &[Member])] = &[
    ("console", console::MEMBERS),
    ("file", files::MEMBERS),
    ("hash", small::HASH),
    ("hooks", kfl::HOOKS),
    ("jobs", jobs::MEMBERS),
    ("jobs.scheduler", jobs::SCHEDULER),
    ("kfl", kfl::KFL),
    ("pcap", small::PCAP),
    ("prometheus", metric::MEMBERS),
    ("test", small::TEST),
    ("utils", small::UTILS),
    ("vendor", vendor::MEMBERS),
    ("vendor.gcs", vendor_objects::GCS),
    ("vendor.s3", vendor_objects::S3),
];

/// Puts helpers, `env` and its bare globals into a fresh context.
///
/// # Errors
/// When the heap has no room for them.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, host: &Rc<Host>) -> rquickjs::Result<()> {
    let globals = ctx.globals();
    let freeze: Function<'js> = globals.get::<_, Object<'js>>("Object")?.get("freeze")?;
    let object_of = |members: &[Member]| -> rquickjs::Result<Object<'js>> {
        let object = Object::new(ctx.clone())?;
        for &(member, full_name, body) in members {
            object.set(member, function(ctx, host, member, full_name, body)?)?;
        }
        Ok(object)
    };
    for &(object_name, members) in HELPERS.iter().filter(|(name, _)| !name.contains('.')) {
        let object = object_of(members)?;
        for &(name, members) in HELPERS {
            if let Some((_, member)) = name.split_once('.').filter(|(parent, _)| *parent == object_name) {
                let inner = object_of(members)?;
                freeze.call::<_, Value<'js>>((inner.clone(),))?;
                object.set(member, inner)?;
            }
        }
        // The object cannot be changed; the global name can, as any script's own variable may be called `test`.
        freeze.call::<_, Value<'js>>((object.clone(),))?;
        globals.prop(object_name, rquickjs::object::Property::from(object).writable().configurable())?;
    }
    install_env(ctx, host)
}

/// Puts stand-ins for all helpers into a context: whatever is called or read of them does nothing.
pub(crate) fn install_inert(ctx: &Ctx<'_>) -> rquickjs::Result<()> {
    const INERT: &str = r#"(function (names) {
        const inert = new Proxy(function () {}, {
            get: (_, key) => key === Symbol.toPrimitive ? () => "" : inert,
            apply: () => inert,
            construct: () => inert,
        });
        for (const name of names) globalThis[name] = inert;
        globalThis.env = {};
    })"#;
    let names: Vec<&str> = HELPERS.iter().map(|&(name, _)| name).filter(|name| !name.contains('.')).collect();
    ctx.eval::<Function<'_>, _>(INERT)?.call((names,))
}

fn function<'js>(
    ctx: &Ctx<'js>,
    host: &Rc<Host>,
    member: &str,
    full_name: &'static str,
    body: Helper,
) -> rquickjs::Result<Function<'js>> {
    let host = Rc::clone(host);
    let call = move |ctx: Ctx<'js>, args: Rest<Value<'js>>| -> rquickjs::Result<Value<'js>> {
        let call = Call::new(ctx, full_name, args.0, host.limits().argument);
        body(&host, &call).map_err(|error| call.throw(error))
    };
    let function = Function::new(ctx.clone(), call)?.with_name(member)?;
    let freeze: Function<'js> = ctx.globals().get::<_, Object<'js>>("Object")?.get("freeze")?;
    freeze.call::<_, Value<'js>>((function.clone(),))?;
    Ok(function)
}

fn install_env(ctx: &Ctx<'_>, host: &Host) -> rquickjs::Result<()> {
    let globals = ctx.globals();
    let env = Object::new(ctx.clone())?;
    for (key, value) in host.services().env.iter() {
        env.set(key.as_str(), value.as_str())?;
        if key == "env" || globals.contains_key(key.as_str())? {
            host.logger().about(
                Level::Warn,
                &format!("the variable {key} is only to be had as env.{key}: a global of that name exists"),
            );
        } else {
            globals.prop(
                key.as_str(),
                rquickjs::object::Property::from(value.as_str()).writable().configurable().enumerable(),
            )?;
        }
    }
    globals.prop("env", rquickjs::object::Property::from(env).writable().configurable())
}
