//! What a script is, found without running it on traffic: `remora scripts check`.
//!
//! The text is compiled; then its top level runs with helpers that do nothing and variables that are empty, which is
//! how hooks written as `const onItemCaptured = …` are found. An error of that dry run is a remark, not a failure.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::engine::{Engine, ScriptKind};
use super::helpers;
use super::limits::ScriptLimits;
use super::registered;
use super::source::{ScriptFailure, Source};

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
    let stack = limits.stack + ScriptLimits::NATIVE_STACK;
    let failed = source.failure("it could not be checked: its thread did not end well");
    let thread = std::thread::Builder::new().name("js:check".to_owned()).stack_size(stack);
    let handle = thread.spawn(move || outline(&source, &limits)).map_err(|_| failed.clone())?;
    handle.join().unwrap_or(Err(failed))
}

fn outline(source: &Source, limits: &ScriptLimits) -> Result<Outline, ScriptFailure> {
    let stop = Arc::new(AtomicBool::new(false));
    let (engine, failure) = Engine::try_start(source, limits, &stop, |ctx, _, registry| {
        helpers::install_inert(ctx)?;
        registered::install_alone(ctx, registry)
    })?;
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
    })
}
