//! The HTTP/1.x reader: however the same bytes are cut, the drafts are the same, and memory is bounded.

use std::collections::VecDeque;

use agent_core::dissect::http1::Http1;
use agent_core::dissect::{Arrival, Chunk, Context, Dissector, Draft, End, Next, Side, Spare};
use agent_core::item::{ErrorKind, HeaderBlock, Message};
use agent_core::{Limits, Record, Timestamp};
use arbitrary::Unstructured;

/// What a reader is told.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Data(Side, Vec<u8>, Ack),
    Gap(Side, u64),
    End(Side, End),
}

/// What a chunk says about the other direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ack {
    None,
    All,
    /// So many bytes less than all.
    Less(u8),
}

struct Input {
    joined: bool,
    hash: bool,
    tiny: bool,
    steps: Vec<Step>,
    end: End,
}

/// Flags, then records of: side, what and acknowledgement (one byte), length, bytes.
pub fn run(data: &[u8]) {
    let input = Input::read(data);
    let once = input.play(Cut::AsGiven);
    // After a gap, and in a stream that was joined, the start of a segment says something.
    let cut_says_nothing = !input.joined && !input.steps.iter().any(|s| matches!(s, Step::Gap(..)));
    if cut_says_nothing {
        for cut in [Cut::Bytes, Cut::Joined] {
            let again = input.play(cut);
            if once.uncertain || again.uncertain {
                // Behind junk, too, the start of a segment tells which response is whose, and with that, what the response
                // holds. Only the requests are the same, as long as none is behind a tunnel.
                if !(once.tunnel || again.tunnel) {
                    assert_eq!(once.requests, again.requests, "{cut:?}, as given");
                }
            } else {
                assert_eq!(once.drafts, again.drafts, "{cut:?}, as given");
            }
        }
    }
}

/// How the same bytes are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    AsGiven,
    Bytes,
    Joined,
}

impl Input {
    fn read(data: &[u8]) -> Self {
        let mut u = Unstructured::new(data);
        let flags: u8 = u.arbitrary().unwrap_or(0);
        let mut steps = Vec::new();
        while !u.is_empty() {
            let kind: u8 = u.arbitrary().unwrap_or(0);
            let length: u8 = u.arbitrary().unwrap_or(0);
            let side = if kind & 1 == 0 { Side::Client } else { Side::Server };
            match kind >> 4 {
                14 => steps.push(Step::Gap(side, u64::from(length) + 1)),
                15 => steps.push(Step::End(side, if length & 1 == 0 { End::Fin } else { End::Reset })),
                _ => {
                    let bytes = u.bytes(usize::from(length).min(u.len())).unwrap_or_default().to_vec();
                    let ack = match kind >> 1 & 7 {
                        7 => Ack::None,
                        6 => Ack::Less(kind >> 4),
                        _ => Ack::All,
                    };
                    if !bytes.is_empty() {
                        steps.push(Step::Data(side, bytes, ack));
                    }
                }
            }
        }
        let end = match flags >> 4 & 7 {
            0 => End::Fin,
            1 => End::Reset,
            2 => End::Timeout,
            3 => End::Evicted,
            _ => End::CaptureEnd,
        };
        Self { joined: flags & 1 != 0, hash: flags & 2 != 0, tiny: flags & 4 != 0, steps, end }
    }

    fn limits(&self) -> Limits {
        if !self.tiny {
            return Limits::default();
        }
        Limits {
            head: 200,
            headers: 6,
            body: 50,
            pipelined: 3,
            interim: 2,
            anomalies: 3,
            ..Limits::default()
        }
    }

    fn play(&self, cut: Cut) -> Outcome {
        let limits = self.limits();
        let bytes: usize =
            self.steps.iter().map(|s| if let Step::Data(_, b, _) = s { b.len() } else { 0 }).sum();
        // Besides what limits allow, each message in hand has its own fixed cost.
        let bound = if self.tiny { 32 << 10 } else { (32 << 10) + 128 * bytes };
        let mut talk = Talk::new(self.joined, self.hash, limits, bound);
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::Data(side, bytes, ack) => {
                    let mut all = bytes.clone();
                    if cut == Cut::Joined {
                        while let Some(Step::Data(_, more, _)) = steps.next_if(
                            |s| matches!(s, Step::Data(with, _, same) if (with, same) == (side, ack)),
                        ) {
                            all.extend(more);
                        }
                    }
                    let acked = talk.acked(*side, *ack);
                    let size = if cut == Cut::Bytes { 1 } else { all.len() };
                    for piece in all.chunks(size) {
                        talk.chunk(*side, Chunk::Data(piece), acked);
                    }
                }
                Step::Gap(side, n) => talk.chunk(*side, Chunk::Gap(*n), None),
                Step::End(side, end) => talk.end_side(*side, *end),
            }
        }
        talk.finish(self.end)
    }
}

/// One stream under test.
struct Talk {
    http: Http1,
    limits: Limits,
    hash: bool,
    bound: usize,
    out: VecDeque<Draft>,
    spare: Spare,
    sent: [u64; 2],
    ended: [bool; 2],
    opaque: bool,
    clock: u64,
}

