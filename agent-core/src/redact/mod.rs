//! Overwrites the values of headers in captured packets, in place.
//!
//! The packets go through an engine twice: [`Finder`] learns from what the dissector read as text (heads, trailers) which
//! bytes of which direction are values to be hidden; [`Overwriter`] then finds these bytes in every packet that carries
//! them: in pieces, out of order, sent again.
//!
//! What the engine took in is judged, and nothing else: other bytes stay only where they equal, at the same offset, those that
//! it took. So these are hidden: what came when its place was given up as a gap, a second copy that differs, what is out of the
//! window, beyond a FIN, of a RST, of a closed stream, and what a frame holds behind its IP datagram.
//!
//! Invariants: lengths never change; bodies, and protocols that nobody reads, stay as they are; where the dissector cannot know
//! what bytes are (behind a hole in a head, of a segment that nobody read, of a fragment of an IP datagram), they are hidden.
//! A TCP checksum is changed by as much as its payload was: one that was right stays right.

mod lines;
mod seen;

use std::collections::BTreeMap;

use crate::engine::{Engine, EngineConfig, Event};
use crate::item::StreamId;
use crate::packet::Packet;
use lines::Lines;
use seen::Seen;

/// What hidden bytes become.
pub const MASK: u8 = b'*';

/// Ranges that are remembered at most.
const MOST_RANGES: usize = 1 << 20;
/// Octets of a TCP header without options: of a first fragment they stay.
const TCP_HEADER: usize = 20;

/// More values are to be hidden than can be remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

/// A direction of a stream.
type Way = (StreamId, u8);

/// First pass: finds what to hide.
pub struct Finder<'a> {
    engine: Engine,
    hides: &'a dyn Fn(&[u8]) -> bool,
    lines: BTreeMap<Way, Lines>,
    hidden: Hidden,
}

/// What is to be hidden.
#[derive(Debug, Default)]
pub struct Hidden {
    /// Offsets, first and one past the last, in order.
    ranges: BTreeMap<Way, Vec<(u64, u64)>>,
    count: usize,
}

impl<'a> Finder<'a> {
    /// `hides` tells whether values of a header of that name are hidden.
    #[must_use]
    pub fn new(hides: &'a dyn Fn(&[u8]) -> bool) -> Self {
        let engine = Engine::new(EngineConfig { text: true, ..EngineConfig::default() });
        Self { engine, hides, lines: BTreeMap::new(), hidden: Hidden::default() }
    }

    /// Takes the next packet.
    pub fn packet(&mut self, packet: &Packet<'_>) {
        self.engine.handle_packet(packet);
        self.draw();
    }

    /// All packets were given.
    ///
    /// # Errors
    /// When there is more to hide than can be remembered: half of the packets must not be taken for redacted.
    pub fn finish(mut self) -> Result<Hidden, TooMany> {
        self.engine.finish();
        self.draw();
        if self.hidden.count > MOST_RANGES { Err(TooMany) } else { Ok(self.hidden) }
    }

    fn draw(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Text(text) => {
                    let way = (text.stream, text.from);
                    let lines = self.lines.entry(way).or_insert_with(Lines::new);
                    let hidden = &mut self.hidden;
                    if text.lost > 0 {
                        lines.lost();
                        continue;
                    }
                    lines.take(text.offset, &text.bytes, self.hides, &mut |from, len| {
                        hidden.add(way, from, from + len);
                    });
                }
                Event::StreamClosed(summary) => {
                    for way in [(summary.stream, 0), (summary.stream, 1)] {
                        let hidden = &mut self.hidden;
                        if let Some(mut lines) = self.lines.remove(&way) {
                            lines.end(self.hides, &mut |from, len| hidden.add(way, from, from + len));
                        }
                    }
                }
                Event::Item(_) | Event::Trim(_) => {}
            }
        }
    }
}

