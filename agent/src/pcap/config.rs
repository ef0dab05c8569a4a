//! What can be set about the store, and what it counts.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_core::Origin;

/// Tells what is known of the interface of such packets.
pub type DescribeInterface = Arc<dyn Fn(&Origin) -> InterfaceInfo + Send + Sync>;

/// What is known of an interface beside its link type.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct InterfaceInfo {
    /// Its name, only where it surely is the one.
    pub name: Option<String>,
    /// Where packets were taken, in words.
    pub description: Option<String>,
}

/// What happens to packets when the disk does not keep up and the queue to it is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// They are refused and counted: for live capture, which must never wait.
    Refuse,
    /// The worker waits: for capture files, which can.
    Wait,
}

/// Which packets are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// All.
    All,
    /// Those of streams that are asked for; the others wait in memory for a while in case they are.
    Matched,
}

/// Settings of a store.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Folder of the store, made where it is missing.
    pub dir: PathBuf,
    /// Which packets are stored.
    pub mode: Mode,
    /// In mode [`Mode::Matched`]: memory for packets that wait to be asked for, for each worker, in bytes…
    pub window_bytes: usize,
    /// …and how long they wait.
    pub window_age: Duration,
    /// Segments together, links included, in bytes: past it the oldest go.
    pub max_bytes: u64,
    /// A segment goes when nothing was written to it for so long; `None`: age alone removes nothing.
    pub max_age: Option<Duration>,
    /// So much of the disk stays free, in bytes: the oldest segments go for it, and where none is left to go, packets are
    /// refused. `None`: a twentieth of the file system, 1 GiB at most. 0: no reserve.
    pub reserve_bytes: Option<u64>,
    /// A segment is closed at this size, in bytes. Lowered where the workers' segments would fill the store.
    pub segment_bytes: u64,
    /// What may wait for the disk for each worker, in bytes.
    pub queue_bytes: usize,
    /// So much is written at once, in bytes…
    pub flush_bytes: usize,
    /// …or what there is after this time.
    pub flush_age: Duration,
    /// After a failure of the disk, packets are refused this long before it is tried again.
    pub retry_after: Duration,
    /// When the queue is full.
    pub overflow: Overflow,
    /// A folder in memory that stands in for the disk while that is full or fails…
    pub fallback_dir: PathBuf,
    /// …with so many bytes of packets, the latest, and so many of extracted files. 0: nothing stands in.
    pub fallback_bytes: u64,
    /// Memory for the index of each worker's streams, in bytes (8 a stream; streams that were quiet longest go first).
    pub index_bytes: usize,
    /// Extracted files together, in bytes.
    pub extracted_bytes: u64,
    /// An extracted file is removed when it was not asked for during this time.
    pub extracted_age: Duration,
    /// An extracted file is kept at least this long after it was asked for.
    pub extracted_grace: Duration,
    /// What is known of interfaces, for the segments.
    pub interfaces: Option<DescribeInterface>,
}

impl StoreConfig {
    /// A store in `dir` with the usual limits: 4 GiB of segments of any age, 1 GiB of extracted files, 32 MiB of queue and
    /// 64 MiB of index a worker, 32 MiB of memory in the disk's place; a full queue refuses.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            mode: Mode::All,
            window_bytes: 64 << 20,
            window_age: Duration::from_secs(30),
            max_bytes: 4 << 30,
            max_age: None,
            reserve_bytes: None,
            segment_bytes: 64 << 20,
            queue_bytes: 32 << 20,
            flush_bytes: 1 << 20,
            flush_age: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
            overflow: Overflow::Refuse,
            fallback_dir: PathBuf::from("/dev/shm"),
            fallback_bytes: 32 << 20,
            index_bytes: 64 << 20,
            extracted_bytes: 1 << 30,
            extracted_age: Duration::from_secs(3600),
            extracted_grace: Duration::from_secs(30),
            interfaces: None,
        }
    }

    /// The size at which a segment is closed with so many workers: at least four segments a worker fit the store, and
    /// eight a file system of `disk` bytes.
    pub(super) fn segment_size(&self, workers: usize, disk: u64) -> u64 {
        const LEAST: u64 = 64 << 10;
        const MOST: u64 = 1 << 30;
        let share = (self.max_bytes / 4).min(disk / 8) / workers.max(1) as u64;
        self.segment_bytes.min(share).clamp(LEAST, MOST)
    }

    /// A segment is closed when it was begun so long ago: else a quiet one would outlive the age that is asked for.
    pub(super) fn segment_age(&self) -> Option<Duration> {
        self.max_age.map(|age| age / 8)
    }
}

/// What a store has done, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Packets written.
    pub packets: u64,
    /// Captured bytes written.
    pub bytes: u64,
    /// Packets that were not stored: queue full, disk failing.
    pub refused_packets: u64,
    /// Captured bytes of those.
    pub refused_bytes: u64,
    /// Those of the refused packets that were kept in memory for a while.
    pub detoured_packets: u64,
    /// Memory of packets and files that the disk did not take, in bytes.
    pub fallback_bytes: u64,
    /// Failed disk operations.
    pub errors: u64,
    /// Segments held.
    pub segments: u64,
    /// Bytes of the segments held, links included.
    pub stored_bytes: u64,
    /// Segments removed by retention.
    pub expired_segments: u64,
    /// Whether packets are refused now, for want of room or because the disk fails.
    pub down: bool,
    /// Memory of packets that wait to be asked for, and of the list of streams that were, in bytes.
    pub window_bytes: u64,
    /// Packets that nobody asked for in time.
    pub passed_packets: u64,
    /// Streams that were asked for and are no longer stored, for there were too many.
    pub let_go: u64,
    /// Memory of the streams' index, in bytes.
    pub index_bytes: u64,
    /// Groups of 64 streams dropped from the index for want of memory.
    pub index_evicted: u64,
    /// Files made by `path` (calls answered by a file at hand are not counted).
    pub extractions: u64,
    /// Bytes that extracted files take.
    pub extracted_bytes: u64,
}

/// The counters that writers, workers and readers share.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) packets: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) refused_packets: AtomicU64,
    pub(super) refused_bytes: AtomicU64,
    pub(super) detoured_packets: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) extractions: AtomicU64,
}

impl Counters {
    pub(super) fn store(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, packets: u64, bytes: u64) {
        self.refused_packets.fetch_add(packets, Ordering::Relaxed);
        self.refused_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
