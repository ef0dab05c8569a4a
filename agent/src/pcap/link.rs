//! The sidecar of a segment: for each record, in order, a link of fixed size to its stream's previous record.
//!
//! ```text
//! header  magic "RMLINK01" | first stream id of the log: u64 | step: u32 | 0: u32
//! link    link type: 16 bits, stream: 48 bits | segment, record of the previous one: u32, u32 | offset: u32 | captured: u32
//! ```
//!
//! Both take [`SIZE`] bytes, little-endian: record `n` is at `(n + 1) * SIZE`. A stream is thus found from its last
//! record backwards, and the index of a stream is one [`Position`].

use agent_core::LinkType;
use agent_core::item::StreamId;

/// Bytes of a link, and of the header.
pub(super) const SIZE: usize = 24;

const MAGIC: [u8; 8] = *b"RMLINK01";
const STREAM_BITS: u32 = 48;
const STREAM_MASK: u64 = (1 << STREAM_BITS) - 1;
/// Stands for a packet of no stream.
const NO_STREAM: u64 = STREAM_MASK;
/// The largest stream id that can be stored.
pub(super) const MAX_STREAM: u64 = NO_STREAM - 1;

/// A record of the log. Segments are numbered from 1, upwards over the store's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) record: u32,
}

impl Position {
    /// One number; never 0, which stands for no position.
    pub(super) const fn pack(self) -> u64 {
        (self.segment as u64) << 32 | self.record as u64
    }

    pub(super) const fn unpack(packed: u64) -> Option<Self> {
        if packed >> 32 == 0 {
            return None;
        }
        Some(Self { segment: (packed >> 32) as u32, record: packed as u32 })
    }
}

/// One record's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) stream: Option<StreamId>,
    pub(super) link: LinkType,
    pub(super) previous: Option<Position>,
    /// Of the record's block in the segment, in bytes.
    pub(super) offset: u32,
    /// Captured length, in bytes.
    pub(super) captured: u32,
}

impl Link {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let stream = self.stream.map_or(NO_STREAM, |s| s.0 & STREAM_MASK);
        out.extend_from_slice(&(u64::from(self.link.0) << STREAM_BITS | stream).to_le_bytes());
        out.extend_from_slice(&self.previous.map_or(0, Position::pack).to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.captured.to_le_bytes());
    }

    /// Where its record's block ends.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + super::format::epb_len(self.captured)
    }

    pub(super) fn decode(bytes: &[u8; SIZE]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        let [i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x] = rest;
        let tag = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let stream = tag & STREAM_MASK;
        Self {
            stream: (stream != NO_STREAM).then_some(StreamId(stream)),
            link: LinkType((tag >> STREAM_BITS) as u16),
            previous: Position::unpack(u64::from_le_bytes([i, j, k, l, m, n, o, p])),
            offset: u32::from_le_bytes([q, r, s, t]),
            captured: u32::from_le_bytes([u, v, w, x]),
        }
    }
}

/// The stream ids of a log: `first`, `first + step`, …
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ids {
    pub(super) first: u64,
    pub(super) step: u32,
}

impl Ids {
    pub(super) fn encode(self) -> [u8; SIZE] {
        let mut header = [0; SIZE];
        let fields = [&MAGIC[..], &self.first.to_le_bytes(), &self.step.to_le_bytes()].concat();
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        header
    }

    pub(super) fn decode(header: &[u8; SIZE]) -> Option<Self> {
        let rest = header.strip_prefix(&MAGIC)?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let step = rest.first_chunk::<4>()?;
        let ids = Self { first: u64::from_le_bytes(*first), step: u32::from_le_bytes(*step) };
        (ids.step > 0).then_some(ids)
    }

    /// The log's id of that ordinal.
    pub(super) fn stream(self, ordinal: u64) -> StreamId {
        StreamId(self.first.saturating_add(ordinal.saturating_mul(u64::from(self.step))))
    }

    /// Which of the log's ids it is, from 0; `None`: it is none of them.
    #[inline]
    pub(super) fn ordinal(self, stream: StreamId) -> Option<u64> {
        let above = stream.0.checked_sub(self.first)?;
        (above % u64::from(self.step) == 0 && stream.0 <= MAX_STREAM).then(|| above / u64::from(self.step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_headers_round_trip() {
        for (stream, previous) in [
            (None, None),
            (Some(StreamId(0)), Some(Position { segment: 1, record: 0 })),
            (Some(StreamId(MAX_STREAM)), Some(Position { segment: u32::MAX, record: u32::MAX })),
        ] {
            let link = Link { stream, link: LinkType(0xfffe), previous, offset: 7, captured: u32::MAX };
            let mut bytes = Vec::new();
            link.encode(&mut bytes);
            assert_eq!(Link::decode(bytes.first_chunk().unwrap()), link);
            assert_eq!(bytes.len(), SIZE);
        }
        let ids = Ids { first: 12, step: 4 };
        assert_eq!(Ids::decode(&ids.encode()), Some(ids));
        assert_eq!(Ids::decode(&[0; SIZE]), None);
        assert_eq!(Ids::decode(&Ids { first: 1, step: 0 }.encode()), None);
    }

    #[test]
    fn ordinals_are_dense_and_foreign_ids_have_none() {
        let ids = Ids { first: 12, step: 4 };
        assert_eq!(
            [8, 12, 13, 16, 20].map(|id| ids.ordinal(StreamId(id))),
            [None, Some(0), None, Some(1), Some(2)]
        );
        assert_eq!(Ids { first: 0, step: 1 }.ordinal(StreamId(u64::MAX)), None);
    }
}
