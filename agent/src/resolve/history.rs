//! Which name an address had since when: what `pcap.nameResolutionHistory()` tells.
//!
//! Whoever learns names records them here. Bounded: past [`NameHistory::MOST`] changes the oldest are forgotten.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// A log of changes of names.
#[derive(Debug, Default)]
pub struct NameHistory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Unix second, address, name.
    changes: VecDeque<(u64, IpAddr, String)>,
    /// The newest name of each address in `changes`.
    newest: HashMap<IpAddr, String>,
    forgotten: u64,
}

impl NameHistory {
    /// Changes remembered.
    pub const MOST: usize = 10_000;

    /// Notes that the address is called so from then on; nothing new is not noted.
    pub fn record(&self, at: SystemTime, ip: IpAddr, name: &str) {
        let mut state = self.lock();
        if state.newest.get(&ip).is_some_and(|known| known == name) {
            return;
        }
        if state.changes.len() >= Self::MOST
            && let Some((_, ip, name)) = state.changes.pop_front()
        {
            state.forgotten += 1;
            if state.newest.get(&ip) == Some(&name) {
                state.newest.remove(&ip);
            }
        }
        let second = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        state.newest.insert(ip, name.to_owned());
        state.changes.push_back((second, ip, name.to_owned()));
    }

    /// The changes of each Unix second.
    #[must_use]
    pub fn by_second(&self) -> BTreeMap<u64, Vec<(IpAddr, String)>> {
        let mut seconds: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for (second, ip, name) in &self.lock().changes {
            seconds.entry(*second).or_default().push((*ip, name.clone()));
        }
        seconds
    }

    /// Changes forgotten for want of room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn changes_are_noted_once_and_the_oldest_are_forgotten() {
        let history = NameHistory::default();
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let ip = |n: u32| IpAddr::V4(Ipv4Addr::from(n));
        for (second, name) in [(1, "a"), (2, "a"), (3, "b"), (3, "b"), (4, "a")] {
            history.record(at(second), ip(1), name);
        }
        assert_eq!(history.by_second().into_keys().collect::<Vec<_>>(), [1, 3, 4]);
        for n in 0..NameHistory::MOST as u32 {
            history.record(at(9), ip(10 + n), "pod");
        }
        assert_eq!((history.forgotten(), history.by_second().into_keys().collect::<Vec<_>>()), (3, vec![9]));
        history.record(at(10), ip(1), "a");
        assert_eq!(history.by_second()[&10], [(ip(1), "a".to_owned())], "forgotten, so news again");
    }
}
