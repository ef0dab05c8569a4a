//! HTTP/1.x (RFC 9110, RFC 9112): two readers, one for each direction, and the pairing of what they find.
//!
//! ```text
//!   client's bytes ─► Reader ─┐ requests
//!                             ├─► Pairing ─► drafts
//!   server's bytes ─► Reader ─┘ responses (asks: whose answer is it? for HEAD and CONNECT)
//! ```
//!
//! Between two exchanges a stream keeps no readers, only what they and the pairing have learnt: about a hundred bytes.
//! Readers are taken from those that others left, and left for others.
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
use crate::pair::{Known, Pairing};
use crate::time::Timestamp;
use reader::{Env, Reader, Still, Turn};

/// Readers kept for later; more are freed.
const MAX_SPARE: usize = 64;

/// Reader of one HTTP/1.x stream.
#[derive(Debug)]
pub struct Http1 {
    state: State,
    refused: u32,
}

#[derive(Debug)]
enum State {
    /// Nothing is under way.
    Rest(Rest),
    Busy(Box<Busy>),
    /// The rest of the stream is not HTTP/1.x.
    Opaque,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    known: Known,
    client: Still,
    server: Still,
}

/// What reads while messages are under way.
#[derive(Debug)]
struct Busy {
    client: Reader,
    server: Reader,
    pair: Pairing,
}

/// [`Busy`] ones without a stream, at most [`MAX_SPARE`].
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a stream takes the box as it is")]
pub(super) struct Spare(Vec<Box<Busy>>);

impl Http1 {
    /// A reader; `joined`: the stream was not seen from its first byte.
    #[must_use]
    pub fn new(joined: bool) -> Self {
        let still = Still::new(joined);
        let state = State::Rest(Rest { known: Known::new(joined), client: still, server: still });
        Self { state, refused: 0 }
    }

    /// Messages that a limit kept from being paired or kept, since the last call.
    pub fn take_refused(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.refused))
    }

    /// The readers, woken if they rest.
    fn busy(&mut self, spare: &mut Spare) -> Option<&mut Busy> {
        if let State::Rest(rest) = &self.state {
            self.state = State::Busy(spare.wake(rest));
        }
        if let State::Busy(busy) = &mut self.state { Some(busy) } else { None }
    }

    /// Lets the readers rest if nothing is under way.
    fn rest(&mut self, spare: &mut Spare) {
        let State::Busy(busy) = &mut self.state else { return };
        let refused = busy.pair.take_refused();
        if busy.pair.is_empty()
            && let Some(rest) = busy.rest()
            && let State::Busy(busy) = std::mem::replace(&mut self.state, State::Rest(rest))
        {
            spare.keep(busy);
        }
        self.refuse(refused);
    }

    /// Nothing is read any more.
    fn retire(&mut self, spare: &mut Spare) {
        if let State::Busy(mut busy) = std::mem::replace(&mut self.state, State::Opaque) {
            self.refuse(busy.pair.take_refused());
            if busy.pair.is_empty() {
                spare.keep(busy);
            }
        }
    }

    fn refuse(&mut self, messages: u64) {
        self.refused = self.refused.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
    }
}

impl Default for Busy {
    fn default() -> Self {
        Self {
            client: Reader::new(Side::Client),
            server: Reader::new(Side::Server),
            pair: Pairing::new(false),
        }
    }
}

impl Busy {
    fn rest(&self) -> Option<Rest> {
        let (client, server) = (self.client.still()?, self.server.still()?);
        Some(Rest { known: self.pair.known([client.offset, server.offset])?, client, server })
    }
}

impl Spare {
    fn wake(&mut self, rest: &Rest) -> Box<Busy> {
        let mut busy = self.0.pop().unwrap_or_default();
        busy.client.wake(&rest.client);
        busy.server.wake(&rest.server);
        busy.pair.wake(&rest.known, [rest.client.offset, rest.server.offset]);
        busy
    }

    fn keep(&mut self, busy: Box<Busy>) {
        if self.0.len() < MAX_SPARE {
            self.0.push(busy);
        }
    }
}

impl Dissector for Http1 {
    fn chunk(&mut self, side: Side, chunk: Chunk<'_>, at: Arrival, cx: &mut Context<'_>) -> Next {
        let Some(busy) = self.busy(&mut cx.spare.http1) else { return Next::Opaque };
        let Busy { client, server, pair } = busy;
        let reader = if side == Side::Client { &mut *client } else { server };
        let mut env = Env { pair, cx };
        let turn = match chunk {
            Chunk::Data(data) => reader.data(data, at, &mut env),
            Chunk::Gap(n) => {
                reader.gap(n, at, &mut env);
                Turn::Http
            }
        };
        if turn == Turn::Tunnel {
            client.end(End::Fin, at.time, &mut env);
            pair.finish(End::Fin, cx);
            self.retire(&mut cx.spare.http1);
            return Next::Opaque;
        }
        let decided = reader.decided();
        pair.decided(side, decided, cx);
        self.rest(&mut cx.spare.http1);
        Next::Continue
    }

    fn end_side(&mut self, side: Side, end: End, at: Timestamp, cx: &mut Context<'_>) {
        let Some(busy) = self.busy(&mut cx.spare.http1) else { return };
        let Busy { client, server, pair } = busy;
        let reader = if side == Side::Client { client } else { server };
        reader.end(end, at, &mut Env { pair, cx });
        pair.side_ended(side, end, cx);
        self.rest(&mut cx.spare.http1);
    }

    fn finish(&mut self, end: End, at: Timestamp, cx: &mut Context<'_>) {
        let Some(busy) = self.busy(&mut cx.spare.http1) else { return };
        let Busy { client, server, pair } = busy;
        server.end(end, at, &mut Env { pair, cx });
        client.end(end, at, &mut Env { pair, cx });
        pair.finish(end, cx);
        self.retire(&mut cx.spare.http1);
    }

    fn memory(&self) -> usize {
        let State::Busy(busy) = &self.state else { return 0 };
        size_of::<Busy>() + busy.client.memory() + busy.server.memory() + busy.pair.memory()
    }
}

#[cfg(test)]
mod tests;
