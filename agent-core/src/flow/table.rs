//! The table of streams: a slab, an index into it by key, and a list for each time-out class.
//!
//! Invariants:
//! - One hash look-up finds a stream; its place in the slab stays the same for its life, and growth copies no stream.
//! - Each list is in order of the last packet, to [`TICK`]: who is longest idle is known in O(1), and so is who is due.

use hashbrown::HashTable;

use super::{FlowKey, hash::KeyedState};
use crate::time::Timestamp;

/// Time-out classes of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Not got beyond its SYN.
    Handshake,
    /// Open.
    Open,
    /// One end has closed, and the other may have without being seen.
    HalfClosed,
    /// Closed, kept for stray packets.
    Linger,
}

impl Class {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Handshake, Self::Open, Self::HalfClosed, Self::Linger];
}

/// A stream moves to the end of its list at most once in this many nanoseconds (about 1 ms): a busy one is not moved
/// for every packet.
pub(crate) const TICK: u64 = 1 << 20;

const NONE: u32 = u32::MAX;
const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Streams that are found without the index.
const LATELY: usize = 256;

struct Slot<T> {
    key: FlowKey,
    value: Option<T>,
    /// When it was put at the end of its list.
    queued: Timestamp,
    prev: u32,
    next: u32,
    /// [`Table::serial`] at that time.
    serial: u32,
    class: Class,
}

impl<T> Slot<T> {
    /// Whether a packet at that time moves it to the end of its list.
    #[inline]
    fn stale(&self, now: Timestamp) -> bool {
        self.class != Class::Linger && self.queued.0 / TICK != now.0 / TICK
    }
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

/// A stream that was found.
pub(crate) struct Found<'t, T> {
    pub(crate) at: u32,
    pub(crate) key: &'t FlowKey,
    pub(crate) value: &'t mut T,
    /// Whether [`Table::touch`] would do anything at the time that was asked for.
    pub(crate) stale: bool,
}

/// See the module.
pub(crate) struct Table<T> {
    index: HashTable<u32>,
    state: KeyedState,
    chunks: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
    lists: [List; 4],
    /// Where streams are that were found lately, by [`FlowKey::mark`]: the next packet is often of one of these.
    lately: [u32; LATELY],
    /// Number of the packet at hand, as far as anybody told: which of two streams was queued first at one time.
    pub(crate) serial: u32,
}

impl<T> Table<T> {
    pub(crate) fn new(seed: u64) -> Self {
        let empty = List { head: NONE, tail: NONE, len: 0 };
        Self {
            index: HashTable::new(),
            state: KeyedState::new(seed),
            chunks: Vec::new(),
            free: Vec::new(),
            lists: [empty; 4],
            lately: [NONE; LATELY],
            serial: 0,
        }
    }

    /// Number of streams.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Number of streams of a class.
    pub(crate) fn len_of(&self, class: Class) -> usize {
        self.lists[class as usize].len
    }

    fn slot(&self, at: u32) -> Option<&Slot<T>> {
        self.chunks.get((at >> CHUNK_BITS) as usize)?.get(at as usize % CHUNK)
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut((at >> CHUNK_BITS) as usize)?.get_mut(at as usize % CHUNK)
    }

    /// Where the stream of that key is.
    #[inline]
    pub(crate) fn find(&self, key: &FlowKey) -> Option<u32> {
        let hash = key.hash(&self.state);
        self.index.find(hash, |&at| self.slot(at).is_some_and(|s| s.key == *key)).copied()
    }

    /// The same, of a packet: it looks first at the stream that was found last for a key of the same mark.
    #[inline]
    pub(crate) fn find_next(&mut self, key: &FlowKey) -> Option<u32> {
        let mark = usize::from(key.mark());
        let last = self.lately[mark];
        if self.slot(last).is_some_and(|slot| slot.key == *key && slot.value.is_some()) {
            return Some(last);
        }
        let found = self.find(key)?;
        self.lately[mark] = found;
        Some(found)
    }

