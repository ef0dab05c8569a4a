//! KFL: filters over items, in CEL (<https://cel.dev>) with the names that Kubeshark's KFL2 and the item itself have.
//!
//! ```text
//! text ─► cel's parser ─► resolve: names become slots ─► predicate: a tree ──► matches(item)
//!                                                            └─ interpret: the rest, by cel's interpreter
//! ```
//!
//! Invariants:
//! - A filter is compiled once, with every name, function and regular expression known, or refused with the place and
//!   what to write. Its text, depth, parts, loops and regular expressions are bounded.
//! - Asking it cannot fail: what an item does not have is an error in CEL's sense, and an error at the end is no match.
//! - It sees of an item what scripts see: redacted values stay redacted.

mod adapt;
mod cache;
mod complain;
mod error;
#[cfg(test)]
mod guide;
mod interpret;
mod names;
mod native;
mod never;
mod predicate;
mod reserved;
mod resolve;
mod slot;
mod source;
#[cfg(test)]
mod tests;
mod value;

use std::time::{SystemTime, UNIX_EPOCH};

use cel::parser::Parser;
use serde_json::Value;

pub use cache::FilterCache;
pub use error::KflError;

use crate::captured::Captured;
use crate::view::ItemView;
use names::Kind;
use native::Native;
use predicate::Predicate;
use resolve::Resolver;
use slot::Slot;
use source::{Plain, Source};
use value::Outcome;

/// Bytes of a filter's text.
pub const LONGEST: usize = 4096;
/// Stack of the thread that parses: a chain of operators is nested as deep as it is long.
const STACK: usize = 64 << 20;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    text: String,
    slots: Vec<Slot>,
    predicate: Predicate,
}

impl Filter {
    /// Compiles a filter. An empty one matches everything.
    ///
    /// # Errors
    /// When it is not CEL, uses a name or function that does not exist, or is larger than the bounds.
    pub fn compile(text: &str) -> Result<Self, KflError> {
        if text.len() > LONGEST {
            let message = format!("the filter is {} bytes long, {LONGEST} are allowed", text.len());
            return Err(KflError::at(text, LONGEST, message));
        }
        if text.trim().is_empty() {
            return Ok(Self { text: text.to_owned(), slots: Vec::new(), predicate: Predicate::Const(true) });
        }
        // A text of that length is parsed within milliseconds, but by recursion.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("kfl".to_owned()).stack_size(STACK);
            let compiling = thread.spawn_scoped(scope, || Self::parse(text));
            let failed =
                |what: &str| KflError::at(text, 0, format!("the filter could not be compiled: {what}"));
            match compiling {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(failed("the parser failed on it"))),
                Err(error) => Err(failed(&format!("no thread: {error}"))),
            }
        })
    }

    /// Whether it asks for what an item is called: the numbers of item or stream.
    #[must_use]
    pub fn asks_for_numbers(&self) -> bool {
        self.slots.iter().any(Slot::is_number)
    }

    fn parse(text: &str) -> Result<Self, KflError> {
        let read = reserved::replaced(text);
        let depth = u16::try_from(resolve::DEPTH).unwrap_or(u16::MAX);
        let parsed =
            Parser::new().max_recursion_depth(depth).error_recovery_limit(4).parse_with_source_info(&read);
        let (expr, info) = parsed.map_err(|errors| syntax(text, &errors))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut resolver = Resolver {
            text,
            info: &info,
            now: i64::try_from(now).unwrap_or(i64::MAX),
            slots: Vec::new(),
            bound: Vec::new(),
            loops: 0,
            nodes: 0,
        };
        let expr = resolver.expr(expr, 0)?;
        let slots = resolver.slots;
        if let Some(kind) = Slot::of(&expr).and_then(|number| slots.get(number)).and_then(Slot::kind)
            && kind != Kind::Bool
        {
            let message = format!(
                "this is a value of type {}, not a condition: compare it with something",
                kind.as_str()
            );
            return Err(KflError::at(text, 0, message));
        }
        let predicate = Predicate::of(&expr, &slots);
        Ok(Self { text: text.to_owned(), slots, predicate })
    }

    /// The filter as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the item, shown by `view`, matches.
    #[must_use]
    pub fn matches(&self, item: &Captured, view: &ItemView) -> bool {
        Native::new(item, view).is_some_and(|item| self.test(&item) == Outcome::True)
    }

    /// Whether an object of the item's shape matches, such as a script holds one.
    #[must_use]
    pub fn matches_plain(&self, item: &Value) -> bool {
        self.test(&Plain(item)) == Outcome::True
    }

    /// Whether a part of it is left to the interpreter, which is slower.
    #[must_use]
    pub fn is_interpreted(&self) -> bool {
        self.predicate.is_interpreted()
    }

    fn test<S: Source + Sync>(&self, source: &S) -> Outcome {
        self.predicate.test(&self.slots, source)
    }
}

/// The parser's first complaint, with what people mean most often.
fn syntax(text: &str, errors: &cel::ParseErrors) -> KflError {
    let Some(first) = errors.errors.first() else { return KflError::at(text, 0, "this is not CEL") };
    let place = |at: isize| usize::try_from(at).unwrap_or(0).max(1);
    let (line, column) = (place(first.pos.0), place(first.pos.1));
    if first.msg.contains("Recursion limit") {
        return KflError::at_place(
            text,
            line,
            column,
            "the filter is nested too deeply: split it, or let the script decide",
        );
    }
    let mut error = KflError::at_place(text, line, column, "");
    let said: String = first.msg.trim_start_matches("Syntax error: ").chars().take(200).collect();
    let said = said.split(" expecting ").next().unwrap_or_default().to_owned();
    let word = said.split('\'').nth(1).unwrap_or_default();
    let hint = match word {
        "and" => "; CEL writes && for and",
        "or" => "; CEL writes || for or",
        "not" => "; CEL writes ! for not",
        "=" => "; CEL compares with ==",
        "&" => "; CEL writes && for and",
        "|" => "; CEL writes || for or",
        "<EOF>" => "; something is missing at the end",
        _ => "",
    };
    error.message = format!("syntax error: {said}{hint}");
    error
}
