//! Live capture: loads the eBPF programs, attaches them, and hands each worker its ring as a [`PacketSource`].
//!
//! ```text
//!  interface (tcx or clsact) ┐            ┌ ring 0 ─► RingSource ─► worker 0
//!                            ├─ programs ─┤
//!  cgroup (cgroup_skb)       ┘            └ ring n ─► RingSource ─► worker n
//! ```
//! Invariants:
//! - Dropping [`Live`] detaches everything; so does the end of the process, however it ends, but for clsact (before
//!   Linux 6.6), whose filters belong to the interface.
//! - Both directions of a stream come out of the same ring, in the order in which the kernel saw them.
//! - Every packet is accounted for: see [`Balance`].
//! - Interfaces are looked up, and programs attached, in the calling thread's network namespace.
//!
//! A packet is captured once for each hook point that it passes: a stream between two watched cgroups of one node, or
//! one that is forwarded between two watched interfaces, is seen twice. A cgroup inside another watched one is left
//! out, and loopback is watched on its way in only, because every packet there goes out and comes in.
//!
//! What Linux 6.18 asks for: `cgroup_skb` links want mode `Single` (a link is one of many by nature; `AllowMultiple`
//! gives `EINVAL`); `CAP_BPF` and `CAP_NET_ADMIN` are enough for both kinds of programs; a map in a map need not be as
//! large as its template if it is a ring.

mod attach;
mod balance;
mod cgroup;
mod clock;
mod error;
mod identity;
mod interface;
mod loader;
mod memory;
mod permission;
pub(crate) mod probe;
mod ring;
mod target;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_common::config::Endpoint;
use aya::maps::{HashMap, MapData};

pub use self::attach::TcHook;
use self::balance::Counters;
pub use self::balance::{Balance, Filtered, RingBalance};
pub use self::cgroup::mount_point as cgroup2_mount_point;
pub use self::error::LiveError;
pub use self::identity::{Hook, Identity, IdentityConfig, IdentityStats};
pub use self::ring::RingSource;
use super::net::Net;

/// What to capture, and with how much memory.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Interfaces, by name, in the calling thread's network namespace.
    pub interfaces: Vec<String>,
    /// cgroup v2 folders, children included: absolute, or relative to where cgroup2 is mounted.
    pub cgroups: Vec<PathBuf>,
    /// Captured if either end has one of these ports; empty: all.
    pub ports: Vec<u16>,
    /// Captured if either end is in one of these nets; empty: all.
    pub nets: Vec<Net>,
    /// Endpoints whose traffic is left out: the agent's own.
    pub exclude: Vec<SocketAddr>,
    /// cgroup v2 id of the agent itself, where it has a cgroup of its own: its sockets are left out in cgroup mode.
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
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            cgroups: Vec::new(),
            ports: Vec::new(),
            nets: Vec::new(),
            exclude: Vec::new(),
            own_cgroup: None,
            workers: 1,
            ring_bytes: None,
            snap_len: None,
            tc_hook: TcHook::Auto,
            identity: IdentityConfig::default(),
        }
    }
}

/// A running capture: owns the programs and their attachments.
pub struct Live {
    attached: attach::Attached,
    identity: Option<Identity>,
    counters: Arc<Counters>,
    settings: loader::SettingsMap,
    excluded: HashMap<MapData, Endpoint, u32>,
    logger: aya_log::EbpfLogger<&'static dyn log::Log>,
    ended: Arc<AtomicBool>,
}

impl Live {
    /// Starts to capture. The sources are as many as `workers`, each for one thread.
    ///
    /// # Errors
    /// When a target does not exist, something is not permitted, or the kernel cannot do it. Nothing stays attached.
    pub fn start(config: &LiveConfig) -> Result<(Self, Vec<RingSource>), LiveError> {
        let plan = attach::Plan::new(config)?;
        permission::check()?;
        memory::lift_memlock_limit();
        let mut loaded = loader::load(config)?;
        let ended = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(loaded.counters);
        let sources = loaded
            .rings
            .into_iter()
            .zip(0..)
            .map(|(ring, index)| {
                let sleepers = loader::sleepers(&loaded.sleepers)?;
                let (counters, ended) = (Arc::clone(&counters), Arc::clone(&ended));
                Ok(RingSource::new(ring, loaded.ring_bytes, index, sleepers, counters, ended))
            })
            .collect::<Result<_, LiveError>>()?;
        let attached = attach::Attached::new(loaded.ebpf, plan, config.tc_hook)?;
        let identity = Identity::start(&config.identity, &config.cgroups).unwrap_or_else(|error| {
            tracing::warn!("processes are not named: {error}");
            None
        });
        loaded.settings.enable()?;
        let live = Self {
            attached,
            identity,
            counters,
            settings: loaded.settings,
            excluded: loaded.excluded,
            logger: loaded.logger,
            ended,
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

    /// Where the programs hang, a line each, in words for a person: `veth0 (tcx, Ethernet)`.
    #[must_use]
    pub fn attachments(&self) -> &[String] {
        self.attached.names()
    }

    /// Who knows the processes at the ends of connections, if anybody does.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Names of the interfaces and cgroups that have gone since the last look. To be called in the network namespace
    /// that the capture was started in.
    pub fn vanished(&mut self) -> Vec<String> {
        self.attached.targets().iter_mut().filter_map(|target| target.look().map(str::to_owned)).collect()
    }

    /// Whether nothing is left that packets could come from, as the last look found.
    #[must_use]
    pub fn is_bereft(&mut self) -> bool {
        self.attached.targets().iter().all(target::Target::is_gone)
    }

    /// Leaves the traffic of one more endpoint out from now on: one of the agent's own sockets.
    ///
    /// # Errors
    /// When 16,384 endpoints are excluded already.
    pub fn exclude(&mut self, endpoint: SocketAddr) -> Result<(), LiveError> {
        self.excluded.insert(loader::endpoint(endpoint), 1, 0).map_err(|e| LiveError::map("EXCLUDED", &e))?;
        self.settings.filter_excluded()
    }

    /// Captures the traffic of an excluded endpoint again; nothing if it was not excluded.
    pub fn include(&mut self, endpoint: SocketAddr) {
        // Not there: fine.
        let _ = self.excluded.remove(&loader::endpoint(endpoint));
    }

    /// Stops to capture, without detaching: what the rings still hold can be read to the end.
    ///
    /// # Errors
    /// When the kernel refuses the setting.
    pub fn stop(&mut self) -> Result<(), LiveError> {
        self.settings.disable()?;
        self.ended.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.logger.flush();
    }
}
