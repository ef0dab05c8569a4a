//! The records of one log, one after the other: links decide what is read of the data.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use agent_core::item::StreamId;
use agent_core::{LinkType, Timestamp};

use super::Found;
use crate::pcap::InterfaceInfo;
use crate::pcap::format;
use crate::pcap::link::{self, Link};

/// Data read at a time where records follow each other, in bytes.
const WINDOW: usize = 1 << 20;
/// The same where they are far apart.
const ALONE: usize = 8 << 10;

/// An interface as a segment describes it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Interface {
    pub(super) link: LinkType,
    pub(super) info: InterfaceInfo,
}

/// One record.
pub(super) struct Record {
    pub(super) time: Timestamp,
    pub(super) stream: Option<StreamId>,
    pub(super) link: LinkType,
    /// What its segment says of the interface that it came from.
    pub(super) interface: Option<Interface>,
    pub(super) original_len: u32,
    pub(super) data: Vec<u8>,
}

/// Goes through a log.
pub(super) struct Cursor {
    left: VecDeque<Found>,
    open: Option<Segment>,
    /// Bytes of segments gone through.
    done: u64,
    /// Segments that were removed meanwhile.
    pub(super) vanished: u64,
}

impl Cursor {
    pub(super) fn new(log: &[Found]) -> Self {
        Self { left: log.iter().cloned().collect(), open: None, done: 0, vanished: 0 }
    }

    /// Bytes gone through, data and links.
    pub(super) fn position(&self) -> u64 {
        self.done + self.open.as_ref().map_or(0, |segment| segment.position())
    }

    /// The next record of a stream that is `wanted`.
    pub(super) fn next(&mut self, wanted: &dyn Fn(Option<StreamId>) -> bool) -> io::Result<Option<Record>> {
        loop {
            let Some(segment) = &mut self.open else {
                let Some(found) = self.left.pop_front() else { return Ok(None) };
                match Segment::open(&found) {
                    Ok(segment) => self.open = Some(segment),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.vanished += 1;
                        self.done += found.bytes;
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            if let Some(record) = segment.next(wanted)? {
                return Ok(Some(record));
            }
            self.done += segment.found.bytes;
            self.open = None;
        }
    }
}

/// A segment that is read. Its files stay readable also when they are removed.
struct Segment {
    found: Found,
    data: File,
    links: BufReader<File>,
    /// Records that have not been looked at.
    left: u64,
    /// Where the data of the last record looked at ends.
    end: u64,
    interfaces: Vec<Interface>,
    window: Vec<u8>,
    /// Where in the file the window begins.
    start: u64,
}

impl Segment {
    fn open(found: &Found) -> io::Result<Self> {
        let (data, links) = (File::open(&found.data)?, File::open(&found.links)?);
        let first = u64::from(found.first) + 1;
        let left = (links.metadata()?.len() / link::SIZE as u64).saturating_sub(first);
        let mut links = BufReader::with_capacity(256 << 10, links);
        links.seek(SeekFrom::Start(first * link::SIZE as u64))?;
        let (interfaces, window, end) = (Vec::new(), Vec::new(), found.base);
        Ok(Self { found: found.clone(), data, links, left, end, interfaces, window, start: 0 })
    }

    fn position(&self) -> u64 {
        self.end.min(self.found.bytes)
    }

    fn next(&mut self, wanted: &dyn Fn(Option<StreamId>) -> bool) -> io::Result<Option<Record>> {
        while self.left > 0 {
            self.left -= 1;
            let mut slot = [0; link::SIZE];
            self.links.read_exact(&mut slot)?;
            let link = Link::decode(&slot);
            let before = std::mem::replace(&mut self.end, link.end());
            if u64::from(link.offset) > before {
                self.describe(before, u64::from(link.offset))?;
            }
            if wanted(link.stream) {
                return self.record(&link, before).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads the blocks between two records: interfaces are described there.
    fn describe(&mut self, from: u64, to: u64) -> io::Result<()> {
        let mut blocks = vec![0; (to - from) as usize];
        self.data.read_exact_at(&mut blocks, from)?;
        format::interfaces(&blocks, |link, info| self.interfaces.push(Interface { link, info }));
        Ok(())
    }

    fn record(&mut self, link: &Link, before: u64) -> io::Result<Record> {
        let (offset, len) = (u64::from(link.offset), format::epb_len(link.captured) as usize);
        let within = |start: u64, window: &[u8]| {
            let at = usize::try_from(offset.checked_sub(start)?).ok()?;
            (at + len <= window.len()).then_some(at)
        };
        let at = match within(self.start, &self.window) {
            Some(at) => at,
            None => {
                let near = offset.saturating_sub(before) < ALONE as u64;
                self.fill(offset, len.max(if near { WINDOW } else { ALONE }))?;
                0
            }
        };
        let block = self.window.get(at..at + len).unwrap_or_default();
        let Some((time, original_len, data)) = format::parse_packet(block, link.captured) else {
            let what = format!("{}: no packet at {offset}", self.found.data.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        // Those that were described before the first record are not known.
        let known = self.found.first == 0;
        let number = format::interface_of(block) as usize;
        let interface = self.interfaces.get(number).filter(|_| known).cloned();
        Ok(Record {
            time,
            stream: link.stream,
            link: link.link,
            interface,
            original_len,
            data: data.to_vec(),
        })
    }

    /// Reads what there is from `start` on, at most `len` bytes.
    fn fill(&mut self, start: u64, len: usize) -> io::Result<()> {
        self.window.resize(len, 0);
        let mut filled = 0;
        while let Some(rest) = self.window.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.data.read_at(rest, start + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(filled);
        self.start = start;
        Ok(())
    }
}
