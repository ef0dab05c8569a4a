//! The flow hash: symmetric, seeded, cheap. One hash picks the ring and the place of the flow's policy.
//!
//! Each end is mixed by itself and the two are added, so that both directions give the same hash; which of the two
//! mixtures is smaller tells the directions apart. A fragmented
//! datagram is hashed by addresses only (ports 0), first fragment included: later fragments carry no ports, and all
//! must reach the ring that puts them together.

/// One end of a flow as the hash sees it: the address (IPv4 mapped into IPv6) as two words, and the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Upper and lower half of the address; byte order does not matter as long as it is the same for both ends.
    pub address: [u64; 2],
    /// Port; 0 in a fragmented datagram.
    pub port: u16,
}

/// Steele and Vigna, "LXM" (2021): multipliers that spread well.
const M1: u64 = 0xD1B5_4A32_D192_ED03;
const M2: u64 = 0xAEF1_7502_108E_F2D9;

#[inline(always)]
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 32;
    x = x.wrapping_mul(M2);
    x ^= x >> 29;
    x
}

#[inline(always)]
const fn mix_end(end: End, seed: u64) -> u64 {
    let [high, low] = end.address;
    // Both products at once, which is what this costs: the multiplications that wait for one another.
    mix((low ^ seed).wrapping_mul(M1).wrapping_add(high.wrapping_add(end.port as u64).wrapping_mul(M2)))
}

/// A flow's hash, and which of its two ways a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowHash {
    /// The same for both directions.
    pub hash: u64,
    /// 0 for one direction, 1 for the other.
    pub way: u32,
}

impl FlowHash {
    /// Of a packet from `src` to `dst`.
    #[inline(always)]
    #[must_use]
    pub const fn new(src: End, dst: End, seed: u64) -> Self {
        let (from, to) = (mix_end(src, seed), mix_end(dst, seed));
        Self { hash: mix(from.wrapping_add(to)), way: (from > to) as u32 }
    }

    /// Which of `rings` rings (at least 1) the flow belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn ring(self, rings: u32) -> u32 {
        (((self.hash >> 32) * rings as u64) >> 32) as u32
    }
}

/// Which of `rings` rings (at least 1) the flow between `a` and `b` belongs to.
#[inline(always)]
#[must_use]
pub const fn ring_of(a: End, b: End, seed: u64, rings: u32) -> u32 {
    FlowHash::new(a, b, seed).ring(rings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(address: u64, port: u16) -> End {
        End { address: [0, address], port }
    }

    #[test]
    fn both_directions_reach_the_same_ring() {
        for i in 0..10_000_u64 {
            let (a, b) = (end(i.wrapping_mul(M1), i as u16), end(!i, (i >> 3) as u16));
            let ring = ring_of(a, b, 42, 7);
            assert_eq!(ring, ring_of(b, a, 42, 7));
            assert!(ring < 7);
            let (there, back) = (FlowHash::new(a, b, 42), FlowHash::new(b, a, 42));
            assert_eq!((there.hash, there.way), (back.hash, 1 - back.way));
        }
    }

    /// Clients that differ in their port only, and hosts that differ in their last byte only, spread evenly.
    #[test]
    fn similar_flows_spread_over_the_rings() {
        let server = end(0x0A00_0001, 80);
        for rings in [2_u32, 3, 4, 16] {
            let mut by_port = [0_u32; 16];
            let mut by_host = [0_u32; 16];
            for i in 0..4096_u64 {
                by_port[ring_of(end(0x0A00_0002, 32_768 + i as u16), server, 1, rings) as usize] += 1;
                by_host[ring_of(end(0x0A00_0002 + (i << 24), 4000), server, 1, rings) as usize] += 1;
            }
            let fair = 4096 / rings;
            for counts in [by_port, by_host] {
                for count in &counts[..rings as usize] {
                    assert!(count.abs_diff(fair) < fair / 4, "{rings} rings: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn the_seed_changes_the_distribution() {
        let flows = 0..1000_u64;
        let moved = flows
            .filter(|&i| {
                let (a, b) = (end(i, 1), end(1, 80));
                ring_of(a, b, 1, 4) != ring_of(a, b, 2, 4)
            })
            .count();
        assert!((600..900).contains(&moved), "{moved}");
    }
}
