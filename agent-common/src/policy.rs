//! Flow policies: which segments of a flow are captured without their payload.
//!
//! A policy is a range of sequence numbers for each direction, not a mode: a segment that lies within is cut to its headers,
//! any other is captured whole. So nothing has to be restored in time, and what follows a large body is whole however late
//! user space is. A SYN is the end of a policy: the next connection on the same ports is not meant.
//!
//! A policy has one place, by its ring and hash; a place that another flow has is refused. Each ring's worker owns that
//! ring's places.

use crate::assert_layout;
use crate::flow::FlowHash;

/// Places for each ring; a power of two.
pub const PLACES: u32 = 4096;

/// Sequence numbers, modulo 2^32.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// The first.
    pub from: u32,
    /// How many; 0: none.
    pub len: u32,
}

impl Window {
    /// Whether `len` bytes that begin at `seq` lie within.
    #[inline(always)]
    #[must_use]
    pub const fn holds(self, seq: u32, len: u32) -> bool {
        seq.wrapping_sub(self.from) as u64 + len as u64 <= self.len as u64 && self.len > 0
    }
}

/// A policy in its place.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// By [`FlowHash::way`].
    pub windows: [Window; 2],
    /// [`tag`] of the flow; 0: the place is free. Last, for it is written last.
    pub tag: u64,
}

const _: () = assert_layout::<Window>(8);
const _: () = assert_layout::<Policy>(24);

/// What tells flows apart in a place: the hash, which is seeded with a secret, less one bit.
#[inline(always)]
#[must_use]
pub const fn tag(flow: FlowHash) -> u64 {
    flow.hash | 1
}

/// Index of a flow's place.
#[inline(always)]
#[must_use]
pub const fn place(flow: FlowHash, ring: u32) -> u32 {
    ring * PLACES + (flow.hash as u32 & (PLACES - 1))
}

// SAFETY: repr(C) without padding (size asserted above), any bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Policy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_whole_segments_only_and_wraps() {
        let window = Window { from: u32::MAX - 9, len: 100 };
        assert!(window.holds(u32::MAX - 9, 100) && window.holds(0, 90) && window.holds(89, 1));
        assert!(!window.holds(0, 91) && !window.holds(u32::MAX - 10, 1) && !window.holds(90, 1));
        assert!(!Window::default().holds(0, 0));
    }
}
