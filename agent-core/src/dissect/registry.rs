//! Which protocols there are: a protocol is one line in each of the lists here.
//!
//! Detection looks at the first bytes of one direction (from the start of the stream, or of the first segment seen
//! where the stream was joined later, or of the first segment after a gap). It must cost next to nothing for the bytes
//! of other protocols, for it is asked for every stream of the node.

use super::http1::{self, Http1};
use super::{Arrival, Chunk, Context, Dissector, End, Next, Probe, Side, Spare};
use crate::time::Timestamp;

/// A protocol that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 (RFC 9112).
    Http1,
}

/// What the first bytes of a direction say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detection {
    /// No protocol that is known here.
    No,
    /// Could be one: ask again with more bytes (never past [`MAX_DETECT`]).
    NeedMore,
    /// That protocol, and the bytes were sent by that end.
    Yes(Side, Protocol),
}

/// Looks at the first bytes of one direction.
type ProbeFn = fn(&[u8]) -> Probe;

/// The probes, most frequent protocol first.
const PROBES: &[(ProbeFn, Protocol)] = &[(http1::probe, Protocol::Http1)];

/// With so many bytes, detection gives a definite answer.
pub const MAX_DETECT: usize = http1::MAX_PROBE;

/// Asks every protocol about the first bytes of one direction.
#[must_use]
pub fn detect(data: &[u8]) -> Detection {
    let mut more = false;
    for &(probe, protocol) in PROBES {
        match probe(data) {
            Probe::Yes(side) => return Detection::Yes(side, protocol),
            Probe::NeedMore => more = true,
            Probe::No => {}
        }
    }
    if more { Detection::NeedMore } else { Detection::No }
}

impl Protocol {
    /// The name in statistics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
        }
    }

    /// A reader for a stream of this protocol. `joined`: the stream was not seen from its first byte, so that its first
    /// bytes may be the middle of a message.
    #[must_use]
    pub fn parser(self, joined: bool) -> Parser {
        match self {
            Self::Http1 => Parser::Http1(Box::new(Http1::new(joined))),
        }
    }
}

/// A reader of one stream, by protocol.
#[derive(Debug)]
pub enum Parser {
    /// HTTP/1.x.
    Http1(Box<Http1>),
}

impl Parser {
    /// Whether nothing is under way: no message and no request that waits.
    #[must_use]
    pub fn rests(&self) -> bool {
        match self {
            Self::Http1(p) => p.rests(),
        }
    }

    /// How many of the next bytes of `side` nobody will look at: what is left of a body beyond its cap, say. Lost, they would
    /// change nothing but a size, as long as they are told as a gap of a cut segment.
    #[must_use]
    pub fn unneeded(&self, side: Side) -> u64 {
        match self {
            Self::Http1(p) => p.unneeded(side),
        }
    }

    /// Whether it has working memory now.
    #[cfg(test)]
    pub(crate) fn has_lent(&self) -> bool {
        match self {
            Self::Http1(p) => p.has_lent(),
        }
    }

    /// Keeps nothing of what was lent, see [`Spare::lend`], once nothing is under way.
    pub(crate) fn give_back(&mut self, spare: &mut Spare) {
        match self {
            Self::Http1(p) => p.give_back(spare),
        }
    }

    /// Messages that a limit kept from being paired or kept, since the last call.
    pub fn take_refused(&mut self) -> u64 {
        match self {
            Self::Http1(p) => p.take_refused(),
        }
    }
}

impl Dissector for Parser {
    fn chunk(&mut self, side: Side, chunk: Chunk<'_>, at: Arrival, cx: &mut Context<'_>) -> Next {
        match self {
            Self::Http1(p) => p.chunk(side, chunk, at, cx),
        }
    }

    fn end_side(&mut self, side: Side, end: End, at: Timestamp, cx: &mut Context<'_>) {
        match self {
            Self::Http1(p) => p.end_side(side, end, at, cx),
        }
    }

    fn finish(&mut self, end: End, at: Timestamp, cx: &mut Context<'_>) {
        match self {
            Self::Http1(p) => p.finish(end, at, cx),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Http1(p) => size_of::<Http1>() + p.memory(),
        }
    }
}
