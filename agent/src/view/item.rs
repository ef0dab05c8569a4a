//! The item as the contract's JSON (`scripts/remora.d.ts` has its types).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;

use agent_core::item::http_view::{self as http, Param, Target};
use agent_core::item::{Body, Endpoint, HeaderBlock, HttpExchange, Message, Request, Response};
use agent_core::{Item, Record};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::json::Json;
use super::redact::{REDACTED, Redaction};
use crate::captured::{Captured, Name};

/// Cookies, parameters and pairs of a query that an item shows, of each at most.
pub(crate) const MOST: usize = 1024;

/// How items are shown.
#[derive(Clone, Debug, Default)]
pub struct ItemView {
    redaction: Redaction,
}

impl ItemView {
    /// What stands for a hidden value.
    pub(crate) const HIDDEN: &[u8] = REDACTED;

    /// What is hidden.
    pub(crate) fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// A view that hides what `redaction` says.
    #[must_use]
    pub fn new(redaction: Redaction) -> Self {
        Self { redaction }
    }

    /// Appends the item as one JSON object, without a line end.
    pub fn json(&self, captured: &Captured, out: &mut Vec<u8>) {
        let item = &*captured.item;
        let Record::Http(exchange) = &item.record else { return };
        Json(out).object(|j| {
            self.identity(j, captured, exchange);
            j.key("request");
            match &exchange.request {
                Some(request) => j.object(|j| self.request(j, item, request)),
                None => j.raw("null"),
            }
            j.key("response");
            match &exchange.response {
                Some(response) => j.object(|j| self.response(j, response, &exchange.interim)),
                None => j.raw("null"),
            }
            quality(j, captured);
        });
    }

    fn identity(&self, j: &mut Json<'_>, captured: &Captured, exchange: &HttpExchange) {
        let item = &*captured.item;
        j.key("id");
        j.raw("\"");
        j.padded(item.stream.0, 12);
        j.raw("-");
        j.integer(item.index);
        j.raw("\"");
        j.number("index", item.index);
        j.key("stream");
        j.raw("\"");
        j.padded(item.stream.0, 12);
        j.raw("\"");
        j.key("node");
        j.object(|j| {
            j.field("ip", captured.node.ip.to_string().as_bytes());
            j.field("name", captured.node.name.as_bytes());
        });
        j.number("worker", captured.worker.into());
        let minor = exchange.request.as_ref().map(|r| &r.message);
        let minor = minor.or(exchange.response.as_ref().map(|r| &r.message)).map_or(1, |m| m.minor_version);
        j.key("protocol");
        j.raw(if minor == 0 {
            r#"{"name":"http","version":"1.0","abbr":"HTTP","longName":"Hypertext Transfer Protocol -- HTTP/1.0","layer4":"tcp"}"#
        } else {
            r#"{"name":"http","version":"1.1","abbr":"HTTP","longName":"Hypertext Transfer Protocol -- HTTP/1.1","layer4":"tcp"}"#
        });
        j.boolean("tls", item.tls);
        j.key("src");
        end(j, &item.client, &captured.src);
        j.key("dst");
        end(j, &item.server, &captured.dst);
        let namespace =
            if captured.dst.namespace.is_empty() { &captured.src.namespace } else { &captured.dst.namespace };
        j.field("namespace", namespace.as_bytes());
        j.boolean("outgoing", captured.outgoing);
        j.number("timestamp", item.started.0 / 1_000_000);
        j.key("startTime");
        j.rfc3339(item.started);
        j.key("elapsedTime");
        if exchange.request.is_some() && exchange.response.is_some() {
            j.milliseconds(item.finished.0.saturating_sub(item.started.0));
        } else {
            j.raw("null");
        }
        j.number("requestSize", exchange.request.as_ref().map_or(0, |r| size(&r.message)));
        j.number("responseSize", exchange.response.as_ref().map_or(0, |r| size(&r.message)));
    }

