//! The books: what the kernel side counted, added up over CPUs.

use agent_common::counters::{HookCounters, RingCounters, Tally};
use aya::maps::{MapData, PerCpuArray};

use super::error::LiveError;

/// Everything that reached the programs, by what became of it, in packets and in bytes of whole packets:
/// `offered = filtered + Σ (captured + dropped)`, exactly, when no packet is in flight.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// What reached the programs and what was not wanted, by reason.
    pub hook: HookCounters,
    /// What was wanted, ring by ring.
    pub rings: Vec<RingBalance>,
}

/// The books of one ring: what the programs counted.
pub type RingBalance = RingCounters;

impl Balance {
    /// All rings together.
    #[must_use]
    pub fn total(&self) -> RingBalance {
        self.rings.iter().fold(RingBalance::default(), |sum, ring| sum.plus(ring))
    }

    /// What is accounted for: filtered, captured and dropped. Equals `hook.offered` when nothing is in flight.
    #[must_use]
    pub fn accounted(&self) -> Tally {
        let total = self.total();
        self.hook.filtered().plus(total.captured).plus(total.dropped())
    }
}

/// The counter maps.
pub(super) struct Counters {
    hook: PerCpuArray<MapData, HookCounters>,
    rings: PerCpuArray<MapData, RingCounters>,
    count: u32,
}

impl Counters {
    /// The books of `count` rings.
    pub(super) const fn new(
        hook: PerCpuArray<MapData, HookCounters>,
        rings: PerCpuArray<MapData, RingCounters>,
        count: u32,
    ) -> Self {
        Self { hook, rings, count }
    }

    pub(super) fn balance(&self) -> Result<Balance, LiveError> {
        let hook = self.hook.get(&0, 0).map_err(|e| LiveError::map("HOOK_COUNTERS", e))?;
        let hook = hook.iter().fold(HookCounters::default(), |sum, cpu| sum.plus(cpu));
        let rings = (0..self.count).map(|index| self.ring(index)).collect::<Result<_, _>>()?;
        Ok(Balance { hook, rings })
    }

    pub(super) fn ring(&self, index: u32) -> Result<RingBalance, LiveError> {
        let values = self.rings.get(&index, 0).map_err(|e| LiveError::map("RING_COUNTERS", e))?;
        Ok(values.iter().fold(RingBalance::default(), |sum, cpu| sum.plus(cpu)))
    }
}
