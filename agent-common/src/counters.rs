//! What the programs counted: one set per CPU, so that counting costs no cache line of another CPU.
//!
//! The books balance, in packets and in bytes, whenever no program is in flight:
//! `offered = filtered + Σ over rings (captured + dropped)`. "Offered" is counted on entry and the rest on the way
//! out, so a path that forgot to count shows. Bytes are of the whole packet as the hook point saw it, not of what a
//! snap length left.

use crate::assert_layout;

/// Packets, and the bytes of those packets.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Counted before a ring is chosen.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HookCounters {
    /// Every packet that reached a program.
    pub offered: Tally,
    /// Filtered: capture was not switched on (yet, or any more).
    pub disabled: Tally,
    /// Filtered: not IP, or not TCP.
    pub other_protocol: Tally,
    /// Filtered: headers too short to be what they say.
    pub malformed: Tally,
    /// Filtered: the agent's own traffic, or an endpoint that user space excluded.
    pub excluded: Tally,
    /// Filtered: neither end's port is watched.
    pub port: Tally,
    /// Filtered: neither end's address is watched.
    pub net: Tally,
}

/// Counted per ring.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingCounters {
    /// Handed to user space through the ring.
    pub captured: Tally,
    /// Of the captured: cut by a snap length.
    pub truncated: Tally,
    /// Dropped: the ring was full.
    pub ring_full: Tally,
    /// Dropped: there is no such ring (the programs ran before user space set it up).
    pub no_ring: Tally,
    /// Dropped: the kernel could not read the packet's bytes.
    pub load_failed: Tally,
}

const _: () = assert_layout::<Tally>(16);
const _: () = assert_layout::<HookCounters>(7 * 16);
const _: () = assert_layout::<RingCounters>(5 * 16);

impl Tally {
    /// Sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl HookCounters {
    /// All that was not wanted, whatever the reason.
    #[must_use]
    pub fn filtered(&self) -> Tally {
        let Self { offered: _, disabled, other_protocol, malformed, excluded, port, net } = *self;
        disabled.plus(other_protocol).plus(malformed).plus(excluded).plus(port).plus(net)
    }

    /// Sum of both, for adding up CPUs.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            offered: self.offered.plus(other.offered),
            disabled: self.disabled.plus(other.disabled),
            other_protocol: self.other_protocol.plus(other.other_protocol),
            malformed: self.malformed.plus(other.malformed),
            excluded: self.excluded.plus(other.excluded),
            port: self.port.plus(other.port),
            net: self.net.plus(other.net),
        }
    }
}

impl RingCounters {
    /// All that was wanted and lost, whatever the reason.
    #[must_use]
    pub fn dropped(&self) -> Tally {
        self.ring_full.plus(self.no_ring).plus(self.load_failed)
    }

    /// Sum of both, for adding up CPUs.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            captured: self.captured.plus(other.captured),
            truncated: self.truncated.plus(other.truncated),
            ring_full: self.ring_full.plus(other.ring_full),
            no_ring: self.no_ring.plus(other.no_ring),
            load_failed: self.load_failed.plus(other.load_failed),
        }
    }
}

// SAFETY: repr(C), made of u64 only: no padding, any bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for HookCounters {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for RingCounters {}
