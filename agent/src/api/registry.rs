//! What others have to say at `/metrics`, `/healthz` and `/readyz`, each by a closure of its own.
//!
//! A part that has something to say is given the registry by `cli` and adds its closures once; they are asked anew for each
//! request, by a thread that may block, and read nothing but counters: they wait for no disk and no network.

use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use serde::Serialize;

use crate::exposition::Exposition;

type Source = Box<dyn Fn(&mut Exposition) + Send + Sync>;
type Ask = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// Metrics and checks.
#[derive(Default)]
pub struct Registry {
    sources: RwLock<Vec<Source>>,
    alive: RwLock<Vec<Check>>,
    ready: RwLock<Vec<Check>>,
}

struct Check {
    name: &'static str,
    ask: Ask,
}

/// What checks came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verdict {
    /// Nobody had a reason against it.
    pub ok: bool,
    /// Who had.
    pub reasons: Vec<Reason>,
}

/// Why it is not so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reason {
    /// Which part says so.
    pub check: &'static str,
    /// Why, with what to do where that is known.
    pub reason: String,
}

impl Registry {
    /// Adds metrics. `source` announces the same families each time, whether there is anything in them or not; their names
    /// begin with `remora_` and stand in docs/api.md.
    pub fn add_metrics(&self, source: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.sources.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Adds a check to `/readyz`: `ask` gives the reasons for which work cannot be done just now, for a person.
    pub fn add_ready(&self, name: &'static str, ask: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        let check = Check { name, ask: Box::new(ask) };
        self.ready.write().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    /// Adds a check to `/healthz`, and to `/readyz` with it: reasons that only a restart can mend.
    pub fn add_alive(&self, name: &'static str, ask: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        let check = Check { name, ask: Box::new(ask) };
        self.alive.write().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    /// Everything that is measured, as text.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut all = Exposition::default();
        for source in &*read(&self.sources) {
            source(&mut all);
        }
        all.into_text()
    }

    /// Whether it is alive.
    #[must_use]
    pub fn alive(&self) -> Verdict {
        verdict(read(&self.alive).iter())
    }

    /// Whether it does what it is for.
    #[must_use]
    pub fn ready(&self) -> Verdict {
        verdict(read(&self.alive).iter().chain(read(&self.ready).iter()))
    }
}

fn read<T>(list: &RwLock<Vec<T>>) -> RwLockReadGuard<'_, Vec<T>> {
    list.read().unwrap_or_else(PoisonError::into_inner)
}

fn verdict<'a>(checks: impl Iterator<Item = &'a Check>) -> Verdict {
    let asked = checks.flat_map(|check| {
        let reasons = (check.ask)();
        reasons.into_iter().map(|reason| Reason { check: check.name, reason })
    });
    let reasons: Vec<Reason> = asked.collect();
    Verdict { ok: reasons.is_empty(), reasons }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks: Vec<_> = read(&self.ready).iter().map(|check| check.name).collect();
        f.debug_struct("Registry").field("ready", &checks).finish_non_exhaustive()
    }
}

impl Verdict {
    /// In lines: a word, then each reason.
    #[must_use]
    pub fn text(&self, good: &str, bad: &str) -> String {
        let head = if self.ok { good } else { bad };
        self.reasons.iter().fold(format!("{head}\n"), |mut text, Reason { check, reason }| {
            text.push_str(&format!("{check}: {reason}\n"));
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn checks_are_asked_anew_and_what_kills_is_not_ready_either() {
        let registry = Registry::default();
        assert!(registry.ready().ok && registry.alive().ok);
        let full = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&full);
        registry.add_ready("store", move || {
            if asked.load(Ordering::Relaxed) { vec!["the disk is full".to_owned()] } else { Vec::new() }
        });
        assert!(registry.alive().ok);
        assert_eq!(registry.ready().text("ready", "not ready"), "not ready\nstore: the disk is full\n");
        full.store(false, Ordering::Relaxed);
        assert_eq!(registry.ready().text("ready", "not ready"), "ready\n");
        registry.add_alive("workers", || vec!["worker 3 hangs".to_owned()]);
        assert_eq!(registry.ready().reasons, registry.alive().reasons);
    }

    #[test]
    fn metrics_are_put_together() {
        let registry = Registry::default();
        registry.add_metrics(|to| {
            to.counter("remora_a_total", "A.").value(1_u64);
        });
        registry.add_metrics(|to| to.raw("b 2\n"));
        assert_eq!(
            registry.metrics(),
            "# HELP remora_a_total A.\n# TYPE remora_a_total counter\nremora_a_total 1\nb 2\n"
        );
    }
}
