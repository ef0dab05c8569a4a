//! What an item's fields are: the one description that its JSON text and the objects of scripts are made from
//! (`scripts/remora.d.ts` has the types).

use std::cell::LazyCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;

use agent_core::item::http_view::{self as http, Param, Target};
use agent_core::item::{Body, Endpoint, HeaderBlock, HttpExchange, Message, Request, Response};
use agent_core::{Item, Record, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::json::Json;
use super::out::{Fields, Out, Short};
use super::redact::{REDACTED, Redaction};
use crate::captured::{Captured, Name};

/// Cookies, parameters and pairs of a query that an item shows, of each at most.
const MOST: usize = 1024;

/// How items are shown.
#[derive(Clone, Debug, Default)]
pub struct ItemView {
    redaction: Redaction,
}

/// An object of an item that has fields of its own. A script's item makes each when it is first looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Item,
    Node,
    Protocol,
    Source,
    Destination,
    Request,
    Response,
    PostData,
    Content,
    Error,
    Capture,
}

/// An item with the view that it is seen by.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    view: &'a ItemView,
    captured: &'a Captured,
    exchange: &'a HttpExchange,
}

impl ItemView {
    /// A view that hides what `redaction` says.
    #[must_use]
    pub fn new(redaction: Redaction) -> Self {
        Self { redaction }
    }

    /// Appends the item as one JSON object, without a line end.
    pub fn json(&self, captured: &Captured, out: &mut Vec<u8>) {
        if let Some(shown) = self.show(captured) {
            ItemText { json: Json(out), shown }.part(Part::Item);
        }
    }

    /// `None`: of a protocol that has no view.
    pub(crate) fn show<'a>(&'a self, captured: &'a Captured) -> Option<Shown<'a>> {
        let Record::Http(exchange) = &captured.item.record else { return None };
        Some(Shown { view: self, captured, exchange })
    }
}

