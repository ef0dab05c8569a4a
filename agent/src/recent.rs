//! A map of bounded size that keeps what is used: past its bound the half that was used longer ago is forgotten.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Two generations of entries, each of half the bound.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    recent: HashMap<K, V, RandomState>,
    older: HashMap<K, V, RandomState>,
    most: usize,
}

impl<K: Hash + Eq + Copy, V> Recent<K, V> {
    /// At most `most` entries.
    pub(crate) fn new(most: usize) -> Self {
        Self { recent: HashMap::default(), older: HashMap::default(), most }
    }

    /// The entry, made if there is none.
    pub(crate) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if self.recent.len() >= self.most / 2 && !self.recent.contains_key(&key) {
            let promoted = self.older.remove(&key);
            self.older = std::mem::take(&mut self.recent);
            if let Some(value) = promoted {
                self.recent.insert(key, value);
            }
        }
        let older = &mut self.older;
        self.recent.entry(key).or_insert_with(|| older.remove(&key).unwrap_or_else(make))
    }

    /// Forgets an entry.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let older = self.older.remove(key);
        self.recent.remove(key).or(older)
    }

    /// Entries held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let mut recent = Recent::new(8);
        *recent.entry(7, || 0) += 1;
        for key in 100..1000 {
            recent.entry(key, || 0);
            *recent.entry(7, || 0) += 1;
            assert!(recent.len() <= 8);
        }
        assert_eq!(recent.remove(&7), Some(901));
        assert_eq!((recent.remove(&7), recent.remove(&100)), (None, None));
    }
}
