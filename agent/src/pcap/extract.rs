//! Puts a stream's capture file together: back along the links, then forwards through the records.
//!
//! Invariants: every step back goes to a lower position, so a walk ends whatever the files hold; memory is at most
//! [`KEEP`] records' places and one read buffer, however long the stream.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use agent_core::LinkType;
use agent_core::item::StreamId;

use super::format;
use super::link::{self, Link, Position};
use super::segment::{Registry, Segment};

/// Places of records kept in memory; those of a longer stream are looked up twice.
const KEEP: usize = 1 << 20;
/// Bytes of links read at a time.
const WINDOW: usize = 170 * link::SIZE;
/// Records closer than this, in bytes, are read together…
const NEAR: u64 = 8 << 10;
/// …up to this many bytes.
const SPAN: u64 = 1 << 20;

/// The records of a stream in one segment.
struct Part {
    segment: Arc<Segment>,
    /// The last of them.
    last: u32,
    /// The walk does not go below this record.
    stop: Option<u32>,
    /// Their places, the last one first; `None`: too many to keep.
    places: Option<Vec<Place>>,
}

#[derive(Clone, Copy)]
struct Place {
    offset: u32,
    captured: u32,
    link: LinkType,
}

/// The records of a stream between two positions.
pub(super) struct Walk {
    /// The last segment first.
    parts: Vec<Part>,
    /// Link types met, each once.
    pub(super) links: Vec<LinkType>,
    pub(super) packets: u64,
    /// Captured bytes, padded to four each.
    padded: u64,
    captured: u64,
    longest: u32,
    /// Whether it came to the position that it should stop at.
    pub(super) met: bool,
}

impl Walk {
    /// Goes back from `last` to just after `stop`, or as far as the stream is stored.
    pub(super) fn back(
        registry: &Registry,
        stream: StreamId,
        last: Position,
        stop: Option<Position>,
    ) -> io::Result<Self> {
        let mut walk = Self {
            parts: Vec::new(),
            links: Vec::new(),
            packets: 0,
            padded: 0,
            captured: 0,
            longest: 0,
            met: false,
        };
        let mut kept = 0;
        let mut next = Some(last);
        while let Some(at) = next {
            if Some(at) == stop {
                walk.met = true;
                break;
            }
            // What is older than the store goes back to is left out.
            let Some(segment) = registry.find(at.segment) else { break };
            let stop = stop.filter(|s| s.segment == at.segment).map(|s| s.record);
            let mut part = Part { segment, last: at.record, stop, places: Some(Vec::new()) };
            next = part.walk(stream, |place| {
                walk.note(place);
                kept += 1;
            })?;
            if kept > KEEP {
                part.places = None;
            }
            walk.parts.push(part);
        }
        Ok(walk)
    }

    fn note(&mut self, place: Place) {
        if !self.links.contains(&place.link) {
            self.links.push(place.link);
        }
        self.packets += 1;
        self.captured += u64::from(place.captured);
        self.padded += u64::from(place.captured).next_multiple_of(4);
        self.longest = self.longest.max(place.captured);
    }

    /// Size of its records in a file of that format.
    pub(super) fn size(&self, format: Format) -> u64 {
        match format {
            Format::Classic(_) => self.captured + self.packets * format::CLASSIC_RECORD,
            Format::Ng => self.padded + self.packets * u64::from(format::EPB_FRAME),
        }
    }

    /// The format that can hold them.
    pub(super) fn format(&self) -> Format {
        match self.links.as_slice() {
            [link] => Format::Classic(*link),
            _ => Format::Ng,
        }
    }

    /// Bytes before the first record.
    pub(super) fn header(&self, format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        match format {
            Format::Classic(link) => format::classic_header(&mut out, link, self.longest),
            Format::Ng => {
                format::section(&mut out);
                self.links.iter().for_each(|&link| format::interface(&mut out, link, None));
            }
        }
        out
    }

