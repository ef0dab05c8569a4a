//! The maps, by the names under which user space finds them.

use agent_common::{
    MAX_RINGS, TEMPLATE_RING,
    config::{
        Endpoint, MAX_CGROUPS, MAX_CLIENTS, MAX_EXCLUDED, MAX_NETS, MAX_OWN, PORT_WORDS, Settings, Sleeper,
    },
    counters::{self, Tally},
    ends::Client,
    policy::{PLACES, Policy},
};
use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};

/// A ring. Its real size is set when user space makes it; this one is only the template of the map in the map.
pub(crate) type Ring = RingBuf<u8, { TEMPLATE_RING as usize }>;

/// One ring per worker, made and put here by user space.
#[btf_map]
pub(crate) static RINGS: ArrayOfMaps<Ring, { MAX_RINGS as usize }> = ArrayOfMaps::new();

/// The settings, in a map in a map: they are replaced as a whole, and user space is told when no program uses the old
/// ones any more.
#[btf_map]
pub(crate) static SETTINGS: ArrayOfMaps<Array<Settings, 1>, 1> = ArrayOfMaps::new();

/// How the reader of each ring sleeps.
#[btf_map]
pub(crate) static SLEEPERS: Array<Sleeper, { MAX_RINGS as usize }> = Array::new();

/// The watched ports, a bit each.
#[btf_map]
pub(crate) static PORTS: Array<u64, { PORT_WORDS as usize }> = Array::new();

/// The watched nets, IPv4 mapped into IPv6.
#[btf_map]
pub(crate) static NETS: LpmTrie<[u8; 16], u32, { MAX_NETS as usize }> = LpmTrie::new();

/// Endpoints whose traffic is left out.
#[btf_map]
pub(crate) static EXCLUDED: HashMap<Endpoint, u32, { MAX_EXCLUDED as usize }> = HashMap::new();

/// Watched cgroups among those that programs are attached to, by id.
#[btf_map]
pub(crate) static CGROUPS: HashMap<u64, u32, { MAX_CGROUPS as usize }> = HashMap::new();

/// Flows that are cut to their headers; user space makes it as large as there are rings.
#[btf_map]
pub(crate) static POLICIES: Array<Policy, { (MAX_RINGS * PLACES) as usize }> = Array::new();

/// Clients of this node; user space makes it small where no cgroup is watched.
#[btf_map]
pub(crate) static CLIENTS: LruHashMap<Endpoint, Client, { MAX_CLIENTS as usize }> = LruHashMap::new();

/// Ends of the agent's own connections, as seen at interfaces.
#[btf_map]
pub(crate) static OWN: LruHashMap<Endpoint, u32, { MAX_OWN as usize }> = LruHashMap::new();

/// By [`counters::HookTally`].
#[btf_map]
pub(crate) static HOOK_TALLIES: PerCpuArray<Tally, { counters::HOOK_TALLIES as usize }> = PerCpuArray::new();

/// By ring and [`counters::RingTally`].
#[btf_map]
pub(crate) static RING_TALLIES: PerCpuArray<Tally, { counters::RING_TALLIES as usize }> = PerCpuArray::new();
