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
    /// 0 if `len` bytes (at least 1) that begin at `seq` lie within, else 1. Without a branch: see the eBPF programs.
    #[inline(always)]
    #[must_use]
    pub const fn outside(self, seq: u32, len: u64) -> u64 {
        let end = (seq.wrapping_sub(self.from) as u64).wrapping_add(len);
        negative(len.wrapping_sub(1)) | negative((self.len as u64).wrapping_sub(end))
    }
}

/// 1 if the number, as a signed one, is negative, else 0.
#[inline(always)]
#[must_use]
pub const fn negative(x: u64) -> u64 {
    x >> 63
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
        for (seq, len) in [(u32::MAX - 9, 100), (0, 90), (89, 1)] {
            assert_eq!(window.outside(seq, len), 0, "{seq} {len}");
        }
        for (seq, len) in
            [(0, 91), (u32::MAX - 10, 1), (90, 1), (0, 0), (0, 0_u64.wrapping_sub(5)), (1 << 31, 1)]
        {
            assert_eq!(window.outside(seq, len), 1, "{seq} {len}");
        }
        assert_eq!(Window::default().outside(0, 1), 1);
    }
}
