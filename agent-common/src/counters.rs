//! What the programs counted: one tally for each reason, per CPU, so that counting costs no cache line of another CPU.
//!
//! The books balance, in packets and in bytes, whenever no program is in flight:
//! `offered = filtered + Σ over rings (captured + dropped)`. "Offered" is counted on entry and the rest on the way
//! out, so a path that forgot to count shows. Bytes are of the whole packet as the hook point saw it, not of what a
//! snap length left.
//!
//! Reasons are indices of map elements, not fields of one value: picking a field at run time is pointer arithmetic
//! that the verifier allows only with `CAP_PERFMON`.

use crate::{MAX_RINGS, assert_layout};

/// Packets, and the bytes of those packets.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

const _: () = assert_layout::<Tally>(16);

impl Tally {
    /// Sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

/// What is counted before a ring is chosen: index into the map of hook tallies.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookTally {
    /// Every packet that reached a program.
    Offered,
    /// Filtered: capture was not switched on (yet, or any more).
    Disabled,
    /// Filtered: not IP, or not TCP.
    OtherProtocol,
    /// Filtered: headers too short to be what they say.
    Malformed,
    /// Filtered: the agent's own traffic, or an endpoint that user space excluded.
    Excluded,
    /// Filtered: neither end's port is watched.
    Port,
    /// Filtered: neither end's address is watched.
    Net,
    /// Filtered: it goes a way that is not wanted.
    Direction,
    /// Filtered: the socket's cgroup is not watched.
    Cgroup,
    /// Filtered: the server's end of a connection that is captured at its client's.
    OtherEnd,
}

/// Elements of the map of hook tallies.
pub const HOOK_TALLIES: u32 = HookTally::OtherEnd as u32 + 1;

/// What is counted for each ring: see [`RingTally::index`].
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingTally {
    /// Handed to user space through the ring.
    Captured,
    /// Of the captured: cut by the snap length.
    Truncated,
    /// Dropped: the ring was full.
    RingFull,
    /// Dropped: there is no such ring (never, unless user space set the programs up wrongly).
    NoRing,
    /// Dropped: the kernel could not read the packet's bytes.
    LoadFailed,
    /// Of the captured: cut to the headers by the flow's policy.
    HeadersOnly,
}

/// Tallies of one ring, rounded up.
const RING_STRIDE: u32 = 8;

/// Elements of the map of ring tallies.
pub const RING_TALLIES: u32 = MAX_RINGS * RING_STRIDE;

impl RingTally {
    /// Index into the map of ring tallies.
    #[inline(always)]
    #[must_use]
    pub const fn index(self, ring: u32) -> u32 {
        ring * RING_STRIDE + self as u32
    }
}

// SAFETY: repr(C), made of u64 only: no padding, any bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Tally {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_tallies_do_not_overlap() {
        assert!((RingTally::HeadersOnly as u32) < RING_STRIDE);
        assert!(RingTally::HeadersOnly.index(0) < RingTally::Captured.index(1));
        assert_eq!(RingTally::Captured.index(MAX_RINGS), RING_TALLIES);
    }
}