    fn request(&self, j: &mut Json<'_>, item: &Item, request: &Request) {
        let message = &request.message;
        let target = Target::parse(request.method(), request.target());
        j.field("method", request.method());
        j.field("url", url(item, request).as_bytes());
        j.field("target", request.target());
        j.field("path", target.path);
        j.key("pathSegments");
        j.array(|j| http::path_segments(target.path).iter().for_each(|segment| j.string(segment.as_bytes())));
        version(j, message);
        self.headers(j, &message.head);
        self.trailers(j, message);
        j.key("cookies");
        j.object(|j| self.request_cookies(j, &message.head));
        j.key("queryString");
        j.object(|j| map(j, &http::query_pairs(target.query.unwrap_or_default(), MOST), false));
        j.key("postData");
        if message.body.size == 0 && message.body.content.is_empty() {
            j.raw("null");
        } else {
            j.object(|j| post_data(j, message));
        }
        sizes(j, message);
    }

    fn response(&self, j: &mut Json<'_>, response: &Response, interim: &[Response]) {
        let message = &response.message;
        j.number("status", response.status.into());
        j.field("statusText", response.reason());
        version(j, message);
        j.key("interim");
        j.array(|j| {
            for response in interim {
                j.object(|j| {
                    j.number("status", response.status.into());
                    j.key("headersList");
                    self.headers_list(j, &response.message.head);
                });
            }
        });
        self.headers(j, &message.head);
        self.trailers(j, message);
        j.key("cookies");
        j.object(|j| self.response_cookies(j, &message.head));
        j.key("content");
        j.object(|j| {
            j.number("size", message.body.content_size);
            let mime = message.head.get("content-type");
            j.field("mimeType", mime.unwrap_or_default());
            text_or_base64(j, mime, &message.body);
            j.boolean("truncated", message.body.truncated);
        });
        j.field("redirectURL", message.head.get("location").unwrap_or_default());
        sizes(j, message);
    }

    /// The map for convenience, and the list that keeps order, case and repeats.
    fn headers(&self, j: &mut Json<'_>, head: &HeaderBlock) {
        j.key("headers");
        j.object(|j| {
            let fields: Vec<(&[u8], &[u8])> = head.iter().collect();
            let alike = alike(&fields);
            let mut joined = Vec::new();
            for (at, &(name, _)) in fields.iter().enumerate().filter(|&(at, _)| alike[at].first) {
                j.key_bytes(name);
                joined.clear();
                let glue: &[u8] = if name.eq_ignore_ascii_case(b"set-cookie") { b"\n" } else { b", " };
                let mut next = Some(at);
                while let Some(&(_, value)) = next.and_then(|at| fields.get(at)) {
                    joined.extend_from_slice(self.redaction.shown(name, value));
                    next = next.and_then(|at| alike[at].next);
                    joined.extend_from_slice(if next.is_some() { glue } else { b"" });
                }
                j.string(&joined);
            }
        });
        j.key("headersList");
        self.headers_list(j, head);
    }

    fn headers_list(&self, j: &mut Json<'_>, head: &HeaderBlock) {
        j.array(|j| {
            for (name, value) in head.iter() {
                j.object(|j| {
                    j.field("name", name);
                    j.field("value", self.redaction.shown(name, value));
                });
            }
        });
    }

    fn trailers(&self, j: &mut Json<'_>, message: &Message) {
        j.key("trailersList");
        match &message.trailers {
            Some(trailers) => self.headers_list(j, trailers),
            None => j.raw("[]"),
        }
    }

    fn request_cookies(&self, j: &mut Json<'_>, head: &HeaderBlock) {
        map(j, &http::cookies(head, MOST), self.redaction.hides(b"cookie"));
    }

