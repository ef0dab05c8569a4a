//! What the engine found: one request with its response, or one of them alone with the reason.
//!
//! An item owns its bytes: a message's head is one buffer, and every header is a pair of ranges into it. Views
//! (JSON, JavaScript) are made at the edges, in the agent.

mod body;
mod headers;
pub mod http_view;

use std::borrow::Cow;
use std::net::IpAddr;

pub use body::{Body, Coded, Content};
pub(crate) use headers::Fields;
pub use headers::{Common, HeaderBlock, Span};

use crate::anomaly::Anomaly;
use crate::time::Timestamp;

/// A TCP stream's number: unique on the node while anything of it is stored. Shown as 12 decimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId(pub u64);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

/// One end of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// Address.
    pub addr: IpAddr,
    /// TCP port.
    pub port: u16,
    /// cgroup v2 id of the socket's cgroup, where the source knows it; else 0.
    pub cgroup: u64,
}

/// One dissected item.
#[derive(Clone, Debug)]
pub struct Item {
    /// The stream that it came from.
    pub stream: StreamId,
    /// Its number among the items of its engine, from 0.
    pub index: u64,
    /// Who opened the connection (or sent the request, where the handshake was not seen).
    pub client: Endpoint,
    /// The other end.
    pub server: Endpoint,
    /// Whether the bytes were taken from inside TLS.
    pub tls: bool,
    /// What was said.
    pub record: Record,
    /// Capture time of the item's first byte.
    pub started: Timestamp,
    /// Capture time of the item's last byte.
    pub finished: Timestamp,
    /// Oddities that were noted while it was read, at most [`crate::Limits::anomalies`]; [`Item::anomalies`] has all.
    pub noted: Vec<Anomaly>,
    /// Why the item is not whole, if it is not.
    pub error: Option<ItemError>,
    /// Number of gaps inside the item's messages.
    pub gaps: u32,
    /// Whether a packet of the item was cut by the snap length.
    pub truncated: bool,
}

impl Item {
    /// An item that is whole, at the beginning of time: for what does not come from an engine.
    #[must_use]
    pub fn new(stream: StreamId, index: u64, client: Endpoint, server: Endpoint, record: Record) -> Self {
        Self {
            stream,
            index,
            client,
            server,
            tls: false,
            record,
            started: Timestamp(0),
            finished: Timestamp(0),
            noted: Vec::new(),
            error: None,
            gaps: 0,
            truncated: false,
        }
    }

    /// All oddities: those noted, then one for each body, of request and response, that is not what its codings say, in which nobody
    /// has to look before. So this decodes, where the item has a coded body and nobody read it yet.
    pub fn anomalies(&self) -> impl Iterator<Item = &Anomaly> {
        let Record::Http(exchange) = &self.record;
        self.noted.iter().chain(exchange.found_late())
    }

    /// Memory held, in bytes: what a queue that holds the item has to count.
    #[must_use]
    pub fn memory(&self) -> usize {
        let Record::Http(exchange) = &self.record;
        let anomalies = self.noted.iter().map(|anomaly| size_of::<Anomaly>() + anomaly.msg.len());
        size_of::<Self>() + exchange.memory() + anomalies.sum::<usize>()
    }
}

/// What was said, by protocol.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record {
    /// HTTP/1.x (RFC 9112).
    Http(Box<HttpExchange>),
}

/// Why an item is not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ItemError {
    /// Kind, part of the item's contract.
    pub kind: ErrorKind,
    /// In words, for a person.
    pub msg: Cow<'static, str>,
}

/// `error.type` of an item.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// The bytes could not be read as the protocol.
    Dissection,
    /// The connection ended first (FIN or RST).
    Connection,
    /// The stream was given up after its idle time, or the capture ended first.
    Timeout,
    /// A response whose request was not seen, or not known for certain.
    PairNotFound,
    /// Packets of the item, or of its counterpart, are missing from the capture.
    Gap,
}

impl ErrorKind {
    /// The name in items: `error.type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dissection => "dissection",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::PairNotFound => "pair-not-found",
            Self::Gap => "gap",
        }
    }
}

/// A request with its response; at least one of them is there.
#[derive(Clone, Debug, Default)]
pub struct HttpExchange {
    /// The request.
    pub request: Option<Request>,
    /// The final response.
    pub response: Option<Response>,
    /// Interim (1xx) responses that came before it, at most [`crate::Limits::interim`].
    pub interim: Vec<Response>,
}

impl HttpExchange {
    /// Those of request and final response that are there.
    #[inline]
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        let request = self.request.as_ref().map(|request| &request.message);
        request.into_iter().chain(self.response.as_ref().map(|response| &response.message))
    }

    /// What is found odd when somebody looks.
    #[inline]
    pub(crate) fn found_late(&self) -> impl Iterator<Item = &Anomaly> {
        self.messages().filter(|message| message.body.is_badly_coded()).map(|_| &body::BAD_CODING)
    }

    fn memory(&self) -> usize {
        let interim = self.interim.iter().map(|response| size_of::<Response>() + response.message.memory());
        size_of::<Self>() + self.messages().map(Message::memory).sum::<usize>() + interim.sum::<usize>()
    }
}

/// An HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method, in [`Request::head`]'s buffer.
    pub method: Span,
    /// Request-target as sent, in [`Request::head`]'s buffer.
    pub target: Span,
    /// Version, headers, body and times.
    pub message: Message,
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Reason phrase, in [`Response::head`]'s buffer; may be empty.
    pub reason: Span,
    /// Version, headers, body and times.
    pub message: Message,
}

impl Request {
    /// The method's bytes.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.message.head.bytes(self.method)
    }

    /// The request-target's bytes, as sent.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.message.head.bytes(self.target)
    }
}

impl Response {
    /// The reason phrase's bytes.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.message.head.bytes(self.reason)
    }
}

/// What request and response share.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Minor version of HTTP/1.
    pub minor_version: u8,
    /// The head: start line and headers in one buffer.
    pub head: HeaderBlock,
    /// Length of start line and header section as captured, in bytes, the empty line included.
    pub head_size: u32,
    /// Trailers of a chunked body.
    pub trailers: Option<Box<HeaderBlock>>,
    /// The body.
    pub body: Body,
    /// Capture time of the first byte.
    pub first: Timestamp,
    /// Capture time of the last byte seen.
    pub last: Timestamp,
    /// Whether the whole message was seen.
    pub complete: bool,
}

impl Message {
    /// Heap memory held, in bytes.
    fn memory(&self) -> usize {
        self.head.memory()
            + self.trailers.as_ref().map_or(0, |trailers| trailers.memory())
            + self.body.memory()
    }
}
