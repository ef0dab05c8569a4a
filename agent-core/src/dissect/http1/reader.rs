//! Reads the messages of one direction: start line and headers, body, trailers, the next message.
//!
//! ```text
//!            head complete                 body complete
//!   Start ──────────────► Message ───────────────────────► Start
//!     │ ▲ head in pieces     │ bad chunk, gap beyond the body
//!     ▼ │                    ▼
//!    Head ─── no head ───► Search ── start line and head valid ──► Message
//! ```
//!
//! A head that lies whole in a chunk is read where it lies. One in pieces is collected, and only its new bytes are looked
//! at until it is complete. `Search` looks for a message behind junk or a gap: there a start line and a whole head must be
//! well formed to be believed.

mod pieces;

use super::framing::{Framing, Length, framing};
use super::head::{Head, StartLine, parse_well_formed};
use super::message::{Current, Skipped, Taken};
use crate::dissect::{Arrival, Context, End, Side};
use crate::item::{Body, ErrorKind, Message, Request, Response};
use crate::pair::{Answers, Loss, Pairing, Place, Tail, ended_early, fault};
use crate::time::Timestamp;

/// Reader of one direction.
#[derive(Debug)]
pub(super) struct Reader {
    side: Side,
    state: State,
    /// Offset of the next byte.
    offset: u64,
    /// Bytes of a head in pieces.
    head: Vec<u8>,
    /// Start of the current line in `head`.
    line: usize,
    /// Where and when the head began.
    began: Began,
    /// Framing was lost and no message was found since.
    lost: Option<Loss>,
    /// Offset of the current segment.
    segment: u64,
    /// It held bytes that are not the next message's.
    shared: bool,
    ended: bool,
    /// Bytes of the chunk at hand that ended a head, where what was used goes on into the body.
    head_used: Option<usize>,
}

#[derive(Debug)]
enum State {
    Start,
    Head,
    Message(Box<Current>),
    Search(Search),
    /// A head that may follow the place where framing was lost.
    Candidate(Search),
}

/// A reader between two messages.
#[derive(Debug)]
pub(super) struct Still {
    offset: u64,
    search: Option<Search>,
    lost: Option<Loss>,
    ended: bool,
}

impl Still {
    /// A new one; `joined`: the first bytes may be the middle of a message.
    pub(super) fn new(joined: bool) -> Self {
        let search = Search { gap: true, at_line_start: true };
        Self { offset: 0, search: joined.then_some(search), lost: None, ended: false }
    }
}

#[derive(Clone, Copy, Debug)]
struct Search {
    /// A gap and not junk is why: the start of a segment may then be the start of a message.
    gap: bool,
    at_line_start: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Began {
    time: Timestamp,
    offset: u64,
    acked: Option<u64>,
    truncated: bool,
    shared: bool,
}

/// What a reader hands its messages to.
pub(super) struct Env<'e, 'c> {
    pub(super) pair: &'e mut Pairing,
    pub(super) cx: &'e mut Context<'c>,
}

/// So many bytes of a start line tell whether it can be one.
const JUDGED: usize = 64;

/// Whether the stream turned into something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    Http,
    Tunnel,
}

