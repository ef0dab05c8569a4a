//! What a daemon does beside capturing: it follows its configuration, and is served by HTTP.
//!
//! Invariants: a configuration with an error changes nothing; what is in force is what the log said last; nothing here
//! waits for anything but a small file.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use agent_core::packet::Direction;
use serde_norway::Value;

use super::agent;
use super::presence::Presence;
use crate::api::{Bound, Registry};
use crate::capture::net::Net;
use crate::config;
use crate::view::Redaction;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Keys that change while capture runs, with those below them.
const CHANGEABLE: [&str; 5] =
    ["capture.ports", "capture.nets", "capture.exclude", "capture.direction", "redaction"];

/// Its parts, each where it was asked for; by default none.
#[derive(Default)]
pub(super) struct Daemon {
    pub(super) reload: Option<Reload>,
    /// Addresses that are ours, until they are served.
    pub(super) bound: Vec<Bound>,
    /// In the data folder, if there is one.
    pub(super) presence: Option<Presence>,
}

impl Daemon {
    /// Capture has begun then.
    pub(super) fn begin(&mut self, at: SystemTime, registry: &Registry) {
        let Some(gap) = self.presence.as_mut().and_then(|presence| presence.begin(at)) else { return };
        registry.add_metrics(move |to| {
            to.gauge("remora_capture_gap_seconds", "Time without capture between the last run and this one.")
                .value(gap.as_secs_f64());
        });
    }

    /// Capture is about to end.
    pub(super) fn end(&mut self) {
        if let Some(presence) = &mut self.presence {
            presence.end();
        }
    }

    /// Capture goes on. The kernel's filter that is wanted from now on, if that is news: [`Daemon::done`] must be told what came
    /// of it.
    pub(super) fn look(&mut self) -> Option<Wanted> {
        if let Some(presence) = &mut self.presence {
            presence.keep();
        }
        self.reload.as_mut()?.look()
    }

    /// What came of [`Daemon::look`].
    pub(super) fn done(&mut self, result: anyhow::Result<()>) {
        if let Some(reload) = &mut self.reload {
            reload.done(result);
        }
    }
}

/// The part of the kernel's filter that changes while capture runs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Wanted {
    pub(super) ports: Vec<u16>,
    pub(super) nets: Vec<Net>,
    pub(super) exclude: Vec<SocketAddr>,
    pub(super) direction: Option<Direction>,
    /// Whether the direction is another than before.
    pub(super) direction_changed: bool,
}

/// A configuration file that is followed.
pub(super) struct Reload {
    path: PathBuf,
    /// Set at a SIGHUP.
    told: Arc<AtomicBool>,
    looked: Instant,
    seen: Option<Stamp>,
    /// As it was at the start: what needs a restart is in force so.
    started: Value,
    redaction: Redaction,
    redacted: config::Redaction,
    filter: Wanted,
    /// What is being applied.
    next: Option<Wanted>,
}

/// What tells one state of a file from another.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let of = std::fs::metadata(path).ok()?;
        let changed = (of.mtime(), of.mtime_nsec());
        Some(Self { device: of.dev(), inode: of.ino(), size: of.size(), changed })
    }
}

impl Reload {
    /// Follows `path`, of which `read` and `filter` are in force; `seen`: before it was read.
    pub(super) fn new(
        path: &Path,
        told: Arc<AtomicBool>,
        read: config::Read,
        seen: Option<Stamp>,
        redaction: Redaction,
        filter: Wanted,
    ) -> Self {
        Self {
            path: path.to_owned(),
            told,
            looked: Instant::now(),
            seen,
            started: read.yaml,
            redaction,
            redacted: read.file.redaction,
            filter,
            next: None,
        }
    }

    fn look(&mut self) -> Option<Wanted> {
        let told = self.told.swap(false, Ordering::AcqRel);
        if !told && self.looked.elapsed() < LOOK {
            return None;
        }
        self.looked = Instant::now();
        let stamp = Stamp::of(&self.path);
        // One that is away for a moment is being replaced.
        if !told && (stamp.is_none() || stamp == self.seen) {
            return None;
        }
        self.seen = stamp;
        match agent::checked(&self.path) {
            Ok(checked) => self.take(checked),
            Err(error) => {
                tracing::error!("the configuration was read again, and nothing changed: {error}");
                None
            }
        }
    }

    fn take(&mut self, checked: agent::Checked) -> Option<Wanted> {
        let config::Read { file, yaml } = checked.read;
        let fixed = config::differences(&self.started, &yaml);
        let changeable = |key: &String| CHANGEABLE.iter().any(|of| is_or_below(key, of));
        let fixed: Vec<_> = fixed.into_iter().filter(|key| !changeable(key)).collect();
        if !fixed.is_empty() {
            tracing::warn!(
                "the configuration was read again: {} needs a restart to change",
                fixed.join(", ")
            );
        }
        let redacts = file.redaction != self.redacted;
        if redacts {
            self.redaction.replace(&checked.settings.redaction);
            self.redacted = file.redaction;
            tracing::info!("the configuration was read again: redaction has changed");
        }
        let mut wanted = checked.filter;
        if wanted == self.filter {
            if fixed.is_empty() && !redacts {
                tracing::info!("the configuration was read again: nothing is new");
            }
            return None;
        }
        self.next = Some(wanted.clone());
        wanted.direction_changed = wanted.direction != self.filter.direction;
        Some(wanted)
    }

    fn done(&mut self, result: anyhow::Result<()>) {
        let Some(next) = self.next.take() else { return };
        match result {
            Ok(()) => {
                self.filter = next;
                tracing::info!("the configuration was read again: the kernel's filter has changed");
            }
            Err(error) => tracing::error!("the kernel's filter could not be changed: {error:#}"),
        }
    }
}

fn is_or_below(key: &str, of: &str) -> bool {
    key.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
