//! The filters in the kernel: set before capture begins, and changed while it runs.
//!
//! A change takes three steps, so that no packet that passes both the old and the new filter is lost: the sets are widened
//! to the union of old and new, the settings are replaced as a whole (the kernel returns when no program uses the old ones
//! any more), and the sets are narrowed to the new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use agent_common::config::{
    ENABLED, Endpoint, FEW_NETS, FILTER_CGROUPS, FILTER_EXCLUDED, FILTER_NETS, FILTER_PORTS, FewNet,
    MAX_FEW_NETS, MAX_LEVELS, ONE_END, POLICIES, PORT_WORD_BITS, PORT_WORDS, SKIP_EGRESS, SKIP_INGRESS,
    Settings,
};
use agent_common::record::MAX_CAPTURE;
use agent_core::packet::Direction;
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError};

use super::cgroup::{self, Cgroup};
use super::error::LiveError;
use super::{LiveConfig, loader};
use crate::capture::net::{Net, mapped};

/// `BPF_MAP_TYPE_ARRAY` of `linux/bpf.h`.
const ARRAY: u32 = 2;

/// Which packets are wanted, of those that pass the hook points. Empty lists leave nothing out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Captured if either end has one of these ports.
    pub ports: Vec<u16>,
    /// Captured if either end is in one of these nets.
    pub nets: Vec<Net>,
    /// Endpoints whose traffic is left out.
    pub exclude: Vec<SocketAddr>,
    /// Of the sockets in the cgroups that programs are attached to, only those in one of these cgroups, children
    /// included. Paths as for [`LiveConfig::cgroups`]. Interfaces do not heed it.
    pub cgroups: Vec<PathBuf>,
    /// Only packets that pass the hook point this way.
    pub direction: Option<Direction>,
}

/// The sets as they are in the maps.
#[derive(Clone, Default)]
struct Sets {
    ports: BTreeMap<u32, u64>,
    nets: BTreeSet<(u8, [u8; 16])>,
    excluded: BTreeSet<([u8; 16], u32)>,
    cgroups: BTreeSet<u64>,
    levels: BTreeSet<u8>,
}

impl Sets {
    fn new(filter: &Filter) -> Result<Self, LiveError> {
        let mut sets = Self::default();
        for port in filter.ports.iter().copied().map(u32::from) {
            *sets.ports.entry(port / PORT_WORD_BITS).or_default() |= 1 << (port % PORT_WORD_BITS);
        }
        sets.nets = filter.nets.iter().map(Net::mapped).map(|(address, prefix)| (prefix, address)).collect();
        sets.excluded = filter.exclude.iter().map(|e| endpoint(*e)).map(|e| (e.address, e.port)).collect();
        let mount = cgroup::mount_point();
        for path in &filter.cgroups {
            let (id, level) = Cgroup::find(path)?.id_and_level(mount.as_deref())?;
            sets.cgroups.insert(id);
            sets.levels.insert(level);
        }
        if sets.levels.len() > MAX_LEVELS {
            let value = format!("{} depths", sets.levels.len());
            return Err(LiveError::Setting { what: "cgroups to filter by", value, allowed: "4 depths" });
        }
        Ok(sets)
    }

    fn few_nets(&self) -> Option<[FewNet; MAX_FEW_NETS]> {
        if self.nets.len() > MAX_FEW_NETS {
            return None;
        }
        let mut few = [FewNet::default(); MAX_FEW_NETS];
        for (place, (prefix, address)) in few.iter_mut().zip(&self.nets) {
            let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
            *place = FewNet { mask: words(mask.to_be_bytes()), address: words(*address) };
        }
        Some(few)
    }

    /// Whether a connection between these two passes, as the programs would find.
    fn passes(&self, ends: [SocketAddr; 2]) -> bool {
        let ends = ends.map(endpoint);
        let port = |e: &Endpoint| {
            let word = self.ports.get(&(e.port / PORT_WORD_BITS)).copied().unwrap_or(0);
            word >> (e.port % PORT_WORD_BITS) & 1 != 0
        };
        let net = |e: &Endpoint| {
            self.nets.iter().any(|(prefix, address)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
                u128::from_be_bytes(e.address) & mask == u128::from_be_bytes(*address)
            })
        };
        (self.ports.is_empty() || ends.iter().any(port))
            && (self.nets.is_empty() || ends.iter().any(net))
            && !ends.iter().any(|e| self.excluded.contains(&(e.address, e.port)))
    }
}

/// An address as the programs see it: two words in memory order.
fn words(bytes: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}

/// An endpoint as the programs look it up.
pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    // An IPv4 address that was mapped into IPv6 travels as IPv4.
    let ip: IpAddr = address.ip().to_canonical();
    Endpoint { address: mapped(ip), port: u32::from(address.port()) }
}

/// The maps, and what is in them: element by element, so that of a change that fails half way the next one takes back what
/// it had put in.
pub(super) struct Filters {
    settings: ArrayOfMaps<MapData, Array<MapData, Settings>>,
    ports: Array<MapData, u64>,
    nets: LpmTrie<MapData, [u8; 16], u32>,
    excluded: HashMap<MapData, Endpoint, u32>,
    cgroups: HashMap<MapData, u64, u32>,
    now: Settings,
    sets: Sets,
}

