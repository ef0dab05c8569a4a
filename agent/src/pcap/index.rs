//! Where each stream's last record lies: 8 bytes a stream, open or closed.
//!
//! A log's streams are numbered densely, so the index is an array in chunks of [`CHUNK`] positions, each there only
//! while something that it points to is stored. Invariants: a chunk's `newest` is the highest segment in it; there are
//! never more chunks than the budget allows (the ones that were quiet longest go first, and are counted).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use agent_core::item::StreamId;

use super::link::{Ids, Position};

const CHUNK: usize = 64;

struct Chunk {
    newest: u32,
    last: [u64; CHUNK],
}

/// Memory of a chunk, with its share of the map, in bytes.
const CHUNK_BYTES: usize = size_of::<Chunk>() + 32;

/// What the index knows of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Its last record.
    At(Position),
    /// It was here; the segments that held it are gone.
    Gone,
    /// Never seen.
    Never,
}

/// The index of one log.
pub(super) struct Index {
    ids: Ids,
    chunks: HashMap<u64, Box<Chunk>, BuildHasherDefault<Spread>>,
    max_chunks: usize,
    /// One past the highest ordinal seen.
    end: u64,
    evicted: u64,
}

impl Index {
    pub(super) fn new(ids: Ids, max_bytes: usize) -> Self {
        let max_chunks = (max_bytes / CHUNK_BYTES).max(1);
        Self { ids, chunks: HashMap::default(), max_chunks, end: 0, evicted: 0 }
    }

    pub(super) fn ids(&self) -> Ids {
        self.ids
    }

    /// Makes `at` the last record of `stream`. Gives the one before.
    #[inline]
    pub(super) fn advance(&mut self, stream: StreamId, at: Position) -> Option<Position> {
        let ordinal = self.ids.ordinal(stream)?;
        self.end = self.end.max(ordinal + 1);
        let (number, slot) = split(ordinal);
        if self.chunks.len() >= self.max_chunks && !self.chunks.contains_key(&number) {
            self.evict();
        }
        let chunk =
            self.chunks.entry(number).or_insert_with(|| Box::new(Chunk { newest: 0, last: [0; CHUNK] }));
        chunk.newest = chunk.newest.max(at.segment);
        let last = chunk.last.get_mut(slot)?;
        Position::unpack(std::mem::replace(last, at.pack()))
    }

    /// Undoes an [`Index::advance`] to `at`, if it is still the last.
    pub(super) fn retreat(&mut self, stream: StreamId, at: Position, previous: Option<Position>) {
        let Some((number, slot)) = self.ids.ordinal(stream).map(split) else { return };
        let Some(last) = self.chunks.get_mut(&number).and_then(|c| c.last.get_mut(slot)) else { return };
        if *last == at.pack() {
            *last = previous.map_or(0, Position::pack);
        }
    }

    pub(super) fn find(&self, stream: StreamId) -> Found {
        let Some(ordinal) = self.ids.ordinal(stream).filter(|&o| o < self.end) else { return Found::Never };
        let (number, slot) = split(ordinal);
        let Some(chunk) = self.chunks.get(&number) else { return Found::Gone };
        chunk.last.get(slot).and_then(|&p| Position::unpack(p)).map_or(Found::Never, Found::At)
    }

    /// Forgets the chunks all of whose segments are older than `oldest`.
    pub(super) fn forget_before(&mut self, oldest: u32) {
        self.chunks.retain(|_, chunk| chunk.newest >= oldest);
        if self.chunks.capacity() > 4 * self.chunks.len() {
            self.chunks.shrink_to_fit();
        }
    }

    /// Memory held, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }

    /// Streams' chunks dropped for want of memory, though something of them may be stored.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Drops the sixteenth of the chunks that was quiet longest (at least one).
    fn evict(&mut self) {
        let mut ages: Vec<(u32, u64)> =
            self.chunks.iter().map(|(&number, chunk)| (chunk.newest, number)).collect();
        let count = (ages.len() / 16).max(1).min(ages.len());
        if count < ages.len() {
            ages.select_nth_unstable(count);
        }
        for (_, number) in ages.into_iter().take(count) {
            self.chunks.remove(&number);
            self.evicted += 1;
        }
    }
}

fn split(ordinal: u64) -> (u64, usize) {
    (ordinal / CHUNK as u64, (ordinal % CHUNK as u64) as usize)
}

/// A hash for our own consecutive numbers: nobody outside chooses them.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: Ids = Ids { first: 10, step: 2 };

    fn at(segment: u32, record: u32) -> Position {
        Position { segment, record }
    }

    #[test]
    fn a_stream_leads_to_its_last_record() {
        let mut index = Index::new(IDS, 1 << 20);
        assert_eq!(index.find(StreamId(10)), Found::Never);
        assert_eq!(index.advance(StreamId(10), at(1, 0)), None);
        assert_eq!(index.advance(StreamId(10), at(1, 5)), Some(at(1, 0)));
        assert_eq!(index.find(StreamId(10)), Found::At(at(1, 5)));
        assert_eq!(index.find(StreamId(11)), Found::Never, "another log's");
        index.retreat(StreamId(10), at(1, 5), Some(at(1, 0)));
        index.retreat(StreamId(10), at(9, 9), None);
        assert_eq!(index.find(StreamId(10)), Found::At(at(1, 0)));
    }

    #[test]
    fn what_is_gone_is_forgotten_and_told() {
        let mut index = Index::new(IDS, 1 << 20);
        for i in 0..1000_u64 {
            index.advance(StreamId(10 + 2 * i), at(1 + (i / 100) as u32, i as u32));
        }
        index.forget_before(6);
        assert_eq!(index.find(StreamId(10)), Found::Gone);
        assert_eq!(index.find(StreamId(10 + 2 * 999)), Found::At(at(10, 999)));
        assert_eq!(index.find(StreamId(10 + 2 * 1000)), Found::Never);
        assert!(index.memory() <= (500 / CHUNK + 2) * CHUNK_BYTES);
        index.forget_before(11);
        assert_eq!(index.memory(), 0);
    }

    #[test]
    fn the_budget_holds_and_the_quiet_go_first() {
        let mut index = Index::new(IDS, 32 * CHUNK_BYTES);
        for i in 0..100 * CHUNK as u64 {
            index.advance(StreamId(10 + 2 * i), at(1 + i as u32, 0));
            index.advance(StreamId(10), at(1 + i as u32, 1));
            assert!(index.memory() <= 32 * CHUNK_BYTES);
        }
        assert!(index.evicted() >= 68);
        assert!(matches!(index.find(StreamId(10)), Found::At(_)), "a busy stream stays");
        assert_eq!(index.find(StreamId(10 + 2 * 80)), Found::Gone);
    }
}