impl Shown<'_> {
    /// The fields of a part, in the contract's order. A part that the item does not have has none.
    pub(crate) fn fields(&self, part: Part, f: &mut impl Fields) {
        let (exchange, captured) = (self.exchange, self.captured);
        let item = &*captured.item;
        match part {
            Part::Item => self.item(f),
            Part::Node => {
                f.field("ip", |v| v.text(Short::new(format_args!("{}", captured.node.ip)).bytes()));
                f.field("name", |v| v.text(captured.node.name.as_bytes()));
            }
            Part::Protocol => protocol(f, exchange),
            Part::Source => end(f, &item.client, &captured.src),
            Part::Destination => end(f, &item.server, &captured.dst),
            Part::Request => exchange.request.iter().for_each(|request| self.request(f, request)),
            Part::Response => exchange.response.iter().for_each(|response| self.response(f, response)),
            Part::PostData => exchange.request.iter().for_each(|request| post_data(f, &request.message)),
            Part::Content => exchange.response.iter().for_each(|response| content(f, &response.message)),
            Part::Error => item.error.iter().for_each(|error| {
                f.field("type", |v| v.text(error.kind.as_str().as_bytes()));
                f.field("msg", |v| v.text(error.msg.as_bytes()));
            }),
            Part::Capture => {
                f.field("source", |v| v.text(captured.source.as_str().as_bytes()));
                f.field("gaps", |v| v.number(item.gaps.into()));
                f.field("truncated", |v| v.boolean(item.truncated));
            }
        }
    }

    fn item(&self, f: &mut impl Fields) {
        let (exchange, captured) = (self.exchange, self.captured);
        let item = &*captured.item;
        let stream = item.stream;
        f.field("id", |v| v.text(Short::new(format_args!("{stream}-{}", item.index)).bytes()));
        f.field("index", |v| v.number(item.index));
        f.field("stream", |v| v.text(Short::new(format_args!("{stream}")).bytes()));
        f.field("node", |v| v.part(Part::Node));
        f.field("worker", |v| v.number(captured.worker.into()));
        f.field("protocol", |v| v.part(Part::Protocol));
        f.field("tls", |v| v.boolean(item.tls));
        f.field("src", |v| v.part(Part::Source));
        f.field("dst", |v| v.part(Part::Destination));
        f.field("namespace", |v| {
            let (src, dst) = (&captured.src.namespace, &captured.dst.namespace);
            v.text(if dst.is_empty() { src } else { dst }.as_bytes());
        });
        f.field("outgoing", |v| v.boolean(captured.outgoing));
        f.field("timestamp", |v| v.number(item.started.0 / 1_000_000));
        f.field("startTime", |v| v.time(item.started));
        f.field("elapsedTime", |v| {
            if exchange.request.is_some() && exchange.response.is_some() {
                v.milliseconds(item.finished.0.saturating_sub(item.started.0));
            } else {
                v.null();
            }
        });
        let (request, response) = (exchange.request.as_ref(), exchange.response.as_ref());
        f.field("requestSize", |v| v.number(request.map_or(0, |r| size(&r.message))));
        f.field("responseSize", |v| v.number(response.map_or(0, |r| size(&r.message))));
        f.field("request", |v| part_if(v, request.is_some(), Part::Request));
        f.field("response", |v| part_if(v, response.is_some(), Part::Response));
        f.field("anomalies", |v| {
            v.list(|v| {
                for anomaly in &item.anomalies {
                    v.map(|v| {
                        v.field("type", |v| v.text(anomaly.kind.as_str().as_bytes()));
                        v.field("msg", |v| v.text(anomaly.msg.as_bytes()));
                    });
                }
            });
        });
        f.field("error", |v| part_if(v, item.error.is_some(), Part::Error));
        f.field("capture", |v| v.part(Part::Capture));
        f.field("passed", |v| v.boolean(false));
        f.field("failed", |v| v.boolean(false));
    }

    fn request(&self, f: &mut impl Fields, request: &Request) {
        let message = &request.message;
        let target = LazyCell::new(|| Target::parse(request.method(), request.target()));
        f.field("method", |v| v.text(request.method()));
        f.field("url", |v| v.text(url(&self.captured.item, request).as_bytes()));
        f.field("target", |v| v.text(request.target()));
        f.field("path", |v| v.text(target.path));
        f.field("pathSegments", |v| {
            v.list(|v| {
                http::path_segments(target.path).iter().for_each(|segment| v.text(segment.as_bytes()))
            });
        });
        version(f, message);
        self.headers(f, message);
        f.field("cookies", |v| {
            let hidden = self.view.redaction.hides(b"cookie");
            v.map(|v| pairs(v, &http::cookies(&message.head, MOST), hidden));
        });
        f.field("queryString", |v| {
            let query = http::query_pairs(target.query.unwrap_or_default(), MOST);
            v.map(|v| pairs(v, &query, false));
        });
        let empty = message.body.size == 0 && message.body.content.is_empty();
        f.field("postData", |v| part_if(v, !empty, Part::PostData));
        sizes(f, message);
    }

    fn response(&self, f: &mut impl Fields, response: &Response) {
        let message = &response.message;
        f.field("status", |v| v.number(response.status.into()));
        f.field("statusText", |v| v.text(response.reason()));
        version(f, message);
        f.field("interim", |v| {
            v.list(|v| {
                for response in &self.exchange.interim {
                    v.map(|v| {
                        v.field("status", |v| v.number(response.status.into()));
                        v.field("headersList", |v| self.headers_list(v, &response.message.head));
                    });
                }
            });
        });
        self.headers(f, message);
        f.field("cookies", |v| {
            let cookies = http::set_cookies(&message.head, MOST);
            let cookies: Vec<_> = cookies.into_iter().map(|cookie| (cookie.name, cookie.value)).collect();
            v.map(|v| pairs(v, &cookies, self.view.redaction.hides(b"set-cookie")));
        });
        f.field("content", |v| v.part(Part::Content));
        f.field("redirectURL", |v| v.text(message.head.get("location").unwrap_or_default()));
        sizes(f, message);
    }

    /// The map for convenience, and the lists that keep order, case and repeats.
    fn headers(&self, f: &mut impl Fields, message: &Message) {
        f.field("headers", |v| v.headers(|v| self.headers_map(v, &message.head)));
        f.field("headersList", |v| self.headers_list(v, &message.head));
        f.field("trailersList", |v| match &message.trailers {
            Some(trailers) => self.headers_list(v, trailers),
            None => v.list(|_| ()),
        });
    }

    fn headers_map(&self, v: &mut impl Out, head: &HeaderBlock) {
        let fields: Vec<(&[u8], &[u8])> = head.iter().collect();
        let alike = alike(&fields);
        let mut joined = Vec::new();
        for (at, &(name, _)) in fields.iter().enumerate().filter(|&(at, _)| alike[at].first) {
            joined.clear();
            let glue: &[u8] = if name.eq_ignore_ascii_case(b"set-cookie") { b"\n" } else { b", " };
            let mut next = Some(at);
            while let Some(&(_, value)) = next.and_then(|at| fields.get(at)) {
                joined.extend_from_slice(self.view.redaction.shown(name, value));
                next = next.and_then(|at| alike[at].next);
                joined.extend_from_slice(if next.is_some() { glue } else { b"" });
            }
            v.entry(name, |v| v.text(&joined));
        }
    }

    fn headers_list(&self, v: &mut impl Out, head: &HeaderBlock) {
        v.list(|v| {
            for (name, value) in head.iter() {
                v.map(|v| {
                    v.field("name", |v| v.text(name));
                    v.field("value", |v| v.text(self.view.redaction.shown(name, value)));
                });
            }
        });
    }
}

