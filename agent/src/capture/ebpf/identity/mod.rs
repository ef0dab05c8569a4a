//! Which process is at which end of a connection, told by the sockets' own life.
//!
//! ```text
//! programs at the watched cgroups ─► maps: ends → process ◄─┐
//! /proc, once: sockets that are older ──────────────────────┼─ Lookup ◄─ a worker, once for each stream
//! the watched cgroups' folders: id → path, container ───────┘
//! ```
//! All of it follows the watched cgroups as they come and go (see `follow`).
//!
//! Invariants:
//! - Nothing of this is needed to capture: what the kernel or the permissions do not allow is left out, and said.
//! - A process that is not at that end is never named; what is not sure is left out.
//! - Programs hang at the watched cgroups only, by links that go with the process. The tracepoint, which is only taken
//!   where `sock_ops` is not to be had, sees all the machine's sockets and keeps those of watched cgroups.

mod cgroups;
mod follow;
mod hooks;
mod lookup;
mod older;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};

use agent_common::identity::{CONNECTIONS, TALLIES, Tally};
use aya::maps::{HashMap, Map, MapData, PerCpuArray};

use self::cgroups::Watcher;
use self::follow::Counts;
pub(super) use self::follow::Follower;
pub use self::hooks::Hook;
use self::lookup::Lookup;
use self::older::{Bounds, Older};
use super::cgroup::{self, Cgroup, Wanted};
use super::error::LiveError;
use crate::doctor::Check;
use crate::process::{Processes, proc};

/// How processes are to be named.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Whether at all.
    pub enabled: bool,
    /// cgroups whose processes are named, by path or pattern, beside those that are captured from: for capture from
    /// interfaces.
    pub cgroups: Vec<PathBuf>,
    /// Hooks that are not attached.
    pub without: Vec<Hook>,
    /// Connections that are remembered at once: 1 to 16,777,216. One takes 320 bytes of the kernel's memory, and up to
    /// 352 if the number is no power of two; all of it is taken at start.
    pub connections: u32,
    /// Whether /proc is read for sockets that are older than the programs at their cgroup.
    pub older: bool,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            cgroups: Vec::new(),
            without: Vec::new(),
            connections: CONNECTIONS,
            older: true,
        }
    }
}

/// What the programs counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdentityStats {
    /// Connections remembered.
    pub opened: u64,
    /// Of those: accepted by a process that was seen to.
    pub accepted: u64,
    /// Of the opened: seen to end.
    pub closed: u64,
    /// Refused by a map.
    pub refused: u64,
    /// Displaced by newer ones before they ended.
    pub displaced: u64,
    /// Sockets that the kernel had no memory to keep anything with.
    pub no_storage: u64,
    /// Older sockets that are known, of cgroups that are watched now.
    pub older: u64,
    /// cgroups that the programs hang at now.
    pub cgroups: u64,
    /// cgroups that came after the start, and that the programs were attached to.
    pub cgroups_came: u64,
    /// cgroups that went, or were taken over by one around them.
    pub cgroups_went: u64,
    /// cgroups that could not be attached to, and those that there was no room for among the known paths.
    pub cgroups_refused: u64,
}

/// What the programs found out. They are attached for as long as the [`Follower`] is there.
pub struct Identity {
    hooks: Vec<Hook>,
    left_out: Vec<(Hook, String)>,
    lookup: Arc<Lookup>,
    counts: Arc<Counts>,
    tallies: PerCpuArray<MapData, u64>,
}

impl Identity {
    /// Attaches to `watched` and to the configuration's own cgroups, `limit` of them at most; `None` if there are none,
    /// or it is switched off.
    ///
    /// # Errors
    /// When a cgroup does not exist, or the kernel makes not even the maps.
    pub(super) fn start(
        config: &IdentityConfig,
        watched: &[PathBuf],
        limit: usize,
    ) -> Result<Option<(Self, Follower)>, LiveError> {
        if !config.enabled {
            return Ok(None);
        }
        let paths: Vec<PathBuf> = watched.iter().chain(&config.cgroups).cloned().collect();
        let Some(wanted) = Wanted::new(&paths)? else { return Ok(None) };
        if !(1..=1 << 24).contains(&config.connections) {
            return Err(LiveError::Setting {
                what: "connections to remember",
                value: config.connections.to_string(),
                allowed: "1 to 16777216",
            });
        }
        let there = wanted.find().into_iter().take(limit);
        let cgroups: Vec<Cgroup> = there.filter_map(|path| wanted.open(&path).ok()).collect();
        let mut ebpf = hooks::load(config.connections)?;
        let connections = take(&mut ebpf, "CONNECTIONS")?;
        let peers = take(&mut ebpf, "PEERS")?;
        let Some(Map::PerCpuArray(tallies)) = ebpf.take_map("TALLIES") else { return Err(absent("TALLIES")) };
        let tallies =
            PerCpuArray::try_from(Map::PerCpuArray(tallies)).map_err(|e| LiveError::map("TALLIES", &e))?;
        let attached = hooks::Attached::new(ebpf, &cgroups, &config.without)?;
        let proc = proc::is_of_the_machine();
        let older = config.older && proc;
        // After the programs, so that no connection falls between.
        let found = if older {
            Older::read(cgroups.iter().map(|cgroup| cgroup.path.as_path()), Bounds::default())
        } else {
            Older::default()
        };
        let lookup = Arc::new(Lookup {
            connections,
            peers,
            older: RwLock::new(found),
            cgroups: watcher(&cgroups),
            proc,
            processes: Mutex::default(),
        });
        let counts = Arc::new(Counts::default());
        counts.now.store(cgroups.len() as u64, Ordering::Relaxed);
        let identity = Self {
            hooks: attached.hooks.clone(),
            left_out: attached.left_out.clone(),
            lookup: Arc::clone(&lookup),
            counts: Arc::clone(&counts),
            tallies,
        };
        identity.say(attached.unnamed);
        let follower = Follower { attached, wanted, lookup, counts, limit, older, refused: BTreeSet::new() };
        Ok(Some((identity, follower)))
    }

