//! IP fragments (RFC 791 section 3.2, RFC 8200 section 4.5) put together, within a budget.
//!
//! The first copy of a byte wins; overlapping pieces are told to the caller. A datagram
//! that stays incomplete is dropped after [`Limits::fragment_timeout`]; the oldest goes first when memory is short.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use super::{Fragment, Net};
use crate::flow::hash::KeyedState;
use crate::item::StreamId;
use crate::limits::Limits;
use crate::time::Timestamp;

/// An IP datagram is no longer than this.
const MAX_DATAGRAM: usize = 65_535;

/// Names a datagram while it is in pieces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FragmentKey {
    /// Addresses and tag.
    pub(crate) net: Net,
    /// The datagram's identification.
    pub(crate) id: u32,
    /// Protocol that it carries.
    pub(crate) protocol: u8,
}

/// A datagram that is whole again.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// Which one.
    pub(crate) key: FragmentKey,
    /// Its payload, as far as it was captured without a break.
    pub(crate) data: Vec<u8>,
    /// Length of the payload on the wire.
    pub(crate) wire: usize,
}

/// What became of a piece.
#[derive(Debug, Default)]
pub(crate) struct Inserted {
    /// The datagram, if this piece completed it.
    pub(crate) whole: Option<Datagram>,
    /// The stream that an earlier piece was found to belong to.
    pub(crate) stream: Option<StreamId>,
    /// It overlapped another piece.
    pub(crate) overlap: bool,
    /// It was refused: past the end of a datagram, of no length, or one piece too many.
    pub(crate) refused: bool,
    /// Incomplete datagrams dropped to make room.
    pub(crate) evicted: u64,
}

#[derive(Debug)]
struct Piece {
    data: Vec<u8>,
    wire: usize,
}

#[derive(Debug)]
struct Partial {
    pieces: BTreeMap<usize, Piece>,
    /// Length of the datagram, once the last piece was seen.
    total: Option<usize>,
    /// Bytes on the wire that the pieces cover.
    covered: usize,
    memory: usize,
    since: Timestamp,
    stream: Option<StreamId>,
}

/// All datagrams that are in pieces.
pub(crate) struct Fragments {
    partial: HashMap<FragmentKey, Partial, KeyedState>,
    /// In order of their first piece; may name datagrams that are done.
    order: VecDeque<(Timestamp, FragmentKey)>,
    memory: usize,
}

/// Charged for a piece besides its bytes.
const PIECE_OVERHEAD: usize = 96;
/// Charged for a datagram besides its pieces.
const PARTIAL_OVERHEAD: usize = 256;
/// Pieces of one datagram: as many as it has at the smallest sensible size, 64 bytes.
const MAX_PIECES: usize = 1024;

impl Fragments {
    pub(crate) fn new(seed: u64) -> Self {
        Self { partial: HashMap::with_hasher(KeyedState::new(seed)), order: VecDeque::new(), memory: 0 }
    }

    /// Memory held, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Remembers the stream that a datagram belongs to, for the pieces that follow.
    pub(crate) fn belongs(&mut self, key: &FragmentKey, stream: StreamId) {
        if let Some(partial) = self.partial.get_mut(key) {
            partial.stream = Some(stream);
        }
    }

