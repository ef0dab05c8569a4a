//! Names read from an item in memory: only what is asked for is looked at, and only odd things are copied.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::OnceLock;

use agent_core::Record;
use agent_core::item::http_view::{self as http, Target, Text};
use agent_core::item::{
    Body, Common, Content, Endpoint, HeaderBlock, HttpExchange, Message as HttpMessage, Request, Response,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::names::{Field, Message, Name, Side};
use super::source::{Plain, Source};
use super::value::{Datum, lossless};
use crate::captured::{Captured, Name as EndName, Source as Origin};
use crate::view::{ItemView, MOST};

/// An item as `view` shows it: what is redacted there is redacted here.
pub(super) struct Native<'a> {
    captured: &'a Captured,
    exchange: &'a HttpExchange,
    view: &'a ItemView,
    /// Of request and response, where they had to be decoded: once for all that the filter asks of them.
    decoded: [OnceLock<Content<'a>>; 2],
}

impl<'a> Native<'a> {
    pub(super) fn new(captured: &'a Captured, view: &'a ItemView) -> Option<Self> {
        let Record::Http(exchange) = &captured.item.record else { return None };
        Some(Self { captured, exchange, view, decoded: [const { OnceLock::new() }; 2] })
    }

    fn request(&self) -> Option<&'a Request> {
        self.exchange.request.as_ref()
    }

    fn response(&self) -> Option<&'a Response> {
        self.exchange.response.as_ref()
    }

    fn message(&self, which: Message) -> Option<&'a HttpMessage> {
        match which {
            Message::Request => self.request().map(|request| &request.message),
            Message::Response => self.response().map(|response| &response.message),
        }
    }

    fn end(&self, side: Side) -> (&'a Endpoint, &'a EndName) {
        let Captured { item, src, dst, .. } = self.captured;
        match side {
            Side::Src => (&item.client, src),
            Side::Dst => (&item.server, dst),
        }
    }

    fn target(&self) -> Option<Target<'a>> {
        self.request().map(|request| Target::parse(request.method(), request.target()))
    }

    /// From the first byte of the request to the last of the response, in nanoseconds.
    fn elapsed(&self) -> Option<u64> {
        let item = &self.captured.item;
        self.request().and(self.response())?;
        Some(item.finished.0.saturating_sub(item.started.0))
    }

    fn header(&self, head: &'a HeaderBlock, key: &str) -> Datum<'a> {
        let mut values = head.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()));
        let Some((name, value)) = values.next() else { return Datum::Missing };
        let hidden = self.view.redaction().hides(name);
        let shown = |value: &'a [u8]| if hidden { ItemView::HIDDEN } else { value };
        let Some((_, second)) = values.next() else { return Datum::bytes(shown(value)) };
        let glue: &[u8] = if name.eq_ignore_ascii_case(b"set-cookie") { b"\n" } else { b", " };
        let mut joined = [shown(value), glue, shown(second)].concat();
        for (_, value) in values {
            joined.extend_from_slice(glue);
            joined.extend_from_slice(shown(value));
        }
        Datum::owned(lossless(&joined).into_owned())
    }

    fn pairs(&self, field: Field) -> Option<Vec<(String, String)>> {
        let redaction = self.view.redaction();
        let (mut pairs, hidden) = match field {
            Field::Cookies(Message::Request) => {
                (http::cookies(&self.request()?.message.head, MOST), redaction.hides(b"cookie"))
            }
            Field::Cookies(Message::Response) => {
                let cookies = http::set_cookies(&self.response()?.message.head, MOST);
                let pairs = cookies.into_iter().map(|cookie| (cookie.name, cookie.value));
                (pairs.collect(), redaction.hides(b"set-cookie"))
            }
            _ => (http::query_pairs(self.target()?.query.unwrap_or_default(), MOST), false),
        };
        if hidden {
            let hidden = lossless(ItemView::HIDDEN);
            pairs.iter_mut().for_each(|(_, value)| *value = hidden.clone().into_owned());
        }
        Some(pairs)
    }

    /// At its path in the item's JSON, of which no more is made than that.
    fn deep(&self, name: &'static Name) -> Datum<'a> {
        let mut json = Vec::new();
        self.view.field_json(self.captured, name.path, &mut json);
        let Ok(value) = serde_json::from_slice::<Value>(&json) else { return Datum::Missing };
        let around = |value, key: &str| Value::Object(std::iter::once((key.to_owned(), value)).collect());
        let item = name.path.rsplit('.').fold(value, around);
        match Plain(&item).read(name) {
            Datum::Json(value) => Datum::Json(Cow::Owned(value.into_owned())),
            Datum::Text(text) => Datum::owned(text.into_owned()),
            Datum::Missing => Datum::Missing,
            Datum::Bool(value) => Datum::Bool(value),
            Datum::Int(value) => Datum::Int(value),
            Datum::Double(value) => Datum::Double(value),
            Datum::Time(value) => Datum::Time(value),
        }
    }

    /// Whether an object is there at all, without making its JSON.
    fn absent(&self, name: &Name) -> bool {
        let mut path = name.path.split('.');
        match (path.next(), path.next()) {
            (Some("request"), Some("postData")) => {
                self.request().is_none_or(|request| request.message.body.is_empty())
            }
            (Some("request"), _) => self.request().is_none(),
            (Some("response"), _) => self.response().is_none(),
            (Some("error"), _) => self.captured.item.error.is_none(),
            _ => false,
        }
    }

    /// What a body means, as [`Body::content`] has it.
    fn content(&self, which: Message) -> Option<(&[u8], u64, bool)> {
        let body: &'a Body = &self.message(which)?.body;
        if !body.is_coded() {
            return Some((&body.bytes, body.size, body.truncated));
        }
        let content = self.decoded[usize::from(which == Message::Response)].get_or_init(|| body.content());
        Some((&content.bytes, content.size, content.truncated))
    }

    fn body(&self, which: Message) -> Option<Datum<'_>> {
        let message = self.message(which)?;
        if which == Message::Request && message.body.is_empty() {
            return None;
        }
        let mime = message.head.common(Common::ContentType);
        let (bytes, _, truncated) = self.content(which)?;
        Some(match http::text(mime, bytes, truncated) {
            Text::Text(text) => Datum::Text(text),
            Text::Binary(bytes) => Datum::owned(BASE64.encode(bytes)),
        })
    }

    fn mime(&self, which: Message) -> Option<Datum<'a>> {
        let message = self.message(which)?;
        if which == Message::Request && message.body.is_empty() {
            return None;
        }
        Some(Datum::bytes(message.head.common(Common::ContentType).unwrap_or_default()))
    }

    /// What is told of a message.
    fn told(&self, field: Field) -> Option<Datum<'_>> {
        Some(match field {
            Field::WholeSize(which) => {
                let size = |m: &HttpMessage| u64::from(m.head_size) + m.body.size;
                Datum::unsigned(self.message(which).map_or(0, size))
            }
            Field::HeadersSize(which) => Datum::unsigned(self.message(which)?.head_size.into()),
            Field::BodySize(which) => Datum::unsigned(self.message(which)?.body.size),
            Field::HttpVersion(which) => version(self.message(which)?),
            Field::AnyVersion => version(self.message(Message::Request).or(self.message(Message::Response))?),
            Field::Method => Datum::bytes(self.request()?.method()),
            Field::Url => {
                let (item, request) = (&self.captured.item, self.request()?);
                let server = SocketAddr::new(item.server.addr, item.server.port).to_string();
                Datum::owned(http::absolute_url(request, item.tls, &server))
            }
            Field::Target => Datum::bytes(self.request()?.target()),
            Field::Path => Datum::bytes(self.target()?.path),
            Field::Segments => {
                let segments = http::path_segments(self.target()?.path);
                Datum::list(segments.map(|s| Value::from(lossless(s.as_bytes()).into_owned())))
            }
            Field::Status => Datum::Int(self.response()?.status.into()),
            Field::StatusText => Datum::bytes(self.response()?.reason()),
            Field::RedirectUrl => {
                Datum::bytes(self.response()?.message.head.common(Common::Location).unwrap_or_default())
            }
            Field::ContentSize => Datum::unsigned(self.content(Message::Response)?.1),
            Field::ContentTruncated => Datum::Bool(self.content(Message::Response)?.2),
            Field::ContentMime => self.mime(Message::Response)?,
            Field::ContentText => self.body(Message::Response)?,
            Field::PostMime => self.mime(Message::Request)?,
            Field::PostText => self.body(Message::Request)?,
            _ => return None,
        })
    }

    /// What is told of an end.
    fn ends(&self, field: Field) -> Option<Datum<'a>> {
        Some(match field {
            Field::Ip(side) => Datum::owned(self.end(side).0.addr.to_string()),
            Field::Port(side) => Datum::Int(self.end(side).0.port.into()),
            Field::PortText(side) => Datum::owned(self.end(side).0.port.to_string()),
            Field::Name(side) => match self.end(side).1.name() {
                Some(name) => Datum::text(name),
                None => Datum::owned(self.end(side).0.addr.to_string()),
            },
            Field::Namespace(side) => Datum::text(self.end(side).1.namespace()),
            Field::Pod(side) => Datum::text(self.end(side).1.pod()?),
            Field::Service(side) => Datum::text(self.end(side).1.service()?),
            Field::PodUid(side) => Datum::owned(self.end(side).1.pod_uid()?.to_string()),
            Field::ProcessId(side) => Datum::unsigned(self.end(side).1.process.as_ref()?.pid.into()),
            Field::ProcessName(side) => Datum::text(self.end(side).1.process.as_ref()?.name.as_deref()?),
            Field::Namespaces => self.both(|end| Some(end.namespace())),
            Field::Pods => self.both(EndName::pod),
            Field::Services => self.both(EndName::service),
            Field::ItemNamespace => Datum::text(self.captured.namespace()),
            _ => return None,
        })
    }

    fn both(&self, of: impl Fn(&'a EndName) -> Option<&'a str>) -> Datum<'a> {
        let ends = [&self.captured.src, &self.captured.dst];
        let mut found: Vec<&str> = ends.into_iter().filter_map(of).filter(|t| !t.is_empty()).collect();
        found.dedup();
        Datum::list(found.into_iter().map(Value::from))
    }

    fn capture(&self, field: Field) -> Option<Datum<'a>> {
        let (item, source) = (&self.captured.item, self.captured.source);
        Some(match field {
            Field::Source => Datum::text(source.as_str()),
            Field::SourceKfl if item.tls && source == Origin::Ebpf => Datum::text("ebpf_tls"),
            Field::SourceKfl | Field::Backend => Datum::text(source.as_str()),
            Field::Gaps => Datum::Int(item.gaps.into()),
            Field::Truncated => Datum::Bool(item.truncated),
            _ => return None,
        })
    }
}