impl Hidden {
    fn add(&mut self, way: Way, from: u64, to: u64) {
        if self.count > MOST_RANGES {
            return;
        }
        let ranges = self.ranges.entry(way).or_default();
        match ranges.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => {
                ranges.push((from, to));
                self.count += 1;
            }
        }
    }

    /// The parts of `len` bytes from `offset` on that are hidden, relative to it.
    fn within(&self, way: Way, offset: i64, len: usize) -> impl Iterator<Item = (usize, usize)> {
        let ranges = self.ranges.get(&way).map_or(&[][..], Vec::as_slice);
        let end = offset.saturating_add_unsigned(len as u64);
        let first = ranges.partition_point(|range| i64::try_from(range.1).unwrap_or(i64::MAX) <= offset);
        let relative = move |at: u64| {
            let at = i64::try_from(at).unwrap_or(i64::MAX).saturating_sub(offset);
            usize::try_from(at).unwrap_or(0).min(len)
        };
        let overlaps = move |range: &&(u64, u64)| i64::try_from(range.0).unwrap_or(i64::MAX) < end;
        ranges[first..].iter().take_while(overlaps).map(move |&(from, to)| (relative(from), relative(to)))
    }
}

/// Second pass: overwrites it.
pub struct Overwriter {
    engine: Engine,
    hidden: Hidden,
    seen: BTreeMap<Way, Seen>,
}

impl Overwriter {
    /// For the same packets that the [`Finder`] got.
    #[must_use]
    pub fn new(hidden: Hidden) -> Self {
        let engine = Engine::new(EngineConfig { text: true, ..EngineConfig::default() });
        Self { engine, hidden, seen: BTreeMap::new() }
    }

    /// Takes the next packet; `copy` begins as a copy of its data.
    pub fn packet(&mut self, packet: &Packet<'_>, copy: &mut [u8]) {
        self.engine.handle_packet(packet);
        while let Some(event) = self.engine.poll_event() {
            if let Event::StreamClosed(summary) = event {
                self.seen.retain(|way, _| way.0 != summary.stream);
            }
        }
        if let Some((range, first)) = Engine::fragment_in(packet) {
            let start = range.start + if first { TCP_HEADER } else { 0 };
            if let Some(bytes) = copy.get_mut(start..range.end) {
                bytes.fill(MASK);
            }
            return;
        }
        let Some(place) = self.engine.payload_place(packet) else { return };
        if let Some(behind) = copy.get_mut(place.at + place.len..) {
            // Padding is zeros, or whatever was in the sender's memory.
            behind.iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte = MASK);
        }
        let Some(sent) = packet.data.get(place.at..place.at + place.len) else { return };
        let seen = self.seen.entry((place.stream, place.from)).or_default();
        let unjudged = seen.unjudged(place.offset, sent, self.engine.taken());
        let mut payload = Payload { copy, header: place.header, at: place.at };
        for (from, to) in unjudged {
            payload.mask(from, to);
        }
        for (from, to) in self.hidden.within((place.stream, place.from), place.offset, place.len) {
            payload.mask(from, to);
        }
    }
}

/// Payload of a segment, with its TCP header.
struct Payload<'a> {
    copy: &'a mut [u8],
    header: usize,
    at: usize,
}

impl Payload<'_> {
    /// Overwrites bytes of the payload, and changes the checksum (RFC 1624) by as much.
    fn mask(&mut self, from: usize, to: usize) {
        let checksum = self.header + 16..self.header + 18;
        let Some(&[high, low]) = self.copy.get(checksum.clone()) else { return };
        let mut sum = u32::from(!u16::from_be_bytes([high, low]));
        for index in from..to {
            let Some(byte) = self.copy.get_mut(self.at + index) else { break };
            let shift = if index % 2 == 0 { 8 } else { 0 };
            sum += u32::from(!(u16::from(*byte) << shift)) + (u32::from(MASK) << shift);
            sum = (sum & 0xffff) + (sum >> 16);
            *byte = MASK;
        }
        sum = (sum & 0xffff) + (sum >> 16);
        let new = !(sum as u16);
        if let Some(bytes) = self.copy.get_mut(checksum) {
            bytes.copy_from_slice(&new.to_be_bytes());
        }
    }
}