impl Reader {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            state: State::Start,
            offset: 0,
            head: Vec::new(),
            line: 0,
            began: Began::default(),
            lost: None,
            segment: 0,
            shared: false,
            ended: false,
            head_used: None,
        }
    }

    /// Goes on as another one did; this one must be between two messages, or have ended.
    pub(super) fn wake(&mut self, still: &Still) {
        self.state = still.search.map_or(State::Start, State::Search);
        self.offset = still.offset;
        self.lost = still.lost;
        self.ended = still.ended;
    }

    /// Whether it is between two messages.
    pub(super) fn at_rest(&self) -> bool {
        matches!(self.state, State::Start | State::Search(_))
    }

    /// Tells all it knows, where [`Self::at_rest`] holds. (Where in a segment it is matters only while it reads.)
    pub(super) fn tell(&self, still: &mut Still) {
        still.offset = self.offset;
        still.search = if let State::Search(search) = self.state { Some(search) } else { None };
        still.lost = self.lost;
        still.ended = self.ended;
    }

    /// Heap memory held.
    pub(super) fn memory(&self) -> usize {
        let message = if let State::Message(current) = &self.state { current.memory() } else { 0 };
        self.head.capacity() + message
    }

    /// How many of the next bytes nobody will look at.
    pub(super) fn unneeded(&self) -> u64 {
        if let State::Message(current) = &self.state { current.unneeded() } else { 0 }
    }

    /// Offset before which everything is known or lost for good.
    pub(super) fn decided(&self) -> u64 {
        if self.head.is_empty() { self.offset } else { self.began.offset }
    }

    /// Takes bytes.
    pub(super) fn data(&mut self, mut data: &[u8], mut at: Arrival, env: &mut Env<'_, '_>) -> Turn {
        self.offset = at.offset;
        self.segment = at.offset;
        self.shared = false;
        if let State::Search(search) = &mut self.state {
            search.at_line_start |= search.gap;
        }
        while !data.is_empty() && !self.ended {
            let in_body = matches!(self.state, State::Message(_));
            let (used, turn) = match self.state {
                State::Start => self.start(data, at, env),
                State::Message(_) => (self.body(data, at, env), Turn::Http),
                State::Search(search) => (self.search(search, data, at, env), Turn::Http),
                State::Head | State::Candidate(_) => self.collect(data, at, env),
            };
            let text = self.head_used.take().unwrap_or(used);
            if !in_body {
                env.cx.spare.text(self.side, self.offset, &data[..text]);
            }
            data = &data[used..];
            self.offset += used as u64;
            at.offset = self.offset;
            if turn == Turn::Tunnel {
                return turn;
            }
        }
        // Behind the end, if anything is.
        env.cx.spare.text(self.side, self.offset, data);
        Turn::Http
    }

    /// Between messages: empty lines are skipped (RFC 9112 section 2.2), then a head begins.
    fn start(&mut self, data: &[u8], at: Arrival, env: &mut Env<'_, '_>) -> (usize, Turn) {
        let blank = data.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        if blank > 0 {
            return (blank, Turn::Http);
        }
        self.begin(at);
        let limits = env.cx.limits;
        let fits =
            |head: &Head| head.size <= limits.head && head.block.len() <= limits.headers && method_fits(head);
        // Not one after the other in one expression: a head is moved as seldom as can be.
        match env.cx.spare.http1.heads.read(self.side, data) {
            Some(head) if fits(&head) => {
                let size = head.size;
                return self.accept(head, at, data, size, env);
            }
            Some(_) => {}
            None => {
                if let Some(head) = parse_well_formed(self.side, data).ok().filter(fits) {
                    let size = head.size;
                    return self.accept(head, at, data, size, env);
                }
            }
        }
        self.state = State::Head;
        self.collect(data, at, env)
    }

    fn begin(&mut self, at: Arrival) {
        self.began = Began {
            time: at.time,
            offset: at.offset,
            acked: at.acked,
            truncated: at.truncated,
            shared: self.shared,
        };
        self.head.clear();
        self.line = 0;
    }

    /// A head is complete, `size` bytes of `data` were its last: hands it on and finds out about the body. Returns how many
    /// bytes of `data` were used.
    fn accept(
        &mut self,
        mut head: Head,
        at: Arrival,
        data: &[u8],
        size: usize,
        env: &mut Env<'_, '_>,
    ) -> (usize, Turn) {
        let framing = head.framing.unwrap_or_else(|| framing(&mut head));
        let status = match head.start {
            StartLine::Response { status, .. } => Some(status),
            StartLine::Request { .. } => None,
        };
        let answers = self.announce(head, env);
        self.head_used = Some(size);
        let behind = at.offset + size as u64;
        let (length, known) = match status {
            None => (framing.length, true),
            Some(101) => return (size, self.tunnel(at, behind, env)),
            Some(200..300) if answers.connect => return (size, self.tunnel(at, behind, env)),
            Some(status) => (response_length(status, answers.head, framing.length), answers.known),
        };
        let rest = &data[size..];
        let used = self.begin_body(length, known, &framing, Arrival { offset: behind, ..at }, rest, env);
        (size + used, Turn::Http)
    }

    /// The response that ends HTTP on this stream.
    fn tunnel(&mut self, at: Arrival, behind: u64, env: &mut Env<'_, '_>) -> Turn {
        self.ended = true;
        let tail = Tail {
            last: at.time,
            complete: true,
            truncated: self.began.truncated,
            end: Some(behind),
            ..Tail::default()
        };
        self.finish_message(tail, env);
        Turn::Tunnel
    }

    /// Begins the body; one that lies whole in the chunk is read at once.
    fn begin_body(
        &mut self,
        length: Length,
        known: bool,
        framing: &Framing,
        at: Arrival,
        rest: &[u8],
        env: &mut Env<'_, '_>,
    ) -> usize {
        if matches!(length, Length::None | Length::Fixed(0)) {
            let tail = Tail {
                last: at.time,
                complete: true,
                truncated: self.began.truncated,
                end: Some(at.offset),
                acked: at.acked,
                ..Tail::default()
            };
            self.finish_message(tail, env);
            return 0;
        }
        if let Length::Fixed(n) = length
            && let Ok(n) = usize::try_from(n)
            && known
            && n <= env.cx.limits.body
            && !env.cx.hash
            && !framing.codings.decodable()
            && let Some(bytes) = rest.get(..n)
        {
            let body = Body { size: n as u64, bytes: bytes.into(), ..Body::default() };
            let tail = Tail {
                body,
                last: at.time,
                complete: true,
                truncated: self.began.truncated | at.truncated,
                end: Some(at.offset + n as u64),
                acked: at.acked,
                ..Tail::default()
            };
            self.finish_message(tail, env);
            return n;
        }
        let began = Arrival { truncated: self.began.truncated, ..at };
        let mut current = Current::new(length, known, framing.codings, began, env.cx);
        if known && matches!(length, Length::Fixed(n) if n <= rest.len() as u64) {
            let (used, taken) = current.take(self.side, rest, at, env.cx);
            if let Taken::End(tail) = taken {
                self.finish_message(tail, env);
                return used;
            }
        }
        self.state = State::Message(Box::new(current));
        0
    }

    /// Takes bytes of a body.
    fn body(&mut self, data: &[u8], at: Arrival, env: &mut Env<'_, '_>) -> usize {
        let State::Message(current) = &mut self.state else { return 0 };
        let (used, taken) = current.take(self.side, data, at, env.cx);
        match taken {
            Taken::More => {}
            Taken::End(tail) => self.finish_message(tail, env),
            Taken::Broken(tail) => {
                self.finish_message(tail, env);
                self.lose(Loss::Within, env);
                self.state = State::Search(Search { gap: false, at_line_start: false });
            }
            Taken::NoBody(tail, next) => {
                let end = tail.end.unwrap_or(at.offset);
                self.finish_message(tail, env);
                self.shared = end > self.segment;
                // Where it began in an earlier segment that one acknowledged no more, and nobody asks a response for less.
                self.begin(Arrival { offset: end, ..at });
                self.head.extend_from_slice(next);
                self.state = State::Head;
            }
        }
        used
    }

    /// `n` bytes were lost.
    pub(super) fn gap(&mut self, n: u64, at: Arrival, env: &mut Env<'_, '_>) {
        self.offset = at.offset;
        let mut after = State::Search(Search { gap: true, at_line_start: true });
        match std::mem::replace(&mut self.state, State::Start) {
            State::Start => self.lose(Loss::Between, env),
            State::Head => {
                let error = fault(ErrorKind::Gap, "bytes of a header section are not in the capture");
                let begun = self.cut_head(at.time, 1, error, None, env);
                if !begun {
                    env.pair.skipped(self.side, self.began.acked);
                }
                self.lose(if begun { Loss::Within } else { Loss::Between }, env);
            }
            State::Message(mut current) => match current.gap(n, at) {
                Skipped::Within => after = State::Message(current),
                Skipped::End(tail) => {
                    self.finish_message(tail, env);
                    after = State::Start;
                }
                Skipped::Lost(tail) => {
                    // Where the message is known to end within the gap, what was lost behind it begins another.
                    let loss = if tail.end.is_some() { Loss::Between } else { Loss::Within };
                    self.finish_message(tail, env);
                    self.lose(loss, env);
                }
            },
            State::Candidate(_) => {
                self.head = Vec::new();
                env.pair.skipped(self.side, self.began.acked);
                self.lose(Loss::Between, env);
            }
            State::Search(_) => self.lose(Loss::Between, env),
        }
        self.state = after;
        self.offset = at.offset.saturating_add(n);
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, end: End, time: Timestamp, env: &mut Env<'_, '_>) {
        self.ended = true;
        match std::mem::replace(&mut self.state, State::Start) {
            State::Head => {
                let known = self.cut_head(time, 0, ended_early(end), None, env);
                if !known {
                    env.pair.left_over(self.side);
                }
            }
            State::Candidate(_) => env.pair.left_over(self.side),
            State::Message(mut current) => {
                let tail = current.end(end, self.offset);
                self.finish_message(tail, env);
            }
            _ => {}
        }
        self.head = Vec::new();
    }

    fn lose(&mut self, loss: Loss, env: &mut Env<'_, '_>) {
        // Of several losses with no message between them the last is the hardest: one within a message is behind its head, which
        // took those before it.
        self.lost = Some(loss);
        env.pair.lost(self.side, loss);
    }

    /// Hands on a head.
    fn announce(&mut self, head: Head, env: &mut Env<'_, '_>) -> Answers {
        let place = Place {
            offset: self.began.offset,
            acked: self.began.acked,
            lost: self.lost.take(),
            shared: self.began.shared,
        };
        let message = Message {
            minor_version: head.minor_version,
            head_size: u32::try_from(head.size).unwrap_or(u32::MAX),
            head: head.block,
            first: self.began.time,
            last: self.began.time,
            ..Message::default()
        };
        match head.start {
            StartLine::Request { method, target } => {
                env.pair.request_begins(Request { method, target, message }, place, head.anomalies, env.cx);
                Answers::default()
            }
            StartLine::Response { status, reason } => {
                env.pair.response_begins(Response { status, reason, message }, place, head.anomalies, env.cx)
            }
        }
    }

    fn finish_message(&mut self, tail: Tail, env: &mut Env<'_, '_>) {
        self.state = State::Start;
        self.head = Vec::new();
        self.shared = true;
        match self.side {
            Side::Client => env.pair.request_ends(tail, env.cx),
            Side::Server => env.pair.response_ends(tail, env.cx),
        }
    }
}

/// RFC 9112 section 6.3.
fn response_length(status: u16, head: bool, length: Length) -> Length {
    match status {
        _ if head => Length::None,
        100..200 | 204 | 304 => Length::None,
        _ => length,
    }
}

/// Heads in pieces are not collected behind a method that is longer.
fn method_fits(head: &Head) -> bool {
    match head.start {
        StartLine::Request { method, .. } => (method.end - method.start) as usize <= super::probe::MAX_METHOD,
        StartLine::Response { .. } => true,
    }
}
