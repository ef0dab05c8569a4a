//! One request with its response while they are being put together, and the draft that becomes of them.

use crate::Limits;
use crate::anomaly::Anomaly;
use crate::dissect::Draft;
use crate::item::{
    Body, ErrorKind, HeaderBlock, HttpExchange, ItemError, Message, Record, Request, Response,
};
use crate::time::Timestamp;

/// How framing was lost in a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Between two messages: what was lost begins with the start of one.
    Between,
    /// Within a message: it may be that only the rest of that one was lost.
    Within,
}

/// Where in the stream a message begins, and what its first bytes tell about the other direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Offset of the message's first byte in its direction.
    pub offset: u64,
    /// Offset in the other direction that its sender had received when it sent the first byte.
    pub acked: Option<u64>,
    /// Whether messages may be missing between the one before and this one.
    pub lost: Option<Loss>,
    /// Whether its first byte came in one segment with bytes of an earlier message.
    pub shared: bool,
}

/// What is known of a message beyond its head, when it ends.
#[derive(Debug, Default)]
pub struct Tail {
    /// Body.
    pub body: Body,
    /// Trailers.
    pub trailers: Option<Box<HeaderBlock>>,
    /// Capture time of the last byte.
    pub last: Timestamp,
    /// Whether all of the message was seen.
    pub complete: bool,
    /// Gaps inside it.
    pub gaps: u32,
    /// Whether a packet of it was cut.
    pub truncated: bool,
    /// Oddities.
    pub anomalies: Vec<Anomaly>,
    /// Why it is not whole.
    pub error: Option<ItemError>,
    /// Offset behind its last byte, if that is known.
    pub end: Option<u64>,
    /// What its last segment acknowledged.
    pub acked: Option<u64>,
    /// A response of which it was not known that it answers a HEAD ended with its head.
    pub bodiless: bool,
}

/// How far one message of an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Part {
    #[default]
    Missing,
    Reading,
    Done,
}

/// A request that waits for its response, or a response (with its interim ones) whose request is not known.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) exchange: Box<HttpExchange>,
    /// Offset of the request; for an orphan, of the (first interim) response.
    pub(super) start: u64,
    pub(super) acked: Option<u64>,
    /// Offset behind the request's head, as far as it was seen: nobody answers before having read so far.
    pub(super) head_end: u64,
    /// Offset behind the request, once that is known.
    pub(super) request_end: Option<u64>,
    /// Requests may be missing before it; for an orphan, responses behind it.
    pub(super) loss: Option<Loss>,
    pub(super) request: Part,
    pub(super) response: Part,
    /// Requests just before this one that were not kept.
    pub(super) skip_before: u64,
    /// Nothing more will be paired with it.
    pub(super) settled: bool,
    pub(super) error: Option<ItemError>,
    anomalies: Vec<Anomaly>,
    gaps: u32,
    truncated: bool,
    /// Heap memory of its messages.
    pub(super) memory: usize,
}

impl Entry {
    pub(super) fn of_request(request: Request, place: Place, anomalies: Vec<Anomaly>) -> Self {
        let memory = size_of::<HttpExchange>() + request.message.head.memory();
        let head_end = place.offset + u64::from(request.message.head_size);
        // What is not there is not moved either.
        let mut exchange = Box::<HttpExchange>::default();
        exchange.request = Some(request);
        Self {
            head_end,
            exchange,
            start: place.offset,
            acked: place.acked,
            loss: place.lost,
            request: Part::Reading,
            anomalies,
            memory,
            // Not the rest of a default one: that would make an exchange, and throw it away.
            request_end: None,
            response: Part::Missing,
            skip_before: 0,
            settled: false,
            error: None,
            gaps: 0,
            truncated: false,
        }
    }

    pub(super) fn orphan(place: Place, settled: bool) -> Self {
        Self {
            settled,
            start: place.offset,
            acked: place.acked,
            request: Part::Done,
            memory: size_of::<HttpExchange>(),
            ..Self::default()
        }
    }

    /// Whether no final response has begun and one may yet.
    pub(super) fn waits(&self) -> bool {
        self.response == Part::Missing && !self.settled
    }

    /// Whether it can be emitted.
    pub(super) fn done(&self) -> bool {
        self.request == Part::Done
            && (self.response == Part::Done || (self.settled && self.response == Part::Missing))
    }

    /// Where the first response of an orphan began.
    pub(super) fn place(&self) -> Place {
        Place { offset: self.start, acked: self.acked, lost: None, shared: false }
    }

    /// Whether the sender of a response had received the request's head by then, as far as is known.
    pub(super) fn was_read_by(&self, response: Place) -> bool {
        response.acked.is_none_or(|acked| acked >= self.head_end)
    }

    pub(super) fn method(&self) -> &[u8] {
        self.exchange.request.as_ref().map_or(&[], Request::method)
    }

    /// Takes a response that begins; interim ones are counted into `limit`. Returns whether it was kept.
    pub(super) fn begin_response(
        &mut self,
        response: Response,
        interim: bool,
        anomalies: Vec<Anomaly>,
        limit: usize,
    ) -> bool {
        append(&mut self.anomalies, anomalies);
        if interim && self.exchange.interim.len() >= limit {
            return false;
        }
        self.memory += size_of::<Response>() + response.message.head.memory();
        if interim {
            self.exchange.interim.push(response);
        } else {
            self.exchange.response = Some(response);
            self.response = Part::Reading;
        }
        true
    }

