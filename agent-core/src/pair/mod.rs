//! Which response answers which request.
//!
//! As long as both directions are read without loss, responses answer requests in order (RFC 9112 section 9.3). When
//! framing is lost in a direction, nobody can say how many messages went with it, and order means nothing any more.
//! Then there is one certain thing about a client that waits for each response before it sends the next request: when it
//! sent request R it had received everything before the response to R, and nothing of it. TCP tells how much it had
//! received: R's first segment acknowledges exactly the offset at which R's response starts.
//!
//! So after a loss:
//! - a response that starts at offset x answers the first waiting request whose first byte acknowledged x, and from there
//!   order counts again. What was skipped is emitted alone;
//! - after a loss among the requests, R must also acknowledge more than the responses to all known requests: otherwise a lost
//!   request was sent together with R, and the response at x is that one's;
//! - a response whose sender had not received R's head does not answer R;
//! - a client that was ever seen to send a request before the last response was complete (pipelining) may have sent lost
//!   ones so, too: its messages are not paired any more after a loss. What shows it: a request that acknowledged less than
//!   the end of the response before it, or the middle of a response, or as much as the request before it; a response that
//!   acknowledged no more than the one before it, or less than its request's head, or more than its request, or starts elsewhere
//!   than where its request acknowledged; after a loss, a request that acknowledged no more than bytes before it that could
//!   not be read; two requests, or two responses, in one segment;
//! - the first pairs are *held* until they are certain: until two requests in turn acknowledged exactly the end of the response
//!   before them, or the stream ends with every request answered. If something else follows they are emitted unpaired. A
//!   client that was seen to wait [`PROOF`] times is *believed*: one such request will do, and another loss takes nothing back.
//!   A stream that was joined in the middle is held as well; if that one is pipelined, only its end can tell;
//! - what is held may be another's, a HEAD's say: its length is believed only where no other response follows its head.
//!
//! What this cannot see: a client that pipelines with a steady number of requests in flight, towards a server so slow that
//! each answer leaves only after the next request came, and of which all that shows it (the first burst) was lost. Its
//! acknowledgements are those of a client that waits. Nor a client that is believed to wait, and sends two at once for the
//! first time while a response is lost, if more is lost before that shows; nor one that sent two at once before a stream was
//! joined, if the capture ends before that shows.
//!
//! Drafts leave in the order of their requests. All queues are bounded by [`crate::Limits::pipelined`].

mod entry;
mod known;
mod matching;
mod settle;

use std::collections::VecDeque;

pub(crate) use entry::fault;
pub use entry::{Loss, Place, Tail};
pub use known::Known;

use crate::anomaly::Anomaly;
use crate::dissect::{Context, End, Side};
use crate::item::{Common, ErrorKind, ItemError, Request, Response};
use entry::{Entry, Part};

/// A client that waited so often, and never did not, is believed to wait always.
const PROOF: u32 = 8;

/// What is held must be confirmed so often.
const CONFIRMED: u32 = 2;

/// So many requests with their responses are held; with more they are given up.
const MAX_HELD: usize = 256;

/// What is known of the request that a response answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answers {
    /// The request is known.
    pub known: bool,
    /// It was a HEAD: there is no body, whatever the header says.
    pub head: bool,
    /// It was a CONNECT, or, where it is not known, one that waits is.
    pub connect: bool,
}

/// To which entry the message belongs that is being read in a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Reading {
    #[default]
    Nothing,
    /// By its number.
    Entry(u64),
    /// The last orphan.
    Orphan,
    /// A request beyond the limit.
    Refused,
}

/// The last request, with no loss after it.
#[derive(Clone, Copy, Debug)]
struct Last {
    number: u64,
    acked: Option<u64>,
    response_end: Option<u64>,
    answered: bool,
}

