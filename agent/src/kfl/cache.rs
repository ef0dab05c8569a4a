//! Compiled filters by their text, so that `kfl.match` in a hook compiles each once.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Filter, KflError};

/// At most so many filters; the one unused longest goes first.
#[derive(Debug)]
pub struct FilterCache {
    filters: HashMap<Box<str>, (Arc<Filter>, u64)>,
    limit: usize,
    clock: u64,
    evicted: u64,
}

impl FilterCache {
    /// A cache of `limit` filters, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { filters: HashMap::new(), limit: limit.max(1), clock: 0, evicted: 0 }
    }

    /// The filter of that text, compiled now if it is not there.
    ///
    /// # Errors
    /// As [`Filter::compile`]; errors are not kept.
    pub fn compiled(&mut self, text: &str) -> Result<Arc<Filter>, KflError> {
        self.clock += 1;
        if let Some((filter, used)) = self.filters.get_mut(text) {
            *used = self.clock;
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(Filter::compile(text)?);
        if self.filters.len() >= self.limit {
            let oldest = self.filters.iter().min_by_key(|(_, (_, used))| *used).map(|(text, _)| text.clone());
            if let Some(oldest) = oldest {
                self.filters.remove(&oldest);
                self.evicted += 1;
            }
        }
        self.filters.insert(text.into(), (Arc::clone(&filter), self.clock));
        Ok(filter)
    }

    /// Filters that were dropped for others: many of them mean that texts are made up anew for each item.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_unused_longest_goes_and_is_counted() {
        let mut cache = FilterCache::new(2);
        let first = cache.compiled("http").unwrap();
        cache.compiled("tls").unwrap();
        assert!(Arc::ptr_eq(&first, &cache.compiled("http").unwrap()), "it is not compiled again");
        assert!(cache.compiled("htp").is_err());
        assert_eq!(cache.evicted(), 0, "an error takes no room");
        cache.compiled("tcp").unwrap();
        assert_eq!((cache.evicted(), cache.filters.len()), (1, 2));
        assert!(cache.filters.contains_key("http") && !cache.filters.contains_key("tls"));
    }
}
