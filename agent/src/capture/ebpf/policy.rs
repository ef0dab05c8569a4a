//! A worker's handle on the flow policies of its ring: which segments come without their payload.
//!
//! The places of a ring are its worker's alone. A flow whose place another one has is refused and counted: it is captured
//! whole, which is only dearer.

use std::collections::HashMap;
use std::net::SocketAddr;

use agent_common::flow::{End, FlowHash};
use agent_common::policy::{PLACES, Policy, Window, place, tag};
use agent_core::engine::Trim;
use aya::maps::{Array, MapData};

use super::filters::endpoint;

/// What was done with flow policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyStats {
    /// Windows set.
    pub set: u64,
    /// Flows that were left whole because another one has their place.
    pub refused: u64,
    /// Flows that have a policy now.
    pub active: u64,
}

/// The policies of one ring.
pub(super) struct Policies {
    map: Array<MapData, Policy>,
    ring: u32,
    seed: u64,
    /// Whose the places are; never more than [`PLACES`].
    places: HashMap<u32, Policy>,
    stats: PolicyStats,
}

impl Policies {
    pub(super) fn new(map: Array<MapData, Policy>, ring: u32, seed: u64) -> Self {
        Self { map, ring, seed, places: HashMap::new(), stats: PolicyStats::default() }
    }

    pub(super) fn stats(&self) -> PolicyStats {
        PolicyStats { active: self.places.len() as u64, ..self.stats }
    }

    /// Does what the engine wishes for one direction of a flow.
    pub(super) fn apply(&mut self, wish: &Trim) {
        let flow = FlowHash::new(end(wish.from), end(wish.to), self.seed);
        let index = place(flow, self.ring);
        let known = self.places.get(&index).copied().unwrap_or_default();
        let window = wish.window.map_or(Window::default(), |w| Window { from: w.from, len: w.len });
        if known.tag != tag(flow) && (known.tag != 0 || window.len == 0) {
            self.stats.refused += u64::from(window.len > 0);
            return;
        }
        let mut policy = Policy { tag: tag(flow), ..known };
        policy.windows[(flow.way & 1) as usize] = window;
        if policy.windows.iter().all(|w| w.len == 0) {
            policy = Policy::default();
        }
        match self.map.set(index, policy, 0) {
            Ok(()) if policy.tag == 0 => _ = self.places.remove(&index),
            Ok(()) => {
                debug_assert!(self.places.len() <= PLACES as usize);
                self.stats.set += u64::from(window.len > 0);
                self.places.insert(index, policy);
            }
            Err(error) => {
                self.stats.refused += 1;
                tracing::debug!(%error, "a flow's policy was not set");
            }
        }
    }
}

fn end(address: SocketAddr) -> End {
    let endpoint = endpoint(address);
    let [a, b, c, d, e, f, g, h, rest @ ..] = endpoint.address;
    End {
        address: [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)],
        port: address.port(),
    }
}
