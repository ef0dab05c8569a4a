//! From the embedded object to maps that are set up: rings made, filters filled, capture still off.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use agent_common::MAX_RINGS;
use agent_common::config::{
    ENABLED, Endpoint, FILTER_EXCLUDED, FILTER_NETS, FILTER_PORTS, PORT_WORD_BITS, PORT_WORDS, Settings,
    Sleeper,
};
use agent_common::record::MAX_CAPTURE;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, RingBuf};
use aya::{Ebpf, EbpfLoader};

use super::balance::Counters;
use super::error::LiveError;
use super::{LiveConfig, memory};
use crate::capture::net::{Net, mapped};

/// `BPF_MAP_TYPE_RINGBUF` of `linux/bpf.h`.
const RINGBUF: u32 = 27;

/// Loaded, set up, not attached.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) rings: Vec<RingBuf<MapData>>,
    pub(super) ring_bytes: u32,
    pub(super) sleepers: MapData,
    pub(super) counters: Counters,
    pub(super) settings: SettingsMap,
    pub(super) excluded: HashMap<MapData, Endpoint, u32>,
    pub(super) logger: aya_log::EbpfLogger<&'static dyn log::Log>,
}

pub(super) fn load(config: &LiveConfig) -> Result<Loaded, LiveError> {
    let workers = u32::from(config.workers);
    if workers == 0 || workers > MAX_RINGS {
        let value = workers.to_string();
        return Err(LiveError::Setting { what: "workers", value, allowed: "1 to 256" });
    }
    // The programs look at no kernel structure, so the kernel's own BTF, which is slow to read, is not needed.
    let mut ebpf = EbpfLoader::new()
        .btf(None)
        .load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/remora-ebpf")))
        .map_err(|e| LiveError::kernel("loading the eBPF maps", &e))?;
    let ring_bytes = memory::ring_bytes(config.ring_bytes, config.workers);
    let rings = make_rings(&mut ebpf, workers, ring_bytes)?;
    fill_ports(&mut borrow(&mut ebpf, "PORTS")?, &config.ports)?;
    fill_nets(&mut borrow(&mut ebpf, "NETS")?, &config.nets)?;
    let mut excluded: HashMap<MapData, Endpoint, u32> = take(&mut ebpf, "EXCLUDED")?;
    for &address in &config.exclude {
        excluded.insert(endpoint(address), 1, 0).map_err(|e| LiveError::map("EXCLUDED", &e))?;
    }
    let settings = SettingsMap { map: take(&mut ebpf, "SETTINGS")?, now: settings(config) };
    let counters = Counters::new(take(&mut ebpf, "HOOK_TALLIES")?, take(&mut ebpf, "RING_TALLIES")?, workers);
    let Some(Map::Array(sleepers)) = ebpf.take_map("SLEEPERS") else {
        return Err(absent("SLEEPERS"));
    };
    let logger =
        aya_log::EbpfLogger::init(&mut ebpf).map_err(|e| LiveError::kernel("the programs' log", &e))?;
    Ok(Loaded { ebpf, rings, ring_bytes, sleepers, counters, settings, excluded, logger })
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
fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T, LiveError> {
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

fn fill_ports(map: &mut Array<&mut MapData, u64>, ports: &[u16]) -> Result<(), LiveError> {
    let mut words = vec![0_u64; PORT_WORDS as usize];
    for port in ports.iter().copied().map(u32::from) {
        words[(port / PORT_WORD_BITS) as usize] |= 1 << (port % PORT_WORD_BITS);
    }
    for (index, word) in (0..).zip(words).filter(|&(_, word)| word != 0) {
        map.set(index, word, 0).map_err(|e| LiveError::map("PORTS", &e))?;
    }
    Ok(())
}

fn fill_nets(map: &mut LpmTrie<&mut MapData, [u8; 16], u32>, nets: &[Net]) -> Result<(), LiveError> {
    for net in nets {
        let (address, prefix) = net.mapped();
        map.insert(&Key::new(u32::from(prefix), address), 1, 0).map_err(|e| LiveError::map("NETS", &e))?;
    }
    Ok(())
}

/// [`Sleeper`]s through a handle of one's own, for another thread.
pub(super) fn sleepers(map: &MapData) -> Result<Array<MapData, Sleeper>, LiveError> {
    let fail = |e| LiveError::map("SLEEPERS", &e);
    let fd =
        map.fd().as_fd().try_clone_to_owned().map_err(|e| LiveError::kernel("a map's descriptor", &e))?;
    let handle = MapData::from_fd(fd).map_err(fail)?;
    Array::try_from(Map::Array(handle)).map_err(fail)
}

/// An endpoint as the programs look it up.
pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    // An IPv4 address that was mapped into IPv6 travels as IPv4.
    let ip: IpAddr = address.ip().to_canonical();
    Endpoint { address: mapped(ip), port: u32::from(address.port()) }
}

fn settings(config: &LiveConfig) -> Settings {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    Settings {
        // Seeded anew by the standard library for each process.
        hash_seed: RandomState::new().hash_one("flow"),
        own_cgroup: config.own_cgroup.unwrap_or(0),
        flags: flag(!config.ports.is_empty(), FILTER_PORTS)
            | flag(!config.nets.is_empty(), FILTER_NETS)
            | flag(!config.exclude.is_empty(), FILTER_EXCLUDED),
        rings: u32::from(config.workers),
        snap_len: config.snap_len.unwrap_or(MAX_CAPTURE as u32).max(1),
        reserved: 0,
    }
}

/// The settings as the programs see them.
pub(super) struct SettingsMap {
    map: Array<MapData, Settings>,
    now: Settings,
}

impl SettingsMap {
    pub(super) fn enable(&mut self) -> Result<(), LiveError> {
        self.set_flags(self.now.flags | ENABLED)
    }

    pub(super) fn disable(&mut self) -> Result<(), LiveError> {
        self.set_flags(self.now.flags & !ENABLED)
    }

    pub(super) fn filter_excluded(&mut self) -> Result<(), LiveError> {
        self.set_flags(self.now.flags | FILTER_EXCLUDED)
    }

    fn set_flags(&mut self, flags: u32) -> Result<(), LiveError> {
        self.now.flags = flags;
        self.map.set(0, self.now, 0).map_err(|e| LiveError::map("SETTINGS", &e))
    }
}
