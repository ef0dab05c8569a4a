//! A log's writer thread: blocks into segment files, and what must happen when that fails.
//!
//! Invariants: the data of a record is written before its link, so whatever a links file tells of is there. After a
//! failure the segment is cut back to its last whole block and sealed, the store pauses, and the next packet begins a new
//! segment: positions never shift.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::link;
use super::log::{Block, Log, Work};
use super::segment::Segment;
use super::shared::Shared;

/// How often an idle writer looks after extracted files.
const IDLE: Duration = Duration::from_secs(30);

/// Writes what `log` is given until it is closed.
pub(super) fn run(log: &Log, shared: &Shared) {
    let mut files = Files { ids: log.ids().encode(), current: None, scratch: Vec::new() };
    let idle = shared.config.segment_age().map_or(IDLE, |age| age.clamp(Duration::from_millis(10), IDLE));
    let mut refused_before = None;
    loop {
        match log.next(idle) {
            Work::Write(block) => match files.write(&block, shared) {
                Ok(()) => {
                    shared.counters.store(block.links.len() as u64, block.captured());
                    if let Some(highest) = block.links.iter().filter_map(|l| l.stream).max() {
                        shared.reserve_beyond(highest);
                    }
                    log.written(block);
                    shared.registry.retain();
                    if let Some(before) = refused_before.take() {
                        shared.recovered(before);
                    }
                }
                Err(error) => {
                    refused_before.get_or_insert_with(|| shared.refused());
                    shared.trouble("writing packets", &error);
                    files.give_up(shared);
                    for dropped in log.failed(block, shared.config.retry_after) {
                        shared.counters.refuse(dropped.links.len() as u64, dropped.captured());
                        if let Some(segment) = dropped.segment.as_ref().filter(|_| dropped.fresh) {
                            shared.registry.discard(segment);
                        }
                    }
                }
            },
            Work::Seal => files.seal(shared),
            Work::Idle => {
                shared.extracted.sweep();
                shared.registry.retain();
            }
            Work::End => break,
        }
    }
    files.seal(shared);
}

struct Files {
    /// Header of every links file.
    ids: [u8; link::SIZE],
    current: Option<Current>,
    scratch: Vec<u8>,
}

/// The segment at hand, with the lengths up to its last whole block.
struct Current {
    segment: Arc<Segment>,
    data: File,
    links: File,
    data_len: u64,
    links_len: u64,
}

impl Files {
    fn write(&mut self, block: &Block, shared: &Shared) -> io::Result<()> {
        let Some(segment) = &block.segment else { return Ok(()) };
        shared.make_room((block.bytes.len() + block.links.len() * link::SIZE) as u64)?;
        if block.fresh {
            self.seal(shared);
            let (data, links) = (create(&segment.data)?, create(&segment.links)?);
            shared.write(&links, &self.ids)?;
            let segment = Arc::clone(segment);
            self.current = Some(Current { segment, data, links, data_len: 0, links_len: link::SIZE as u64 });
        }
        let Some(current) = self.current.as_mut().filter(|c| c.segment.number == segment.number) else {
            return Err(io::Error::other("a block of a segment that is not open"));
        };
        self.scratch.clear();
        block.links.iter().for_each(|link| link.encode(&mut self.scratch));
        shared.write(&current.data, &block.bytes)?;
        shared.write(&current.links, &self.scratch)?;
        let (data, links) = (block.bytes.len() as u64, self.scratch.len() as u64);
        current.data_len += data;
        current.links_len += links;
        shared.registry.grow(segment, data + links, block.time);
        Ok(())
    }

    fn seal(&mut self, shared: &Shared) {
        if let Some(current) = self.current.take() {
            shared.registry.seal(&current.segment);
        }
    }

    /// Cuts the segment back to what is whole in it.
    fn give_up(&mut self, shared: &Shared) {
        let Some(current) = self.current.take() else { return };
        if current.data_len == 0 {
            return;
        }
        let cut =
            current.data.set_len(current.data_len).and_then(|()| current.links.set_len(current.links_len));
        if let Err(error) = cut {
            shared.trouble("cutting back a segment", &error);
        }
        shared.registry.seal(&current.segment);
    }
}

/// A new file for its owner only.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Writes all of `bytes`.
pub(super) fn write_all(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)
}
