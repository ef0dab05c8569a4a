//! What a script is, found without running it on traffic: `remora scripts check`.
//!
//! The text is compiled; then its top level runs with helpers that do nothing and variables that are empty, which is
//! how hooks written as `const onItemCaptured = …` are found. An error of that dry run is a remark, not a failure. Then the
//! text is looked at ([`super::lint`]).

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::engine::{Engine, ScriptKind};
use super::helpers;
use super::limits::ScriptLimits;
use super::lint::{Finding, Linted};
use super::registered;
use super::source::{ScriptFailure, Source, read_text};

/// Stack of the thread that checks: the tree of a text is as deep as the text is nested.
const STACK: usize = 64 << 20;

/// What a script is.
#[derive(Clone, Debug)]
pub struct Outline {
    /// First comment line.
    pub title: Option<String>,
    /// Script or module.
    pub kind: ScriptKind,
    /// Hooks that it defines.
    pub hooks: Vec<&'static str>,
    /// Hooks that it defines and that this version never calls.
    pub uncalled_hooks: Vec<&'static str>,
    /// How many hooks it registers by `hooks.on`.
    pub registered: usize,
    /// What its top level threw in the dry run, if anything; hooks defined after that point are not listed.
    pub remark: Option<String>,
    /// Helpers that it names: `vendor.slack`.
    pub helpers: BTreeSet<String>,
    /// Variables that it takes from the environment.
    pub variables: BTreeSet<String>,
    /// What is wrong with it, or may be; by place.
    pub findings: Vec<Finding>,
}

impl std::fmt::Display for Outline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.title {
            Some(title) => write!(f, "{title:?}: ")?,
            None => f.write_str("(no title: its first line is no comment): ")?,
        }
        match (self.hooks.as_slice(), self.registered) {
            ([], 0) => f.write_str("defines no hook")?,
            ([], _) => {}
            (hooks, _) => write!(f, "defines {}", hooks.join(", "))?,
        }
        if self.registered > 0 {
            let and = if self.hooks.is_empty() { "" } else { ", " };
            write!(f, "{and}registers {} by hooks.on", self.registered)?;
        }
        if !self.uncalled_hooks.is_empty() {
            write!(f, "; this version never calls {}", self.uncalled_hooks.join(", "))?;
        }
        for (what, names) in [("uses", &self.helpers), ("takes", &self.variables)] {
            if !names.is_empty() {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                write!(f, "; {what} {}", names.join(", "))?;
            }
        }
        match &self.remark {
            Some(remark) => write!(f, "; without variables its top level ends in {remark}"),
            None => Ok(()),
        }
    }
}

/// Compiles a script and says what it defines. Nothing is sent, written or read but the script and its modules.
///
/// # Errors
/// When it cannot be read or does not compile.
pub fn check(path: &Path) -> Result<Outline, ScriptFailure> {
    let limits = ScriptLimits::default();
    let source = Source::read(path, limits.source)?;
    let failed = source.failure("it could not be checked: its thread did not end well");
    let thread = std::thread::Builder::new().name("js:check".to_owned()).stack_size(STACK);
    let handle = thread.spawn(move || outline(&source, &limits)).map_err(|_| failed.clone())?;
    handle.join().unwrap_or(Err(failed))
}

fn outline(source: &Source, limits: &ScriptLimits) -> Result<Outline, ScriptFailure> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut known = HashSet::new();
    let (engine, failure) = Engine::try_start(source, limits, &stop, |ctx, _, registry| {
        known = ctx.eval::<Vec<String>, _>("Object.getOwnPropertyNames(globalThis)")?.into_iter().collect();
        helpers::install_inert(ctx)?;
        registered::install_alone(ctx, registry)
    })?;
    let mut linted = Linted::default();
    linted.add(&source.path, &source.text, engine.kind() == ScriptKind::Module, &known);
    for path in source.modules.all().into_keys() {
        if let Ok(text) = read_text(&path, limits.source) {
            linted.add(&path, &text, true, &known);
        }
    }
    Ok(Outline {
        title: source.title(),
        kind: engine.kind(),
        hooks: engine.hooks(),
        uncalled_hooks: engine.uncalled_hooks().to_vec(),
        registered: engine.registry().len(),
        remark: failure.map(|failure| {
            let what = failure.message.strip_prefix("its top level threw ").unwrap_or(&failure.message);
            failure.line.map_or_else(|| what.to_owned(), |line| format!("{what} (line {line})"))
        }),
        helpers: linted.helpers,
        variables: linted.variables,
        findings: linted.findings,
    })
}