fn part_if(v: &mut impl Out, there: bool, part: Part) {
    if there { v.part(part) } else { v.null() }
}

/// The item as JSON text.
struct ItemText<'a> {
    json: Json<'a>,
    shown: Shown<'a>,
}

impl ItemText<'_> {
    fn enclosed(&mut self, [open, close]: [u8; 2], body: impl FnOnce(&mut Self)) {
        self.json.open(open);
        body(self);
        self.json.close(close);
    }
}

impl Fields for ItemText<'_> {
    type Value = Self;

    fn field(&mut self, name: &'static str, write: impl FnOnce(&mut Self)) {
        self.json.key(name);
        write(self);
    }
}

impl Out for ItemText<'_> {
    fn null(&mut self) {
        self.json.value("null");
    }

    fn boolean(&mut self, value: bool) {
        self.json.value(if value { "true" } else { "false" });
    }

    fn number(&mut self, value: u64) {
        self.json.value("");
        self.json.integer(value);
    }

    fn milliseconds(&mut self, nanos: u64) {
        self.json.value("");
        self.json.milliseconds(nanos);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.json.string(bytes);
    }

    fn list(&mut self, elements: impl FnOnce(&mut Self)) {
        self.enclosed(*b"[]", elements);
    }

    fn map(&mut self, entries: impl FnOnce(&mut Self)) {
        self.enclosed(*b"{}", entries);
    }

    fn entry(&mut self, name: &[u8], write: impl FnOnce(&mut Self)) {
        self.json.key_bytes(name);
        write(self);
    }

    fn part(&mut self, part: Part) {
        let shown = self.shown;
        self.map(|v| shown.fields(part, v));
    }

    fn time(&mut self, time: Timestamp) {
        self.json.rfc3339(time);
    }

    fn hex(&mut self, bytes: &[u8]) {
        self.json.hex(bytes);
    }
}

/// A field among those of the same name.
#[derive(Clone, Copy)]
struct Alike {
    first: bool,
    next: Option<usize>,
}

/// Which fields have the same name, in any case. By sorting: a head may have hundreds of fields.
fn alike(fields: &[(&[u8], &[u8])]) -> Vec<Alike> {
    let folded = |at: usize| fields[at].0.iter().map(u8::to_ascii_lowercase);
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by(|&a, &b| folded(a).cmp(folded(b)));
    let mut alike = vec![Alike { first: true, next: None }; fields.len()];
    for pair in order.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if fields[a].0.eq_ignore_ascii_case(fields[b].0) {
            alike[a].next = Some(b);
            alike[b].first = false;
        }
    }
    alike
}

/// The request's URL; where it names no host, the server's address stands for it.
pub(super) fn url(item: &Item, request: &Request) -> String {
    http::absolute_url(request, item.tls, &SocketAddr::new(item.server.addr, item.server.port).to_string())
}

fn end(f: &mut impl Fields, end: &Endpoint, name: &Name) {
    f.field("ip", |v| v.text(Short::new(format_args!("{}", end.addr)).bytes()));
    f.field("port", |v| v.text(Short::new(format_args!("{}", end.port)).bytes()));
    f.field("name", |v| match &name.name {
        Some(name) => v.text(name.as_bytes()),
        None => v.text(Short::new(format_args!("{}", end.addr)).bytes()),
    });
    f.field("namespace", |v| v.text(name.namespace.as_bytes()));
    if let Some(process) = &name.process {
        f.field("processId", |v| v.number(process.pid.into()));
        if let Some(name) = &process.name {
            f.field("processName", |v| v.text(name.as_bytes()));
        }
        if let Some(container) = &process.container_id {
            f.field("containerId", |v| v.text(container.as_bytes()));
        }
    }
    // The socket's, as its packets tell it; the process', where only that is known.
    let cgroup = name.process.as_ref().map_or(0, |process| process.cgroup_id);
    match if end.cgroup != 0 { end.cgroup } else { cgroup } {
        0 => {}
        id => f.field("cgroupId", |v| v.number(id)),
    }
}