    /// When the oldest datagram is given up.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Timestamp> {
        self.order.front().map(|(since, _)| since.after(limits.fragment_timeout))
    }

    /// Drops what has been incomplete for too long; how many datagrams.
    pub(crate) fn expire(&mut self, now: Timestamp, limits: &Limits) -> u64 {
        std::iter::from_fn(|| self.expired(now, limits)).count() as u64
    }

    /// Drops one datagram that has been incomplete for too long, and tells which.
    pub(crate) fn expired(&mut self, now: Timestamp, limits: &Limits) -> Option<FragmentKey> {
        while let Some(&(since, _)) = self.order.front() {
            if since.after(limits.fragment_timeout) > now {
                break;
            }
            if let Some(key) = self.drop_oldest() {
                return Some(key);
            }
        }
        None
    }

    /// Drops one datagram to make room for a piece, as [`Self::insert`] does, and tells which.
    pub(crate) fn crowded_out(&mut self, piece: &Fragment<'_>, limits: &Limits) -> Option<FragmentKey> {
        while self.memory + cost(piece) > limits.fragment_memory && !self.order.is_empty() {
            if let Some(key) = self.drop_oldest() {
                return Some(key);
            }
        }
        None
    }

    /// Whether pieces of that datagram are held.
    pub(crate) fn holds(&self, key: &FragmentKey) -> bool {
        self.partial.contains_key(key)
    }

    fn drop_oldest(&mut self) -> Option<FragmentKey> {
        let (since, key) = self.order.pop_front()?;
        // The same key may have come again since; then this entry is not that datagram's.
        if self.partial.get(&key).is_some_and(|p| p.since == since) {
            self.remove(&key);
            return Some(key);
        }
        None
    }

    fn remove(&mut self, key: &FragmentKey) -> Option<Partial> {
        let partial = self.partial.remove(key)?;
        self.memory = self.memory.saturating_sub(partial.memory);
        Some(partial)
    }

    /// Takes one piece.
    pub(crate) fn insert(&mut self, piece: &Fragment<'_>, now: Timestamp, limits: &Limits) -> Inserted {
        let mut result = Inserted::default();
        let end = piece.offset + piece.frame.wire;
        // Every piece but the last is a multiple of 8 bytes long.
        if piece.frame.wire == 0 || end > MAX_DATAGRAM || (piece.more && !piece.frame.wire.is_multiple_of(8))
        {
            result.refused = true;
            return result;
        }
        while self.crowded_out(piece, limits).is_some() {
            result.evicted += 1;
        }
        if self.memory + cost(piece) > limits.fragment_memory {
            result.refused = true;
            return result;
        }
        let order = &mut self.order;
        let memory = &mut self.memory;
        let partial = self.partial.entry(piece.key).or_insert_with(|| {
            order.push_back((now, piece.key));
            *memory += PARTIAL_OVERHEAD;
            Partial::new(now)
        });
        result.stream = partial.stream;
        let before = partial.memory;
        partial.add(piece, &mut result);
        *memory += partial.memory - before;
        if partial.total.is_some_and(|total| partial.covered >= total)
            && let Some(partial) = self.remove(&piece.key)
        {
            // Entries of datagrams that are done are swept once they are the most; each sweep is paid for by them.
            if self.order.len() > 2 * self.partial.len() + 64 {
                let live = &self.partial;
                self.order.retain(|(since, key)| live.get(key).is_some_and(|p| p.since == *since));
            }
            result.whole = Some(partial.join(piece.key));
        }
        result
    }
}

/// What a piece is charged when it is the first of its datagram.
fn cost(piece: &Fragment<'_>) -> usize {
    piece.frame.data.len() + PIECE_OVERHEAD + PARTIAL_OVERHEAD
}

impl Partial {
    fn new(since: Timestamp) -> Self {
        Self {
            pieces: BTreeMap::new(),
            total: None,
            covered: 0,
            memory: PARTIAL_OVERHEAD,
            since,
            stream: None,
        }
    }

    /// Puts in those bytes of a piece that are not there yet.
    fn add(&mut self, piece: &Fragment<'_>, result: &mut Inserted) {
        let (mut at, mut end) = (piece.offset, piece.offset + piece.frame.wire);
        if let Some(total) = self.total {
            // Past the end of the datagram as the first last piece told it.
            result.refused |= end > total || (!piece.more && end != total);
            end = end.min(total);
        } else if !piece.more {
            self.total = Some(end);
        }
        while at < end {
            let covering = self.pieces.range(..=at).next_back().map(|(s, p)| s + p.wire).filter(|e| *e > at);
            if let Some(covered_to) = covering {
                result.overlap = true;
                at = covered_to;
                continue;
            }
            let stop = self.pieces.range(at..).next().map_or(end, |(s, _)| (*s).min(end));
            if self.pieces.len() >= MAX_PIECES {
                result.refused = true;
                return;
            }
            let from = (at - piece.offset).min(piece.frame.data.len());
            let to = (stop - piece.offset).min(piece.frame.data.len());
            let data = piece.frame.data.get(from..to).unwrap_or_default().to_vec();
            self.memory += data.len() + PIECE_OVERHEAD;
            self.covered += stop - at;
            self.pieces.insert(at, Piece { data, wire: stop - at });
            at = stop;
        }
    }

    fn join(self, key: FragmentKey) -> Datagram {
        let wire = self.total.unwrap_or(self.covered);
        let mut data = Vec::with_capacity(wire);
        for (start, piece) in self.pieces {
            if start != data.len() {
                break;
            }
            data.extend_from_slice(&piece.data);
            if piece.data.len() < piece.wire {
                break;
            }
        }
        data.truncate(wire);
        Datagram { key, data, wire }
    }
}
