//! Which streams a store has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;

use agent_core::item::StreamId;
use agent_core::{Origin, Packet, Timestamp};

use super::{Found, StoreFolder, identity};
use crate::pcap::StoreError;
use crate::pcap::format;
use crate::pcap::link::{self, Link};
use crate::pcap::store::trouble;

/// One stream of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamEntry {
    /// Its number.
    pub stream: StreamId,
    /// Packets stored.
    pub packets: u64,
    /// Captured bytes stored.
    pub bytes: u64,
    /// Capture time of the first of them.
    pub first: Timestamp,
    /// Capture time of the last of them.
    pub last: Timestamp,
    /// Who opened it and the other end, as the first packet tells; `None`: it does not.
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

impl StoreFolder {
    /// The streams that are stored, by their numbers. `progress` is told of each piece of links that was read, in bytes.
    ///
    /// # Errors
    /// When a file cannot be read. A segment that vanishes meanwhile is passed over.
    pub fn streams(&self, progress: &mut dyn FnMut(u64)) -> Result<Vec<StreamEntry>, StoreError> {
        self.collect(&mut Streams::new(usize::MAX, None), progress)
    }

    /// The streams that began last, the last one first: at most so many, and only those with a smaller number than `before`.
    /// All links are read for that; memory is held for those that are given only.
    ///
    /// # Errors
    /// As [`StoreFolder::streams`].
    pub fn latest(
        &self,
        most: usize,
        before: Option<StreamId>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<StreamEntry>, StoreError> {
        let mut found = self.collect(&mut Streams::new(most, before), progress)?;
        found.reverse();
        Ok(found)
    }

    fn collect(
        &self,
        streams: &mut Streams,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<StreamEntry>, StoreError> {
        for found in self.logs.values().flatten() {
            match add(found, streams, progress) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(trouble(found.links.display()))?,
            }
        }
        Ok(std::mem::take(&mut streams.found).into_values().collect())
    }
}

/// The streams with the largest numbers. One that had to go for others never comes back: theirs only grow.
struct Streams {
    found: BTreeMap<StreamId, StreamEntry>,
    most: usize,
    before: Option<StreamId>,
}

impl Streams {
    fn new(most: usize, before: Option<StreamId>) -> Self {
        Self { found: BTreeMap::new(), most, before }
    }

    fn is_wanted<T>(&self, stream: StreamId, so_far: &BTreeMap<StreamId, T>) -> bool {
        let too_small = |least: Option<&StreamId>, count: usize| {
            count >= self.most && least.is_some_and(|least| stream < *least)
        };
        self.before.is_none_or(|before| stream < before)
            && !too_small(self.found.keys().next(), self.found.len())
            && !too_small(so_far.keys().next(), so_far.len())
    }
}

/// What one segment has of a stream.
struct Part {
    packets: u64,
    bytes: u64,
    first: Link,
    last: Link,
}

fn add(found: &Found, streams: &mut Streams, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let data = File::open(&found.data)?;
    let links = File::open(&found.links)?;
    let records = (links.metadata()?.len() / link::SIZE as u64).saturating_sub(1);
    let mut links = BufReader::with_capacity(256 << 10, links);
    let mut slot = [0; link::SIZE];
    links.read_exact(&mut slot)?;
    let mut parts: BTreeMap<StreamId, Part> = BTreeMap::new();
    for record in 0..records {
        links.read_exact(&mut slot)?;
        let link = Link::decode(&slot);
        if let Some(stream) = link.stream.filter(|stream| streams.is_wanted(*stream, &parts)) {
            let part = parts.entry(stream).or_insert(Part { packets: 0, bytes: 0, first: link, last: link });
            part.packets += 1;
            part.bytes += u64::from(link.captured);
            part.last = link;
            if parts.len() > streams.most {
                parts.pop_first();
            }
        }
        if record % 4096 == 4095 {
            progress(4096 * link::SIZE as u64);
        }
    }
    for (stream, part) in parts {
        let last = time(&data, &part.last)?;
        let entry = match streams.found.get_mut(&stream) {
            Some(entry) => entry,
            None => streams.found.entry(stream).or_insert(first(&data, stream, &part.first)?),
        };
        entry.packets += part.packets;
        entry.bytes += part.bytes;
        entry.last = last;
        if streams.found.len() > streams.most {
            streams.found.pop_first();
        }
    }
    Ok(())
}

/// A stream of whose packets none is counted yet.
fn first(data: &File, stream: StreamId, link: &Link) -> io::Result<StreamEntry> {
    let mut block = vec![0; format::epb_len(link.captured) as usize];
    data.read_exact_at(&mut block, u64::from(link.offset))?;
    let (time, original_len, bytes) = format::parse_packet(&block, link.captured)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no packet at {}", link.offset)))?;
    let packet = Packet { time, link: link.link, data: bytes, original_len, origin: Origin::default() };
    let ends = identity::ends(&packet);
    Ok(StreamEntry { stream, packets: 0, bytes: 0, first: time, last: time, ends })
}

fn time(data: &File, link: &Link) -> io::Result<Timestamp> {
    let mut head = [0; format::EPB_HEAD];
    data.read_exact_at(&mut head, u64::from(link.offset))?;
    Ok(format::packet_time(&head))
}
