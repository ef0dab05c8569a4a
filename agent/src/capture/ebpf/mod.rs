//! Live capture: loads the eBPF programs, attaches them, and hands each worker its ring as a [`PacketSource`].
//!
//! ```text
//!  interface (tcx or clsact) ┐            ┌ ring 0 ─► RingSource ─► worker 0
//!                            ├─ programs ─┤
//!  cgroup (cgroup_skb)       ┘            └ ring n ─► RingSource ─► worker n
//! ```
//! Invariants:
//! - Dropping [`Live`] detaches everything; so does the end of the process, however it ends, but for clsact (before
//!   Linux 6.6), whose filters belong to the interface: those carry a tag, and the next start removes them.
//! - Both directions of a stream come out of the same ring, in the order in which the kernel saw them.
//! - Every packet is accounted for: see [`Balance`].
//! - Interfaces are looked up, and programs attached, in the network namespace of the thread that starts the capture,
//!   also those that come later: a thread of its own stays there (see `watch`).
//!
//! Of a stream between two watched cgroups of one node the client's end is captured, whatever translates addresses between
//! (see `agent_common::ends`); but for loopback addresses, connections older than the capture, and translated source
//! addresses, where both ends are. A packet that is forwarded between two watched interfaces is captured at each. The engine
//! tells the copies apart. A cgroup inside another watched one is left out, and loopback is watched on its way in only,
//! because every packet there goes out and comes in.
//!
//! What Linux 6.18 asks for: `cgroup_skb` links want mode `Single` (a link is one of many by nature; `AllowMultiple`
//! gives `EINVAL`); `CAP_BPF` and `CAP_NET_ADMIN` are enough for both kinds of programs; a map in a map need not be as
//! large as its template if it is a ring.

mod attach;
mod balance;
mod cgroup;
mod clock;
mod clsact;
mod ends;
mod error;
mod filters;
mod identity;
mod interface;
mod loader;
mod memory;
mod netlink;
mod pattern;
mod permission;
mod plan;
mod policy;
pub(crate) mod probe;
mod ring;
mod told;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::packet::Direction;
use aya::maps::MapData;

pub use self::attach::TcHook;
use self::balance::Counters;
pub use self::balance::{Balance, Filtered, RingBalance};
pub use self::cgroup::{mount_point as cgroup2_mount_point, own_cgroup};
pub use self::clsact::{Leftover, leftovers};
pub use self::ends::{OtherEnds, ServerEnd};
pub use self::error::LiveError;
pub use self::filters::Filter;
pub use self::identity::{Hook, Identity, IdentityConfig, IdentityStats};
pub use self::policy::PolicyStats;
pub use self::ring::RingSource;
pub use self::watch::{AttachStats, Change};
use super::WantedPods;
use super::net::Net;

/// What to capture, and with how much memory.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Interfaces, by name or pattern (`veth*`), in the calling thread's network namespace. Those that a pattern takes
    /// in may come later; those that go are attached to again when they come back.
    pub interfaces: Vec<String>,
    /// cgroup v2 folders, by path or pattern (`kubepods.slice/*`), children included: absolute, or relative to where
    /// cgroup2 is mounted. They come and go as interfaces do.
    pub cgroups: Vec<PathBuf>,
    /// Of `cgroups` only those of pods, and of them those that are wanted, while that changes; `None`: all.
    pub pods: Option<Arc<dyn WantedPods>>,
    /// Interfaces and cgroups that are attached to at a time at most.
    pub max_attachments: usize,
    /// Captured if either end has one of these ports; empty: all.
    pub ports: Vec<u16>,
    /// Captured if either end is in one of these nets; empty: all.
    pub nets: Vec<Net>,
    /// Endpoints whose traffic is left out: the agent's own.
    pub exclude: Vec<SocketAddr>,
    /// Of the sockets in `cgroups`, only those in one of these, children included; empty: all.
    pub only_cgroups: Vec<PathBuf>,
    /// Only packets that go this way; `None`: both.
    pub direction: Option<Direction>,
    /// Of a connection between two watched cgroups of this node, capture the client's end only.
    pub one_end: bool,
    /// Let workers have segments cut to their headers (see [`crate::capture::PacketSource::trim`]).
    pub trim: bool,
    /// cgroup v2 id of the agent itself, where it has a cgroup of its own: what its sockets send and get is left out.
    pub own_cgroup: Option<u64>,
    /// Rings, one for each worker: 1 to 256.
    pub workers: u16,
    /// Bytes of each ring, rounded up to a power of two; `None`: 32 MiB, or less where memory is scarce
    /// (a sixteenth of it for all rings together, but at least 1 MiB each).
    pub ring_bytes: Option<usize>,
    /// Bytes of each packet that are captured at most; `None`: 262,144, which no packet exceeds but by BIG TCP.
    pub snap_len: Option<u32>,
    /// How to attach to interfaces.
    pub tc_hook: TcHook,
    /// How processes are named.
    pub identity: IdentityConfig,
    /// What the kernel is taken not to have.
    pub without: Without,
}