    /// What it has become, in the log.
    fn say(&self, unnamed: bool) {
        let hooks: Vec<_> = self.hooks().iter().map(|hook| hook.as_str()).collect();
        if hooks.is_empty() {
            tracing::warn!("processes are not named: no hook could be attached");
        } else {
            tracing::info!("processes are named by {}", hooks.join(", "));
        }
        for (hook, why) in self.left_out() {
            tracing::info!("processes are named without {}: {why}", hook.as_str());
        }
        if unnamed {
            tracing::info!(
                "processes that are gone by the time they are looked up have an id, and no name: CAP_PERFMON is missing"
            );
        }
        if !self.lookup.proc {
            tracing::info!(
                "processes are named without /proc: it is of another pid namespace (hostPID); sockets that are older \
                 than this run stay without a name"
            );
        }
        let forbidden = self.lookup.older().forbidden;
        if forbidden > 0 {
            tracing::warn!(
                "sockets of {forbidden} processes that are older than this run stay without a name: to read which \
                 they have, CAP_SYS_PTRACE is missing"
            );
        }
        if self.lookup.older().left_out > 0 {
            tracing::warn!(
                "some processes' sockets that are older than this run stay without a name: too many"
            );
        }
    }

    /// Who answers workers.
    #[must_use]
    pub fn processes(&self) -> Arc<dyn Processes> {
        Arc::clone(&self.lookup) as Arc<dyn Processes>
    }

    /// The hooks that are attached.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The hooks that are not, and why.
    #[must_use]
    pub fn left_out(&self) -> &[(Hook, String)] {
        &self.left_out
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// When the kernel does not let the counters be read.
    pub fn stats(&self) -> Result<IdentityStats, LiveError> {
        let mut sums = [0_u64; TALLIES as usize];
        for (index, sum) in (0..).zip(&mut sums) {
            let values = self.tallies.get(&index, 0).map_err(|e| LiveError::map("TALLIES", &e))?;
            *sum = values.iter().sum();
        }
        let of = |tally: Tally| sums[tally as usize];
        Ok(IdentityStats {
            opened: of(Tally::Opened),
            accepted: of(Tally::Accepted),
            closed: of(Tally::Closed),
            refused: of(Tally::Refused),
            displaced: of(Tally::Displaced),
            no_storage: of(Tally::NoStorage),
            older: self.lookup.older().len() as u64,
            cgroups: self.counts.now.load(Ordering::Relaxed),
            cgroups_came: self.counts.came.load(Ordering::Relaxed),
            cgroups_went: self.counts.went.load(Ordering::Relaxed),
            cgroups_refused: self.counts.refused.load(Ordering::Relaxed)
                + self.lookup.cgroups.as_ref().map_or(0, |watcher| watcher.cgroups.refused()),
        })
    }
}

/// The thread that knows cgroups' paths; without it items have no container ids.
fn watcher(cgroups: &[Cgroup]) -> Option<Watcher> {
    let roots: Vec<PathBuf> = cgroups.iter().map(|cgroup| cgroup.path.clone()).collect();
    match Watcher::start(cgroup::mount_point()?, &roots) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!("containers are not named: watching cgroups: {error}");
            None
        }
    }
}

fn take<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut aya::Ebpf,
    name: &str,
) -> Result<HashMap<MapData, K, V>, LiveError> {
    let map = ebpf.take_map(name).ok_or_else(|| absent(name))?;
    map.try_into().map_err(|e| LiveError::map(name, &e))
}

fn absent(name: &str) -> LiveError {
    LiveError::Kernel { what: format!("map {name}"), cause: String::from("not in the embedded object") }
}

/// What `remora doctor` says of it.
pub(super) fn check() -> Check {
    const WHAT: &str = "process names";
    let trial = match hooks::try_all() {
        Ok(trial) => trial,
        Err(error) => {
            return Check::limited(WHAT, error.to_string(), "Linux 5.8 or later, CAP_BPF and CAP_NET_ADMIN");
        }
    };
    // It only stands in for sock_ops.
    let sock_ops = trial.refused.iter().all(|(hook, _)| *hook != Hook::Connections);
    let missing: Vec<_> = trial
        .refused
        .iter()
        .filter(|(hook, _)| *hook != Hook::States || !sock_ops)
        .map(|(hook, error)| format!("{}: {error}", hook.as_str()))
        .collect();
    if !missing.is_empty() {
        let mend =
            "Linux 5.9 or later, CAP_BPF and CAP_NET_ADMIN; for inet_sock_set_state CAP_PERFMON and tracefs";
        return Check::limited(WHAT, missing.join("; "), mend);
    }
    if trial.unnamed {
        return Check::limited(
            WHAT,
            "the kernel tells of sockets' processes, but not their names: one that is gone by the time it is looked up \
             stays without",
            "CAP_PERFMON",
        );
    }
    if !proc::is_of_the_machine() {
        return Check::limited(
            WHAT,
            "the kernel tells of sockets' processes, but /proc is of another pid namespace: sockets older than the \
             agent stay without a name",
            "run in the machine's pid namespace (hostPID in Kubernetes)",
        );
    }
    Check::ok(WHAT, "sockets tell their processes, and /proc those of older sockets")
}
