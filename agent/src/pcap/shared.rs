//! What appenders, writers and readers of a store share: settings, segments, counters, and the reservation of
//! stream ids.
//!
//! Invariant: a stream id is stored only if the file `next-stream` already says a higher one, or the links do: no id is
//! given out again while anything of it is stored.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_core::item::StreamId;

use super::config::{Counters, StoreConfig};
use super::disk::Disk;
use super::extracted::Extracted;
use super::fallback::Fallback;
use super::notes::NoteBook;
use super::segment::Registry;
use super::{lock, writer};

/// Stream ids reserved at a time.
const RESERVE: u64 = 1 << 20;
/// The same trouble is told at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub(super) config: StoreConfig,
    pub(super) registry: Registry,
    pub(super) disk: Disk,
    pub(super) extracted: Extracted,
    pub(super) fallback: Fallback,
    pub(super) notes: NoteBook,
    pub(super) counters: Counters,
    /// The file that says below which stream id all may have been used.
    mark: PathBuf,
    reserved: AtomicU64,
    reserving: Mutex<()>,
    warned: Mutex<Option<Instant>>,
    /// Bytes that may still be written before the disk "fails".
    #[cfg(test)]
    pub(super) disk_left: AtomicU64,
    /// While somebody holds it, the disk hangs.
    #[cfg(test)]
    pub(super) disk_hangs: Mutex<()>,
    /// Removed with the store.
    pub(super) temporary: Option<tempfile::TempDir>,
}

impl Shared {
    pub(super) fn new(
        config: StoreConfig,
        registry: Registry,
        disk: Disk,
        extracted: Extracted,
        fallback: Fallback,
        mark: PathBuf,
    ) -> Self {
        Self {
            notes: NoteBook::new(config.dir.clone()),
            config,
            registry,
            disk,
            extracted,
            fallback,
            counters: Counters::default(),
            mark,
            reserved: AtomicU64::new(0),
            reserving: Mutex::new(()),
            warned: Mutex::new(None),
            #[cfg(test)]
            disk_left: AtomicU64::new(u64::MAX),
            #[cfg(test)]
            disk_hangs: Mutex::new(()),
            temporary: None,
        }
    }

    /// The first stream id that no earlier run can have used: 0 in a new store. `highest` is the highest one stored.
    pub(super) fn read_mark(&self, highest: u64) -> io::Result<u64> {
        match std::fs::read(&self.mark) {
            Ok(text) => Ok(parse(&text).unwrap_or_else(|| {
                tracing::warn!(file = %self.mark.display(), "not a number; stream numbers go on well beyond those stored");
                highest.saturating_add(2 * RESERVE)
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Reserves the stream ids up to some way beyond `stream`.
    pub(super) fn reserve(&self, stream: StreamId) -> io::Result<()> {
        let _one_at_a_time = lock(&self.reserving);
        let upto = stream.0.saturating_add(RESERVE);
        if upto <= self.reserved.load(Ordering::Acquire) {
            return Ok(());
        }
        replace(&self.mark, format!("{upto}\n").as_bytes())?;
        self.reserved.store(upto, Ordering::Release);
        Ok(())
    }

    /// Reserves more once half of what is reserved is used.
    pub(super) fn reserve_beyond(&self, highest: StreamId) {
        if highest.0.saturating_add(RESERVE / 2) > self.reserved.load(Ordering::Acquire)
            && let Err(error) = self.reserve(highest)
        {
            self.trouble("reserving stream numbers", &error);
        }
    }

    /// Counts a failure of the disk, and tells of it now and then.
    pub(super) fn trouble(&self, what: &str, error: &io::Error) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        let mut warned = lock(&self.warned);
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!(
                what,
                %error,
                dir = %self.config.dir.display(),
                refused = self.refused(),
                "the PCAP store has trouble with its disk; capture goes on, packets are stored again when it can"
            );
        }
    }

    /// Packets refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.counters.refused_packets.load(Ordering::Relaxed)
    }

    /// Tells that packets are stored again; `before`: how many had been refused when the trouble began.
    pub(super) fn recovered(&self, before: u64) {
        let refused = self.refused().saturating_sub(before);
        tracing::info!(refused, dir = %self.config.dir.display(), "the PCAP store takes packets again");
    }

    /// Sees to it that `bytes` can be written without touching the disk's reserve: the oldest segments go for it.
    ///
    /// # Errors
    /// When none is left to go.
    pub(super) fn make_room(&self, bytes: u64) -> io::Result<()> {
        while !self.disk.has_room(bytes)? {
            // One that is read still takes its room: another goes in its place.
            if !self.registry.give_up() {
                return Err(self.disk.full());
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` to a segment's file, which is written up to `at`.
    #[cfg(not(test))]
    pub(super) fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        writer::write_from(file, at, bytes)
    }

    /// The same on a disk that fills up in the middle of a write.
    #[cfg(test)]
    pub(super) fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        drop(lock(&self.disk_hangs));
        let left = self.disk_left.load(Ordering::SeqCst);
        if left == u64::MAX {
            return writer::write_from(file, at, bytes);
        }
        let fits = bytes.len().min(left as usize);
        self.disk_left.store(left - fits as u64, Ordering::SeqCst);
        writer::write_from(file, at, &bytes[..fits])?;
        if fits < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

fn parse(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Puts a file with `bytes` in the place of `path`, at once.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    super::extracted::remove(&temporary);
    writer::write_all(&writer::create(&temporary)?, bytes)?;
    std::fs::rename(&temporary, path)
}
