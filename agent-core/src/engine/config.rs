//! What an engine is told, and what it tells.

use std::net::SocketAddr;

use crate::item::{Endpoint, Item, StreamId};
use crate::limits::Limits;
use crate::tcp::Rules;
use crate::time::Timestamp;

pub use crate::tcp::HashedRun;

/// Configuration of one engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Bounds.
    pub limits: Limits,
    /// Whether to compute SHA-256 of each direction and of bodies.
    pub hash: bool,
    /// Whether to tell which payload is not needed ([`Event::Trim`]). Without effect where bytes are hashed.
    pub trim: bool,
    /// Whether to tell which bytes are text around bodies ([`Event::Text`]).
    pub text: bool,
    /// Number of the first stream.
    pub first_stream: u64,
    /// Distance between the numbers of two streams: with as many workers, each starting one later, no two give the
    /// same number. At least 1.
    pub stream_step: u64,
    /// Secret of the hash tables; random where the traffic is not trusted.
    pub hash_seed: u64,
}

impl EngineConfig {
    pub(super) fn rules(&self, now: Timestamp) -> Rules<'_> {
        Rules { limits: &self.limits, hash: self.hash, trim: self.trim && !self.hash, now }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            hash: false,
            trim: false,
            text: false,
            first_stream: 1,
            stream_step: 1,
            hash_seed: 0,
        }
    }
}

/// What the engine made of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Handled {
    /// The stream that it belongs to.
    pub stream: Option<StreamId>,
    /// Whether it is a fragment of an IP datagram.
    pub fragment: bool,
    /// Whether the same packet was already seen at the other end of its way (out of one cgroup, then into another).
    pub copy: bool,
}

/// Something that the engine found.
#[derive(Clone, Debug)]
pub enum Event {
    /// A dissected item.
    Item(Box<Item>),
    /// A stream is over, and no packet of it is expected any more. Comes after all its items.
    StreamClosed(Box<StreamSummary>),
    /// Payload that is not needed, with [`EngineConfig::trim`]: once for each change.
    Trim(Box<Trim>),
    /// Bytes of a stream that are no body's, with [`EngineConfig::text`].
    Text(Box<Text>),
}

/// Bytes that were read as heads, chunk sizes or trailers, or searched for the next message, or that came before the protocol
/// was known. Tells of gaps, too. What is in neither is of a body, or of a protocol that nobody reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The stream.
    pub stream: StreamId,
    /// Which end sent them, as in [`Place`].
    pub from: u8,
    /// Of the first byte, as in [`Place`].
    pub offset: u64,
    /// They; none where bytes were lost.
    pub bytes: Vec<u8>,
    /// So many bytes were lost or left out here, be it of text or of a body.
    pub lost: u64,
}

/// Where a packet's payload lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The stream.
    pub stream: StreamId,
    /// Which end sent it: 0 or 1, the same for all packets of the stream.
    pub from: u8,
    /// Offset of the payload's first byte in its direction. Negative: before the first byte that was read.
    pub offset: i64,
    /// Where the payload begins in the packet's data.
    pub at: usize,
    /// Where the TCP header begins there.
    pub header: usize,
    /// Captured bytes of the payload.
    pub len: usize,
}

/// Segments of one direction whose payload may be left out, as long as their headers and true length are told.
///
/// It is a range of sequence numbers and no mode: what lies beyond it is whole, however late whoever leaves out the
/// payload is told. It covers what is left of a body beyond its cap, or of a direction that nobody reads, as far ahead as
/// 256 MiB; before that ends, the next one is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// The stream.
    pub stream: StreamId,
    /// Who sends the segments.
    pub from: SocketAddr,
    /// Who gets them.
    pub to: SocketAddr,
    /// Which; `None`: none any more.
    pub window: Option<TrimWindow>,
}

/// Sequence numbers, modulo 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrimWindow {
    /// The first.
    pub from: u32,
    /// How many.
    pub len: u32,
}

/// Why a stream is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// Both sides sent FIN.
    Fin,
    /// RST.
    Reset,
    /// Idle too long.
    Timeout,
    /// Given up to keep the limit on streams.
    Evicted,
    /// The capture ended.
    CaptureEnd,
    /// A new connection took its addresses and ports.
    Reused,
}

impl Reason {
    /// The name in summaries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fin => "fin",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Evicted => "evicted",
            Self::CaptureEnd => "capture-end",
            Self::Reused => "reused",
        }
    }
}

/// A stream that is over.
#[derive(Clone, Debug)]
pub struct StreamSummary {
    /// Its number.
    pub stream: StreamId,
    /// Who opened it, as far as is known.
    pub client: Endpoint,
    /// The other end.
    pub server: Endpoint,
    /// Packets.
    pub packets: u64,
    /// Their bytes on the wire, all headers included.
    pub bytes: u64,
    /// SYNs without ACK.
    pub syn: u32,
    /// SYNs with ACK.
    pub synack: u32,
    /// FINs.
    pub fin: u32,
    /// RSTs.
    pub rst: u32,
    /// Capture time of the first packet.
    pub first: Timestamp,
    /// Capture time of the last packet.
    pub last: Timestamp,
    /// Items found in it.
    pub items: u64,
    /// Why it is over.
    pub reason: Reason,
    /// From client to server.
    pub c2s: DirectionSummary,
    /// From server to client.
    pub s2c: DirectionSummary,
}

/// One direction of a stream that is over. Offsets count from the byte after its SYN, or from the first byte seen.
#[derive(Clone, Debug, Default)]
pub struct DirectionSummary {
    /// Payload bytes put in order, each counted once.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Offset and length of each gap; at most [`Limits::listed_gaps`].
    pub gaps: Vec<(u64, u64)>,
    /// Number of gaps.
    pub gaps_total: u64,
    /// Bytes in gaps.
    pub gap_bytes: u64,
    /// Bytes before the first one captured that were sent since the capture saw the stream, as other packets tell: so many at
    /// least. No gap is listed for them; what reads the stream was told of one.
    pub before: u64,
    /// Bytes after the last one captured that were sent, as empty packets and acknowledgements tell.
    pub unseen: u64,
    /// Payload bytes that were left out because nobody needed them ([`Event::Trim`]). In no gap.
    pub trimmed: u64,
    /// Payload bytes that came again.
    pub retransmitted: u64,
    /// Segments that overlapped others with different bytes.
    pub overlaps: u64,
    /// SHA-256 of the payload, with [`EngineConfig::hash`], where there is some and no gap.
    pub sha256: Option<[u8; 32]>,
    /// Offset, length and SHA-256 of each run between gaps, with [`EngineConfig::hash`], where there are gaps; at most
    /// one more than [`Limits::listed_gaps`].
    pub chunks: Vec<HashedRun>,
}
