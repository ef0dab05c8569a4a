//! A log's writer thread: blocks into segment files, and what must happen when that fails.
//!
//! Invariants: the data of a record is written before its link, so whatever a links file tells of is there. After a failure
//! the segment is cut back to its last whole block, and goes on in memory ([`Detour`]) until the disk is tried again with
//! the next segment. Where memory is used up, too, it is sealed, the store pauses, and the next packet begins a new
//! segment: positions never shift.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::extracted::remove;
use super::fallback::Detour;
use super::link;
use super::log::{Block, Log, Work};
use super::segment::Segment;
use super::shared::Shared;

/// Room that is claimed of the disk at a time, for a segment's data and for its links: so many parts of a segment, all
/// of which together have a quarter of the store at most.
const AHEAD: [u64; 2] = [16, 256];

/// How often an idle writer looks after extracted files.
const IDLE: Duration = Duration::from_secs(30);

/// Writes what `log` is given until it is closed.
pub(super) fn run(log: &Log, shared: &Shared) {
    let mut files = Files { ids: log.ids().encode(), current: None, scratch: Vec::new(), retry_at: None };
    let idle = shared.config.segment_age().map_or(IDLE, |age| age.clamp(Duration::from_millis(10), IDLE));
    let mut refused_before = None;
    loop {
        match log.next(idle) {
            Work::Write(block) => match files.write(&block, shared) {
                Ok(Place::Disk) => {
                    shared.counters.store(block.links.len() as u64, block.captured());
                    if let Some(highest) = block.links.iter().filter_map(|l| l.stream).max() {
                        shared.reserve_beyond(highest);
                    }
                    log.written(block, false);
                    shared.registry.retain();
                    if let Some(before) = refused_before.take() {
                        shared.recovered(before);
                    }
                }
                Ok(Place::Memory) => {
                    refused_before.get_or_insert_with(|| shared.refused());
                    shared.counters.refuse(block.links.len() as u64, block.captured());
                    shared.counters.detoured_packets.fetch_add(block.links.len() as u64, Ordering::Relaxed);
                    log.written(block, true);
                    shared.registry.retain();
                }
                Err(error) => {
                    refused_before.get_or_insert_with(|| shared.refused());
                    shared.trouble("writing packets", &error);
                    files.seal(shared);
                    for dropped in log.failed(block, shared.config.retry_after) {
                        shared.counters.refuse(dropped.links.len() as u64, dropped.captured());
                        if let Some(segment) = dropped.segment.as_ref().filter(|_| dropped.fresh) {
                            shared.registry.discard(segment);
                        }
                    }
                }
            },
            Work::Idle => {
                files.end_old(shared);
                shared.extracted.sweep();
                shared.registry.retain();
            }
            Work::End => break,
        }
    }
    files.seal(shared);
}

/// Where a block went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Disk,
    Memory,
}

struct Files {
    /// Header of every links file.
    ids: [u8; link::SIZE],
    current: Option<Current>,
    scratch: Vec<u8>,
    /// The disk failed: no use trying it before.
    retry_at: Option<Instant>,
}

/// The segment at hand, with the lengths up to its last whole block.
struct Current {
    number: u32,
    /// `None`: it was left to retention.
    segment: Option<Arc<Segment>>,
    data: File,
    links: File,
    data_len: u64,
    links_len: u64,
    /// Of the disk, for both.
    ahead: [Ahead; 2],
    since: Instant,
    /// The files are in memory.
    detour: Option<Arc<Detour>>,
}

