//! Segments that came before their turn.

use std::collections::BTreeMap;

use crate::dissect::Arrival;

/// Charged for a held segment besides its bytes: its place in the tree and the allocation.
pub(crate) const OVERHEAD: usize = 128;

/// One segment's bytes, a copy.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) data: Box<[u8]>,
    /// Bytes behind `data` that the snap length cut.
    pub(crate) lost: u64,
    pub(crate) at: Arrival,
}

/// Disjoint held segments by offset.
#[derive(Debug, Default)]
pub(crate) struct Held {
    segments: BTreeMap<u64, Segment>,
    memory: usize,
    /// Segments with a hole before them.
    ranges: usize,
}

/// What putting a segment in met.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// Bytes that were there already.
    pub(crate) repeated: u64,
    /// Whether some of them differed.
    pub(crate) differs: bool,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes charged.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Number of holes, the one before the first segment included.
    pub(crate) fn holes(&self) -> usize {
        self.ranges
    }

    /// Offset of the first held byte.
    pub(crate) fn first(&self) -> Option<u64> {
        self.segments.first_key_value().map(|(start, _)| *start)
    }

    /// Offset and length of the first held segment.
    pub(crate) fn first_segment(&self) -> Option<(u64, usize)> {
        self.segments.first_key_value().map(|(start, s)| (*start, s.data.len()))
    }

    /// Whether the first segment is one zero byte with nothing behind it: what follows tells if it was a keep-alive
    /// probe.
    pub(crate) fn perhaps_probe(&self) -> bool {
        self.segments
            .first_key_value()
            .is_some_and(|(start, s)| *s.data == [0] && !self.segments.contains_key(&(start + 1)))
    }

    /// Arrival of the first held segment.
    pub(crate) fn first_at(&self) -> Option<Arrival> {
        self.segments.first_key_value().map(|(_, s)| s.at)
    }

    /// Puts in those bytes of a segment that are not there yet: the first copy wins.
    pub(crate) fn insert(&mut self, offset: u64, data: &[u8], lost: u64, at: Arrival) -> Overlap {
        let mut overlap = Overlap::default();
        let end = offset + data.len() as u64;
        let mut pos = offset;
        while pos < end {
            if let Some((start, old)) = self.covering(pos) {
                let old_end = start + old.data.len() as u64;
                let stop = old_end.min(end);
                let mine = data.get((pos - offset) as usize..(stop - offset) as usize);
                let theirs = old.data.get((pos - start) as usize..(stop - start) as usize);
                overlap.repeated += stop - pos;
                overlap.differs |= mine != theirs;
                pos = stop;
            } else {
                let stop = self.segments.range(pos + 1..end).next().map_or(end, |(start, _)| *start);
                let piece = data.get((pos - offset) as usize..(stop - offset) as usize).unwrap_or_default();
                self.put(pos, piece, if stop == end { lost } else { 0 }, at);
                pos = stop;
            }
        }
        if data.is_empty() && lost > 0 && self.covering(offset).is_none() {
            self.put(offset, data, lost, at);
        }
        overlap
    }

    /// Whether all bytes of a range are held.
    pub(crate) fn covers(&self, mut pos: u64, end: u64) -> bool {
        while pos < end {
            let Some((start, segment)) = self.covering(pos) else { return false };
            pos = start + segment.data.len() as u64;
        }
        true
    }

    /// The parts of `length` bytes from `offset` on, counted from there, that are not held.
    pub(crate) fn holes_in(&self, offset: i64, length: usize) -> Vec<(usize, usize)> {
        let end = offset.saturating_add_unsigned(length as u64);
        let relative = |at: u64| at.cast_signed().saturating_sub(offset).max(0) as usize;
        let mut holes = Vec::new();
        let mut at = 0;
        let first = offset.max(0).cast_unsigned();
        let first = self.covering(first).map_or(first, |(start, _)| start);
        for (start, segment) in self.segments.range(first..end.max(0).cast_unsigned().max(first)) {
            let from = relative(*start).min(length);
            if from > at {
                holes.push((at, from));
            }
            at = at.max(relative(start + segment.data.len() as u64).min(length));
        }
        if at < length {
            holes.push((at, length));
        }
        holes
    }

    fn covering(&self, pos: u64) -> Option<(u64, &Segment)> {
        let (start, segment) = self.segments.range(..=pos).next_back()?;
        (start + segment.data.len() as u64 > pos).then_some((*start, segment))
    }

    fn put(&mut self, start: u64, data: &[u8], lost: u64, at: Arrival) {
        // A segment all cut by the snap length has no bytes: real ones take its place.
        self.take(start);
        let end = start + data.len() as u64;
        // This one is a range of its own unless it touches the one before; the one behind, if it touches, is no more.
        self.ranges += usize::from(!self.ends_at(start));
        self.ranges -= usize::from(!data.is_empty() && self.segments.contains_key(&end));
        self.memory += data.len() + OVERHEAD;
        self.segments.insert(start, Segment { data: data.into(), lost, at: Arrival { offset: start, ..at } });
    }

    fn ends_at(&self, pos: u64) -> bool {
        self.segments
            .range(..pos)
            .next_back()
            .is_some_and(|(s, segment)| s + segment.data.len() as u64 == pos)
    }

    fn take(&mut self, start: u64) -> Option<Segment> {
        let segment = self.segments.remove(&start)?;
        let end = start + segment.data.len() as u64;
        self.ranges += usize::from(!segment.data.is_empty() && self.segments.contains_key(&end));
        self.ranges -= usize::from(!self.ends_at(start));
        self.memory -= segment.data.len() + OVERHEAD;
        Some(segment)
    }

    /// Takes out the first segment.
    pub(crate) fn pop(&mut self) -> Option<(u64, Segment)> {
        let start = self.first()?;
        self.take(start).map(|s| (start, s))
    }
}
