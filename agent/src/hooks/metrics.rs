//! What scripts publish by `prometheus.metric`.
//!
//! A value is what the script said last, counters too: that is how Kubeshark's helper works. Every series carries a label
//! `script`, so that scripts cannot overwrite each other's. Bounded for each script ([`Metrics::new`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use crate::exposition::Kind;
use crate::exposition::{head, label, sample};

/// Bytes of a name, of a help text, of a label's value; labels of a series.
const LONGEST_NAME: usize = 200;
const LONGEST_HELP: usize = 1000;
const LONGEST_VALUE: usize = 500;
const MOST_LABELS: usize = 16;
/// What names begin with that are the agent's own.
const RESERVED: [&str; 2] = ["remora_", "process_"];

/// Whose series: a script, and which version of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) script: String,
    pub(crate) version: u64,
}

/// Why a value was refused.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) argument: &'static str,
    pub(crate) cause: String,
}

fn refused(argument: &'static str, cause: impl Into<String>) -> Refused {
    Refused { argument, cause: cause.into() }
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: String,
    /// By labels as they are printed, the script's own among them.
    series: BTreeMap<String, (f64, Owner)>,
}

#[derive(Debug, Default)]
struct State {
    families: BTreeMap<String, Family>,
    /// Series of each script, and how many more it wanted.
    scripts: BTreeMap<String, (usize, u64)>,
}

/// The registry of all scripts.
#[derive(Debug)]
pub(crate) struct Metrics {
    state: Mutex<State>,
    most: usize,
}

