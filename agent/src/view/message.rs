//! The fields of a message: what requests and responses of an item are shown as.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use agent_core::item::http_view::{self as http, Param, Target};
use agent_core::item::{Common, Content, HeaderBlock, Message, Request, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::item::{Part, Shown, part_if, url_pieces};
use super::out::{Fields, Key, Line, Out, Side, Whole, key, word};
use super::redact::{Hidden, REDACTED};

/// Cookies, parameters and pairs of a query that an item shows, of each at most.
pub(crate) const MOST: usize = 1024;

/// What a body is by its head: shown beside its content, and known without that.
pub(super) const MIME_TYPE: Key = key!("mimeType");

impl Shown<'_> {
    pub(super) fn request(&self, f: &mut impl Fields, request: &Request) {
        let message = &request.message;
        let (hidden, only) = (self.view.redaction.now(), message.trailers.is_none());
        let words = [request.method, request.target];
        let line = Line { minor_version: message.minor_version, status: 0, words };
        let whole = Whole { side: Side::Request, head: &message.head, line, hidden: &hidden };
        f.of_message(whole, only, |f| self.asked(f, request, &hidden));
        f.field(key!("postData"), |v| part_if(v, !message.body.is_empty(), Part::PostData));
        sizes(f, message);
    }

    /// What a request's head tells.
    fn asked(&self, f: &mut impl Fields, request: &Request, hidden: &Hidden) {
        let message = &request.message;
        let plain = message.head.is_plain();
        let target = LazyCell::new(|| Target::parse(request.method(), request.target()));
        f.field(key!("method"), |v| v.known(request.method(), plain));
        f.field(key!("url"), |v| {
            url_pieces(&self.captured.item, request, &target, |pieces| v.pieces(pieces, plain));
        });
        f.field(key!("target"), |v| v.known(request.target(), plain));
        f.field(key!("path"), |v| v.known(target.path, plain));
        f.field(key!("pathSegments"), |v| {
            v.list(|v| {
                for segment in http::raw_segments(target.path) {
                    if plain { v.plain(segment) } else { v.text(String::from_utf8_lossy(segment).as_bytes()) }
                }
            });
        });
        version(f, message);
        headers(f, Side::Request, message, hidden);
        f.field(key!("cookies"), |v| {
            v.map(|v| pairs(v, &http::cookies(&message.head, MOST), || hidden.hides(b"cookie")));
        });
        f.field(key!("queryString"), |v| {
            v.map(|v| query(v, target.query.unwrap_or_default()));
        });
    }

    pub(super) fn response(&self, f: &mut impl Fields, response: &Response) {
        let message = &response.message;
        let hidden = self.view.redaction.now();
        let only = message.trailers.is_none() && self.exchange.interim.is_empty();
        let line = Line {
            minor_version: message.minor_version,
            status: response.status,
            words: [response.reason; 2],
        };
        let whole = Whole { side: Side::Response, head: &message.head, line, hidden: &hidden };
        f.of_message(whole, only, |f| self.answered(f, response, &hidden));
        f.field(key!("content"), |v| v.part(Part::Content));
        f.field(key!("redirectURL"), |v| {
            v.known(message.head.common(Common::Location).unwrap_or_default(), message.head.is_plain());
        });
        sizes(f, message);
    }

    /// What a response's head tells, and those of interim ones.
    fn answered(&self, f: &mut impl Fields, response: &Response, hidden: &Hidden) {
        let message = &response.message;
        let plain = message.head.is_plain();
        f.field(key!("status"), |v| v.number(response.status.into()));
        f.field(key!("statusText"), |v| v.known(response.reason(), plain));
        version(f, message);
        f.field(key!("interim"), |v| {
            v.list(|v| {
                for response in &self.exchange.interim {
                    v.map(|v| {
                        v.field(key!("status"), |v| v.number(response.status.into()));
                        v.field(key!("headersList"), |v| headers_list(v, &response.message.head, hidden));
                    });
                }
            });
        });
        headers(f, Side::Response, message, hidden);
        f.field(key!("cookies"), |v| {
            if !message.head.has(Common::SetCookie) {
                return v.map(|_| ());
            }
            let cookies = http::set_cookies(&message.head, MOST);
            let cookies: Vec<_> = cookies.into_iter().map(|cookie| (cookie.name, cookie.value)).collect();
            v.map(|v| pairs(v, &cookies, || hidden.hides(b"set-cookie")));
        });
    }
}