impl Filters {
    /// Fills the maps. Without settings the programs let every packet pass: capture is off until [`Self::enable`], which puts
    /// them in (the kernel takes some 15 ms for that).
    pub(super) fn new(ebpf: &mut Ebpf, config: &LiveConfig) -> Result<Self, LiveError> {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let now = Settings {
            // Seeded anew by the standard library for each process.
            hash_seed: RandomState::new().hash_one("flow"),
            own_cgroup: config.own_cgroup.unwrap_or(0),
            flags: flag(config.trim, POLICIES) | flag(config.one_end, ONE_END),
            rings: u32::from(config.workers),
            snap_len: config.snap_len.unwrap_or(MAX_CAPTURE as u32).max(1),
            ..Settings::default()
        };
        let mut filters = Self {
            settings: loader::take(ebpf, "SETTINGS")?,
            ports: loader::take(ebpf, "PORTS")?,
            nets: loader::take(ebpf, "NETS")?,
            excluded: loader::take(ebpf, "EXCLUDED")?,
            cgroups: loader::take(ebpf, "CGROUPS")?,
            now,
            sets: Sets::default(),
        };
        let filter = config.filter();
        let sets = Sets::new(&filter)?;
        filters.widen(&sets)?;
        filters.now = filters.settings_for(&sets, filter.direction);
        filters.sets = sets;
        Ok(filters)
    }

    pub(super) fn enable(&mut self) -> Result<(), LiveError> {
        self.put(Settings { flags: self.now.flags | ENABLED, ..self.now })
    }

    pub(super) fn disable(&mut self) -> Result<(), LiveError> {
        self.put(Settings { flags: self.now.flags & !ENABLED, ..self.now })
    }

    /// The secret of the flow hash.
    pub(super) fn seed(&self) -> u64 {
        self.now.hash_seed
    }

    /// Whether a connection between these two passes ports, nets and exclusions.
    pub(super) fn passes(&self, ends: [SocketAddr; 2]) -> bool {
        self.sets.passes(ends)
    }

    /// Replaces the filter.
    pub(super) fn set(&mut self, filter: &Filter) -> Result<(), LiveError> {
        let new = Sets::new(filter)?;
        let old = self.sets.clone();
        let changed = self.widen(&new).and_then(|()| self.put(self.settings_for(&new, filter.direction)));
        if let Err(error) = changed {
            // Back to what was. Where that fails as well, the next change does it.
            let _ = self.narrow(&old);
            return Err(error);
        }
        self.narrow(&new)?;
        self.sets = new;
        Ok(())
    }

    /// Leaves one more endpoint out.
    pub(super) fn exclude(&mut self, address: SocketAddr) -> Result<(), LiveError> {
        self.insert_excluded(endpoint(address))?;
        if self.now.flags & FILTER_EXCLUDED != 0 {
            // New settings cost some milliseconds.
            return Ok(());
        }
        self.put(Settings { flags: self.now.flags | FILTER_EXCLUDED, ..self.now })
    }

    /// Captures an excluded endpoint again.
    pub(super) fn include(&mut self, address: SocketAddr) {
        let endpoint = endpoint(address);
        self.sets.excluded.remove(&(endpoint.address, endpoint.port));
        // Not there: fine.
        let _ = self.excluded.remove(&endpoint);
    }

    fn settings_for(&self, sets: &Sets, direction: Option<Direction>) -> Settings {
        let set = |on: bool, flag: u32| if on { flag } else { 0 };
        let few = sets.few_nets();
        let mut levels = [u8::MAX; MAX_LEVELS];
        for (place, level) in levels.iter_mut().zip(&sets.levels) {
            *place = *level;
        }
        let flags = self.now.flags & (ENABLED | POLICIES | ONE_END)
            | set(!sets.ports.is_empty(), FILTER_PORTS)
            | set(!sets.nets.is_empty(), FILTER_NETS)
            | set(!sets.excluded.is_empty(), FILTER_EXCLUDED)
            | set(!sets.cgroups.is_empty(), FILTER_CGROUPS)
            | set(direction == Some(Direction::Egress), SKIP_INGRESS)
            | set(direction == Some(Direction::Ingress), SKIP_EGRESS)
            | set(few.is_some(), FEW_NETS);
        Settings { flags, levels, nets: few.unwrap_or_default(), ..self.now }
    }