impl Talk {
    fn new(joined: bool, hash: bool, limits: Limits, bound: usize) -> Self {
        Self {
            http: Http1::new(joined),
            limits,
            hash,
            bound,
            out: VecDeque::new(),
            spare: Spare::default(),
            sent: [0; 2],
            ended: [false; 2],
            opaque: false,
            clock: 0,
        }
    }

    fn acked(&self, side: Side, ack: Ack) -> Option<u64> {
        let all = self.sent[side.peer() as usize];
        match ack {
            Ack::None => None,
            Ack::All => Some(all),
            Ack::Less(n) => Some(all.saturating_sub(u64::from(n) * 8)),
        }
    }

    fn chunk(&mut self, side: Side, chunk: Chunk<'_>, acked: Option<u64>) {
        if self.ended[side as usize] || self.opaque {
            return;
        }
        self.clock += 1;
        let offset = self.sent[side as usize];
        let at = Arrival { time: Timestamp(self.clock), offset, acked, truncated: false };
        let mut cx =
            Context { limits: &self.limits, hash: self.hash, out: &mut self.out, spare: &mut self.spare };
        self.opaque = self.http.chunk(side, chunk, at, &mut cx) == Next::Opaque;
        self.sent[side as usize] += match chunk {
            Chunk::Data(data) => data.len() as u64,
            Chunk::Gap(n) => n,
        };
        let memory = self.http.memory();
        assert!(memory <= self.bound, "{memory} bytes are held, {} would do", self.bound);
    }

    fn end_side(&mut self, side: Side, end: End) {
        if !std::mem::replace(&mut self.ended[side as usize], true) && !self.opaque {
            let mut cx =
                Context { limits: &self.limits, hash: self.hash, out: &mut self.out, spare: &mut self.spare };
            self.http.end_side(side, end, Timestamp(self.clock), &mut cx);
        }
    }

    fn finish(mut self, end: End) -> Outcome {
        let mut cx =
            Context { limits: &self.limits, hash: self.hash, out: &mut self.out, spare: &mut self.spare };
        self.http.finish(end, Timestamp(self.clock), &mut cx);
        let left = self.http.memory();
        assert!(left <= self.limits.head + 1_024, "{left} bytes are left behind");
        let mut outcome = Outcome::default();
        for draft in std::mem::take(&mut self.out) {
            outcome.add(draft, &self.limits);
        }
        outcome.requests.sort();
        outcome.tunnel = self.opaque;
        outcome
    }
}

/// What came of it, as text without times: these depend on how the bytes were cut.
#[derive(Default)]
struct Outcome {
    drafts: Vec<String>,
    /// Each request alone, sorted.
    requests: Vec<String>,
    /// It became something else than HTTP.
    tunnel: bool,
    /// Pairs were not known for certain.
    uncertain: bool,
}

impl Outcome {
    fn add(&mut self, mut draft: Draft, limits: &Limits) {
        assert!(draft.started <= draft.finished, "it ends before it begins");
        assert!(draft.anomalies.len() <= limits.anomalies, "{:?}", draft.anomalies);
        let error = draft.error.as_ref().map(|e| e.kind);
        self.uncertain |= matches!(error, Some(ErrorKind::Gap | ErrorKind::PairNotFound));
        (draft.started, draft.finished) = (Timestamp(0), Timestamp(0));
        let mut messages = Vec::new();
        let Record::Http(exchange) = &mut draft.record else { panic!("no HTTP: {draft:?}") };
        assert!(exchange.request.is_some() || exchange.response.is_some() || !exchange.interim.is_empty());
        assert!(exchange.interim.len() <= limits.interim);
        if let Some(request) = &mut exchange.request {
            let head = judge(&mut request.message, limits);
            messages.push(format!("{head} {request:?}"));
        }
        for response in exchange.interim.iter_mut().chain(&mut exchange.response) {
            let head = judge(&mut response.message, limits);
            messages.push(format!("{head} {response:?}"));
        }
        self.drafts.push(format!("{draft:?} {messages:?}"));
        if exchange_has_request(&draft) {
            self.requests.push(messages.swap_remove(0));
        }
    }
}

fn exchange_has_request(draft: &Draft) -> bool {
    matches!(&draft.record, Record::Http(exchange) if exchange.request.is_some())
}

/// A message is within its limits; takes its times off, and its head, which it gives as text: where in the buffer an
/// empty value lies does not matter.
fn judge(message: &mut Message, limits: &Limits) -> String {
    for bytes in [&message.body.bytes[..], &message.body.content().bytes] {
        assert!(bytes.len() <= limits.body, "{} bytes of body", bytes.len());
    }
    assert!(message.head.len() <= limits.headers, "{} headers", message.head.len());
    assert!(message.head_size as usize <= limits.head, "a head of {} bytes", message.head_size);
    assert!(message.first <= message.last, "it ends before it begins");
    (message.first, message.last) = (Timestamp(0), Timestamp(0));
    let head = std::mem::take(&mut message.head);
    let trailers = message.trailers.take();
    let fields = |block: &HeaderBlock| format!("{:?}", block.iter().collect::<Vec<_>>());
    format!("{} {:?}", fields(&head), trailers.as_deref().map(fields))
}