/// Pairs the messages of one stream.
#[derive(Debug, Default)]
pub struct Pairing {
    /// Requests in order; the first has number `first`.
    entries: VecDeque<Entry>,
    first: u64,
    /// Responses without request, in order.
    orphans: VecDeque<Entry>,
    refused_now: Option<Box<Entry>>,
    reading: [Reading; 2],
    /// The next response answers the first waiting request, unless requests were lost before that one.
    synced: bool,
    /// Requests were lost behind the last entry.
    requests_lost: Option<Loss>,
    /// Framing was lost at some time, or the stream was joined.
    lossy: bool,
    /// The stream was joined in the middle, between messages as it seems, and nothing was lost since.
    joined: bool,
    /// End of the last response that answered a known request.
    accounted: Option<u64>,
    last: Option<Last>,
    /// How often the client was seen to wait for a response before its next request.
    waits: u32,
    /// The client was seen not to.
    pipelines: bool,
    /// Pairs from this number on are held.
    held_from: Option<u64>,
    /// How often what is held was confirmed.
    confirmed: u32,
    /// What is held is of a client that is believed to wait: only what contradicts that parts it, no further loss.
    believed: bool,
    /// How far each direction was read: everything before is known or lost for good.
    decided: [u64; 2],
    last_final_ack: Option<u64>,
    /// What the client's last bytes acknowledged that were passed over since its last request.
    skipped_acked: Option<u64>,
    /// The last response was an interim one.
    after_interim: bool,
    /// Where the last response began and ended.
    last_response: (u64, u64),
    /// What the last request acknowledged.
    last_acked: Option<u64>,
    ended: [Option<End>; 2],
    /// Requests beyond the limit behind the last entry.
    skip_tail: u64,
    pending: Vec<Anomaly>,
    memory: usize,
    refused: u64,
}

impl Pairing {
    /// `joined`: the stream was not seen from its first byte.
    #[must_use]
    pub fn new(joined: bool) -> Self {
        let mut pair = Self::default();
        pair.wake(&Known::new(joined), [0; 2]);
        pair
    }

