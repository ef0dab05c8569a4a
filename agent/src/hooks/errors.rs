//! What a script threw, in words; and the table that logs each error once and counts its repeats.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rquickjs::convert::Coerced;
use rquickjs::{CaughtError, Ctx, Error, Object, Value};

use super::log::split_at_char;
use super::raw;
use super::source::Place;

/// Longest message kept of one error, in bytes.
const LONGEST_MESSAGE: usize = 4 << 10;

/// Something that a script threw.
#[derive(Clone, Debug)]
pub(crate) struct Thrown {
    /// `TypeError: cannot read property 'status' of null`, or the value thrown.
    pub(crate) message: String,
    /// QuickJS's stack, a frame a line; empty where there is none.
    pub(crate) stack: String,
}

impl Thrown {
    /// Takes the pending exception, or the error that rquickjs found itself. May run the script's own getters: call it
    /// while the clock is armed.
    pub(crate) fn take(ctx: &Ctx<'_>, error: Error) -> Self {
        let thrown = match CaughtError::from_error(ctx, error) {
            CaughtError::Error(error) => Self::plain(error.to_string()),
            CaughtError::Exception(exception) => Self::of_error(exception.as_object()),
            CaughtError::Value(value) => Self::of_value(ctx, &value),
        };
        // A getter that threw must not leave its exception behind.
        drop(ctx.catch());
        thrown
    }

    /// Describes a value that was thrown or that a promise was rejected with.
    pub(crate) fn of_value<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Self {
        match value.as_object() {
            Some(object) if value.is_error() => Self::of_error(object),
            _ => Self::plain(display(ctx, value)),
        }
    }

    pub(crate) fn plain(message: impl Into<String>) -> Self {
        let message = message.into();
        let message = match split_at_char(&message, LONGEST_MESSAGE) {
            (_, 0) => message,
            (head, cut) => format!("{head}… ({cut} more bytes)"),
        };
        Self { message, stack: String::new() }
    }

    fn of_error(error: &Object<'_>) -> Self {
        let name = property(error, "name").unwrap_or_else(|| "Error".to_owned());
        let message = property(error, "message").unwrap_or_default();
        let message = if message.is_empty() { name } else { format!("{name}: {message}") };
        Self { stack: property(error, "stack").unwrap_or_default(), ..Self::plain(message) }
    }

    /// Where it was thrown.
    pub(crate) fn place(&self) -> Option<Place> {
        Place::first_in(&self.stack)
    }

    /// Whether QuickJS's own check of the stack threw it.
    pub(crate) fn is_stack_overflow(&self) -> bool {
        self.message.ends_with("Maximum call stack size exceeded")
            || self.message.ends_with(": stack overflow")
    }

    /// The message, and the stack on the same line, innermost frame first.
    pub(crate) fn one_line(&self) -> String {
        let frames: Vec<&str> = self
            .stack
            .lines()
            .map(|frame| frame.trim().trim_start_matches("at "))
            .filter(|f| !f.is_empty())
            .collect();
        if frames.is_empty() {
            self.message.clone()
        } else {
            format!("{} at {}", self.message, frames.join(" < "))
        }
    }
}

fn property(object: &Object<'_>, key: &str) -> Option<String> {
    let value: Value<'_> = object.get(key).ok()?;
    match value.as_string() {
        Some(string) => raw::text(string).ok(),
        None if value.is_undefined() || value.is_null() => None,
        None => value.get::<Coerced<String>>().ok().map(|text| text.0),
    }
}

/// A value as `console.log` and error messages show it: text as is, errors with their stack, objects as JSON.
pub(crate) fn display<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    if let Some(string) = value.as_string() {
        return raw::text(string).unwrap_or_else(|_| "(text too large)".to_owned());
    }
    if value.is_error()
        && let Some(object) = value.as_object()
    {
        return Thrown::of_error(object).one_line();
    }
    if value.is_function() {
        let name = value.as_object().and_then(|object| property(object, "name")).unwrap_or_default();
        return format!("[function {name}]");
    }
    if value.is_object()
        && let Some(json) =
            ctx.json_stringify(value.clone()).ok().flatten().and_then(|json| raw::text(&json).ok())
    {
        return json;
    }
    drop(ctx.catch());
    if value.is_object() {
        return "[object that has no JSON form]".to_owned();
    }
    if value.is_symbol() {
        return "[symbol]".to_owned();
    }
    value.get::<Coerced<String>>().map_or_else(|_| "[value]".to_owned(), |text| text.0)
}

/// Repeats of one error.
#[derive(Debug)]
struct Repeats {
    total: u64,
    told: u64,
}

/// Errors of one script, by place and message. Bounded: past the bound new ones are only counted.
#[derive(Debug)]
pub(crate) struct ErrorTable {
    known: HashMap<String, Repeats>,
    limit: usize,
    interval: Duration,
    next: Instant,
    others: Repeats,
}

impl ErrorTable {
    pub(crate) fn new(limit: usize, interval: Duration) -> Self {
        Self {
            known: HashMap::new(),
            limit,
            interval,
            next: Instant::now() + interval,
            others: Repeats { total: 0, told: 0 },
        }
    }

    /// Counts an error; `true` when it is the first of its kind and is to be logged in full.
    pub(crate) fn record(&mut self, key: &str) -> bool {
        if let Some(repeats) = self.known.get_mut(key) {
            repeats.total += 1;
            return false;
        }
        if self.known.len() >= self.limit {
            self.others.total += 1;
            return false;
        }
        self.known.insert(key.to_owned(), Repeats { total: 1, told: 1 });
        true
    }

    /// When [`ErrorTable::repeats`] is due.
    pub(crate) fn due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// A line for each error that was repeated since the last call.
    pub(crate) fn repeats(&mut self, now: Instant) -> Vec<String> {
        self.next = now + self.interval;
        let mut lines: Vec<String> = self.known.iter_mut().filter_map(|(key, r)| r.line(key)).collect();
        lines.sort();
        lines.extend(self.others.line(&format!("errors beyond the {} told apart", self.limit)));
        lines
    }
}

impl Repeats {
    fn line(&mut self, what: &str) -> Option<String> {
        let new = self.total - self.told;
        self.told = self.total;
        (new > 0).then(|| format!("{what} (again {new} times, {} in all)", self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once_and_its_repeats_are_summed() {
        let mut table = ErrorTable::new(2, Duration::from_secs(60));
        assert!(table.record("a") && !table.record("a") && !table.record("a"));
        assert!(table.record("b"));
        for n in 0..5 {
            assert!(!table.record(&format!("c{n}")), "the table is full");
        }
        let now = Instant::now();
        assert_eq!(
            table.repeats(now),
            ["a (again 2 times, 3 in all)", "errors beyond the 2 told apart (again 5 times, 5 in all)"]
        );
        assert!(table.repeats(now).is_empty(), "nothing new, nothing said");
        assert!(!table.due(now) && table.due(now + Duration::from_secs(61)));
    }

    #[test]
    fn a_long_message_is_cut() {
        let thrown = Thrown::plain("x".repeat(LONGEST_MESSAGE + 7));
        assert!(thrown.message.ends_with("… (7 more bytes)"));
    }
}
