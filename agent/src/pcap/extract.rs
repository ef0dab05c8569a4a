//! Puts a stream's capture file together: back along the links, then forwards through the records.
//!
//! Invariants: every step back goes to a lower position, so a walk ends whatever the files hold; where what a link leads to
//! is gone, the stream begins after it; memory is at most [`KEEP`] records' places and one read buffer, however long the
//! stream.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use agent_core::LinkType;
use agent_core::item::StreamId;
use agent_core::redact::{Finder, Overwriter, TooMany};
use agent_core::{Origin, Packet};

use super::InterfaceInfo;
use super::fallback::Detour;
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
    /// Held, so that they stay as long as they are read.
    detour: Option<Arc<Detour>>,
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
            let detour = segment.detour();
            let mut part = Part { segment, detour, last: at.record, stop, places: Some(Vec::new()) };
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
                self.links
                    .iter()
                    .for_each(|&link| format::interface(&mut out, link, &InterfaceInfo::default()));
            }
        }
        out
    }

    /// Writes the records, oldest first.
    pub(super) fn write(&self, stream: StreamId, format: Format, file: &File) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let mut encoded = Vec::new();
        self.each(stream, &mut |packet| {
            encoded.clear();
            self.encode(format, &packet, packet.data, &mut encoded);
            out.write_all(&encoded)
        })?;
        out.flush()
    }

    /// As [`Walk::write`], with the values of headers that `hides` names overwritten.
    pub(super) fn write_redacted(
        &self,
        stream: StreamId,
        format: Format,
        file: &File,
        hides: &dyn Fn(&[u8]) -> bool,
    ) -> io::Result<()> {
        let mut finder = Finder::new(hides);
        self.each(stream, &mut |packet| {
            finder.packet(&packet);
            Ok(())
        })?;
        let hidden = finder
            .finish()
            .map_err(|TooMany| io::Error::other("more values to redact than fit in memory"))?;
        let mut overwriter = Overwriter::new(hidden);
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let (mut copy, mut encoded) = (Vec::new(), Vec::new());
        self.each(stream, &mut |packet| {
            copy.clear();
            copy.extend_from_slice(packet.data);
            overwriter.packet(&packet, &mut copy);
            encoded.clear();
            self.encode(format, &packet, &copy, &mut encoded);
            out.write_all(&encoded)
        })?;
        out.flush()
    }

    /// Reads the records, oldest first.
    fn each(&self, stream: StreamId, each: &mut Each<'_>) -> io::Result<()> {
        let mut buffer = Vec::new();
        self.parts.iter().rev().try_for_each(|part| Records { part }.visit_all(stream, &mut buffer, each))
    }

    fn encode(&self, format: Format, packet: &Packet<'_>, data: &[u8], out: &mut Vec<u8>) {
        match format {
            Format::Classic(_) => format::classic_record(out, packet.time, packet.original_len, data),
            Format::Ng => {
                let interface = self.links.iter().position(|&link| link == packet.link).unwrap_or_default();
                format::packet(out, interface as u32, packet.time, packet.original_len, data);
            }
        }
    }
}

impl Part {
    /// Collects the stream's records in this segment. Gives where the stream goes on, before this segment.
    fn walk(&mut self, stream: StreamId, mut each: impl FnMut(Place)) -> io::Result<Option<Position>> {
        let mut places = Vec::new();
        let next = self.follow(stream, |place| {
            each(place);
            places.push(place);
        });
        self.places = Some(places);
        next
    }

    /// Goes through the stream's records in this segment, the last one first.
    fn follow(&self, stream: StreamId, mut each: impl FnMut(Place)) -> io::Result<Option<Position>> {
        let mut links = None;
        let mut at = Position { segment: self.segment.number, record: self.last };
        loop {
            let Some(link) = self.link(&mut links, at.record)? else { return Ok(None) };
            if link.stream != Some(stream) || link.previous.is_some_and(|p| p >= at) {
                return Err(damaged(
                    &self.segment,
                    &format!("record {} is not of stream {stream}", at.record),
                ));
            }
            let place = Place { offset: link.offset, captured: link.captured, link: link.link };
            each(place);
            match link.previous {
                Some(previous) if previous.segment == at.segment && self.stop != Some(previous.record) => {
                    at = previous;
                }
                previous => return Ok(previous),
            }
        }
    }

