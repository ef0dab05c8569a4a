//! From the embedded object to programs that are loaded and maps that are set up: rings made, filters filled, capture
//! still off.
//!
//! What takes the kernel long is done side by side, or not at all: it verifies a program for some 40 ms, so those for kinds
//! of interfaces that are not there wait until one comes; it clears every page of the rings; and where a map takes in another, it
//! waits until no program can be using what was there before.

use std::os::fd::AsFd as _;
use std::thread::{Scope, ScopedJoinHandle};

use agent_common::MAX_RINGS;
use agent_common::config::{Endpoint, MAX_CLIENTS, Sleeper};
use agent_common::ends::Client;
use agent_common::policy::{PLACES, Policy};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, RingBuf};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};

use super::attach::ways;
use super::balance::Counters;
use super::error::LiveError;
use super::filters::Filters;
use super::interface::Framing;
use super::{LiveConfig, memory};

/// `BPF_MAP_TYPE_RINGBUF` of `linux/bpf.h`.
const RINGBUF: u32 = 27;

type Rings = Vec<RingBuf<MapData>>;

/// Loaded, set up, not attached.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) rings: Rings,
    pub(super) ring_bytes: u32,
    pub(super) sleepers: MapData,
    pub(super) counters: Counters,
    pub(super) filters: Filters,
    pub(super) policies: MapData,
    pub(super) clients: MapData,
    pub(super) logger: aya_log::EbpfLogger<&'static dyn log::Log>,
}

/// With the programs for interfaces of these kinds.
pub(super) fn load(config: &LiveConfig, framings: &[Framing]) -> Result<Loaded, LiveError> {
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
    let Some(Map::ArrayOfMaps(outer)) = ebpf.map("RINGS") else {
        return Err(absent("RINGS"));
    };
    let outer = handle(outer, "RINGS")?;
    let rings = std::thread::scope(|scope| {
        let rings = thread(scope, || make_rings(&outer, workers, ring_bytes))?;
        // Before any map is taken out: the instructions name maps by descriptor.
        let programs = load_programs(&mut ebpf, config, framings);
        let rings = join(rings);
        programs.and(rings)
    })?;
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

/// Takes a map out by name. It has to be kept open as long as a program may still be loaded: the instructions hold the
/// number of its descriptor, which must not be closed, let alone be another map's by then.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T, LiveError> {
    ebpf.take_map(name).ok_or_else(|| absent(name))?.try_into().map_err(|e| LiveError::map(name, &e))
}

fn absent(name: &str) -> LiveError {
    LiveError::Kernel { what: format!("map {name}"), cause: String::from("not in the embedded object") }
}

/// Starts a thread. There may be none left: a container's pids are limited.
fn thread<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> Result<T, LiveError> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T, LiveError>>, LiveError> {
    let builder = std::thread::Builder::new().name(String::from("ebpf-load"));
    builder.spawn_scoped(scope, work).map_err(|e| LiveError::kernel("starting a thread", &e))
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T, LiveError>>) -> Result<T, LiveError> {
    let panicked = |_| LiveError::Kernel {
        what: String::from("loading the eBPF programs"),
        cause: String::from("a thread has panicked: please report it"),
    };
    thread.join().map_err(panicked)?
}

/// Loads the programs for interfaces of these kinds, or for cgroups, or both, attaching none.
fn load_programs(ebpf: &mut Ebpf, config: &LiveConfig, framings: &[Framing]) -> Result<(), LiveError> {
    let for_interfaces: Vec<&str> = framings.iter().flat_map(|&f| ways(f)).map(|(name, _)| *name).collect();
    let wanted = |name: &str, program: &Program| match program {
        Program::SchedClassifier(_) => for_interfaces.contains(&name),
        Program::CgroupSkb(_) => !config.cgroups.is_empty(),
        _ => false,
    };
    let load = |name: &str, program: &mut Program| {
        let result = match program {
            Program::SchedClassifier(classifier) => classifier.load(),
            Program::CgroupSkb(program) => program.load(),
            _ => Ok(()),
        };
        result.map_err(|e| LiveError::kernel(format!("loading {name}"), &e))
    };
    std::thread::scope(|scope| {
        let programs = ebpf.programs_mut().filter(|(name, program)| wanted(name, program));
        let threads = programs.map(|(name, program)| thread(scope, move || load(name, program)));
        let threads: Vec<_> = threads.collect::<Result<_, _>>()?;
        threads.into_iter().try_for_each(join)
    })
}

/// Makes the rings and puts them into the map of rings.
fn make_rings(outer: &MapData, count: u32, bytes: u32) -> Result<Rings, LiveError> {
    let fail = |e| LiveError::map(&format!("ring of {bytes} bytes"), &e);
    let make = |outer: &mut ArrayOfMaps<MapData, RingBuf<MapData>>, index: u32| {
        let definition = aya_obj::Map::new_from_params(RINGBUF, 0, 0, bytes, 0);
        let data = MapData::create(definition, &format!("ring_{index}"), None).map_err(fail)?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(fail)?;
        outer.set(index, &ring, 0).map_err(|e| LiveError::map(&format!("ring {index}"), &e))?;
        Ok(ring)
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    std::thread::scope(|scope| {
        let share = count.div_ceil(cores).max(1);
        let starts = (0..count).step_by(share as usize);
        let threads = starts.map(|first| {
            let last = count.min(first + share);
            thread(scope, move || {
                let outer = Map::ArrayOfMaps(handle(outer, "RINGS")?);
                let mut outer = ArrayOfMaps::try_from(outer).map_err(|e| LiveError::map("RINGS", &e))?;
                (first..last).map(|index| make(&mut outer, index)).collect::<Result<Rings, _>>()
            })
        });
        let threads: Vec<_> = threads.collect::<Result<_, _>>()?;
        let mut rings = Vec::with_capacity(count as usize);
        for thread in threads {
            rings.append(&mut join(thread)?);
        }
        Ok(rings)
    })
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
