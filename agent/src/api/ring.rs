//! The latest items: bounded in number and in the memory that they hold.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::captured::Captured;

/// See the module. Items are numbered as they come, from 1.
#[derive(Debug)]
pub(super) struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The number of the next one.
    next: u64,
    most_items: usize,
    most_bytes: usize,
}

/// An item with its number.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) item: Arc<Captured>,
    /// Memory held.
    pub(super) bytes: usize,
}

impl Kept {
    /// An item that has no number yet.
    pub(super) fn new(item: &Arc<Captured>) -> Self {
        Self { number: 0, bytes: item.memory(), item: Arc::clone(item) }
    }
}

/// What there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub(super) struct RingStats {
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) evicted: u64,
}

impl Ring {
    pub(super) fn new(most_items: usize, most_bytes: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, next: 1, most_items, most_bytes }
    }

    /// Takes one in and gives it its number; `gone` gets what has to go for it, to be dropped where nobody waits.
    pub(super) fn push(&mut self, mut kept: Kept, gone: &mut Vec<Kept>) {
        kept.number = self.next;
        self.next += 1;
        self.bytes += kept.bytes;
        self.kept.push_back(kept);
        while self.kept.len() > self.most_items || self.bytes > self.most_bytes {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.bytes;
            gone.push(oldest);
        }
    }

    /// The number that the next item will have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Those before that number, the newest first, at most so many.
    pub(super) fn before(&self, number: u64, most: usize) -> Vec<Kept> {
        let end = self.kept.partition_point(|kept| kept.number < number);
        self.kept.range(..end).rev().take(most).cloned().collect()
    }

    /// The newest of those from that number on, the oldest first, at most so many and with so much memory; and how many of
    /// those wanted are not among them.
    pub(super) fn since(&self, number: u64, most: usize, most_bytes: usize) -> (VecDeque<Kept>, u64) {
        let mut bytes = 0;
        let mut found = VecDeque::new();
        for kept in self.kept.iter().rev().take_while(|kept| kept.number >= number).take(most) {
            bytes += kept.bytes;
            if bytes > most_bytes {
                break;
            }
            found.push_front(kept.clone());
        }
        let wanted = self.next.saturating_sub(number.max(1));
        let left_out = wanted - (found.len() as u64).min(wanted);
        (found, left_out)
    }

    pub(super) fn stats(&self) -> RingStats {
        let evicted = self.next - 1 - self.kept.len() as u64;
        RingStats { items: self.kept.len(), bytes: self.bytes, evicted }
    }
}
