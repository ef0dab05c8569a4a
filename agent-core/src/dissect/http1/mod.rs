//! HTTP/1.x (RFC 9110, RFC 9112): two readers, one for each direction, and the pairing of what they find.
//!
//! ```text
//!   client's bytes ─► Reader ─┐ requests
//!                             ├─► Pairing ─► drafts
//!   server's bytes ─► Reader ─┘ responses (asks: whose answer is it? for HEAD and CONNECT)
//! ```
//!
//! Invariants: memory is bounded by [`crate::Limits`] whatever arrives; no byte is looked at more than a few times, however
//! the stream is cut; without gaps, how it is cut makes no difference to the drafts.

mod body;
mod chunked;
mod framing;
mod head;
mod message;
mod probe;
mod reader;

pub use probe::{MAX_PROBE, probe};

use super::{Arrival, Chunk, Context, Dissector, End, Next, Side};
use crate::pair::Pairing;
use crate::time::Timestamp;
use reader::{Env, Reader, Turn};

/// Reader of one HTTP/1.x stream.
#[derive(Debug)]
pub struct Http1 {
    client: Reader,
    server: Reader,
    pair: Pairing,
    opaque: bool,
}

impl Http1 {
    /// A reader; `joined`: the stream was not seen from its first byte.
    #[must_use]
    pub fn new(joined: bool) -> Self {
        Self {
            client: Reader::new(Side::Client, joined),
            server: Reader::new(Side::Server, joined),
            pair: Pairing::new(joined),
            opaque: false,
        }
    }

    /// Messages that a limit kept from being paired or kept, since the last call.
    pub fn take_refused(&mut self) -> u64 {
        self.pair.take_refused()
    }
}

impl Dissector for Http1 {
    fn chunk(&mut self, side: Side, chunk: Chunk<'_>, at: Arrival, cx: &mut Context<'_>) -> Next {
        if self.opaque {
            return Next::Opaque;
        }
        let reader = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let mut env = Env { pair: &mut self.pair, cx };
        let turn = match chunk {
            Chunk::Data(data) => reader.data(data, at, &mut env),
            Chunk::Gap(n) => {
                reader.gap(n, at, &mut env);
                Turn::Http
            }
        };
        if turn == Turn::Tunnel {
            self.opaque = true;
            self.client.end(End::Fin, at.time, &mut env);
            self.pair.finish(End::Fin, cx);
            return Next::Opaque;
        }
        let decided = reader.decided();
        self.pair.decided(side, decided, cx);
        Next::Continue
    }

    fn end_side(&mut self, side: Side, end: End, at: Timestamp, cx: &mut Context<'_>) {
        if self.opaque {
            return;
        }
        let reader = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        reader.end(end, at, &mut Env { pair: &mut self.pair, cx });
        self.pair.side_ended(side, end, cx);
    }

    fn finish(&mut self, end: End, at: Timestamp, cx: &mut Context<'_>) {
        if std::mem::replace(&mut self.opaque, true) {
            return;
        }
        self.server.end(end, at, &mut Env { pair: &mut self.pair, cx });
        self.client.end(end, at, &mut Env { pair: &mut self.pair, cx });
        self.pair.finish(end, cx);
    }

    fn memory(&self) -> usize {
        self.client.memory() + self.server.memory() + self.pair.memory()
    }
}

#[cfg(test)]
mod tests;