/// The map for convenience, and the lists that keep order, case and repeats.
fn headers(f: &mut impl Fields, side: Side, message: &Message, hidden: &Hidden) {
    f.of_head(side, &message.head, hidden, |f| {
        f.field(key!("headers"), |v| v.headers(|v| headers_map(v, &message.head, hidden)));
        f.field(key!("headersList"), |v| headers_list(v, &message.head, hidden));
    });
    f.field(key!("trailersList"), |v| match &message.trailers {
        Some(trailers) => headers_list(v, trailers, hidden),
        None => v.list(|_| ()),
    });
}

fn headers_list(v: &mut impl Out, head: &HeaderBlock, hidden: &Hidden) {
    let plain = head.is_plain();
    v.list(|v| {
        for (name, value) in head.iter() {
            v.header(name, hidden.shown(name, value), plain);
        }
    });
}

/// Fields up to which each name is compared with those before it; more are sorted.
const FEW: usize = 24;

fn headers_map(v: &mut impl Out, head: &HeaderBlock, hidden: &Hidden) {
    if head.len() > FEW || repeats(head) {
        return joined_map(v, head, hidden);
    }
    let plain = head.is_plain();
    for (name, value) in head.iter() {
        v.text_entry(name, hidden.shown(name, value), plain);
    }
}

/// Whether two fields have the same name, in any case.
fn repeats(head: &HeaderBlock) -> bool {
    // A bit for names that might be the same: by length, and letters of which case is one bit.
    let mut seen = 0u64;
    for (at, (name, _)) in head.iter().enumerate() {
        let letters = match name {
            [first, .., last] => u32::from(first | 0x20) * 3 + u32::from(last | 0x20) * 5,
            _ => 0,
        };
        let bit = 1 << ((letters + name.len() as u32) & 63);
        let again = seen & bit != 0;
        seen |= bit;
        if again && head.iter().take(at).any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return true;
        }
    }
    false
}

