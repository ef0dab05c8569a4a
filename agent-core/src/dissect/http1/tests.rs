//! HTTP/1.x from bytes to drafts.

use std::collections::VecDeque;

use super::*;
use crate::dissect::Draft;
use crate::item::{ErrorKind, HttpExchange, Record};
use crate::{Limits, Timestamp};

mod bodies;
mod framing_lost;
mod heads;
mod held;
mod loss;
mod losses;
mod order;
mod play;
mod reading;
mod resync;
mod segmentation;
mod too_large;
mod too_many;
mod tunnels;
mod waiting;
mod wholly;

use Side::{Client, Server};

/// One stream under test: what is said in order, with true offsets and acknowledgements.
struct Talk {
    http: Http1,
    limits: Limits,
    hash: bool,
    /// Whether packets are cut short.
    truncated: bool,
    out: VecDeque<Draft>,
    spare: crate::dissect::Spare,
    sent: [u64; 2],
    clock: u64,
    next: Next,
}

impl Talk {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            http: Http1::new(false),
            limits,
            hash: false,
            truncated: false,
            out: VecDeque::new(),
            spare: crate::dissect::Spare::default(),
            sent: [0; 2],
            clock: 0,
            next: Next::Continue,
        }
    }

    fn joined() -> Self {
        Self { http: Http1::new(true), ..Self::new() }
    }

    fn chunk(&mut self, side: Side, chunk: Chunk<'_>, acked: Option<u64>) -> &mut Self {
        self.clock += 1;
        let offset = self.sent[side as usize];
        let at = Arrival { time: Timestamp(self.clock), offset, acked, truncated: self.truncated };
        let mut cx =
            Context { limits: &self.limits, hash: self.hash, out: &mut self.out, spare: &mut self.spare };
        self.next = self.http.chunk(side, chunk, at, &mut cx);
        self.sent[side as usize] += match chunk {
            Chunk::Data(data) => data.len() as u64,
            Chunk::Gap(n) => n,
        };
        self
    }

    /// Bytes whose sender has everything that was said so far.
    fn say(&mut self, side: Side, data: impl AsRef<[u8]>) -> &mut Self {
        let acked = Some(self.sent[side.peer() as usize]);
        self.chunk(side, Chunk::Data(data.as_ref()), acked)
    }

    fn gap(&mut self, side: Side, n: u64) -> &mut Self {
        self.chunk(side, Chunk::Gap(n), None)
    }

    fn end_side(&mut self, side: Side, end: End) -> &mut Self {
        let mut cx =
            Context { limits: &self.limits, hash: self.hash, out: &mut self.out, spare: &mut self.spare };
        self.http.end_side(side, end, Timestamp(self.clock), &mut cx);
        self
    }

    fn finish(&mut self, end: End) -> Vec<Draft> {
        let mut cx =
            Context { limits: &self.limits, hash: self.hash, out: &mut self.out, spare: &mut self.spare };
        self.http.finish(end, Timestamp(self.clock), &mut cx);
        assert_eq!(self.http.memory(), 0);
        assert_eq!(self.spare.http1.busy.len(), 1, "its readers were left empty");
        self.out.drain(..).collect()
    }

    fn fin(&mut self) -> Vec<Draft> {
        self.end_side(Client, End::Fin).end_side(Server, End::Fin).finish(End::Fin)
    }
}

fn exchange(draft: &Draft) -> &HttpExchange {
    let Record::Http(exchange) = &draft.record;
    exchange
}

/// A draft in a line: `target status error anomalies`, with `-` for what is not there.
fn brief(draft: &Draft) -> String {
    let x = exchange(draft);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let target = x.request.as_ref().map_or("-".into(), |r| text(r.target()));
    let status = x.response.as_ref().map_or("-".into(), |r| r.status.to_string());
    let error = draft.error.as_ref().map_or(String::new(), |e| format!(" {}", e.kind.as_str()));
    let odd = draft.anomalies.iter().chain(x.found_late());
    let odd: String = odd.map(|a| format!(" {}", a.kind.as_str())).collect();
    format!("{target} {status}{error}{odd}")
}

fn briefs(drafts: &[Draft]) -> Vec<String> {
    drafts.iter().map(brief).collect()
}

fn request_body(draft: &Draft) -> &[u8] {
    exchange(draft).request.as_ref().map_or(&[], |r| &r.message.body.bytes)
}

fn response_body(draft: &Draft) -> &[u8] {
    exchange(draft).response.as_ref().map_or(&[], |r| &r.message.body.bytes)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A client that waited often enough to be believed.
fn believed() -> Talk {
    let mut talk = Talk::new();
    for n in 0..12 {
        talk.say(Client, get(&format!("/{n}"))).say(Server, ok("x"));
    }
    talk.out.clear();
    talk
}

/// No request may have got the answer of another one: `/x` is answered by `x`.
fn assert_no_wrong_pair(drafts: &[Draft]) {
    for draft in drafts {
        if let (Some(request), Some(_)) = (&exchange(draft).request, &exchange(draft).response) {
            assert_eq!(response_body(draft), &request.target()[1..], "{:?}", briefs(drafts));
        }
    }
}