/// Features that live capture can do without: each can be left out on a kernel that has it, to see that it can.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Without {
    /// tcx, which came with Linux 6.6: [`TcHook::Auto`] takes clsact.
    pub tcx: bool,
    /// Notifications of interfaces and cgroups that come and go: they are looked for by the clock.
    pub notifications: bool,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            cgroups: Vec::new(),
            pods: None,
            max_attachments: 4096,
            ports: Vec::new(),
            nets: Vec::new(),
            exclude: Vec::new(),
            only_cgroups: Vec::new(),
            direction: None,
            one_end: true,
            trim: true,
            own_cgroup: None,
            workers: 1,
            ring_bytes: None,
            snap_len: None,
            tc_hook: TcHook::Auto,
            identity: IdentityConfig::default(),
            without: Without::default(),
        }
    }
}

impl LiveConfig {
    /// The filter that capture begins with.
    fn filter(&self) -> Filter {
        Filter {
            ports: self.ports.clone(),
            nets: self.nets.clone(),
            exclude: self.exclude.clone(),
            cgroups: self.only_cgroups.clone(),
            direction: self.direction,
        }
    }
}

/// A running capture: owns the programs and their attachments.
pub struct Live {
    watcher: watch::Watcher,
    identity: Option<Identity>,
    counters: Arc<Counters>,
    filters: filters::Filters,
    clients: MapData,
    /// What programs that are loaded later refer to (see `loader::take`).
    _maps: [MapData; 2],
    logger: aya_log::EbpfLogger<&'static dyn log::Log>,
    ended: Arc<AtomicBool>,
    /// The hook for interfaces that was asked for.
    asked: TcHook,
    on_interfaces: bool,
    on_cgroups: bool,
}

/// Removes what killed ones left on interfaces: filters on clsact.
fn clean_up() {
    match leftovers(true) {
        Ok(found) if found.is_empty() => {}
        Ok(found) => {
            let places: Vec<_> =
                found.iter().map(|left| format!("{} {}", left.interface, left.program)).collect();
            tracing::warn!("removed filters that an earlier remora left behind: {}", places.join(", "));
        }
        Err(error) => {
            tracing::warn!(%error, "filters that an earlier remora left behind cannot be looked for");
        }
    }
}

impl Live {
    /// Starts to capture. The sources are as many as `workers`, each for one thread.
    ///
    /// # Errors
    /// When a target does not exist, something is not permitted, or the kernel cannot do it. Nothing stays attached.
    pub fn start(config: &LiveConfig) -> Result<(Self, Vec<RingSource>), LiveError> {
        let plan = plan::Plan::new(config)?;
        permission::check()?;
        memory::lift_memlock_limit();
        memory::lift_file_limit();
        clean_up();
        let mut loaded = loader::load(config, plan.framings())?;
        let ended = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(loaded.counters);
        let seed = loaded.filters.seed();
        let sources = loaded
            .rings
            .into_iter()
            .zip(0..)
            .map(|(ring, index)| {
                let sleepers = loader::sleepers(&loaded.sleepers)?;
                let (counters, ended) = (Arc::clone(&counters), Arc::clone(&ended));
                let policies = loader::policies(&loaded.policies)?;
                let policies = config.trim.then(|| policy::Policies::new(policies, index, seed));
                Ok(RingSource::new(ring, loaded.ring_bytes, index, sleepers, policies, counters, ended))
            })
            .collect::<Result<_, LiveError>>()?;
        let attached = attach::Attached::new(loaded.ebpf, config.tc_hook, config.without);
        let mut identity = None;
        let watcher = watch::Watcher::start(plan, attached, || {
            let started = Identity::start(&config.identity, &config.cgroups, config.max_attachments);
            let (found, follower) = started.unwrap_or_else(|error| {
                tracing::warn!("processes are not named: {error}");
                None
            })?;
            identity = Some(found);
            Some(follower)
        })?;
        loaded.filters.enable()?;
        let live = Self {
            watcher,
            identity,
            counters,
            filters: loaded.filters,
            clients: loaded.clients,
            _maps: [loaded.sleepers, loaded.policies],
            logger: loaded.logger,
            ended,
            asked: config.tc_hook,
            on_interfaces: !config.interfaces.is_empty(),
            on_cgroups: !config.cgroups.is_empty(),
        };
        Ok((live, sources))
    }

