//! A fast keyed hash for tables whose keys the network chooses.
//!
//! Multiply and fold (as wyhash and foldhash do), with every input mixed with a secret derived from
//! [`crate::EngineConfig::hash_seed`] before it is multiplied: without the seed, keys that collide cannot be made up.

use std::hash::{BuildHasher, Hasher};

/// Secrets of one table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyedState([u64; 4]);

impl KeyedState {
    /// Derives the secrets from a seed (splitmix64).
    pub(crate) const fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut keys = [0; 4];
        let mut i = 0;
        while i < 4 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            keys[i] = z ^ (z >> 31);
            i += 1;
        }
        Self(keys)
    }

    /// Hash of five words.
    #[inline]
    pub(crate) const fn words(&self, w: [u64; 6]) -> u64 {
        let [k0, k1, k2, k3] = self.0;
        let a = fold(w[0] ^ k0, w[1] ^ k1);
        let b = fold(w[2] ^ k2, w[3] ^ k3);
        let c = fold(w[4] ^ k1, w[5] ^ k2);
        fold(a ^ c ^ k3, b ^ c.rotate_left(32) ^ k0)
    }
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { state: self.0[0], key: self.0[1] }
    }
}

/// The same for keys of any shape, word by word.
#[derive(Debug)]
pub(crate) struct KeyedHasher {
    state: u64,
    key: u64,
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state.rotate_left(23) ^ word, self.key);
    }

    fn write_u8(&mut self, i: u8) {
        self.write_u64(u64::from(i));
    }

    fn write_u32(&mut self, i: u32) {
        self.write_u64(u64::from(i));
    }

    fn write_u128(&mut self, i: u128) {
        self.write_u64(i as u64);
        self.write_u64((i >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state ^ self.key, self.key.rotate_left(32) | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_give_different_hashes_and_bits_spread() {
        let (a, b) = (KeyedState::new(1), KeyedState::new(2));
        assert_ne!(a.words([1, 2, 3, 4, 5, 6]), b.words([1, 2, 3, 4, 5, 6]));
        // Ports in a row must fill the buckets of a table about evenly, in its low and in its high bits.
        let mut low = [0u32; 64];
        let mut high = [0u32; 128];
        for port in 0..64_000u64 {
            let h = a.words([10, 0, 11, 0, port << 16 | 80, 0]);
            low[(h & 63) as usize] += 1;
            high[(h >> 57) as usize] += 1;
        }
        assert!(low.iter().all(|n| (800..1200).contains(n)), "{low:?}");
        assert!(high.iter().all(|n| (350..650).contains(n)), "{high:?}");
    }
}
