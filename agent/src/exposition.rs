//! Prometheus' text format, version 0.0.4: what `/metrics` answers with.
//!
//! Whoever has something to tell writes families into an [`Exposition`] when it is asked. A family without samples is still
//! announced, so that what is documented is always found.

use std::fmt::{self, Write as _};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, but for a restart; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Nobody knows.
    Untyped,
}

impl Kind {
    /// Prometheus' word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Untyped => "untyped",
        }
    }
}

/// A sample's value. Counts are written digit by digit: they do not lose what a floating-point number cannot hold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    /// A count.
    Count(u64),
    /// Anything else.
    Number(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Count(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Count(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(value) => write!(f, "{value}"),
            Self::Number(f64::INFINITY) => f.write_str("+Inf"),
            Self::Number(f64::NEG_INFINITY) => f.write_str("-Inf"),
            Self::Number(value) => write!(f, "{value}"),
        }
    }
}

/// A text under construction.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// One metric, to which samples are added.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Announces a counter, in its base unit.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Counter)
    }

    /// Announces a gauge, in its base unit.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Gauge)
    }

    /// Announces a metric of that kind.
    pub fn family(&mut self, name: &'static str, help: &str, kind: Kind) -> Family<'_> {
        head(&mut self.text, name, help, kind);
        Family { text: &mut self.text, name }
    }

    /// Adds families that are text already.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The whole.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// A sample without labels.
    pub fn value(&mut self, value: impl Into<Value>) -> &mut Self {
        self.with(&[], value)
    }

    /// A sample with labels: names that are ours, values that may be anything, in a number that is bounded.
    pub fn with(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        let labels: Vec<String> = labels.iter().map(|(name, value)| label(name, value)).collect();
        sample(self.text, self.name, &labels.join(","), value.into());
        self
    }
}

/// The lines before a metric's samples.
pub(crate) fn head(out: &mut String, name: &str, help: &str, kind: Kind) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    // Err: writing to a String does not fail.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
}

/// One line; `labels` without braces.
pub(crate) fn sample(out: &mut String, name: &str, labels: &str, value: Value) {
    // Err: as above.
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

/// One label as it is printed.
pub(crate) fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_announced_and_counts_are_exact() {
        let mut text = Exposition::default();
        text.counter("a_total", "All\nof it").value(u64::MAX).with(&[("b", "x\"y"), ("c", "")], 1_usize);
        text.gauge("d", "").value(f64::INFINITY).with(&[("e", "f")], 0.5).with(&[("e", "g")], true);
        text.gauge("none", "Nothing yet");
        assert_eq!(
            text.into_text(),
            "# HELP a_total All\\nof it\n# TYPE a_total counter\na_total 18446744073709551615\n\
             a_total{b=\"x\\\"y\",c=\"\"} 1\n# HELP d \n# TYPE d gauge\nd +Inf\nd{e=\"f\"} 0.5\nd{e=\"g\"} 1\n\
             # HELP none Nothing yet\n# TYPE none gauge\n"
        );
    }
}