    /// The stream of a packet, with all that one is asked for nearly always.
    #[inline]
    pub(crate) fn next(&mut self, key: &FlowKey, now: Timestamp) -> Option<Found<'_, T>> {
        let at = self.find_next(key)?;
        let slot = self.slot_mut(at)?;
        let stale = slot.stale(now);
        let Slot { key, value, .. } = slot;
        value.as_mut().map(|value| Found { at, key, value, stale })
    }

    /// The stream at a place, with its key.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<(&FlowKey, &mut T)> {
        let slot = self.slot_mut(at)?;
        slot.value.as_mut().map(|value| (&slot.key, value))
    }

    /// The stream at a place.
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.slot(at)?.value.as_ref()
    }

    /// Adds a stream, whose key must not be there yet.
    pub(crate) fn insert(&mut self, key: FlowKey, value: T, class: Class, now: Timestamp) -> u32 {
        let slot = Slot { key, value: Some(value), queued: now, prev: NONE, next: NONE, serial: 0, class };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.slot_mut(at) {
                    *place = slot;
                }
                at
            }
            None => self.push(slot),
        };
        let Self { index, chunks, state, .. } = self;
        let hash_at = |&at: &u32| {
            let slot = chunks.get((at >> CHUNK_BITS) as usize).and_then(|c| c.get(at as usize % CHUNK));
            slot.map_or(0, |s| s.key.hash(state))
        };
        index.insert_unique(key.hash(state), at, hash_at);
        self.link(at, class, now);
        at
    }

    fn push(&mut self, slot: Slot<T>) -> u32 {
        if self.chunks.last().is_none_or(|c| c.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        let last = &mut self.chunks[chunk];
        last.push(slot);
        // The number of streams is limited far below 2^32.
        (chunk * CHUNK + last.len() - 1) as u32
    }

    /// Takes a stream out.
    pub(crate) fn remove(&mut self, at: u32) -> Option<(FlowKey, T)> {
        let slot = self.slot_mut(at)?;
        let value = slot.value.take()?;
        let key = slot.key;
        self.unlink(at);
        let hash = key.hash(&self.state);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        self.free.push(at);
        if self.index.is_empty() {
            // After a flood nothing is kept of it.
            self.chunks.truncate(1);
            self.chunks.iter_mut().for_each(Vec::clear);
            self.free = Vec::new();
            self.index.shrink_to(CHUNK, |_| 0);
        }
        Some((key, value))
    }

    /// Notes a packet of a stream.
    #[inline]
    pub(crate) fn touch(&mut self, at: u32, now: Timestamp) {
        if let Some(slot) = self.slot(at)
            && slot.stale(now)
        {
            let class = slot.class;
            self.unlink(at);
            self.link(at, class, now);
        }
    }

    /// Puts a stream into another class, at the end.
    pub(crate) fn set_class(&mut self, at: u32, class: Class, now: Timestamp) {
        self.unlink(at);
        self.link(at, class, now);
    }

    /// The longest idle stream of a class, and since when.
    pub(crate) fn oldest(&self, class: Class) -> Option<(u32, Timestamp)> {
        let head = self.lists[class as usize].head;
        self.slot(head).map(|s| (head, s.queued))
    }

    /// [`Self::serial`] when the stream at a place was queued.
    pub(crate) fn serial_of(&self, at: u32) -> u32 {
        self.slot(at).map_or(0, |s| s.serial)
    }

    /// All places, those of no stream included.
    pub(crate) fn places(&self) -> std::ops::Range<u32> {
        // The number of streams is limited far below 2^32.
        0..self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len()) as u32
    }

    /// Any stream at all: its class, its place, and since when it has been idle.
    pub(crate) fn any(&self) -> Option<(Class, u32, Timestamp)> {
        Class::ALL.iter().find_map(|&class| self.oldest(class).map(|(at, since)| (class, at, since)))
    }

    fn link(&mut self, at: u32, class: Class, now: Timestamp) {
        let (tail, serial) = (self.lists[class as usize].tail, self.serial);
        if let Some(slot) = self.slot_mut(at) {
            (slot.prev, slot.next, slot.class, slot.queued) = (tail, NONE, class, now);
            slot.serial = serial;
        }
        match self.slot_mut(tail) {
            Some(last) => last.next = at,
            None => self.lists[class as usize].head = at,
        }
        self.lists[class as usize].tail = at;
        self.lists[class as usize].len += 1;
    }

    fn unlink(&mut self, at: u32) {
        let Some(&Slot { prev, next, class, .. }) = self.slot(at) else { return };
        match self.slot_mut(prev) {
            Some(slot) => slot.next = next,
            None => self.lists[class as usize].head = next,
        }
        match self.slot_mut(next) {
            Some(slot) => slot.prev = prev,
            None => self.lists[class as usize].tail = prev,
        }
        self.lists[class as usize].len -= 1;
    }

    /// Memory of the table itself, its streams' slots included, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let slots: usize = self.chunks.iter().map(Vec::capacity).sum();
        slots * size_of::<Slot<T>>() + self.index.allocation_size() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests;