/// Values of the same name are joined.
fn joined_map(v: &mut impl Out, head: &HeaderBlock, hidden: &Hidden) {
    let fields: Vec<(&[u8], &[u8])> = head.iter().collect();
    let alike = alike(&fields);
    let mut joined = Vec::new();
    for (at, &(name, _)) in fields.iter().enumerate().filter(|&(at, _)| alike[at].first) {
        joined.clear();
        let glue: &[u8] = if name.eq_ignore_ascii_case(b"set-cookie") { b"\n" } else { b", " };
        let mut next = Some(at);
        while let Some(&(_, value)) = next.and_then(|at| fields.get(at)) {
            joined.extend_from_slice(hidden.shown(name, value));
            next = next.and_then(|at| alike[at].next);
            joined.extend_from_slice(if next.is_some() { glue } else { b"" });
        }
        v.entry(name, false, |v| v.text(&joined));
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

fn version(f: &mut impl Fields, message: &Message) {
    f.field(key!("httpVersion"), |v| {
        if message.minor_version == 0 { v.word(word!("HTTP/1.0")) } else { v.word(word!("HTTP/1.1")) }
    });
}

fn sizes(f: &mut impl Fields, message: &Message) {
    f.field(key!("headersSize"), |v| v.number(message.head_size.into()));
    f.field(key!("bodySize"), |v| v.number(message.body.size));
    if let Some(sum) = &message.body.sha256 {
        f.field(key!("bodySha256"), |v| v.hex(&sum[..]));
    }
}

/// Entries of a query.
fn query(v: &mut impl Out, query: &[u8]) {
    let mut rest = http::query(query, MOST);
    match (rest.next(), rest.next()) {
        (None, _) => {}
        (Some((name, value)), None) => v.text_entry(name.as_bytes(), value.as_bytes(), false),
        (Some(first), Some(second)) => {
            let all: Vec<_> = [first, second].into_iter().chain(rest).collect();
            pairs(v, &all, || false);
        }
    }
}

/// Pairs up to which each name is compared with those before it.
const FEW_PAIRS: usize = 8;

/// Entries of a map in which a repeated name has an array of its values.
fn pairs<S: AsRef<str>>(v: &mut impl Out, pairs: &[(S, S)], hidden: impl Fn() -> bool) {
    if pairs.is_empty() {
        return;
    }
    let hidden = hidden();
    let differs = |at: usize, name: &str| pairs.iter().take(at).all(|(other, _)| other.as_ref() != name);
    if pairs.len() <= FEW_PAIRS && pairs.iter().enumerate().all(|(at, (name, _))| differs(at, name.as_ref()))
    {
        for (name, value) in pairs {
            v.text_entry(
                name.as_ref().as_bytes(),
                if hidden { REDACTED } else { value.as_ref().as_bytes() },
                false,
            );
        }
        return;
    }
    let mut at: HashMap<&str, usize> = HashMap::new();
    let mut entries: Vec<(&str, Vec<&[u8]>)> = Vec::new();
    for (name, value) in pairs {
        let (name, shown) = (name.as_ref(), if hidden { REDACTED } else { value.as_ref().as_bytes() });
        match at.entry(name) {
            Entry::Occupied(entry) => entries[*entry.get()].1.push(shown),
            Entry::Vacant(entry) => {
                entry.insert(entries.len());
                entries.push((name, vec![shown]));
            }
        }
    }
    for (name, values) in entries {
        v.entry(name.as_bytes(), false, |v| match *values {
            [value] => v.text(value),
            _ => v.list(|v| values.iter().for_each(|value| v.text(value))),
        });
    }
}

pub(super) fn post_data(f: &mut impl Fields, message: &Message) {
    let mime = message.head.common(Common::ContentType);
    let content = LazyCell::new(|| message.body.content());
    f.field(MIME_TYPE, |v| v.known(mime.unwrap_or_default(), message.head.is_plain()));
    f.field(key!("params"), |v| {
        v.list(|v| {
            for param in params(mime.unwrap_or_default(), || &content.bytes) {
                v.map(|v| form_param(v, &param));
            }
        });
    });
    text_or_base64(f, mime, &content);
    f.field(key!("truncated"), |v| v.boolean(content.truncated));
}

fn form_param(v: &mut impl Out, param: &Param) {
    v.field(key!("name"), |v| v.text(param.name.as_bytes()));
    for (key, text) in [
        (key!("value"), &param.value),
        (key!("fileName"), &param.file_name),
        (key!("contentType"), &param.content_type),
    ] {
        if let Some(text) = text {
            v.field(key, |v| v.text(text.as_bytes()));
        }
    }
}

fn params<'a>(content_type: &[u8], body: impl FnOnce() -> &'a [u8]) -> Vec<Param> {
    match http::mime_type(content_type).as_str() {
        "application/x-www-form-urlencoded" => http::form_params(body(), MOST),
        "multipart/form-data" => http::multipart_params(content_type, body(), MOST).unwrap_or_default(),
        _ => Vec::new(),
    }
}

pub(super) fn content(f: &mut impl Fields, message: &Message) {
    let mime = message.head.common(Common::ContentType);
    let content = LazyCell::new(|| message.body.content());
    f.field(key!("size"), |v| v.number(content.size));
    f.field(MIME_TYPE, |v| v.known(mime.unwrap_or_default(), message.head.is_plain()));
    text_or_base64(f, mime, &content);
    f.field(key!("truncated"), |v| v.boolean(content.truncated));
}

fn text_or_base64<'a, F>(f: &mut impl Fields, mime: Option<&[u8]>, content: &LazyCell<Content<'a>, F>)
where
    F: FnOnce() -> Content<'a>,
{
    let text = LazyCell::new(|| http::text(mime, &content.bytes, content.truncated));
    f.field(key!("encoding"), |v| match &*text {
        http::Text::Text(_) => v.word(word!("")),
        http::Text::Binary(_) => v.word(word!("base64")),
    });
    f.field(key!("text"), |v| match &*text {
        http::Text::Text(text) => v.text(text.as_bytes()),
        http::Text::Binary(bytes) => v.plain(BASE64.encode(bytes).as_bytes()),
    });
}