fn protocol(f: &mut impl Fields, exchange: &HttpExchange) {
    let request = exchange.request.as_ref().map(|r| &r.message);
    let old =
        request.or(exchange.response.as_ref().map(|r| &r.message)).is_some_and(|m| m.minor_version == 0);
    f.field("name", |v| v.text(b"http"));
    f.field("version", |v| v.text(if old { b"1.0" } else { b"1.1" }));
    f.field("abbr", |v| v.text(b"HTTP"));
    f.field("longName", |v| {
        let name: &[u8] = if old {
            b"Hypertext Transfer Protocol -- HTTP/1.0"
        } else {
            b"Hypertext Transfer Protocol -- HTTP/1.1"
        };
        v.text(name);
    });
    f.field("layer4", |v| v.text(b"tcp"));
}

fn version(f: &mut impl Fields, message: &Message) {
    f.field("httpVersion", |v| v.text(if message.minor_version == 0 { b"HTTP/1.0" } else { b"HTTP/1.1" }));
}

fn size(message: &Message) -> u64 {
    u64::from(message.head_size) + message.body.size
}

fn sizes(f: &mut impl Fields, message: &Message) {
    f.field("headersSize", |v| v.number(message.head_size.into()));
    f.field("bodySize", |v| v.number(message.body.size));
    if let Some(sum) = &message.body.sha256 {
        f.field("bodySha256", |v| v.hex(sum));
    }
}

/// Entries of a map in which a repeated name has an array of its values.
fn pairs(v: &mut impl Out, pairs: &[(String, String)], hidden: bool) {
    let mut at: HashMap<&str, usize> = HashMap::new();
    let mut entries: Vec<(&str, Vec<&[u8]>)> = Vec::new();
    for (name, value) in pairs {
        let shown = if hidden { REDACTED } else { value.as_bytes() };
        match at.entry(name.as_str()) {
            Entry::Occupied(entry) => entries[*entry.get()].1.push(shown),
            Entry::Vacant(entry) => {
                entry.insert(entries.len());
                entries.push((name, vec![shown]));
            }
        }
    }
    for (name, values) in entries {
        v.entry(name.as_bytes(), |v| match *values {
            [value] => v.text(value),
            _ => v.list(|v| values.iter().for_each(|value| v.text(value))),
        });
    }
}

fn post_data(f: &mut impl Fields, message: &Message) {
    let mime = message.head.get("content-type");
    f.field("mimeType", |v| v.text(mime.unwrap_or_default()));
    f.field("params", |v| {
        v.list(|v| {
            for param in params(mime.unwrap_or_default(), &message.body.content) {
                v.map(|v| form_param(v, &param));
            }
        });
    });
    text_or_base64(f, mime, &message.body);
    f.field("truncated", |v| v.boolean(message.body.truncated));
}

fn form_param(v: &mut impl Out, param: &Param) {
    v.field("name", |v| v.text(param.name.as_bytes()));
    for (name, text) in
        [("value", &param.value), ("fileName", &param.file_name), ("contentType", &param.content_type)]
    {
        if let Some(text) = text {
            v.field(name, |v| v.text(text.as_bytes()));
        }
    }
}

fn params(content_type: &[u8], body: &[u8]) -> Vec<Param> {
    match http::mime_type(content_type).as_str() {
        "application/x-www-form-urlencoded" => http::form_params(body, MOST),
        "multipart/form-data" => http::multipart_params(content_type, body, MOST).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn content(f: &mut impl Fields, message: &Message) {
    let mime = message.head.get("content-type");
    f.field("size", |v| v.number(message.body.content_size));
    f.field("mimeType", |v| v.text(mime.unwrap_or_default()));
    text_or_base64(f, mime, &message.body);
    f.field("truncated", |v| v.boolean(message.body.truncated));
}

fn text_or_base64(f: &mut impl Fields, mime: Option<&[u8]>, body: &Body) {
    let text = LazyCell::new(|| http::text(mime, &body.content, body.truncated));
    f.field("encoding", |v| match &*text {
        http::Text::Text(_) => v.text(b""),
        http::Text::Binary(_) => v.text(b"base64"),
    });
    f.field("text", |v| match &*text {
        http::Text::Text(text) => v.text(text.as_bytes()),
        http::Text::Binary(bytes) => v.text(BASE64.encode(bytes).as_bytes()),
    });
}