    /// What is wanted by either the old or the new filter is in the sets.
    fn widen(&mut self, new: &Sets) -> Result<(), LiveError> {
        for (&word, &bits) in &new.ports {
            let old = self.sets.ports.get(&word).copied().unwrap_or(0);
            if bits & !old != 0 {
                self.set_ports(word, old | bits)?;
            }
        }
        for &(prefix, address) in &new.nets {
            if !self.sets.nets.contains(&(prefix, address)) {
                let key = Key::new(u32::from(prefix), address);
                self.nets.insert(&key, 1, 0).map_err(|e| LiveError::map("NETS", &e))?;
                self.sets.nets.insert((prefix, address));
            }
        }
        for &(address, port) in &new.excluded {
            if !self.sets.excluded.contains(&(address, port)) {
                self.insert_excluded(Endpoint { address, port })?;
            }
        }
        for &id in &new.cgroups {
            if !self.sets.cgroups.contains(&id) {
                self.cgroups.insert(id, 1, 0).map_err(|e| LiveError::map("CGROUPS", &e))?;
                self.sets.cgroups.insert(id);
            }
        }
        Ok(())
    }

    /// What only the old filter wanted leaves the sets.
    fn narrow(&mut self, new: &Sets) -> Result<(), LiveError> {
        for (word, bits) in self.sets.ports.clone() {
            let wanted = new.ports.get(&word).copied().unwrap_or(0);
            if bits & !wanted != 0 {
                self.set_ports(word, wanted)?;
            }
        }
        for &(prefix, address) in &(&self.sets.nets - &new.nets) {
            let key = Key::new(u32::from(prefix), address);
            self.nets.remove(&key).map_err(|e| LiveError::map("NETS", &e))?;
            self.sets.nets.remove(&(prefix, address));
        }
        for &(address, port) in &(&self.sets.excluded - &new.excluded) {
            let endpoint = Endpoint { address, port };
            self.excluded.remove(&endpoint).map_err(|e| LiveError::map("EXCLUDED", &e))?;
            self.sets.excluded.remove(&(address, port));
        }
        for id in &self.sets.cgroups - &new.cgroups {
            self.cgroups.remove(&id).map_err(|e| LiveError::map("CGROUPS", &e))?;
            self.sets.cgroups.remove(&id);
        }
        Ok(())
    }

    fn insert_excluded(&mut self, endpoint: Endpoint) -> Result<(), LiveError> {
        self.excluded.insert(endpoint, 1, 0).map_err(|e| LiveError::map("EXCLUDED", &e))?;
        self.sets.excluded.insert((endpoint.address, endpoint.port));
        Ok(())
    }

    fn set_ports(&mut self, word: u32, bits: u64) -> Result<(), LiveError> {
        debug_assert!(word < PORT_WORDS);
        self.ports.set(word, bits, 0).map_err(|e| LiveError::map("PORTS", &e))?;
        self.sets.ports.insert(word, bits);
        Ok(())
    }

    /// Replaces the settings as a whole; returns when no program uses the old ones.
    fn put(&mut self, settings: Settings) -> Result<(), LiveError> {
        let fail = |e: MapError| LiveError::map("SETTINGS", &e);
        let (key, value) = (size_of::<u32>() as u32, size_of::<Settings>() as u32);
        let definition = aya_obj::Map::new_from_params(ARRAY, key, value, 1, 0);
        let data = MapData::create(definition, "settings", None).map_err(fail)?;
        let mut map: Array<MapData, Settings> = Array::try_from(Map::Array(data)).map_err(fail)?;
        map.set(0, settings, 0).map_err(fail)?;
        self.settings.set(0, &map, 0).map_err(fail)?;
        self.now = settings;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(ports: &[u16], nets: &[&str], exclude: &[&str]) -> Sets {
        Sets::new(&Filter {
            ports: ports.to_vec(),
            nets: nets.iter().map(|n| n.parse().unwrap()).collect(),
            exclude: exclude.iter().map(|e| e.parse().unwrap()).collect(),
            ..Filter::default()
        })
        .unwrap()
    }

    #[test]
    fn a_connection_passes_as_in_the_kernel() {
        let ends = |a: &str, b: &str| [a.parse().unwrap(), b.parse().unwrap()];
        let (v4, v6) = (ends("10.0.0.1:80", "10.0.0.2:4000"), ends("[fd00::1]:443", "[fd00::2]:4000"));
        assert!(sets(&[], &[], &[]).passes(v4));
        assert!(sets(&[80], &[], &[]).passes(v4) && !sets(&[80], &[], &[]).passes(v6));
        assert!(sets(&[], &["10.0.0.2"], &[]).passes(v4) && !sets(&[], &["10.0.0.3"], &[]).passes(v4));
        assert!(sets(&[], &["fd00::/8"], &[]).passes(v6) && !sets(&[], &["0.0.0.0/0"], &[]).passes(v6));
        assert!(!sets(&[80], &["11.0.0.0/8"], &[]).passes(v4));
        assert!(!sets(&[80], &[], &["10.0.0.2:4000"]).passes(v4));
    }

    #[test]
    fn few_nets_are_masks_and_many_are_a_search() {
        let few = sets(&[], &["10.0.0.0/8", "::/0"], &[]).few_nets().unwrap();
        assert!(few.contains(&FewNet { mask: [0; 2], address: [0; 2] }));
        let ten = FewNet {
            mask: words([255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0]),
            address: words([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 0]),
        };
        assert!(few.contains(&ten), "{few:?}");
        assert!(
            sets(&[], &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"], &[])
                .few_nets()
                .is_none()
        );
    }
}