    fn response_cookies(&self, j: &mut Json<'_>, head: &HeaderBlock) {
        let cookies = http::set_cookies(head, MOST);
        let pairs: Vec<_> = cookies.into_iter().map(|cookie| (cookie.name, cookie.value)).collect();
        map(j, &pairs, self.redaction.hides(b"set-cookie"));
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

fn end(j: &mut Json<'_>, end: &Endpoint, name: &Name) {
    let mut ip = IpText { text: [0; 46], len: 0 };
    let ip = ip.write(end.addr);
    j.object(|j| {
        j.field("ip", ip);
        j.key("port");
        j.raw("\"");
        j.integer(end.port.into());
        j.raw("\"");
        j.field("name", name.name.as_ref().map_or(ip, |name| name.as_bytes()));
        j.field("namespace", name.namespace.as_bytes());
        if let Some(process) = &name.process {
            j.number("processId", process.pid.into());
            if let Some(name) = &process.name {
                j.field("processName", name.as_bytes());
            }
            if let Some(container) = &process.container_id {
                j.field("containerId", container.as_bytes());
            }
        }
        // The socket's, as its packets tell it; the process', where only that is known.
        let cgroup = name.process.as_ref().map_or(0, |process| process.cgroup_id);
        match if end.cgroup != 0 { end.cgroup } else { cgroup } {
            0 => {}
            id => j.number("cgroupId", id),
        }
    });
}

/// An address as text without an allocation.
struct IpText {
    text: [u8; 46],
    len: usize,
}

impl IpText {
    fn write(&mut self, addr: std::net::IpAddr) -> &[u8] {
        // 46 bytes hold the longest IPv6 text form, so the write cannot fail.
        let _ = std::fmt::Write::write_fmt(self, format_args!("{addr}"));
        &self.text[..self.len]
    }
}

impl std::fmt::Write for IpText {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = self.len + s.len();
        self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

fn version(j: &mut Json<'_>, message: &Message) {
    j.field("httpVersion", if message.minor_version == 0 { b"HTTP/1.0" } else { b"HTTP/1.1" });
}

fn size(message: &Message) -> u64 {
    u64::from(message.head_size) + message.body.size
}

fn sizes(j: &mut Json<'_>, message: &Message) {
    j.number("headersSize", message.head_size.into());
    j.number("bodySize", message.body.size);
    if let Some(sum) = &message.body.sha256 {
        j.key("bodySha256");
        j.hex(sum);
    }
}

/// A map of pairs in which a repeated name has an array of its values.
fn map(j: &mut Json<'_>, pairs: &[(String, String)], hidden: bool) {
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
        j.key_bytes(name.as_bytes());
        match *values {
            [value] => j.string(value),
            _ => j.array(|j| values.iter().for_each(|value| j.string(value))),
        }
    }
}

fn post_data(j: &mut Json<'_>, message: &Message) {
    let mime = message.head.get("content-type");
    j.field("mimeType", mime.unwrap_or_default());
    j.key("params");
    j.array(|j| {
        for param in params(mime.unwrap_or_default(), &message.body.content) {
            j.object(|j| {
                j.field("name", param.name.as_bytes());
                for (name, text) in [
                    ("value", &param.value),
                    ("fileName", &param.file_name),
                    ("contentType", &param.content_type),
                ] {
                    if let Some(text) = text {
                        j.field(name, text.as_bytes());
                    }
                }
            });
        }
    });
    text_or_base64(j, mime, &message.body);
    j.boolean("truncated", message.body.truncated);
}

fn params(content_type: &[u8], body: &[u8]) -> Vec<Param> {
    match http::mime_type(content_type).as_str() {
        "application/x-www-form-urlencoded" => http::form_params(body, MOST),
        "multipart/form-data" => http::multipart_params(content_type, body, MOST).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn text_or_base64(j: &mut Json<'_>, mime: Option<&[u8]>, body: &Body) {
    match http::text(mime, &body.content, body.truncated) {
        http::Text::Text(text) => {
            j.field("encoding", b"");
            j.field("text", text.as_bytes());
        }
        http::Text::Binary(bytes) => {
            j.field("encoding", b"base64");
            j.field("text", BASE64.encode(bytes).as_bytes());
        }
    }
}

fn quality(j: &mut Json<'_>, captured: &Captured) {
    let item = &*captured.item;
    j.key("anomalies");
    j.array(|j| {
        for anomaly in &item.anomalies {
            j.object(|j| {
                j.field("type", anomaly.kind.as_str().as_bytes());
                j.field("msg", anomaly.msg.as_bytes());
            });
        }
    });
    j.key("error");
    match &item.error {
        Some(error) => j.object(|j| {
            j.field("type", error.kind.as_str().as_bytes());
            j.field("msg", error.msg.as_bytes());
        }),
        None => j.raw("null"),
    }
    j.key("capture");
    j.object(|j| {
        j.field("source", captured.source.as_str().as_bytes());
        j.number("gaps", item.gaps.into());
        j.boolean("truncated", item.truncated);
    });
    j.boolean("passed", false);
    j.boolean("failed", false);
}
