//! Which of several engines a packet belongs to, by its flow.
//!
//! A flow is what an engine takes for one: innermost addresses and ports, and the tags around them. Fragments of an IP
//! datagram go where the whole goes. Where that is is known from the first fragment, or, where this tells too little (a tunnel's
//! header, a cut TCP header), from the whole: until then they are held here, and given out together.
//!
//! Invariants:
//! - All packets of a flow have the same place, whichever way they go.
//! - What is held is bounded by [`Limits::fragment_memory`], and once more for the packets around it; what finds no room is
//!   given up and counted. Nothing is ever read of it: rather no answer than a wrong one.
//! - The hash is keyed: traffic cannot aim at one engine.

use hashbrown::HashMap;

use crate::decode::{self, Decoded, Fragment, FragmentKey, Fragments, TcpPacket};
use crate::flow::FlowKey;
use crate::flow::hash::KeyedState;
use crate::item::StreamId;
use crate::limits::Limits;
use crate::packet::{LinkType, Origin, Packet};
use crate::stats::EngineStats;
use crate::time::Timestamp;

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// To this engine, from 0.
    To(u16),
    /// To this engine, for [`crate::Engine::pass_over`] only.
    GivenUp(u16),
    /// It was copied, and will be given out with a later one.
    Held,
}

/// A fragment that was held.
#[derive(Clone, Debug)]
pub struct Held {
    time: Timestamp,
    link: LinkType,
    original_len: u32,
    origin: Origin,
    data: Vec<u8>,
}

impl Held {
    fn new(packet: &Packet<'_>) -> Self {
        let Packet { time, link, original_len, origin, data } = *packet;
        Self { time, link, original_len, origin, data: data.to_vec() }
    }

    /// The packet.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        let Self { time, link, original_len, origin, ref data } = *self;
        Packet { time, link, data, original_len, origin }
    }
}

/// Charged for a held packet besides its bytes.
const OVERHEAD: usize = 96;

/// Hears where a packet goes that was held.
pub type Release<'a> = dyn FnMut(Place, &Held) + 'a;

/// See the module.
pub struct Sharder {
    engines: u64,
    state: KeyedState,
    limits: Limits,
    /// Pieces as the engines hold them. What they call a piece's stream is its engine here.
    fragments: Fragments,
    held: HashMap<FragmentKey, Vec<Held>, KeyedState>,
    held_bytes: usize,
    /// Whose turn it is to have a packet of no flow.
    next: u64,
    stats: EngineStats,
}

impl std::fmt::Debug for Sharder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sharder").field("engines", &self.engines).finish_non_exhaustive()
    }
}

impl Sharder {
    /// For so many engines, at least one. `seed` should be random where the traffic is not trusted.
    #[must_use]
    pub fn new(engines: u16, limits: Limits, seed: u64) -> Self {
        Self {
            engines: u64::from(engines.max(1)),
            state: KeyedState::new(seed),
            limits,
            fragments: Fragments::new(seed ^ 0x0066_7261_676d_656e),
            held: HashMap::with_hasher(KeyedState::new(!seed)),
            held_bytes: 0,
            next: 0,
            stats: EngineStats::default(),
        }
    }

    /// Where a packet goes; `now` is the latest time of any packet so far. `release` hears, before this returns, of packets that
    /// go before it.
    #[inline]
    pub fn place(&mut self, packet: &Packet<'_>, now: Timestamp, release: &mut Release<'_>) -> Place {
        match decode::decode(packet.link, packet.data, packet.original_len) {
            Ok(Decoded::Tcp(tcp)) => Place::To(self.of_flow(&tcp).unwrap_or_else(|| self.in_turn())),
            Ok(Decoded::Fragment(fragment)) => self.fragment(&fragment, packet, now, release),
            Err(_) => Place::To(self.in_turn()),
        }
    }

