//! The books: what the kernel side counted, added up over CPUs.

use agent_common::counters::{HookTally, RingTally, Tally};
use aya::maps::{MapData, MapError, PerCpuArray};

use super::error::LiveError;

/// Everything that reached the programs, by what became of it, in packets and in bytes of whole packets:
/// `offered = filtered + Σ (captured + dropped)`, exactly, when no packet is in flight.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// Every packet that reached a program.
    pub offered: Tally,
    /// What was not wanted.
    pub filtered: Filtered,
    /// What was wanted, ring by ring.
    pub rings: Vec<RingBalance>,
}

/// What was not wanted, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filtered {
    /// Capture was not switched on (yet, or any more).
    pub disabled: Tally,
    /// Not IP, or not TCP.
    pub other_protocol: Tally,
    /// Headers too short to be what they say.
    pub malformed: Tally,
    /// The agent's own traffic, or an excluded endpoint.
    pub excluded: Tally,
    /// Neither end's port is watched.
    pub port: Tally,
    /// Neither end's address is watched.
    pub net: Tally,
    /// It goes a way that is not wanted.
    pub direction: Tally,
    /// The socket's cgroup is not watched.
    pub cgroup: Tally,
    /// The server's end of a connection that is captured at its client's.
    pub other_end: Tally,
}

/// The books of one ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingBalance {
    /// Handed over through the ring.
    pub captured: Tally,
    /// Of the captured: cut by the snap length.
    pub truncated: Tally,
    /// Of the captured: cut to the headers by the flow's policy.
    pub headers_only: Tally,
    /// Dropped: the ring was full.
    pub ring_full: Tally,
    /// Dropped: there was no such ring.
    pub no_ring: Tally,
    /// Dropped: the kernel could not read the packet's bytes.
    pub load_failed: Tally,
}

impl Filtered {
    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> Tally {
        self.reasons().iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))
    }

    /// Each reason, by the name that it has in statistics.
    #[must_use]
    pub const fn reasons(&self) -> [(&'static str, Tally); 9] {
        let Self { disabled, other_protocol, malformed, excluded, port, net, direction, cgroup, other_end } =
            *self;
        [
            ("disabled", disabled),
            ("other_protocol", other_protocol),
            ("malformed", malformed),
            ("excluded", excluded),
            ("port", port),
            ("net", net),
            ("direction", direction),
            ("cgroup", cgroup),
            ("other_end", other_end),
        ]
    }
}

impl RingBalance {
    /// All that was wanted and lost, whatever the reason.
    #[must_use]
    pub fn dropped(&self) -> Tally {
        self.ring_full.plus(self.no_ring).plus(self.load_failed)
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            captured: self.captured.plus(other.captured),
            truncated: self.truncated.plus(other.truncated),
            headers_only: self.headers_only.plus(other.headers_only),
            ring_full: self.ring_full.plus(other.ring_full),
            no_ring: self.no_ring.plus(other.no_ring),
            load_failed: self.load_failed.plus(other.load_failed),
        }
    }
}

impl Balance {
    /// All rings together.
    #[must_use]
    pub fn total(&self) -> RingBalance {
        self.rings.iter().fold(RingBalance::default(), |sum, ring| sum.plus(ring))
    }

    /// What is accounted for: filtered, captured and dropped. Equals `offered` when nothing is in flight.
    #[must_use]
    pub fn accounted(&self) -> Tally {
        let total = self.total();
        self.filtered.total().plus(total.captured).plus(total.dropped())
    }
}

/// The maps of tallies.
pub(super) struct Counters {
    hook: PerCpuArray<MapData, Tally>,
    rings: PerCpuArray<MapData, Tally>,
    count: u32,
}

impl Counters {
    /// The books of `count` rings.
    pub(super) const fn new(
        hook: PerCpuArray<MapData, Tally>,
        rings: PerCpuArray<MapData, Tally>,
        count: u32,
    ) -> Self {
        Self { hook, rings, count }
    }

    pub(super) fn balance(&self) -> Result<Balance, LiveError> {
        let tally = |tally| sum(&self.hook, tally as u32).map_err(|e| LiveError::map("HOOK_TALLIES", &e));
        let filtered = Filtered {
            disabled: tally(HookTally::Disabled)?,
            other_protocol: tally(HookTally::OtherProtocol)?,
            malformed: tally(HookTally::Malformed)?,
            excluded: tally(HookTally::Excluded)?,
            port: tally(HookTally::Port)?,
            net: tally(HookTally::Net)?,
            direction: tally(HookTally::Direction)?,
            cgroup: tally(HookTally::Cgroup)?,
            other_end: tally(HookTally::OtherEnd)?,
        };
        let rings = (0..self.count).map(|index| self.ring(index)).collect::<Result<_, _>>()?;
        Ok(Balance { offered: tally(HookTally::Offered)?, filtered, rings })
    }

    pub(super) fn ring(&self, ring: u32) -> Result<RingBalance, LiveError> {
        let tally = |tally: RingTally| {
            sum(&self.rings, tally.index(ring)).map_err(|e| LiveError::map("RING_TALLIES", &e))
        };
        Ok(RingBalance {
            captured: tally(RingTally::Captured)?,
            truncated: tally(RingTally::Truncated)?,
            headers_only: tally(RingTally::HeadersOnly)?,
            ring_full: tally(RingTally::RingFull)?,
            no_ring: tally(RingTally::NoRing)?,
            load_failed: tally(RingTally::LoadFailed)?,
        })
    }
}

/// One tally of all CPUs.
fn sum(map: &PerCpuArray<MapData, Tally>, index: u32) -> Result<Tally, MapError> {
    Ok(map.get(&index, 0)?.iter().fold(Tally::default(), |sum, cpu| sum.plus(*cpu)))
}
