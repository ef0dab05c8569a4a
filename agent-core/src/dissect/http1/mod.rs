//! HTTP/1.x (RFC 9110, RFC 9112): two readers, one for each direction, and the pairing of what they find.
//!
//! ```text
//!   client's bytes ─► Reader ─┐ requests
//!                             ├─► Pairing ─► drafts
//!   server's bytes ─► Reader ─┘ responses (asks: whose answer is it? for HEAD and CONNECT)
//! ```
//!
//! Between two exchanges a stream keeps no readers, only what they and the pairing have learnt: about a hundred bytes.
//! Readers are taken from those that others left, and left for others. Of the streams that talk most, a few may keep theirs
//! ([`lend`](super::Spare::lend)): the readers are then where they were left, which comes to the same.
//!
//! Invariants: memory is bounded by [`crate::Limits`] whatever arrives; no byte is looked at more than a few times, however
//! the stream is cut; without gaps, how it is cut makes no difference to the drafts.

mod again;
mod body;
mod chunked;
mod classes;
mod framing;
mod head;
mod looks;
mod message;
mod plain;
mod probe;
mod reader;

pub(crate) use head::is_start_line;
pub use probe::{MAX_PROBE, probe};

use super::{Arrival, Chunk, Context, Dissector, End, Next, Side};
use crate::pair::{Known, Pairing};
use crate::time::Timestamp;
use again::Heads;
use reader::{Env, Reader, Still, Turn};

/// Readers kept for later; more are freed.
const MAX_SPARE: usize = 64;

/// Reader of one HTTP/1.x stream.
#[derive(Debug)]
pub struct Http1 {
    /// There while something is under way, and while it is `lent`.
    busy: Option<Box<Busy>>,
    /// `busy` may stay when nothing is under way.
    lent: bool,
    /// Nothing is under way, though `busy` is there.
    resting: bool,
    /// What there is to know while nothing is.
    known: Known,
    client: Still,
    server: Still,
    refused: u32,
    /// The rest of the stream is not HTTP/1.x.
    opaque: bool,
}

/// What reads while messages are under way.
#[derive(Debug)]
struct Busy {
    client: Reader,
    server: Reader,
    pair: Pairing,
}

/// Working memory of all readers.
#[derive(Debug, Default)]
pub(super) struct Spare {
    /// Readers without a stream, at most [`MAX_SPARE`].
    #[expect(clippy::vec_box, reason = "a stream takes the box as it is")]
    busy: Vec<Box<Busy>>,
    /// Of those who read heads.
    heads: Heads,
}

impl Http1 {
    /// A reader; `joined`: the stream was not seen from its first byte.
    #[must_use]
    pub fn new(joined: bool) -> Self {
        Self {
            busy: None,
            lent: false,
            resting: false,
            known: Known::new(joined),
            client: Still::new(joined),
            server: Still::new(joined),
            refused: 0,
            opaque: false,
        }
    }

    /// Messages that a limit kept from being paired or kept, since the last call.
    pub fn take_refused(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.refused))
    }

    /// Whether nothing is under way: no message and no request that waits.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.busy.is_none() || self.resting
    }

    #[cfg(test)]
    pub(crate) fn has_lent(&self) -> bool {
        self.busy.is_some()
    }

    /// Gives back what was lent; see [`super::Spare::lend`].
    pub(crate) fn give_back(&mut self, spare: &mut super::Spare) {
        self.lent = false;
        if self.resting {
            self.leave(&mut spare.http1);
        }
    }

    /// How many of the next bytes of `side` nobody will look at.
    #[must_use]
    pub fn unneeded(&self, side: Side) -> u64 {
        self.busy
            .as_ref()
            .map_or(0, |b| if side == Side::Client { b.client.unneeded() } else { b.server.unneeded() })
    }

    /// The readers, woken if they rest.
    fn wake(&mut self, spare: &mut Spare) -> Option<&mut Busy> {
        if self.opaque {
            return None;
        }
        self.resting = false;
        let Self { busy, known, client, server, .. } = self;
        let busy = busy.get_or_insert_with(|| {
            let mut busy = spare.busy.pop().unwrap_or_default();
            busy.client.wake(client);
            busy.server.wake(server);
            busy.pair.wake(known, [busy.client.decided(), busy.server.decided()]);
            busy
        });
        Some(busy)
    }

    /// Lets the readers rest if nothing is under way.
    #[inline]
    fn rest(&mut self, spare: &mut Spare) {
        let Some(busy) = self.busy.as_mut() else { return };
        let refused = busy.pair.take_refused();
        if busy.at_rest() {
            self.resting = true;
            #[cfg(test)]
            busy.pair.tell(&mut self.known.clone());
            if !self.lent {
                self.leave(spare);
            }
        }
        if refused > 0 {
            self.refuse(refused);
        }
    }

    /// Keeps only what the readers have learnt, which must be resting.
    fn leave(&mut self, spare: &mut Spare) {
        self.resting = false;
        let Some(busy) = self.busy.take() else { return };
        busy.client.tell(&mut self.client);
        busy.server.tell(&mut self.server);
        busy.pair.tell(&mut self.known);
        spare.keep(Some(busy));
    }

    /// Nothing is read any more.
    fn retire(&mut self, spare: &mut Spare) {
        self.opaque = true;
        self.resting = false;
        let mut busy = self.busy.take();
        self.refuse(busy.as_mut().map_or(0, |b| b.pair.take_refused()));
        spare.keep(busy.filter(|b| b.pair.is_empty()));
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
    fn at_rest(&self) -> bool {
        let read = [self.client.decided(), self.server.decided()];
        self.pair.at_rest(read) && self.client.at_rest() && self.server.at_rest()
    }
}

impl Spare {
    fn keep(&mut self, busy: Option<Box<Busy>>) {
        if self.busy.len() < MAX_SPARE {
            self.busy.extend(busy);
        }
    }
}

impl Dissector for Http1 {
    fn chunk(&mut self, side: Side, chunk: Chunk<'_>, at: Arrival, cx: &mut Context<'_>) -> Next {
        if self.busy.is_none() && !self.opaque {
            self.lent = std::mem::take(&mut cx.spare.lend);
        }
        let Some(busy) = self.wake(&mut cx.spare.http1) else { return Next::Opaque };
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
        let Some(busy) = self.wake(&mut cx.spare.http1) else { return };
        let Busy { client, server, pair } = busy;
        let reader = if side == Side::Client { client } else { server };
        reader.end(end, at, &mut Env { pair, cx });
        pair.side_ended(side, end, cx);
        self.rest(&mut cx.spare.http1);
    }

    fn finish(&mut self, end: End, at: Timestamp, cx: &mut Context<'_>) {
        let Some(busy) = self.wake(&mut cx.spare.http1) else { return };
        let Busy { client, server, pair } = busy;
        server.end(end, at, &mut Env { pair, cx });
        client.end(end, at, &mut Env { pair, cx });
        pair.finish(end, cx);
        self.retire(&mut cx.spare.http1);
    }

    fn memory(&self) -> usize {
        // What rests is lent working memory, as is what waits for a stream.
        let Some(busy) = self.busy.as_ref().filter(|_| !self.resting) else { return 0 };
        size_of::<Busy>() + busy.client.memory() + busy.server.memory() + busy.pair.memory()
    }
}

#[cfg(test)]
mod tests;