impl Source for Native<'_> {
    fn read(&self, name: &'static Name) -> Datum<'_> {
        let Captured { item, node, .. } = self.captured;
        let found = match name.field {
            Field::Never => None,
            Field::Http | Field::Tcp => Some(Datum::Bool(true)),
            Field::Tls => Some(Datum::Bool(item.tls)),
            Field::Id => Some(Datum::owned(format!("{}-{}", item.stream, item.index))),
            Field::Index => Some(Datum::unsigned(item.index)),
            Field::Stream => Some(Datum::owned(item.stream.to_string())),
            Field::Worker => Some(Datum::Int(self.captured.worker.into())),
            Field::WorkerText => Some(Datum::owned(self.captured.worker.to_string())),
            Field::NodeName => Some(Datum::text(&node.name)),
            Field::NodeIp => Some(Datum::owned(node.ip.to_string())),
            Field::Abbr => Some(Datum::text("HTTP")),
            Field::ProtocolName => Some(Datum::text("http")),
            Field::ProtocolVersion => {
                let message = self.message(Message::Request).or(self.message(Message::Response));
                let minor = message.map_or(1, |message| message.minor_version);
                Some(Datum::text(if minor == 0 { "1.0" } else { "1.1" }))
            }
            Field::Layer4 => Some(Datum::text("tcp")),
            Field::Outgoing => Some(Datum::Bool(self.captured.outgoing)),
            // Scripts see milliseconds: so do filters.
            Field::Time => {
                let millis = i64::try_from(item.started.0 / 1_000_000).unwrap_or(i64::MAX);
                Some(Datum::Time(millis.saturating_mul(1_000_000)))
            }
            Field::TimeMillis => Some(Datum::unsigned(item.started.0 / 1_000_000)),
            Field::Micros => self.elapsed().map(|nanos| Datum::unsigned(nanos / 1000)),
            Field::Millis => self.elapsed().map(|nanos| Datum::Double(nanos as f64 / 1e6)),
            Field::ErrorType => item.error.as_ref().map(|error| Datum::text(error.kind.as_str())),
            Field::ErrorMsg => item.error.as_ref().map(|error| Datum::text(&error.msg)),
            Field::Headers(_) | Field::Cookies(_) | Field::Query | Field::QueryFirst | Field::Deep => {
                (!self.absent(name)).then(|| self.deep(name))
            }
            field => self.told(field).or_else(|| self.ends(field)).or_else(|| self.capture(field)),
        };
        found.unwrap_or(Datum::Missing)
    }

    fn member<'a>(&'a self, name: &'static Name, key: &str) -> (Datum<'a>, bool) {
        match name.field {
            Field::Headers(which) => match self.message(which) {
                Some(message) => (self.header(&message.head, key), true),
                None => (Datum::Missing, false),
            },
            Field::Cookies(_) | Field::Query | Field::QueryFirst => {
                let Some(pairs) = self.pairs(name.field) else { return (Datum::Missing, false) };
                let mut values = pairs.into_iter().filter(|(name, _)| name == key).map(|(_, value)| value);
                let Some(first) = values.next() else { return (Datum::Missing, true) };
                let rest: Vec<String> = values.collect();
                if rest.is_empty() || name.field == Field::QueryFirst {
                    return (Datum::owned(first), true);
                }
                (Datum::list(std::iter::once(first).chain(rest).map(Value::from)), true)
            }
            _ => (Datum::Missing, false),
        }
    }
}

fn version(message: &HttpMessage) -> Datum<'static> {
    Datum::text(if message.minor_version == 0 { "HTTP/1.0" } else { "HTTP/1.1" })
}