    // Inlined, as is what it calls: a tail is moved once.
    #[inline(always)]
    pub(super) fn end_request(&mut self, tail: Tail) {
        self.request = Part::Done;
        self.request_end = tail.end;
        let message = self.exchange.request.as_mut().map(|r| &mut r.message);
        self.memory +=
            finish(message, tail, &mut self.anomalies, &mut self.gaps, &mut self.truncated, &mut self.error);
    }

    #[inline(always)]
    pub(super) fn end_response(&mut self, mut tail: Tail) {
        if tail.bodiless && self.method() == b"HEAD" && tail.gaps == 0 {
            // Its request came into the capture later: by now it is known that this was all.
            (tail.complete, tail.error, tail.body.truncated) = (true, None, false);
        }
        let message = if self.response == Part::Reading {
            self.response = Part::Done;
            self.exchange.response.as_mut()
        } else {
            self.exchange.interim.last_mut()
        };
        let message = message.map(|r| &mut r.message);
        self.memory +=
            finish(message, tail, &mut self.anomalies, &mut self.gaps, &mut self.truncated, &mut self.error);
    }

    pub(super) fn add_anomalies(&mut self, anomalies: impl IntoIterator<Item = Anomaly>) {
        self.anomalies.extend(anomalies);
    }

    /// Moves the responses of `other` here.
    pub(super) fn adopt(&mut self, other: Self) {
        self.memory += other.memory.saturating_sub(size_of::<HttpExchange>());
        self.exchange.response = other.exchange.response;
        self.exchange.interim = other.exchange.interim;
        self.response = other.response;
        self.error = self.error.take().or(other.error);
        self.anomalies.extend(other.anomalies);
        self.gaps += other.gaps;
        self.truncated |= other.truncated;
    }

    /// Takes the responses out, as an orphan of their own.
    pub(super) fn divorce(&mut self) -> Self {
        let mut other =
            Self { request: Part::Done, response: self.response, settled: true, ..Self::default() };
        other.exchange.response = self.exchange.response.take();
        other.exchange.interim = std::mem::take(&mut self.exchange.interim);
        other.memory = size_of::<HttpExchange>();
        for response in other.exchange.interim.iter().chain(&other.exchange.response) {
            let message = &response.message;
            let held = size_of::<Response>() + message.head.memory() + message.body.memory();
            other.memory += held;
            self.memory = self.memory.saturating_sub(held);
        }
        self.response = Part::Missing;
        other
    }

    /// The draft. `pending` are anomalies that had no entry of their own.
    pub(super) fn draft(mut self, pending: &mut Vec<Anomaly>, limits: &Limits) -> Draft {
        if !pending.is_empty() {
            self.anomalies.append(pending);
        }
        self.anomalies.truncate(limits.anomalies);
        if self.exchange.request.is_none() && self.exchange.response.is_none() {
            // Only an interim response is known: an item shows it as what it is, rather than nothing.
            self.exchange.response = self.exchange.interim.pop();
        }
        let exchange = &self.exchange;
        if exchange.request.is_none() {
            self.error = Some(fault(
                ErrorKind::PairNotFound,
                "the request that this answers is not known for certain",
            ));
        }
        let first = |m: &Message| m.first;
        let last = |m: &Message| m.last;
        let messages = || {
            let request = exchange.request.iter().map(|r| &r.message);
            request.chain(exchange.interim.iter().chain(&exchange.response).map(|r| &r.message))
        };
        let started = messages().map(first).next().unwrap_or_default();
        let finished = messages().map(last).next_back().unwrap_or_default().max(started);
        Draft {
            started,
            finished,
            record: Record::Http(self.exchange),
            anomalies: self.anomalies,
            error: self.error,
            gaps: self.gaps,
            truncated: self.truncated,
        }
    }
}

/// An error with a fixed message.
pub(crate) fn fault(kind: ErrorKind, msg: &'static str) -> ItemError {
    ItemError { kind, msg: msg.into() }
}

/// Nearly always there are none.
#[inline]
fn append(to: &mut Vec<Anomaly>, more: Vec<Anomaly>) {
    if !more.is_empty() {
        to.extend(more);
    }
}

/// Puts a tail where it belongs; returns the memory that it added.
#[inline(always)]
fn finish(
    message: Option<&mut Message>,
    tail: Tail,
    anomalies: &mut Vec<Anomaly>,
    gaps: &mut u32,
    truncated: &mut bool,
    error: &mut Option<ItemError>,
) -> usize {
    *gaps += tail.gaps;
    *truncated |= tail.truncated;
    if error.is_none() {
        *error = tail.error;
    }
    append(anomalies, tail.anomalies);
    let Some(message) = message else { return 0 };
    let memory = tail.body.memory() + tail.trailers.as_ref().map_or(0, |trailers| trailers.memory());
    message.body = tail.body;
    message.trailers = tail.trailers;
    message.last = tail.last.max(message.first);
    message.complete = tail.complete;
    memory
}