    /// There will be no more packets: gives out what is held.
    pub fn finish(&mut self, now: Timestamp, release: &mut Release<'_>) {
        self.expire(now, release);
        let keys: Vec<_> = self.held.keys().copied().collect();
        for key in keys {
            let place = self.in_turn();
            self.give_out(&key, place, release);
        }
    }

    /// What was given up here: only counters of fragments, to be added to the engines'.
    #[must_use]
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// Packets that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }

    fn of_flow(&self, tcp: &TcpPacket<'_>) -> Option<u16> {
        let (key, _) = FlowKey::of(tcp)?;
        let hash = key.hash(&self.state);
        // Less than the number of engines, which is a u16.
        Some((((hash >> 32) * self.engines) >> 32) as u16)
    }

    fn in_turn(&mut self) -> u16 {
        self.next = (self.next + 1) % self.engines;
        self.next as u16
    }

    fn fragment(
        &mut self,
        fragment: &Fragment<'_>,
        packet: &Packet<'_>,
        now: Timestamp,
        release: &mut Release<'_>,
    ) -> Place {
        self.expire(now, release);
        while let Some(key) = self.fragments.crowded_out(fragment, &self.limits) {
            self.stats.fragments_evicted += u64::from(self.give_up(&key, release));
        }
        let key = &fragment.key;
        let inserted = self.fragments.insert(fragment, now, &self.limits);
        let known = inserted.stream.map(|engine| engine.0 as u16);
        if let Some(whole) = inserted.whole {
            let place = known.unwrap_or_else(|| match decode::resume(&whole) {
                Ok(Decoded::Tcp(tcp)) => self.of_flow(&tcp).unwrap_or_else(|| self.in_turn()),
                _ => self.in_turn(),
            });
            return self.give_out(key, place, release);
        }
        if let Some(place) = known {
            return Place::To(place);
        }
        if !self.fragments.holds(key) {
            // Refused for what it is: so will any engine.
            return Place::To(self.in_turn());
        }
        // A first fragment that overlaps another is not what the whole begins with.
        let first = if inserted.overlap { None } else { decode::first_fragment(fragment) };
        if let Some(place) = first.and_then(|tcp| self.of_flow(&tcp)) {
            self.fragments.belongs(key, StreamId(place.into()));
            return self.give_out(key, place, release);
        }
        self.hold(key, packet)
    }

    fn hold(&mut self, key: &FragmentKey, packet: &Packet<'_>) -> Place {
        let bytes = packet.data.len() + OVERHEAD;
        if self.held_bytes + bytes > self.limits.fragment_memory {
            self.stats.fragments_refused += 1;
            return Place::GivenUp(self.in_turn());
        }
        self.held_bytes += bytes;
        self.held.entry(*key).or_default().push(Held::new(packet));
        Place::Held
    }

    fn take(&mut self, key: &FragmentKey) -> Vec<Held> {
        let held = self.held.remove(key).unwrap_or_default();
        self.held_bytes -= held.iter().map(|packet| packet.data.len() + OVERHEAD).sum::<usize>();
        held
    }

    /// Gives out what is held of a datagram.
    fn give_out(&mut self, key: &FragmentKey, place: u16, release: &mut Release<'_>) -> Place {
        self.take(key).iter().for_each(|packet| release(Place::To(place), packet));
        Place::To(place)
    }

    fn expire(&mut self, now: Timestamp, release: &mut Release<'_>) {
        while let Some(key) = self.fragments.expired(now, &self.limits) {
            self.stats.fragments_timed_out += u64::from(self.give_up(&key, release));
        }
    }

    /// A datagram was dropped. Whether anything of it was held here, and no engine has heard of it.
    fn give_up(&mut self, key: &FragmentKey, release: &mut Release<'_>) -> bool {
        let held = self.take(key);
        let place = Place::GivenUp(self.in_turn());
        held.iter().for_each(|packet| release(place, packet));
        !held.is_empty()
    }
}

#[cfg(test)]
mod tests;