    /// Writes the records, oldest first.
    pub(super) fn write(self, stream: StreamId, format: Format, file: &File) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let mut buffer = Vec::new();
        for mut part in self.parts.into_iter().rev() {
            let places = match part.places.take() {
                Some(places) => places,
                None => {
                    part.places = Some(Vec::new());
                    part.walk(stream, |_| {})?;
                    part.places.take().unwrap_or_default()
                }
            };
            let writer = Records { links: &self.links, format, segment: &part.segment };
            writer.copy(&places, &mut buffer, &mut out)?;
        }
        out.flush()
    }
}

impl Part {
    /// Collects the stream's records in this segment. Gives where the stream goes on, before this segment.
    fn walk(&mut self, stream: StreamId, mut each: impl FnMut(Place)) -> io::Result<Option<Position>> {
        let mut links = Links { file: File::open(&self.segment.links)?, first: 0, window: Vec::new() };
        let mut at = Position { segment: self.segment.number, record: self.last };
        loop {
            let link = links.at(at.record)?;
            if link.stream != Some(stream) || link.previous.is_some_and(|p| p >= at) {
                return Err(damaged(
                    &self.segment,
                    &format!("record {} is not of stream {stream}", at.record),
                ));
            }
            let place = Place { offset: link.offset, captured: link.captured, link: link.link };
            each(place);
            if let Some(places) = &mut self.places {
                places.push(place);
            }
            match link.previous {
                Some(previous) if previous.segment == at.segment && self.stop != Some(previous.record) => {
                    at = previous;
                }
                previous => return Ok(previous),
            }
        }
    }
}

/// Links of a segment, read backwards in windows.
struct Links {
    file: File,
    first: u32,
    window: Vec<u8>,
}

impl Links {
    fn at(&mut self, record: u32) -> io::Result<Link> {
        loop {
            let within = record.checked_sub(self.first).map(|i| i as usize * link::SIZE);
            if let Some(bytes) = within.and_then(|at| self.window.get(at..)?.first_chunk()) {
                return Ok(Link::decode(bytes));
            }
            let end = record as usize + 1;
            let first = end.saturating_sub(WINDOW / link::SIZE);
            self.window.resize((end - first) * link::SIZE, 0);
            self.file.read_exact_at(&mut self.window, (first as u64 + 1) * link::SIZE as u64)?;
            self.first = first as u32;
        }
    }
}

/// The format of an extracted file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// pcap, of one link type.
    Classic(LinkType),
    /// pcapng, for several.
    Ng,
}

struct Records<'a> {
    links: &'a [LinkType],
    format: Format,
    segment: &'a Segment,
}

impl Records<'_> {
    /// Copies the records at `places` (last first), in order.
    fn copy(&self, places: &[Place], buffer: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
        let file = File::open(&self.segment.data)?;
        let mut encoded = Vec::new();
        let mut left = places.iter().rev().copied().peekable();
        let mut span = Vec::new();
        while let Some(first) = left.next() {
            let start = u64::from(first.offset);
            let mut end = start + format::epb_len(first.captured);
            span.clear();
            span.push(first);
            while let Some(next) = left.next_if(|next| {
                let at = u64::from(next.offset);
                at >= end && at - end <= NEAR && at + format::epb_len(next.captured) - start <= SPAN
            }) {
                end = u64::from(next.offset) + format::epb_len(next.captured);
                span.push(next);
            }
            buffer.resize((end - start) as usize, 0);
            file.read_exact_at(buffer, start)?;
            for place in &span {
                let bytes = buffer.get((place.offset - first.offset) as usize..).unwrap_or_default();
                encoded.clear();
                self.encode(*place, bytes, &mut encoded)?;
                out.write_all(&encoded)?;
            }
        }
        Ok(())
    }

    fn encode(&self, place: Place, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let Some((time, original, data)) = format::parse_packet(bytes, place.captured) else {
            return Err(damaged(
                self.segment,
                &format!("no packet of {} bytes at {}", place.captured, place.offset),
            ));
        };
        match self.format {
            Format::Classic(_) => format::classic_record(out, time, original, data),
            Format::Ng => {
                let interface = self.links.iter().position(|&l| l == place.link).unwrap_or_default();
                format::packet(out, interface as u32, time, original, data);
            }
        }
        Ok(())
    }
}

fn damaged(segment: &Segment, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", segment.data.display()))
}
