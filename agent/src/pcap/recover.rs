//! Takes in the segments of earlier runs: cuts what is torn at their ends and rebuilds the index from their links.
//!
//! Invariants: what is kept is a prefix of a segment in which every link leads to a whole record; what cannot be
//! made sense of is removed, with a warning; nothing outside the segments' folder is touched.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use agent_core::Timestamp;

use super::extracted::remove;
use super::index::Index;
use super::link::{self, Ids, Link, Position};
use super::segment::{Registry, data_name, links_name, number_of};
use super::{ahead, format};

/// What earlier runs left.
#[derive(Default)]
pub(super) struct Recovered {
    /// One index for each log of each run.
    pub(super) logs: HashMap<Ids, Index>,
    /// The highest stream id found.
    pub(super) highest: u64,
}

/// Reads the segments' folder into `registry`. `index_bytes`: the budget of each index.
pub(super) fn recover(registry: &Registry, index_bytes: usize) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let mut numbers = BTreeSet::new();
    for file in fs::read_dir(registry.folder())? {
        if let Some(number) = file?.file_name().to_str().and_then(number_of) {
            numbers.insert(number);
        }
    }
    for number in numbers {
        match take_in(registry, number, index_bytes, &mut recovered) {
            Ok(true) => {}
            Ok(false) => discard(registry, number, "nothing in it is whole"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                discard(registry, number, "half of it is missing");
            }
            Err(error) => return Err(error),
        }
    }
    registry.retain();
    Ok(recovered)
}

fn discard(registry: &Registry, number: u32, why: &str) {
    tracing::warn!(segment = number, why, "a segment of the PCAP store is removed");
    remove(&registry.folder().join(data_name(number)));
    remove(&registry.folder().join(links_name(number)));
}

/// Takes in one segment. `false`: nothing in it is of use.
fn take_in(registry: &Registry, number: u32, index_bytes: usize, into: &mut Recovered) -> io::Result<bool> {
    let open = |name: String| OpenOptions::new().read(true).write(true).open(registry.folder().join(name));
    let (data, links) = (open(data_name(number))?, open(links_name(number))?);
    let meta = data.metadata()?;
    let (data_len, written) = (meta.len(), meta.modified().unwrap_or_else(|_| SystemTime::now()));
    let mut reader = BufReader::with_capacity(1 << 20, &links);
    let mut slot = [0; link::SIZE];
    if !filled(&mut reader, &mut slot)? {
        return Ok(false);
    }
    let Some(ids) = Ids::decode(&slot) else { return Ok(false) };

    let (records, end) = whole_records(&data, data_len, &links)?;
    if records == 0 {
        return Ok(false);
    }
    let mut last: BTreeMap<u64, u32> = BTreeMap::new();
    for record in 0..records {
        if !filled(&mut reader, &mut slot)? {
            return Ok(false);
        }
        if let Some(ordinal) = Link::decode(&slot).stream.and_then(|stream| ids.ordinal(stream)) {
            last.insert(ordinal, record);
        }
    }
    // What a run that was killed had claimed behind the end goes as well.
    if data_len > end || ahead::is_left(&data, end)? {
        data.set_len(end)?;
    }
    let links_len = (u64::from(records) + 1) * link::SIZE as u64;
    links.set_len(links_len)?;
    registry.adopt(number, end + links_len, began(&data, &links)?, written);
    let index = into.logs.entry(ids).or_insert_with(|| Index::new(ids, index_bytes));
    for (ordinal, record) in last {
        let stream = ids.stream(ordinal);
        into.highest = into.highest.max(stream.0);
        index.advance(stream, Position { segment: number, record });
    }
    Ok(true)
}

/// Capture time of the first record.
fn began(data: &File, links: &File) -> io::Result<Timestamp> {
    let mut slot = [0; link::SIZE];
    links.read_exact_at(&mut slot, link::SIZE as u64)?;
    let mut head = [0; format::EPB_HEAD];
    data.read_exact_at(&mut head, u64::from(Link::decode(&slot).offset))?;
    Ok(format::packet_time(&head))
}

/// How many records have both a link and data, and where the data of the last one ends. Data is written in order and
/// before its link: what is whole is a prefix.
fn whole_records(data: &File, data_len: u64, links: &File) -> io::Result<(u32, u64)> {
    let slots = links.metadata()?.len() / link::SIZE as u64;
    let mut records = u32::try_from(slots.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut slot = [0; link::SIZE];
    while records > 0 {
        links.read_exact_at(&mut slot, u64::from(records) * link::SIZE as u64)?;
        let link = Link::decode(&slot);
        let end = u64::from(link.offset) + format::epb_len(link.captured);
        if end <= data_len && whole(data, link) {
            return Ok((records, end));
        }
        records -= 1;
    }
    Ok((0, 0))
}

/// Whether the record that `link` leads to is there.
fn whole(data: &File, link: Link) -> bool {
    let mut bytes = vec![0; format::epb_len(link.captured) as usize];
    let read = data.read_exact_at(&mut bytes, u64::from(link.offset));
    read.is_ok() && format::parse_packet(&bytes, link.captured).is_some()
}

/// Fills `slot`, unless the file ends first.
fn filled(reader: &mut impl Read, slot: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(slot) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
