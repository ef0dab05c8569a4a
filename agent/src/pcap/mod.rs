//! The PCAP store: every packet appended once, every stream's PCAP to be had at any moment.
//!
//! A worker owns a [`PcapAppender`]; everything else (scripts, API) holds a [`PcapStore`]. The two halves meet in the
//! store's implementation, which must not make the worker wait for a reader's disk work.

use std::path::PathBuf;

use agent_core::Packet;
use agent_core::item::StreamId;

/// Why a stream's PCAP cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No such stream.
    #[error("stream {0} is not known")]
    Unknown(StreamId),
    /// It was stored, but retention removed it.
    #[error("stream {0} has expired from the store")]
    Expired(StreamId),
    /// The store is off.
    #[error("the PCAP store is off ({0})")]
    Off(&'static str),
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

/// The readers' half.
pub trait PcapStore: Send + Sync {
    /// Absolute path of a finished, valid capture file with exactly the packets of that stream seen so far.
    ///
    /// # Errors
    /// When the stream is unknown or expired, or the disk refuses.
    fn path(&self, stream: StreamId) -> Result<PathBuf, StoreError>;
    /// Folder under which [`PcapStore::path`] puts its files: scripts may read there.
    fn folder(&self) -> PathBuf;
}
