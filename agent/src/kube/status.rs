//! How it stands with the API server: for the log, for readiness and for metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The same trouble is told again after so long.
const AGAIN: Duration = Duration::from_secs(300);

/// What is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Watched {
    Pods,
    Services,
    Slices,
}

impl Watched {
    pub(super) const ALL: [Self; 3] = [Self::Pods, Self::Services, Self::Slices];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods of this node",
            Self::Services => "services",
            Self::Slices => "endpointslices",
        }
    }
}

#[derive(Clone, Default)]
struct One {
    /// Whether a list of it was ever complete.
    known: bool,
    /// What is wrong now, since when, and when it was told.
    trouble: Option<(String, Instant, Instant)>,
}

/// How often what happened.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) events: AtomicU64,
    pub(super) lists: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) broken: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) lookups: AtomicU64,
    pub(super) lookups_found: AtomicU64,
    pub(super) lookups_nobody: AtomicU64,
    pub(super) lookups_failed: AtomicU64,
    pub(super) lookups_refused: AtomicU64,
    pub(super) lookups_cached: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) struct Status {
    each: Mutex<[One; 3]>,
    known: watch::Sender<bool>,
    pub(super) counters: Counters,
}

/// How it stands: what readiness is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Everything is known and followed.
    Good,
    /// What was not yet complete, or is not followed now, and why.
    Wanting(Vec<String>),
}

impl Standing {
    /// Whether everything is known and followed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        *self == Self::Good
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("the Kubernetes API is followed"),
            Self::Wanting(what) => write!(f, "the Kubernetes API: {}", what.join("; ")),
        }
    }
}

impl Status {
    pub(super) fn new() -> Self {
        Self { each: Mutex::default(), known: watch::Sender::new(false), counters: Counters::default() }
    }

    pub(super) fn listing(&self, _: Watched) {
        Counters::add(&self.counters.lists);
    }

    /// It is followed.
    pub(super) fn there(&self, what: Watched) {
        let mut each = self.each();
        let one = &mut each[what as usize];
        if let Some((_, since, _)) = one.trouble.take() {
            let (what, time) = (what.as_str(), since.elapsed());
            tracing::info!("Kubernetes: {what} are followed again, after {:.0} s", time.as_secs_f64());
        }
        if !one.known {
            one.known = true;
            if each.iter().all(|one| one.known) {
                self.known.send_replace(true);
            }
        }
    }

    /// The server answers a request to watch it.
    pub(super) fn answered(&self, what: Watched) {
        if self.is_known(what) {
            self.there(what);
        }
    }

    /// Its connection has broken.
    pub(super) fn broke(&self, what: Watched) {
        Counters::add(&self.counters.broken);
        tracing::debug!("Kubernetes: the connection for {} broke", what.as_str());
    }

    /// Something went wrong, and will be tried again.
    pub(super) fn failed(&self, what: Watched, why: &str) {
        Counters::add(&self.counters.errors);
        let mut each = self.each();
        let one = &mut each[what as usize];
        let now = Instant::now();
        let (since, is_old) = match &one.trouble {
            Some((known, since, told)) => (*since, known == why && now.duration_since(*told) < AGAIN),
            None => (now, false),
        };
        if is_old {
            return;
        }
        one.trouble = Some((why.to_owned(), since, now));
        let what = what.as_str();
        tracing::warn!("Kubernetes: {what} cannot be followed, and are tried again: {why}");
    }

    /// Once everything was known once.
    pub(super) fn known(&self) -> watch::Receiver<bool> {
        self.known.subscribe()
    }

    pub(super) fn is_all_known(&self) -> bool {
        *self.known.borrow()
    }

    fn is_known(&self, what: Watched) -> bool {
        self.each()[what as usize].known
    }

    pub(super) fn standing(&self) -> Standing {
        let each = self.each();
        let wanting: Vec<String> = Watched::ALL
            .into_iter()
            .zip(each.iter())
            .filter_map(|(what, one)| match (&one.trouble, one.known) {
                (Some((why, since, _)), _) => {
                    let time = since.elapsed().as_secs();
                    Some(format!("{} for {time} s: {why}", what.as_str()))
                }
                (None, false) => Some(format!("{} are being listed", what.as_str())),
                (None, true) => None,
            })
            .collect();
        if wanting.is_empty() { Standing::Good } else { Standing::Wanting(wanting) }
    }

    fn each(&self) -> MutexGuard<'_, [One; 3]> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
