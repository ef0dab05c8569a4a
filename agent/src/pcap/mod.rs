//! The PCAP store: every packet appended once, every stream's PCAP to be had at any moment.
//!
//! A worker owns a [`PcapAppender`]; everything else (scripts, API) holds a [`PcapStore`]. The two halves meet in the
//! store's implementation, which must not make the worker wait for a reader's disk work. [`SegmentStore`] is that
//! implementation:
//!
//! ```text
//! worker ─ Appender ─► Log ─► writer thread ─► segments/segment-N.pcapng + .links
//!                       │ index: stream → last record
//! script ─ path() ──────┴─► walk back the links, read the records ─► streams/ID.pcap
//! ```
//! While the disk takes nothing, what would go there goes to a small folder in memory, and what is old there goes for it.

mod ahead;
mod appender;
mod config;
mod disk;
mod extract;
mod extracted;
mod fallback;
mod format;
mod index;
mod link;
mod log;
mod notes;
mod reader;
mod recover;
mod segment;
mod shared;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_core::item::StreamId;
use agent_core::{LinkType, Packet, Timestamp};

pub use config::{DescribeInterface, InterfaceInfo, Mode, Overflow, StoreConfig, StoreStats};
pub use reader::{ExportFormat, Exported, Select, StoreFolder, StreamEntry};
pub use store::{Opened, SegmentStore};

/// Whether the values of a header of that name are hidden.
pub type Hides<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Why a stream's PCAP cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No such stream.
    #[error("stream {0} is not known")]
    Unknown(StreamId),
    /// It was stored, but retention removed it.
    #[error("stream {stream} has expired from the store{}", reaches(*since))]
    Expired {
        /// Which stream.
        stream: StreamId,
        /// Capture time of the oldest packets that are still stored; `None`: none is.
        since: Option<Timestamp>,
    },
    /// Nobody asked for it while its packets were in memory (mode [`Mode::Matched`]).
    #[error(
        "stream {0} was not asked for while its packets were at hand: the store keeps only streams that are"
    )]
    Passed(StreamId),
    /// The store is off.
    #[error("the PCAP store is off ({0})")]
    Off(&'static str),
    /// A classic file holds one link type.
    #[error("link types {} and {} in one file: ask for pcapng", .0.0, .1.0)]
    Mixed(LinkType, LinkType),
    /// Another process has the store open.
    #[error("the PCAP store in {0} is in use by another process")]
    InUse(PathBuf),
    /// The files handed out lately leave no room for this one.
    #[error(
        "{what} needs a file of {needed} bytes; the limit for extracted files, {limit} bytes, leaves no room"
    )]
    NoRoom {
        /// Which stream, or that it was a snapshot.
        what: String,
        /// Size of its file, in bytes (of a snapshot, what it had come to).
        needed: u64,
        /// Limit of all extracted files, in bytes.
        limit: u64,
    },
    /// Disk trouble.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The worker's half: appends.
pub trait PcapAppender: Send {
    /// Appends a packet of `stream` (or of none). Never blocks on readers, never fails: what could not be stored is counted.
    fn append(&mut self, stream: Option<StreamId>, packet: &Packet<'_>);
    /// Makes all appended packets visible to [`PcapStore::path`]. Called once a batch, before its items go to sinks.
    fn commit(&mut self);
}

/// A finished capture file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Its size, in bytes.
    pub size: u64,
    /// Packets in it.
    pub packets: u64,
}

/// The readers' half.
pub trait PcapStore: Send + Sync {
    /// A finished, valid capture file with exactly the packets of that stream seen so far.
    ///
    /// # Errors
    /// When the stream is unknown or expired, or the disk refuses.
    fn file(&self, stream: StreamId) -> Result<CaptureFile, StoreError>;

    /// The path of [`PcapStore::file`].
    ///
    /// # Errors
    /// As there.
    fn path(&self, stream: StreamId) -> Result<PathBuf, StoreError> {
        self.file(stream).map(|file| file.path)
    }

    /// As [`PcapStore::file`], a copy in which the values of headers that `hides` names are overwritten, byte for byte
    /// ([`agent_core::redact`]). Asked for again, it is the same file: `hides` must stay the same for a store's life.
    ///
    /// # Errors
    /// As there.
    fn redacted(&self, stream: StreamId, hides: Hides<'_>) -> Result<CaptureFile, StoreError>;

    /// Path of one finished capture file of all streams, or of those named, in the order of time.
    ///
    /// # Errors
    /// When a stream that is named is unknown or expired, the file would be larger than extracted files may be together, or
    /// the disk refuses.
    fn snapshot(&self, streams: Option<&[StreamId]>) -> Result<PathBuf, StoreError>;
    /// Asks for a stream where only streams asked for are stored: what of it is still in memory, and all that comes.
    /// `false`: it is not known.
    fn keep(&self, stream: StreamId) -> bool;
    /// Whether the stream's packets are being stored: always, or since it was asked for.
    fn is_kept(&self, stream: StreamId) -> bool;
    /// Notes something about a stream, an alert: it goes with the stream's packets where they are exported. Best effort.
    fn note(&self, stream: StreamId, text: &str);
    /// Folder under which [`PcapStore::path`] puts its files: scripts may read there.
    fn folder(&self) -> PathBuf;
    /// Where it puts them while the disk takes none, if anywhere: scripts may read there, too.
    fn memory_folder(&self) -> Option<PathBuf> {
        None
    }
}

/// How far back the store goes, in words.
fn reaches(since: Option<Timestamp>) -> String {
    match since {
        Some(since) => format!(", which goes back to {}", crate::utc::text(since.0 / 1_000_000_000)),
        None => String::new(),
    }
}

/// The data is consistent at every point where a panic could leave the lock: poisoning tells nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
