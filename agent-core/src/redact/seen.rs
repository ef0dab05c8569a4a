//! What the engine took in of one direction, to know copies of it by.
//!
//! Invariant: a byte that the engine did not take is a copy only if it equals what the engine took at its offset. What it took
//! long ago is forgotten, lowest offsets first; a copy of that is none.

use std::collections::BTreeMap;

/// Bytes that are kept, overhead included.
const MOST: usize = 8 << 20;
/// Charged for each piece besides its bytes.
const OVERHEAD: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Disjoint pieces by offset.
    pieces: BTreeMap<i64, Box<[u8]>>,
    size: usize,
}

impl Seen {
    /// The parts of a segment's payload, counted from its first byte, that are neither `taken` nor copies of what was. Notes
    /// what is taken.
    pub(super) fn unjudged(
        &mut self,
        offset: i64,
        sent: &[u8],
        taken: &[(usize, usize)],
    ) -> Vec<(usize, usize)> {
        let mut unjudged = Vec::new();
        let mut at = 0;
        for &(from, to) in taken.iter().chain([&(sent.len(), sent.len())]) {
            self.differing(offset, sent, (at, from), &mut unjudged);
            at = to;
        }
        for &(from, to) in taken {
            let bytes = sent.get(from..to).unwrap_or_default();
            self.size += bytes.len() + OVERHEAD;
            let old = self.pieces.insert(offset.saturating_add_unsigned(from as u64), bytes.into());
            self.size -= old.map_or(0, |old| old.len() + OVERHEAD);
        }
        while self.size > MOST
            && let Some((_, bytes)) = self.pieces.pop_first()
        {
            self.size -= bytes.len() + OVERHEAD;
        }
        unjudged
    }

    /// Adds the parts of `sent` within `(from, to)` that are not known, or differ.
    fn differing(&self, offset: i64, sent: &[u8], (from, to): (usize, usize), out: &mut Vec<(usize, usize)>) {
        let mut at = from;
        while at < to {
            let place = offset.saturating_add_unsigned(at as u64);
            let known =
                self.pieces.range(..=place).next_back().and_then(|(start, bytes)| {
                    bytes.get(usize::try_from(place.saturating_sub(*start)).ok()?)
                });
            if known != sent.get(at) {
                match out.last_mut() {
                    Some(last) if last.1 == at => last.1 += 1,
                    _ => out.push((at, at + 1)),
                }
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_of_what_was_taken_are_judged() {
        let mut seen = Seen::default();
        assert_eq!(seen.unjudged(10, b"abcdef", &[(1, 5)]), [(0, 1), (5, 6)]);
        assert_eq!(seen.unjudged(9, b"xabcdefg", &[]), [(0, 2), (6, 8)]);
        assert_eq!(seen.unjudged(12, b"cXefgh", &[(3, 6)]), [(1, 2)]);
        assert_eq!(seen.unjudged(10, b"abcdefgh", &[]), [(0, 1)]);
        assert_eq!(seen.unjudged(-2, b"ab", &[]), [(0, 2)]);
    }

    #[test]
    fn what_is_forgotten_is_no_copy() {
        let mut seen = Seen::default();
        let piece = vec![b'a'; 1 << 20];
        for n in 0..20 {
            assert!(seen.unjudged(n << 20, &piece, &[(0, 1 << 20)]).is_empty());
            assert!(seen.size <= MOST);
        }
        assert_eq!(seen.unjudged(0, b"aa", &[]), [(0, 2)]);
        assert!(seen.unjudged(19 << 20, b"aa", &[]).is_empty());
    }
}
