//! Where packets and capture files go while the store's disk takes nothing: a folder in memory, with bounds of its own.
//!
//! ```text
//! segment  records 0..first ─► segments/segment-N.{pcapng,links}
//!          records first..  ─► Detour: sparse files in memory, each record at the offset that it has in the segment
//! ```
//!
//! Invariants: a detour's records keep their positions, so that links and index need not know of it; memory is within
//! [`Fallback::new`]'s limit for packets and once more for files; all of it vanishes with the process, a killed one's with
//! the next store that is opened.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::extracted::remove;
use super::writer;
use crate::scratch::Scratch;

const PREFIX: &str = "remora-pcap-";

/// So many bytes and no more.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
}

/// Bytes taken of a budget, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Takes `bytes`. `None`: so many are not left.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let room = Room { budget: Arc::clone(self), bytes: AtomicU64::new(0) };
        room.grow(bytes).then_some(room)
    }
}

impl Room {
    /// Takes so many more. `false`: they are not left, and nothing has changed.
    pub(super) fn grow(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.budget.limit);
        let grown = self.budget.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        if grown {
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
        }
        grown
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn is_of(&self, budget: &Arc<Budget>) -> bool {
        Arc::ptr_eq(&self.budget, budget)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes(), Ordering::AcqRel);
    }
}

/// The records of a segment from one on, in memory.
#[derive(Debug)]
pub(super) struct Detour {
    pub(super) data: PathBuf,
    pub(super) links: PathBuf,
    /// The first of them.
    pub(super) first: u32,
    /// Where its data lies, in bytes.
    pub(super) base: u64,
    pub(super) room: Room,
}

impl Drop for Detour {
    fn drop(&mut self) {
        remove(&self.data);
        remove(&self.links);
    }
}

/// The folder in memory.
pub(super) struct Fallback {
    folder: Option<Scratch>,
    segments: Arc<Budget>,
    files: Arc<Budget>,
    share: u64,
}

impl Fallback {
    /// A folder of its own in `parent`, for so many workers. `limit`: bytes of packets, and again of files; 0: there is no
    /// fallback.
    pub(super) fn new(parent: &Path, limit: u64, workers: usize) -> Self {
        let create = || match Scratch::create(parent, PREFIX) {
            Ok(folder) => Some(folder),
            Err(error) => {
                tracing::debug!(folder = %parent.display(), %error, "no fallback for packets while the disk is full");
                None
            }
        };
        let folder = if limit > 0 { create() } else { None };
        let limit = if folder.is_some() { limit } else { 0 };
        let share = limit / 4 / workers.max(1) as u64;
        Self { folder, segments: Budget::new(limit), files: Budget::new(limit), share }
    }

    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(Scratch::path)
    }

    /// Bytes that finished files may take.
    pub(super) fn files(&self) -> &Arc<Budget> {
        &self.files
    }

    /// Bytes that packets and files take.
    pub(super) fn used(&self) -> u64 {
        self.segments.used() + self.files.used()
    }

    /// With so many bytes in memory a segment gives way to the next: only finished ones go for new packets.
    pub(super) fn share(&self) -> u64 {
        self.share
    }

    /// Empty files for the records of segment `number` from `first` on, whose data begins at `base`.
    pub(super) fn detour(&self, number: u32, first: u32, base: u64) -> io::Result<(Detour, File, File)> {
        let Some(folder) = self.folder() else { return Err(io::ErrorKind::StorageFull.into()) };
        let at = |ending: &str| folder.join(format!("segment-{number:010}.{ending}"));
        let room = self.segments.take(0).ok_or(io::ErrorKind::StorageFull)?;
        let detour = Detour { data: at("data"), links: at("links"), first, base, room };
        let (data, links) = (writer::create(&detour.data)?, writer::create(&detour.links)?);
        Ok((detour, data, links))
    }
}