impl Files {
    fn write(&mut self, block: &Block, shared: &Shared) -> io::Result<Place> {
        let Some(segment) = &block.segment else { return Ok(Place::Disk) };
        self.scratch.clear();
        block.links.iter().for_each(|link| link.encode(&mut self.scratch));
        if block.fresh {
            self.seal(shared);
        }
        if self.current.as_ref().is_some_and(|c| c.number == segment.number && c.detour.is_some()) {
            return self.put_in_memory(block, segment, shared);
        }
        if self.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.retry_at = None;
            let Err(error) = self.put_on_disk(block, segment, shared) else { return Ok(Place::Disk) };
            self.retry_at = Some(Instant::now() + shared.config.retry_after);
            if shared.fallback.folder().is_none() {
                self.cut_back(shared);
                return Err(error);
            }
            shared.trouble("writing packets", &error);
        }
        self.take_detour(block, segment, shared)?;
        self.put_in_memory(block, segment, shared)
    }

    fn put_on_disk(&mut self, block: &Block, segment: &Arc<Segment>, shared: &Shared) -> io::Result<()> {
        shared.make_room((block.bytes.len() + self.scratch.len()) as u64)?;
        if block.fresh {
            let (data, links) = (create(&segment.data)?, create(&segment.links)?);
            shared.write(&links, 0, &self.ids)?;
            let links_len = link::SIZE as u64;
            self.current = Some(Current {
                number: segment.number,
                segment: Some(Arc::clone(segment)),
                data,
                links,
                data_len: 0,
                links_len,
                ahead: AHEAD.map(|part| Ahead::new(shared.config.segment_bytes / part)),
                since: Instant::now(),
                detour: None,
            });
        }
        let Some(current) = self.current.as_mut().filter(|c| c.number == segment.number) else {
            return Err(io::Error::other("a block of a segment that is not open"));
        };
        let (data, links) = (block.bytes.len() as u64, self.scratch.len() as u64);
        current.ahead[0].cover(&current.data, current.data_len + data, &shared.disk);
        current.ahead[1].cover(&current.links, current.links_len + links, &shared.disk);
        shared.write(&current.data, current.data_len, &block.bytes)?;
        shared.write(&current.links, current.links_len, &self.scratch)?;
        current.data_len += data;
        current.links_len += links;
        shared.registry.grow(segment, data + links, block.time);
        Ok(())
    }

    /// Has the segment go on in memory, from this block on.
    fn take_detour(&mut self, block: &Block, segment: &Arc<Segment>, shared: &Shared) -> io::Result<()> {
        let base = match self.current.as_ref().filter(|c| c.number == segment.number) {
            Some(current) => current.data_len,
            None if block.fresh => 0,
            None => return Err(io::Error::other("a block of a segment that is not open")),
        };
        self.cut_back(shared);
        if base == 0 {
            // Of what was begun on the disk nothing is whole.
            remove(&segment.data);
            remove(&segment.links);
        }
        let (detour, data, links) = shared.fallback.detour(segment.number, block.first, base)?;
        links.write_all_at(&self.ids, 0)?;
        let detour = Arc::new(detour);
        segment.take_detour(&detour);
        self.current = Some(Current {
            number: segment.number,
            segment: Some(Arc::clone(segment)),
            data,
            links,
            data_len: base,
            links_len: (u64::from(block.first) + 1) * link::SIZE as u64,
            ahead: AHEAD.map(|_| Ahead::none()),
            since: Instant::now(),
            detour: Some(detour),
        });
        Ok(())
    }

    fn put_in_memory(&mut self, block: &Block, segment: &Segment, shared: &Shared) -> io::Result<Place> {
        let Some((current, detour)) = self.current.as_mut().and_then(|c| c.detour.clone().map(|d| (c, d)))
        else {
            return Err(io::ErrorKind::StorageFull.into());
        };
        let (data, links) = (block.bytes.len() as u64, self.scratch.len() as u64);
        while !detour.room.grow(data + links) {
            if !shared.registry.give_up_detour() {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "nor is there memory for them"));
            }
        }
        current.data.write_all_at(&block.bytes, current.data_len)?;
        current.links.write_all_at(&self.scratch, current.links_len)?;
        current.data_len += data;
        current.links_len += links;
        shared.registry.touch(segment, block.time);
        let enough = detour.room.bytes() >= shared.fallback.share();
        if enough || self.retry_at.is_none_or(|at| at <= Instant::now()) {
            segment.turn();
        }
        Ok(Place::Memory)
    }

    /// Leaves a segment that was begun long ago to retention. What is under way to it is still written: it is as old.
    fn end_old(&mut self, shared: &Shared) {
        let Some((current, age)) = self.current.as_mut().zip(shared.config.segment_age()) else { return };
        if current.since.elapsed() >= age
            && let Some(segment) = current.segment.take()
        {
            segment.turn();
            shared.registry.seal(&segment);
        }
    }

    fn seal(&mut self, shared: &Shared) {
        let Some(mut current) = self.current.take() else { return };
        let [data, links] = &mut current.ahead;
        let released = data.release(&current.data, current.data_len);
        if let Err(error) = released.and_then(|()| links.release(&current.links, current.links_len)) {
            shared.trouble("giving back room behind a segment", &error);
        }
        if let Some(segment) = current.segment {
            shared.registry.seal(&segment);
        }
    }

    /// Cuts the segment back to what is whole of it on the disk.
    fn cut_back(&mut self, shared: &Shared) {
        let Some(current) = self.current.as_ref().filter(|current| current.detour.is_none()) else { return };
        if current.data_len == 0 {
            return;
        }
        let cut =
            current.data.set_len(current.data_len).and_then(|()| current.links.set_len(current.links_len));
        if let Err(error) = cut {
            shared.trouble("cutting back a segment", &error);
        }
    }
}

/// A new file for its owner only.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Bytes given to the kernel in one call. It takes its cache's pages in one piece for each call where it can: of 64 KiB it
/// mostly has some that were in use before; larger ones are mostly fresh, and in a virtual machine the host first has to
/// find memory for them (six times as slow).
const WRITE: usize = 64 << 10;

/// Writes all of `bytes` to a file that is empty so far.
pub(super) fn write_all(file: &File, bytes: &[u8]) -> io::Result<()> {
    write_from(file, 0, bytes)
}

/// Writes all of `bytes` to a file that is written up to `at`. Pieces end where pieces of the cache do, or each would be in
/// several (ext4: 300 ms of CPU time a GiB in place of 460).
pub(super) fn write_from(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let (first, rest) = bytes.split_at(bytes.len().min(WRITE - at as usize % WRITE));
    file.write_all(first)?;
    rest.chunks(WRITE).try_for_each(|chunk| file.write_all(chunk))
}