impl Metrics {
    /// A registry of at most `most` series for each script.
    pub(crate) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), most }
    }

    /// Sets one value.
    ///
    /// # Errors
    /// When a name is no name of Prometheus, something is too long, the metric exists with another type, or the script
    /// has its number of series already.
    pub(crate) fn set(
        &self,
        owner: &Owner,
        name: &str,
        help: &str,
        kind: Kind,
        value: f64,
        labels: Vec<(String, String)>,
    ) -> Result<(), Refused> {
        check_name(name)?;
        if help.len() > LONGEST_HELP {
            return Err(refused("help", format!("is longer than {LONGEST_HELP} bytes")));
        }
        let labels = printed(&owner.script, labels)?;
        let mut state = self.lock();
        let State { families, scripts } = &mut *state;
        let (count, refusals) = scripts.entry(owner.script.clone()).or_default();
        if let Some(family) = families.get_mut(name) {
            if family.kind != kind {
                let cause = format!("{name} is a {} already", family.kind.as_str());
                return Err(refused("type", cause));
            }
            if let Some(series) = family.series.get_mut(&labels) {
                *series = (value, owner.clone());
                return Ok(());
            }
        }
        if *count >= self.most {
            *refusals += 1;
            let cause = format!("the script has {} series already, the most it may have", self.most);
            return Err(refused("labels", cause));
        }
        *count += 1;
        let family = families.entry(name.to_owned()).or_insert_with(|| Family {
            kind,
            help: help.to_owned(),
            series: BTreeMap::new(),
        });
        family.series.insert(labels, (value, owner.clone()));
        Ok(())
    }

    /// Drops what versions of a script before this one published; all of it with `None`.
    pub(crate) fn forget(&self, script: &str, before: Option<u64>) {
        let mut state = self.lock();
        let keeps = |owner: &Owner| owner.script != script || before.is_some_and(|v| owner.version >= v);
        let mut left = 0;
        state.families.retain(|_, family| {
            family.series.retain(|_, (_, owner)| keeps(owner));
            left += family.series.values().filter(|(_, owner)| owner.script == script).count();
            !family.series.is_empty()
        });
        match state.scripts.get_mut(script) {
            Some((count, _)) if before.is_some() => *count = left,
            _ => drop(state.scripts.remove(script)),
        }
    }

    /// Series of a script, and how many it was refused.
    pub(crate) fn counts(&self, script: &str) -> (usize, u64) {
        self.lock().scripts.get(script).copied().unwrap_or_default()
    }

    /// All of it in Prometheus' text format, version 0.0.4.
    pub(crate) fn render(&self, out: &mut String) {
        for (name, family) in &self.lock().families {
            head(out, name, &family.help, family.kind);
            for (labels, (value, _)) in &family.series {
                sample(out, name, labels, (*value).into());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_name(name: &str) -> Result<(), Refused> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
        let shown: String = name.chars().take(40).collect();
        return Err(refused(
            "name",
            format!(
                "{shown:?} is no metric's name: letters, digits, '_' and ':' are allowed, and no digit first"
            ),
        ));
    }
    if name.len() > LONGEST_NAME {
        return Err(refused("name", format!("is longer than {LONGEST_NAME} bytes")));
    }
    if let Some(own) = RESERVED.iter().find(|own| name.starts_with(**own)) {
        return Err(refused("name", format!("names that begin with {own} are the agent's own")));
    }
    Ok(())
}

/// All labels in order, the script's first.
fn printed(script: &str, mut labels: Vec<(String, String)>) -> Result<String, Refused> {
    if labels.len() > MOST_LABELS {
        return Err(refused("labels", format!("has more than {MOST_LABELS} entries")));
    }
    labels.sort();
    let mut text = label("script", script);
    for (name, value) in &labels {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts = name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("__");
        let shown: String = name.chars().take(40).collect();
        if name.is_empty() || starts || name.len() > LONGEST_NAME || !name.chars().all(word) {
            return Err(refused("labels", format!("{shown:?} is no label's name")));
        }
        if name == "script" {
            return Err(refused("labels", "the label script is set by the agent: the script's name"));
        }
        if value.len() > LONGEST_VALUE {
            return Err(refused("labels", format!("{shown}: is longer than {LONGEST_VALUE} bytes")));
        }
        text.push(',');
        text.push_str(&label(name, value));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(script: &str, version: u64) -> Owner {
        Owner { script: script.to_owned(), version }
    }

    #[test]
    fn the_text_is_prometheus_own() {
        let metrics = Metrics::new(10);
        let labels = vec![("path".to_owned(), "/a\"b\\\n".to_owned()), ("code".to_owned(), "500".to_owned())];
        let a = owner("a.js", 1);
        metrics.set(&a, "requests_total", "Requests\nby \\path", Kind::Counter, 3.0, labels).unwrap();
        metrics.set(&a, "load", "", Kind::Gauge, -0.5, Vec::new()).unwrap();
        metrics.set(&owner("b.js", 1), "load", "other", Kind::Gauge, f64::INFINITY, Vec::new()).unwrap();
        metrics.set(&a, "load", "", Kind::Gauge, 2.0, Vec::new()).unwrap();
        let mut text = String::new();
        metrics.render(&mut text);
        assert_eq!(
            text,
            "# HELP load \n# TYPE load gauge\nload{script=\"a.js\"} 2\nload{script=\"b.js\"} +Inf\n\
             # HELP requests_total Requests\\nby \\\\path\n# TYPE requests_total counter\n\
             requests_total{script=\"a.js\",code=\"500\",path=\"/a\\\"b\\\\\\n\"} 3\n"
        );
    }

    #[test]
    fn series_are_bounded_and_go_with_their_script() {
        let metrics = Metrics::new(2);
        let set = |owner: &Owner, name: &str| metrics.set(owner, name, "", Kind::Gauge, 1.0, Vec::new());
        let (old, new) = (owner("a.js", 1), owner("a.js", 2));
        assert!(set(&old, "one").is_ok() && set(&old, "two").is_ok());
        assert!(set(&old, "three").unwrap_err().cause.contains("2 series already"));
        assert!(set(&owner("b.js", 1), "three").is_ok(), "others have room of their own");
        assert_eq!(metrics.counts("a.js"), (2, 1));
        assert!(set(&new, "two").is_ok(), "what is there can be set");
        metrics.forget("a.js", Some(2));
        assert_eq!(metrics.counts("a.js"), (1, 1), "what the old version alone published is gone");
        assert!(set(&new, "four").is_ok());
        metrics.forget("a.js", None);
        assert_eq!((metrics.counts("a.js"), metrics.counts("b.js")), ((0, 0), (1, 0)));
    }
}