    /// A record's link; `None`: the record is gone. `links`: the file that was read last.
    fn link(&self, links: &mut Option<Links>, record: u32) -> io::Result<Option<Link>> {
        let known = links.as_ref().is_some_and(|links| links.range.contains(&record));
        if !known {
            *links = Some(match self.detour.as_ref().filter(|detour| record >= detour.first) {
                Some(detour) => Links::open(&detour.links, detour.first)?,
                None => Links::open(&self.segment.links, 0)?,
            });
        }
        links.as_mut().filter(|links| links.range.contains(&record)).map(|links| links.at(record)).transpose()
    }

    /// Whether what begins at `offset` is in memory.
    fn is_detoured(&self, offset: u32) -> bool {
        self.detour.as_ref().is_some_and(|detour| u64::from(offset) >= detour.base)
    }

    fn open(&self, detoured: bool) -> io::Result<File> {
        File::open(match self.detour.as_ref().filter(|_| detoured) {
            Some(detour) => &detour.data,
            None => &self.segment.data,
        })
    }
}

/// Links of a segment, read backwards in windows.
struct Links {
    file: File,
    /// Records whose links are in the file.
    range: Range<u32>,
    first: u32,
    window: Vec<u8>,
}

impl Links {
    fn open(path: &Path, start: u32) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = (file.metadata()?.len() / link::SIZE as u64).saturating_sub(1);
        let range = start..u32::try_from(end).unwrap_or(u32::MAX);
        Ok(Self { file, range, first: 0, window: Vec::new() })
    }

    fn at(&mut self, record: u32) -> io::Result<Link> {
        loop {
            let within = record.checked_sub(self.first).map(|i| i as usize * link::SIZE);
            if let Some(bytes) = within.and_then(|at| self.window.get(at..)?.first_chunk()) {
                return Ok(Link::decode(bytes));
            }
            let end = record as usize + 1;
            let first = end.saturating_sub(WINDOW / link::SIZE).max(self.range.start as usize);
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

impl Format {
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Classic(_) => "pcap",
            Self::Ng => "pcapng",
        }
    }
}

/// Takes one record's packet.
type Each<'a> = dyn FnMut(Packet<'_>) -> io::Result<()> + 'a;

struct Records<'a> {
    part: &'a Part,
}

impl Records<'_> {
    /// Reads all of the part, in order.
    fn visit_all(&self, stream: StreamId, buffer: &mut Vec<u8>, each: &mut Each<'_>) -> io::Result<()> {
        match &self.part.places {
            Some(places) => self.visit(places, buffer, each),
            None => {
                let mut places = Vec::new();
                self.part.follow(stream, |place| places.push(place))?;
                self.visit(&places, buffer, each)
            }
        }
    }

    /// Reads the records at `places` (last first), in order.
    fn visit(&self, places: &[Place], buffer: &mut Vec<u8>, each: &mut Each<'_>) -> io::Result<()> {
        let mut open: Option<(bool, File)> = None;
        let mut left = places.iter().rev().copied().peekable();
        let mut span = Vec::new();
        while let Some(first) = left.next() {
            let start = u64::from(first.offset);
            let detoured = self.part.is_detoured(first.offset);
            let mut end = start + format::epb_len(first.captured);
            span.clear();
            span.push(first);
            while let Some(next) = left.next_if(|next| {
                let at = u64::from(next.offset);
                self.part.is_detoured(next.offset) == detoured
                    && at >= end
                    && at - end <= NEAR
                    && at + format::epb_len(next.captured) - start <= SPAN
            }) {
                end = u64::from(next.offset) + format::epb_len(next.captured);
                span.push(next);
            }
            let file = match open.take_if(|(known, _)| *known == detoured) {
                Some((_, file)) => file,
                None => self.part.open(detoured)?,
            };
            buffer.resize((end - start) as usize, 0);
            file.read_exact_at(buffer, start)?;
            open = Some((detoured, file));
            for place in &span {
                let bytes = buffer.get((place.offset - first.offset) as usize..).unwrap_or_default();
                each(self.packet(*place, bytes)?)?;
            }
        }
        Ok(())
    }

    fn packet<'b>(&self, place: Place, bytes: &'b [u8]) -> io::Result<Packet<'b>> {
        let Some((time, original_len, data)) = format::parse_packet(bytes, place.captured) else {
            return Err(damaged(
                &self.part.segment,
                &format!("no packet of {} bytes at {}", place.captured, place.offset),
            ));
        };
        Ok(Packet { time, link: place.link, data, original_len, origin: Origin::default() })
    }
}

fn damaged(segment: &Segment, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", segment.data.display()))
}
