//! From the embedded object to maps that are set up: rings made, filters filled, capture still off.

use std::os::fd::AsFd as _;

use agent_common::MAX_RINGS;
use agent_common::config::{Endpoint, MAX_CLIENTS, Sleeper};
use agent_common::ends::Client;
use agent_common::policy::{PLACES, Policy};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, RingBuf};
use aya::{Ebpf, EbpfLoader};

use super::balance::Counters;
use super::error::LiveError;
use super::filters::Filters;
use super::{LiveConfig, memory};

/// `BPF_MAP_TYPE_RINGBUF` of `linux/bpf.h`.
const RINGBUF: u32 = 27;

/// Loaded, set up, not attached.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) rings: Vec<RingBuf<MapData>>,
    pub(super) ring_bytes: u32,
    pub(super) sleepers: MapData,
    pub(super) counters: Counters,
    pub(super) filters: Filters,
    pub(super) policies: MapData,
    pub(super) clients: MapData,
    pub(super) logger: aya_log::EbpfLogger<&'static dyn log::Log>,
}

pub(super) fn load(config: &LiveConfig) -> Result<Loaded, LiveError> {
    let workers = u32::from(config.workers);
    if workers == 0 || workers > MAX_RINGS {
        let value = workers.to_string();
        return Err(LiveError::Setting { what: "workers", value, allowed: "1 to 256" });
    }
    // The programs look at no kernel structure, so the kernel's own BTF, which is slow to read, is not needed.
    let clients = if config.cgroups.is_empty() { 1 } else { MAX_CLIENTS };
    let mut ebpf = EbpfLoader::new()
        .btf(None)
        .map_max_entries("POLICIES", if config.trim { workers * PLACES } else { 1 })
        .map_max_entries("CLIENTS", clients)
        .load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/remora-ebpf")))
        .map_err(|e| LiveError::kernel("loading the eBPF maps", &e))?;
    let ring_bytes = memory::ring_bytes(config.ring_bytes, config.workers);
    let rings = make_rings(&mut ebpf, workers, ring_bytes)?;
    let filters = Filters::new(&mut ebpf, config)?;
    let counters = Counters::new(take(&mut ebpf, "HOOK_TALLIES")?, take(&mut ebpf, "RING_TALLIES")?, workers);
    let Some(Map::Array(sleepers)) = ebpf.take_map("SLEEPERS") else {
        return Err(absent("SLEEPERS"));
    };
    let Some(Map::Array(policies)) = ebpf.take_map("POLICIES") else {
        return Err(absent("POLICIES"));
    };
    let Some(Map::LruHashMap(clients)) = ebpf.take_map("CLIENTS") else {
        return Err(absent("CLIENTS"));
    };
    let logger =
        aya_log::EbpfLogger::init(&mut ebpf).map_err(|e| LiveError::kernel("the programs' log", &e))?;
    Ok(Loaded { ebpf, rings, ring_bytes, sleepers, counters, filters, policies, clients, logger })
}

/// Borrows a map by name. It stays where it is: until the programs are loaded, their instructions hold the number of
/// its descriptor, which must not be closed, let alone be another map's by then.
fn borrow<'a, T: TryFrom<&'a mut Map, Error = MapError>>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<T, LiveError> {
    ebpf.map_mut(name).ok_or_else(|| absent(name))?.try_into().map_err(|e| LiveError::map(name, &e))
}

/// Takes a map out by name, for those that are kept at least until the programs are loaded.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T, LiveError> {
    ebpf.take_map(name).ok_or_else(|| absent(name))?.try_into().map_err(|e| LiveError::map(name, &e))
}

fn absent(name: &str) -> LiveError {
    LiveError::Kernel { what: format!("map {name}"), cause: String::from("not in the embedded object") }
}

fn make_rings(ebpf: &mut Ebpf, count: u32, bytes: u32) -> Result<Vec<RingBuf<MapData>>, LiveError> {
    let mut outer: ArrayOfMaps<&mut MapData, RingBuf<MapData>> = borrow(ebpf, "RINGS")?;
    (0..count)
        .map(|index| {
            let fail = |e| LiveError::map(&format!("ring of {bytes} bytes"), &e);
            let definition = aya_obj::Map::new_from_params(RINGBUF, 0, 0, bytes, 0);
            let data = MapData::create(definition, &format!("ring_{index}"), None).map_err(fail)?;
            let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(fail)?;
            outer.set(index, &ring, 0).map_err(fail)?;
            Ok(ring)
        })
        .collect()
}

/// A map through a handle of one's own, for another thread.
pub(super) fn handle(map: &MapData, name: &str) -> Result<MapData, LiveError> {
    let fd =
        map.fd().as_fd().try_clone_to_owned().map_err(|e| LiveError::kernel("a map's descriptor", &e))?;
    MapData::from_fd(fd).map_err(|e| LiveError::map(name, &e))
}

/// [`Sleeper`]s through a handle of one's own.
pub(super) fn sleepers(map: &MapData) -> Result<Array<MapData, Sleeper>, LiveError> {
    let map = handle(map, "SLEEPERS")?;
    Array::try_from(Map::Array(map)).map_err(|e| LiveError::map("SLEEPERS", &e))
}

/// [`Policy`]s through a handle of one's own.
pub(super) fn policies(map: &MapData) -> Result<Array<MapData, Policy>, LiveError> {
    let map = handle(map, "POLICIES")?;
    Array::try_from(Map::Array(map)).map_err(|e| LiveError::map("POLICIES", &e))
}

/// What is remembered of clients, through a handle of one's own.
pub(super) fn clients(map: &MapData) -> Result<HashMap<MapData, Endpoint, Client>, LiveError> {
    let map = handle(map, "CLIENTS")?;
    HashMap::try_from(Map::LruHashMap(map)).map_err(|e| LiveError::map("CLIENTS", &e))
}
