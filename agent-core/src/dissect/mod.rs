//! What a dissector is: it takes one stream's bytes, in order, and emits drafts of items.
//!
//! A dissector knows this module and `item`, never `tcp`, `flow` or another dissector. It never fails: bytes that it
//! cannot read become anomalies or a draft with an error, and it finds its way back to the next message.

pub mod content;
pub mod http1;
pub mod registry;

use std::collections::VecDeque;

use crate::anomaly::Anomaly;
use crate::item::{ItemError, Record};
use crate::limits::Limits;
use crate::time::Timestamp;

/// Which end sent the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A piece of one direction of a stream. Pieces come in order and leave nothing out: lost bytes are a `Gap`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunk<'a> {
    /// Bytes, never empty. How they are cut has no meaning.
    Data(&'a [u8]),
    /// So many bytes that were sent but not captured (at least 1).
    Gap(u64),
}

/// Circumstances of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Capture time of the packet that brought it.
    pub time: Timestamp,
    /// Offset of the chunk's first byte in its direction of the stream.
    pub offset: u64,
    /// Offset in the *other* direction up to which that packet acknowledged, if it did: all bytes before it had
    /// reached the sender when it sent this chunk.
    pub acked: Option<u64>,
    /// Whether the packet was cut by the snap length (the missing rest follows as a gap).
    pub truncated: bool,
}

/// How a stream, or one side of it, ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// FIN of that side; all it sent has been handed on.
    Fin,
    /// RST by either side.
    Reset,
    /// Idle too long.
    Timeout,
    /// Given up to keep a budget; more may well come.
    Evicted,
    /// The capture ended.
    CaptureEnd,
    /// The kernel gave the ports to a new connection without the end of the old one being seen.
    Reused,
}

/// An item but for what the engine knows better: stream, ends, number.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What was said.
    pub record: Record,
    /// Capture time of the first byte.
    pub started: Timestamp,
    /// Capture time of the last byte.
    pub finished: Timestamp,
    /// Oddities.
    pub anomalies: Vec<Anomaly>,
    /// Why it is not whole.
    pub error: Option<ItemError>,
    /// Gaps inside its messages.
    pub gaps: u32,
    /// Whether a packet of it was cut by the snap length.
    pub truncated: bool,
}

/// What a dissector is given besides bytes.
pub struct Context<'a> {
    /// Bounds.
    pub limits: &'a Limits,
    /// Whether to compute SHA-256 of bodies.
    pub hash: bool,
    /// Where drafts go.
    pub out: &'a mut VecDeque<Draft>,
    /// Working memory that readers have in common.
    pub spare: &'a mut Spare,
}

/// Working memory of readers that rest, kept for the next ones that do not: a message then costs no allocation for it. One
/// for each engine; bounded.
#[derive(Debug, Default)]
pub struct Spare {
    http1: http1::Spare,
    /// Whether a reader that is woken may keep what it takes of this while it rests. It takes that leave, too, and whoever gave it
    /// must have the reader [give back](registry::Parser::give_back) what it keeps.
    pub(crate) lend: bool,
    /// Pieces of text that were taken since the engine last asked; `None`: nobody asks.
    pub(crate) text: Option<Vec<Text>>,
}

/// Bytes that a reader took for text around bodies: heads, chunk sizes, trailers, and what it searched through for the next
/// message. Each such byte is in one piece; pieces of a direction come in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    pub(crate) side: Side,
    /// Of the first byte, in its direction.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Spare {
    /// One that is told of text, or not.
    pub(crate) fn with_text(text: bool) -> Self {
        Self { text: text.then(Vec::new), ..Self::default() }
    }

    /// Tells of bytes that no body holds.
    pub(crate) fn text(&mut self, side: Side, offset: u64, bytes: &[u8]) {
        if let Some(text) = self.text.as_mut().filter(|_| !bytes.is_empty()) {
            text.push(Text { side, offset, bytes: bytes.to_vec() });
        }
    }
}

/// Whether the dissector still wants the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// Go on.
    Continue,
    /// The rest of the stream is not this protocol (CONNECT, Upgrade, or nothing readable): stop feeding it.
    Opaque,
}

/// What the first bytes of a side look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Not this protocol.
    No,
    /// Could be: more bytes are needed to tell.
    NeedMore,
    /// This protocol, and these bytes were sent by that end.
    Yes(Side),
}

/// One protocol's reader of one stream.
pub trait Dissector {
    /// Takes the next chunk of `side`.
    fn chunk(&mut self, side: Side, chunk: Chunk<'_>, at: Arrival, cx: &mut Context<'_>) -> Next;
    /// `side` sends nothing more.
    fn end_side(&mut self, side: Side, end: End, at: Timestamp, cx: &mut Context<'_>);
    /// The stream is over: emit what is left.
    fn finish(&mut self, end: End, at: Timestamp, cx: &mut Context<'_>);
    /// Heap memory held, in bytes, itself not counted.
    fn memory(&self) -> usize;
}
