//! What a daemon does beside capturing: it follows its configuration, and is served by HTTP.
//!
//! Invariants: a configuration with an error changes nothing; what is in force is what the log said last; nothing here
//! waits for anything but a small file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use agent_core::packet::Direction;
use serde_norway::Value;

use super::agent;
use super::kubernetes::Kubernetes;
use super::presence::Presence;
use super::settings::Settings;
use crate::api::{Bound, Registry};
use crate::capture::net::Net;
use crate::config;
use crate::kube::Targets;
use crate::view::Redaction;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often pods' addresses are, where they are in the kernel's filter, whose change costs some milliseconds.
const LOOK_FOR_PODS: Duration = Duration::from_millis(500);

/// Keys that change while capture runs, with those below them.
const CHANGEABLE: [&str; 6] =
    ["capture.ports", "capture.nets", "capture.exclude", "capture.direction", "redaction", "targets"];

/// Its parts, each where it was asked for; by default none.
#[derive(Default)]
pub(super) struct Daemon {
    pub(super) reload: Option<Reload>,
    /// Targets, where they are addresses.
    pub(super) pods: Option<PodNets>,
    /// Addresses that are ours, until they are served.
    pub(super) bound: Vec<Bound>,
    /// In the data folder, if there is one.
    pub(super) presence: Option<Presence>,
}

impl Daemon {
    /// Capture has begun then.
    pub(super) fn begin(&mut self, at: SystemTime, registry: &Registry) {
        let gap = self.presence.as_mut().and_then(|presence| presence.begin(at));
        registry.add_metrics(move |to| {
            let mut gauge = to.gauge(
                "remora_capture_gap_seconds",
                "Time without capture between the last run in this data folder and this one, if there was one.",
            );
            if let Some(gap) = gap {
                gauge.value(gap.as_secs_f64());
            }
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
        let reloaded = self.reload.as_mut().and_then(Reload::look);
        match &mut self.pods {
            Some(pods) => pods.look(reloaded),
            None => reloaded,
        }
    }

    /// The networks to begin with: those of the targets, where they are addresses.
    pub(super) fn nets(&self, configured: Vec<Net>) -> Vec<Net> {
        self.pods.as_ref().map_or(configured, |pods| pods.now.clone())
    }

    /// What came of [`Daemon::look`].
    pub(super) fn done(&mut self, result: anyhow::Result<()>) {
        if let Some(pods) = &mut self.pods {
            pods.done(result.as_ref().err());
        }
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

/// Pods that come and go, as networks of the kernel's filter.
pub(super) struct PodNets {
    ips: Box<dyn Fn() -> Vec<IpAddr>>,
    /// The rest of the filter.
    filter: Wanted,
    /// That before, while another one is being applied.
    before: Option<Wanted>,
    /// Empty: not what they should be.
    now: Vec<Net>,
    looked: Instant,
    /// Why they could not be set, as the log said.
    failed: Option<String>,
}

impl PodNets {
    /// `None` if all pods are wanted.
    pub(super) fn new(kubernetes: Arc<Kubernetes>, filter: Wanted) -> Option<Self> {
        let now = pod_nets(&kubernetes.wanted_ips()?);
        let ips = Box::new(move || kubernetes.wanted_ips().unwrap_or_default());
        Some(Self { ips, filter, before: None, now, looked: Instant::now(), failed: None })
    }

    fn look(&mut self, reloaded: Option<Wanted>) -> Option<Wanted> {
        let is_reloaded = reloaded.is_some();
        if let Some(filter) = reloaded {
            self.before = Some(std::mem::replace(&mut self.filter, filter));
        }
        if !is_reloaded && self.looked.elapsed() < LOOK_FOR_PODS {
            return None;
        }
        self.looked = Instant::now();
        let nets = pod_nets(&(self.ips)());
        if !is_reloaded && nets == self.now {
            return None;
        }
        self.now.clone_from(&nets);
        Some(Wanted { nets, ..self.filter.clone() })
    }

    /// What came of it. Addresses that could not be set are tried again, and the log says so once.
    fn done(&mut self, error: Option<&anyhow::Error>) {
        let before = self.before.take();
        let Some(error) = error else {
            self.failed = None;
            return;
        };
        self.filter = before.unwrap_or_else(|| std::mem::take(&mut self.filter));
        self.now.clear();
        let why = format!("{error:#}");
        if self.failed.as_ref() != Some(&why) {
            tracing::error!(
                "the addresses of the targets' pods could not be set in the kernel's filter, which is tried again: {why}"
            );
        }
        self.failed = Some(why);
    }
}

fn pod_nets(ips: &[IpAddr]) -> Vec<Net> {
    if ips.is_empty() {
        // No networks would mean all; nobody sends from this address, nor to it.
        return vec![Net::host(IpAddr::V4(Ipv4Addr::UNSPECIFIED))];
    }
    ips.iter().copied().map(Net::host).collect()
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
    targets: Targets,
    kubernetes: Option<Arc<Kubernetes>>,
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
        settings: &Settings,
        filter: Wanted,
    ) -> Self {
        Self {
            path: path.to_owned(),
            told,
            looked: Instant::now(),
            seen,
            started: read.yaml,
            redaction: settings.redaction.clone(),
            targets: read.file.targets.whole(),
            kubernetes: settings.kubernetes.clone(),
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
        let mut fixed: Vec<_> = fixed.into_iter().filter(|key| !changeable(key)).collect();
        let targets = file.targets.whole();
        let retargets = targets != self.targets;
        if retargets {
            let taken = self.kubernetes.as_ref().map(|kubernetes| kubernetes.retarget(targets.clone()));
            match taken {
                Some(Ok(())) => {
                    tracing::info!("the configuration was read again: targets have changed");
                    self.targets = targets;
                }
                Some(Err(which)) => fixed.push(format!("targets ({which})")),
                None => fixed.push(String::from("targets")),
            }
        }
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
            if fixed.is_empty() && !redacts && !retargets {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_pods_that_could_not_be_set_are_tried_again() {
        let ip: IpAddr = "10.1.0.1".parse().unwrap();
        let pods = PodNets {
            ips: Box::new(move || vec![ip]),
            filter: Wanted { ports: vec![80], ..Wanted::default() },
            before: None,
            now: Vec::new(),
            looked: Instant::now(),
            failed: None,
        };
        let mut daemon = Daemon { pods: Some(pods), ..Daemon::default() };
        let mut look = |result| {
            let long_ago = Instant::now().checked_sub(LOOK_FOR_PODS).unwrap();
            daemon.pods.as_mut().unwrap().looked = long_ago;
            let wanted = daemon.look();
            daemon.done(result);
            wanted.map(|wanted| (wanted.ports, wanted.nets))
        };
        let wanted = Some((vec![80], vec![Net::host(ip)]));
        assert_eq!(look(Err(anyhow::anyhow!("no memory"))), wanted);
        assert_eq!(look(Ok(())), wanted);
        assert_eq!(look(Ok(())), None, "nothing is new");
    }
}
