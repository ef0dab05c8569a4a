//! What can be said of a script from its text alone: helpers and hooks that do not exist, arguments that cannot be right,
//! filters and cron patterns that are none.
//!
//! Invariants: a script that runs well is never called wrong; what only may be wrong is a warning. A name that the script
//! itself declares is never taken for a helper's.

mod arguments;
mod globals;
mod text;
mod types;
mod visit;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use oxc::allocator::Allocator;
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;

pub use types::DECLARATIONS;

use text::Positions;
use types::Types;
use visit::Look;

/// How sure it is that something is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// It may be meant that way.
    Warning,
    /// It cannot work.
    Error,
}

impl Severity {
    /// `error`, `warning`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that was found. Displayed as `PATH:LINE:COLUMN: error: message`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file as it was named, or the module of it.
    pub path: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what may have been meant.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, line, column, severity, message } = self;
        write!(f, "{}:{line}:{column}: {}: {message}", path.display(), severity.as_str())
    }
}

/// What a text uses and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Linted {
    pub(super) findings: Vec<Finding>,
    /// Helpers that it names, `vendor.slack`.
    pub(super) helpers: BTreeSet<String>,
    /// Variables that it takes from `--env`.
    pub(super) variables: BTreeSet<String>,
}

impl Linted {
    /// Looks at a file's text, which QuickJS has compiled as what `is_module` says. `known`: JavaScript's own globals.
    pub(super) fn add(&mut self, path: &Path, text: &str, is_module: bool, known: &HashSet<String>) {
        let types = Types::read();
        let allocator = Allocator::default();
        let source_type = if is_module { SourceType::mjs() } else { SourceType::script() };
        let parsed = Parser::new(&allocator, text, source_type).parse();
        if parsed.panicked || !parsed.diagnostics.is_empty() {
            // QuickJS takes it: then it is right, and only not to be looked at.
            return;
        }
        let built = SemanticBuilder::new_compiler().with_build_nodes(true).build(&parsed.program);
        let mut look = Look::new(&types, &built.semantic, known, is_module);
        look.all();
        let positions = Positions::new(text);
        for (at, severity, message) in std::mem::take(&mut look.found) {
            let (line, column) = positions.of(at);
            self.findings.push(Finding { path: path.to_owned(), line, column, severity, message });
        }
        self.helpers.append(&mut look.helpers);
        self.variables.append(&mut look.variables);
        self.findings.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
    }
}

/// What the types say of a helper's parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Declared {
    /// `vendor.slack`.
    pub helper: String,
    /// Names of the parameters, the rest parameter not among them.
    pub params: Vec<String>,
    /// How many of them must be given.
    pub required: usize,
    /// Whether more may be given.
    pub rest: bool,
}

/// All helpers of [`DECLARATIONS`], and the names of its hooks.
#[must_use]
pub fn declared() -> (Vec<Declared>, Vec<String>) {
    let types = Types::read();
    let mut helpers = Vec::new();
    let mut left: Vec<(String, &types::Type)> =
        types.globals.iter().map(|(name, of)| (name.clone(), of)).collect();
    while let Some((path, of)) = left.pop() {
        if let Some(signature) = &of.signature {
            let params = signature.params.iter().map(|(name, _)| name.clone()).collect();
            let (required, rest) = (signature.required, signature.rest);
            helpers.push(Declared { helper: path.clone(), params, required, rest });
        }
        let members = of.members.iter().flatten();
        left.extend(members.map(|(name, of)| (format!("{path}.{name}"), of)));
    }
    helpers.sort_by(|a, b| a.helper.cmp(&b.helper));
    (helpers, types.hooks.into_keys().collect())
}

/// Whether it is written as hooks are: `on` and a capital.
fn is_hook_name(name: &str) -> bool {
    name.strip_prefix("on").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// Of the names the one that is meant most likely, if any is near.
fn nearest<'n>(name: &str, among: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let lower = name.to_lowercase();
    let near = |other: &&str| {
        let distance = strsim::damerau_levenshtein(&lower, &other.to_lowercase());
        (distance <= (name.chars().count() / 3).clamp(1, 4)).then_some(distance)
    };
    let named = among.into_iter().filter_map(|other| near(&other).map(|distance| (distance, other)));
    named.min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

/// `; did you mean …?`, or what there is.
fn suggestion(name: &str, among: &[&str]) -> String {
    match nearest(name, among.iter().copied()) {
        Some(near) => format!("; did you mean {near}?"),
        None if among.len() <= 12 => format!("; it has {}", among.join(", ")),
        None => String::new(),
    }
}