    /// What was offered, filtered, captured and dropped so far. Also writes out what the programs logged, so call it
    /// every now and then.
    ///
    /// # Errors
    /// When the kernel does not let the counters be read.
    pub fn balance(&mut self) -> Result<Balance, LiveError> {
        self.logger.flush();
        self.counters.balance()
    }

    /// Where the programs hang now, a line each, in words for a person: `veth0 (tcx, Ethernet)`.
    #[must_use]
    pub fn attachments(&self) -> Vec<String> {
        self.watcher.names()
    }

    /// Who knows the processes at the ends of connections, if anybody does.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// What came and went since the last call. At most 1,024 changes wait; more are counted.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.watcher.changes()
    }

    /// How much is attached to, and was.
    #[must_use]
    pub fn attach_stats(&self) -> AttachStats {
        self.watcher.stats()
    }

    /// How it captures, and why so, in words for a person.
    #[must_use]
    pub fn mode(&self) -> String {
        let mut ways = Vec::new();
        if self.on_interfaces {
            ways.push(match (self.watcher.hook(), self.asked) {
                (TcHook::Tcx, TcHook::Auto) => "tcx on interfaces, which this kernel has",
                (TcHook::Clsact, TcHook::Auto) => {
                    "clsact on interfaces, for this kernel has no tcx (Linux 6.6)"
                }
                (TcHook::Auto, _) => "tcx or clsact on interfaces, once there are any",
                (TcHook::Tcx, _) => "tcx on interfaces, as told",
                (TcHook::Clsact, _) => "clsact on interfaces, as told",
            });
        }
        if self.on_cgroups {
            ways.push("cgroup_skb on cgroups");
        }
        format!("eBPF: {}", ways.join("; "))
    }

    /// Replaces the filter while packets come. A packet that passes the old and the new one is captured all the while. Takes
    /// some milliseconds: returns when no packet is tried by the old one any more.
    ///
    /// # Errors
    /// When a cgroup does not exist, or there are more than 16,384 of a kind. The filter is then what it was.
    pub fn set_filter(&mut self, filter: &Filter) -> Result<(), LiveError> {
        self.filters.set(filter)?;
        let mut ends = self.other_ends()?;
        if filter.cgroups.is_empty() && filter.direction.is_none() {
            ends.keep(|connection| self.filters.passes(connection));
        } else {
            // Whose end still passes is not known here.
            ends.clear();
        }
        Ok(())
    }

    /// A handle by which any thread learns who is at the other end of a connection within this node.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn other_ends(&self) -> Result<OtherEnds, LiveError> {
        loader::clients(&self.clients).map(OtherEnds::new)
    }

    /// Leaves the traffic of one more endpoint out from now on: one of the agent's own sockets.
    ///
    /// # Errors
    /// When 16,384 endpoints are excluded already.
    pub fn exclude(&mut self, endpoint: SocketAddr) -> Result<(), LiveError> {
        self.filters.exclude(endpoint)
    }

    /// Captures the traffic of an excluded endpoint again; nothing if it was not excluded.
    pub fn include(&mut self, endpoint: SocketAddr) {
        self.filters.include(endpoint);
    }

    /// Stops to capture, without detaching: what the rings still hold can be read to the end. Sources end also where this
    /// fails.
    ///
    /// # Errors
    /// When the kernel refuses the setting.
    pub fn stop(&mut self) -> Result<(), LiveError> {
        let disabled = self.filters.disable();
        self.ended.store(true, Ordering::Release);
        disabled
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.logger.flush();
    }
}
