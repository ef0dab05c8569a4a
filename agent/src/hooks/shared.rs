//! Which scripts run: one list that readers take without a lock and that is replaced as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::helpers::Http;
use super::limits::ScriptLimits;
use super::metrics::Metrics;
use super::queue::Backpressure;
use super::running::{Common, Lasting, Running};
use super::services::HostServices;
use super::source::ScriptFailure;
use super::stats::ScriptStats;

/// Scripts that ended and whose counters are kept.
const MOST_GONE: usize = 256;

/// What those who deliver, those who ask and the reloader share.
pub(super) struct Shared {
    pub(super) common: Common,
    running: ArcSwap<Vec<Arc<Running>>>,
    /// The last version of each script that ended.
    gone: Mutex<BTreeMap<String, Arc<Running>>>,
    failures: Mutex<BTreeMap<PathBuf, ScriptFailure>>,
}

impl Shared {
    pub(super) fn new(limits: &ScriptLimits, backpressure: Backpressure, services: HostServices) -> Self {
        let http = Arc::new(Http::new(services.trust.clone()));
        let common = Common {
            limits: limits.clone(),
            backpressure,
            http,
            services: Arc::new(services),
            metrics: Arc::new(Metrics::new(limits.series)),
        };
        Self { common, running: ArcSwap::default(), gone: Mutex::default(), failures: Mutex::default() }
    }

    /// Those that run.
    pub(super) fn running(&self) -> Guard<Arc<Vec<Arc<Running>>>> {
        self.running.load()
    }

    /// The version that runs of a file.
    pub(super) fn find(&self, path: &Path) -> Option<Arc<Running>> {
        self.running().iter().find(|script| script.path == path).cloned()
    }

    /// What lasts of the script of that name: what it has, or had when it ended, or a new one's.
    pub(super) fn lasting(&self, name: &str) -> Lasting {
        let running = self.running().iter().find(|script| script.lasting.name == name).cloned();
        let known = running.or_else(|| self.gone().get(name).cloned());
        known.map_or_else(|| Lasting::new(name, &self.common), |script| script.lasting.clone())
    }

    /// Puts a version in its script's place, or at the end; the version before, if there is one.
    pub(super) fn put(&self, version: Running) -> Option<Arc<Running>> {
        let version = Arc::new(version);
        self.gone().remove(&version.lasting.name);
        let mut list = Vec::clone(&self.running());
        let old = list.iter_mut().find(|script| script.lasting.name == version.lasting.name);
        let old = match old {
            Some(place) => Some(std::mem::replace(place, version)),
            None => {
                list.push(version);
                None
            }
        };
        self.running.store(Arc::new(list));
        old
    }

    /// Takes a file's script out.
    pub(super) fn remove(&self, path: &Path) -> Option<Arc<Running>> {
        let old = self.find(path)?;
        let others = self.running().iter().filter(|script| script.path != path).cloned().collect();
        self.running.store(Arc::new(others));
        self.common.metrics.forget(&old.lasting.name, None);
        let mut gone = self.gone();
        if gone.len() < MOST_GONE {
            gone.insert(old.lasting.name.clone(), Arc::clone(&old));
        }
        Some(old)
    }

    /// Statistics of those that run, then of those that ended.
    pub(super) fn stats(&self) -> Vec<ScriptStats> {
        let running = self.running();
        let gone = self.gone();
        let stats = |script: &Arc<Running>| script.stats(&self.common.metrics);
        let ended = gone.values().map(|script| ScriptStats { running: false, ..stats(script) });
        running.iter().map(stats).chain(ended).collect()
    }

    /// Notes that what is in a file now does not run, or (`None`) that it does, or is gone.
    pub(super) fn failed(&self, path: &Path, failure: Option<&ScriptFailure>) {
        let mut failures = self.failures();
        match failure {
            None => drop(failures.remove(path)),
            Some(failure) if failures.len() < MOST_GONE || failures.contains_key(path) => {
                failures.insert(path.to_owned(), failure.clone());
            }
            Some(_) => {}
        }
    }

    /// Files that do not run as they are now.
    pub(super) fn failures(&self) -> MutexGuard<'_, BTreeMap<PathBuf, ScriptFailure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Running>>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