    /// Heap memory held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory + (self.entries.capacity() + self.orphans.capacity()) * size_of::<Entry>()
    }

    /// Messages that a limit kept from being paired or kept, since the last call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Whether a request waits that, answered well, turns the stream into something else.
    #[must_use]
    pub fn tunnel_asked(&self) -> bool {
        self.entries.iter().any(|e| e.waits() && asks_tunnel(e))
    }

    /// A request's head was read.
    pub fn request_begins(
        &mut self,
        request: Request,
        mut place: Place,
        notes: Vec<Anomaly>,
        cx: &Context<'_>,
    ) {
        place.lost = place.lost.or(self.requests_lost);
        self.requests_lost = None;
        if self.joined && self.last.is_none() && self.orphans.is_empty() {
            // Where the other direction's numbers were not known yet: nothing of it had come.
            place.acked = place.acked.or(Some(self.decided[Side::Server as usize]));
        }
        let earlier = self.skipped_acked.take().max(self.last_acked);
        if place.lost.is_some() && place.acked.is_some() && place.acked <= earlier {
            // Since bytes of an earlier request nothing was answered.
            self.mark_pipelining();
        }
        self.compare_with_last(place);
        self.last_acked = place.acked;
        let (start, end) = self.last_response;
        let early = place.acked.is_some_and(|acked| start < acked && acked < end);
        if place.shared || early {
            self.mark_pipelining();
        }
        let mut entry = Entry::of_request(request, place, notes);
        self.memory += entry.memory;
        if self.entries.len() >= cx.limits.pipelined.max(1) {
            self.refused += 1;
            let unanswered = self.entries.iter().any(Entry::waits);
            match self.orphans.iter_mut().find(|o| !o.settled) {
                // Its response came into the capture before it.
                Some(response) if self.synced && !unanswered => response.settled = true,
                _ => self.skip_tail += 1,
            }
            // What was lost before it was lost before the next one.
            self.requests_lost = place.lost;
            self.last = None;
            self.mark_pipelining();
            entry.settled = true;
            entry.error = Some(fault(ErrorKind::Dissection, "too many requests wait for their response"));
            self.refused_now = Some(Box::new(entry));
            self.reading[Side::Client as usize] = Reading::Refused;
            return;
        }
        let number = self.first + self.entries.len() as u64;
        self.last = Some(Last { number, acked: place.acked, response_end: None, answered: false });
        entry.skip_before = std::mem::take(&mut self.skip_tail);
        self.reading[Side::Client as usize] = Reading::Entry(number);
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
        if self.entries.len() > MAX_HELD {
            self.refute();
        }
        self.match_orphan();
        if let Some(end) = self.ended[Side::Server as usize] {
            self.give_up_waiting(end);
        }
    }

    /// The request being read ends.
    pub fn request_ends(&mut self, tail: Tail, cx: &mut Context<'_>) {
        match std::mem::take(&mut self.reading[Side::Client as usize]) {
            Reading::Entry(number) => {
                if let Some(entry) = entry_mut(&mut self.entries, self.first, number) {
                    let before = entry.memory;
                    entry.end_request(tail);
                    self.memory += entry.memory - before;
                }
            }
            Reading::Refused => {
                if let Some(mut entry) = self.refused_now.take() {
                    self.memory = self.memory.saturating_sub(entry.memory);
                    entry.end_request(tail);
                    cx.out.push_back(entry.draft(&mut self.pending, cx.limits));
                }
            }
            Reading::Nothing | Reading::Orphan => {}
        }
        self.flush(cx);
    }

    /// A response's head was read: what does it answer?
    pub fn response_begins(
        &mut self,
        response: Response,
        place: Place,
        notes: Vec<Anomaly>,
        cx: &Context<'_>,
    ) -> Answers {
        let interim = (100..200).contains(&response.status) && response.status != 101;
        if !self.after_interim {
            // The second was sent without anything from the client in between.
            let same = !interim && place.acked.is_some() && place.acked == self.last_final_ack;
            if same || place.shared {
                self.mark_pipelining();
            }
            self.last_response.0 = place.offset;
        }
        let goes_on = std::mem::replace(&mut self.after_interim, interim) && place.lost.is_none();
        if !interim {
            self.last_final_ack = place.acked;
        }
        let open = goes_on && self.orphans.back().is_some_and(|o| o.response == Part::Missing);
        let limit = cx.limits.pipelined.max(1);
        let target = if open { Reading::Orphan } else { self.target(place, interim, limit) };
        self.reading[Side::Server as usize] = target;
        let entry = match target {
            Reading::Entry(number) => {
                if !interim && let Some(last) = self.last.as_mut().filter(|last| last.number == number) {
                    last.answered = true;
                }
                entry_mut(&mut self.entries, self.first, number)
            }
            _ => self.orphans.back_mut(),
        };
        let Some(entry) = entry else { return Answers::default() };
        let before = entry.memory;
        let kept = entry.begin_response(response, interim, notes, cx.limits.interim);
        self.memory += entry.memory - before;
        // Where another request may be the one, the length is as uncertain as that.
        let known = entry.exchange.request.is_some() && self.held_from.is_none();
        let (head, connect) = (entry.method() == b"HEAD", entry.method() == b"CONNECT");
        if !kept {
            self.refused += 1;
            self.reading[Side::Server as usize] = Reading::Nothing;
        }
        let connect =
            connect || (!known && self.entries.iter().any(|e| e.waits() && e.method() == b"CONNECT"));
        Answers { known, head, connect }
    }

    /// The response being read ends.
    pub fn response_ends(&mut self, tail: Tail, cx: &mut Context<'_>) {
        let end = tail.end;
        let read = tail.end.unwrap_or(0);
        if let Some(end) = end {
            self.last_response.1 = end;
            if self.last_acked.is_some_and(|acked| self.last_response.0 < acked && acked < end) {
                self.mark_pipelining();
            }
        }
        match std::mem::take(&mut self.reading[Side::Server as usize]) {
            Reading::Entry(number) => {
                let Some(entry) = entry_mut(&mut self.entries, self.first, number) else { return };
                let before = entry.memory;
                let beyond = tail.acked > entry.request_end && entry.request_end.is_some();
                entry.end_response(tail);
                self.memory += entry.memory - before;
                let last_part = entry.response == Part::Done;
                self.accounted = Some(self.accounted.unwrap_or(0).max(read));
                if last_part {
                    if let Some(last) = self.last.as_mut().filter(|last| last.number == number) {
                        last.response_end = end;
                    }
                    let next = entry_mut(&mut self.entries, self.first, number + 1);
                    let next = next.filter(|e| e.loss.is_none() && e.skip_before == 0).map(|e| e.acked);
                    if let (Some(end), Some(Some(acked))) = (end, next) {
                        self.boundary(end, acked);
                    }
                }
                if beyond {
                    // Before it had all of the response, the client sent more than the request.
                    self.mark_pipelining();
                }
            }
            Reading::Orphan => {
                if let Some(orphan) = self.orphans.back_mut() {
                    let before = orphan.memory;
                    orphan.end_response(tail);
                    self.memory += orphan.memory - before;
                }
            }
            Reading::Nothing | Reading::Refused => {}
        }
        self.flush(cx);
    }

    /// Framing was lost in a direction.
    pub fn lost(&mut self, side: Side, loss: Loss) {
        self.lossy = true;
        self.joined = false;
        self.let_go();
        match side {
            Side::Client => {
                self.requests_lost = Some(loss);
                self.last = None;
            }
            Side::Server => {
                self.synced = false;
                if let Some(last) = self.orphans.back_mut() {
                    last.loss.get_or_insert(loss);
                }
            }
        }
    }

    /// A side ended within a start line: a message began of which nothing else is known.
    pub fn left_over(&mut self, side: Side) {
        if side == Side::Server {
            self.refute();
        }
    }

    /// Bytes were passed over in search of a message; what their sender had received by then.
    pub fn skipped(&mut self, side: Side, acked: Option<u64>) {
        if side == Side::Client {
            self.skipped_acked = acked.or(self.skipped_acked);
        }
        if self.joined {
            self.joined = false;
            if self.pipelines {
                self.refute();
            }
        }
    }

    /// A direction was read up to `offset`: what is before it and not known is lost.
    pub fn decided(&mut self, side: Side, offset: u64, cx: &mut Context<'_>) {
        self.decided[side as usize] = offset;
        if self.lossy {
            self.settle(cx);
        }
    }

    /// Something odd that belongs to no message of its own.
    pub fn note(&mut self, side: Side, anomaly: Anomaly, limit: usize) {
        let entry = match side {
            Side::Client => self.entries.back_mut(),
            Side::Server => self.entries.iter_mut().find(|e| e.waits()),
        };
        match entry {
            Some(entry) => entry.add_anomalies([anomaly]),
            None if self.pending.len() < limit => self.pending.push(anomaly),
            None => {}
        }
    }

    /// A side sends nothing more; the message that was being read has ended.
    pub fn side_ended(&mut self, side: Side, end: End, cx: &mut Context<'_>) {
        self.ended[side as usize].get_or_insert(end);
        if side == Side::Server {
            self.resolve_held(end);
            self.give_up_waiting(end);
        }
        self.settle(cx);
    }

    /// The stream is over: everything leaves.
    pub fn finish(&mut self, end: End, cx: &mut Context<'_>) {
        self.resolve_held(end);
        self.give_up_waiting(end);
        for entry in self.entries.iter_mut().chain(&mut self.orphans) {
            entry.settled = true;
        }
        self.flush(cx);
        self.emit_orphans(cx);
    }
}

fn entry_mut(entries: &mut VecDeque<Entry>, first: u64, number: u64) -> Option<&mut Entry> {
    entries.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
}

fn asks_tunnel(entry: &Entry) -> bool {
    let request = entry.exchange.request.as_ref();
    entry.method() == b"CONNECT" || request.is_some_and(|r| r.message.head.has(Common::Upgrade))
}

/// Why a message or a response is missing, by how the stream ended.
pub(crate) fn ended_early(end: End) -> ItemError {
    match end {
        End::Fin => fault(ErrorKind::Connection, "the connection was closed first"),
        End::Reset => fault(ErrorKind::Connection, "the connection was reset first"),
        End::Reused => fault(ErrorKind::Connection, "the connection ended first, its end was not seen"),
        End::Timeout => fault(ErrorKind::Timeout, "nothing more came in time"),
        End::Evicted => fault(ErrorKind::Timeout, "the stream was given up to stay within the memory limit"),
        End::CaptureEnd => fault(ErrorKind::Timeout, "the capture ended first"),
    }
}
