//! TCP sequence numbers (RFC 9293 section 3.4): 32 bits that wrap.
//!
//! There is no `Ord` on purpose: which of two sequence numbers is the earlier one is only known near a reference.
//! Everything past this module counts in 64-bit stream offsets, which do not wrap.

/// A sequence or acknowledgement number as it is in the header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Seq(pub(crate) u32);

impl Seq {
    /// The number `n` bytes further on.
    pub(crate) const fn plus(self, n: u64) -> Self {
        // Truncation is the definition: sequence numbers count modulo 2^32.
        Self(self.0.wrapping_add(n as u32))
    }

    /// Signed distance from `from` to this one, the shorter way round the circle.
    pub(crate) const fn distance(self, from: Self) -> i32 {
        self.0.wrapping_sub(from.0).cast_signed()
    }

    /// Distance from `from` to this one, forwards.
    pub(crate) const fn forward(self, from: Self) -> u32 {
        self.0.wrapping_sub(from.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_way_round() {
        assert_eq!(Seq(5).distance(Seq(u32::MAX)), 6);
        assert_eq!(Seq(u32::MAX).distance(Seq(5)), -6);
        assert_eq!(Seq(0x8000_0000).distance(Seq(0)), i32::MIN);
        assert_eq!(Seq(3).forward(Seq(5)), u32::MAX - 1);
        assert_eq!(Seq(7).plus(1 << 33), Seq(7));
        assert_eq!(Seq(u32::MAX).plus(2), Seq(1));
    }
}
