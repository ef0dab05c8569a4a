//! HTTP/1.x (RFC 9110, RFC 9112).

mod framing;
mod head;
mod probe;

pub use probe::{MAX_PROBE, probe};

use super::{Arrival, Chunk, Context, Dissector, End, Next, Side};
use crate::time::Timestamp;

/// Reader of one HTTP/1.x stream.
#[derive(Debug)]
pub struct Http1 {
    joined: bool,
}

impl Http1 {
    /// A reader; `joined`: the stream was not seen from its first byte.
    #[must_use]
    pub fn new(joined: bool) -> Self {
        Self { joined }
    }
}

impl Dissector for Http1 {
    fn chunk(&mut self, _: Side, _: Chunk<'_>, _: Arrival, _: &mut Context<'_>) -> Next {
        if self.joined { Next::Continue } else { Next::Continue }
    }
    fn end_side(&mut self, _: Side, _: End, _: Timestamp, _: &mut Context<'_>) {}
    fn finish(&mut self, _: End, _: Timestamp, _: &mut Context<'_>) {}
    fn memory(&self) -> usize {
        0
    }
}
