//! What an item's fields are: the one description that its JSON text and the objects of scripts are made from
//! (`scripts/remora.d.ts` has the types).

use std::net::SocketAddr;

use agent_core::item::http_view::{self as http, Target};
use agent_core::item::{Endpoint, HttpExchange, Message, Request};
use agent_core::{Item, Record};

use super::item_text::ItemText;
use super::message::{MIME_TYPE, content, post_data};
use super::out::{Fields, Out, key, pieced};
use super::redact::{REDACTED, Redaction};
use super::spell;
use crate::captured::{Captured, Name};

/// How items are shown.
#[derive(Clone, Debug, Default)]
pub struct ItemView {
    pub(super) redaction: Redaction,
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

impl Part {
    /// The part that a script finds there.
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "" => Self::Item,
            "node" => Self::Node,
            "protocol" => Self::Protocol,
            "src" => Self::Source,
            "dst" => Self::Destination,
            "request" => Self::Request,
            "response" => Self::Response,
            "request.postData" => Self::PostData,
            "response.content" => Self::Content,
            "error" => Self::Error,
            "capture" => Self::Capture,
            _ => return None,
        })
    }
}

/// An item with the view that it is seen by.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(super) view: &'a ItemView,
    pub(super) captured: &'a Captured,
    pub(super) exchange: &'a HttpExchange,
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
        if let Some(shown) = self.show(captured) {
            ItemText::write(out, shown);
        }
    }

    /// Appends one field's value as JSON, or nothing where there is no such field. `path` as a script would write it:
    /// `response.content.size`. Of a body that the field does not show nothing is decoded.
    pub(crate) fn field_json(&self, captured: &Captured, path: &str, out: &mut Vec<u8>) {
        let (of, name) = path.rsplit_once('.').unwrap_or(("", path));
        if let (Some(shown), Some(part)) = (self.show(captured), Part::at(of)) {
            ItemText::write_field(out, shown, part, name);
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
        let item = &captured.item;
        match part {
            Part::Item => self.item(f),
            Part::Node => {
                f.field(key!("ip"), |v| v.ip(captured.node.ip));
                f.field(key!("name"), |v| v.text(captured.node.name.as_bytes()));
            }
            Part::Protocol => protocol(f, self.is_old()),
            Part::Source => end(f, &item.client, &captured.src),
            Part::Destination => end(f, &item.server, &captured.dst),
            Part::Request => exchange.request.iter().for_each(|request| self.request(f, request)),
            Part::Response => exchange.response.iter().for_each(|response| self.response(f, response)),
            Part::PostData => exchange.request.iter().for_each(|request| post_data(f, &request.message)),
            Part::Content => exchange.response.iter().for_each(|response| content(f, &response.message)),
            Part::Error => item.error.iter().for_each(|error| {
                f.field(key!("type"), |v| v.plain(error.kind.as_str().as_bytes()));
                f.field(key!("msg"), |v| v.text(error.msg.as_bytes()));
            }),
            Part::Capture => {
                f.field(key!("source"), |v| v.plain(captured.source.as_str().as_bytes()));
                f.field(key!("gaps"), |v| v.number(item.gaps.into()));
                f.field(key!("truncated"), |v| v.boolean(item.truncated));
            }
        }
    }

    /// Whether making one field of a part decodes a body, as all but its type do: it is then best to make all of them at once.
    pub(crate) fn decodes(&self, part: Part, name: &str) -> bool {
        let message = match part {
            Part::PostData => self.exchange.request.as_ref().map(|request| &request.message),
            Part::Content => self.exchange.response.as_ref().map(|response| &response.message),
            _ => None,
        };
        message.is_some_and(|message| message.body.is_coded()) && name != MIME_TYPE.name
    }

    fn item(&self, f: &mut impl Fields) {
        let (exchange, captured) = (self.exchange, self.captured);
        let item = &captured.item;
        f.field(key!("id"), |v| {
            v.spelt(|into| {
                let at = spell::stream(into, item.stream.0);
                into[at] = b'-';
                let mut index = [0; 64];
                let length = spell::digits(&mut index, item.index);
                into[at + 1..at + 1 + length].copy_from_slice(&index[..length]);
                at + 1 + length
            });
        });
        f.field(key!("index"), |v| v.number(item.index));
        f.of_stream(|f| self.stream(f));
        f.field(key!("timestamp"), |v| v.number(item.started.0 / 1_000_000));
        f.field(key!("startTime"), |v| v.time(item.started));
        f.field(key!("elapsedTime"), |v| {
            if exchange.request.is_some() && exchange.response.is_some() {
                v.milliseconds(item.finished.0.saturating_sub(item.started.0));
            } else {
                v.null();
            }
        });
        let (request, response) = (exchange.request.as_ref(), exchange.response.as_ref());
        f.field(key!("requestSize"), |v| v.number(request.map_or(0, |r| size(&r.message))));
        f.field(key!("responseSize"), |v| v.number(response.map_or(0, |r| size(&r.message))));
        f.field(key!("request"), |v| part_if(v, request.is_some(), Part::Request));
        f.field(key!("response"), |v| part_if(v, response.is_some(), Part::Response));
        f.field(key!("anomalies"), |v| {
            v.list(|v| {
                for anomaly in item.anomalies() {
                    v.map(|v| {
                        v.field(key!("type"), |v| v.plain(anomaly.kind.as_str().as_bytes()));
                        v.field(key!("msg"), |v| v.text(anomaly.msg.as_bytes()));
                    });
                }
            });
        });
        f.field(key!("error"), |v| part_if(v, item.error.is_some(), Part::Error));
        f.field(key!("capture"), |v| v.part(Part::Capture));
        f.field(key!("passed"), |v| v.boolean(false));
        f.field(key!("failed"), |v| v.boolean(false));
    }
}

impl Shown<'_> {
    /// What [`Fields::of_stream`] is for: nothing here may differ between two items unless it is a part of what they are told
    /// apart by, see [`super::kept`].
    fn stream(&self, f: &mut impl Fields) {
        let captured = self.captured;
        let stream = captured.item.stream.0;
        f.field(key!("stream"), |v| v.spelt(|into| spell::stream(into, stream)));
        f.field(key!("node"), |v| v.part(Part::Node));
        f.field(key!("worker"), |v| v.number(captured.worker.into()));
        f.field(key!("protocol"), |v| v.part(Part::Protocol));
        f.field(key!("tls"), |v| v.boolean(captured.item.tls));
        f.field(key!("src"), |v| v.part(Part::Source));
        f.field(key!("dst"), |v| v.part(Part::Destination));
        f.field(key!("namespace"), |v| v.text(captured.namespace().as_bytes()));
        f.field(key!("outgoing"), |v| v.boolean(captured.outgoing));
    }

    /// Whether it is HTTP/1.0.
    pub(super) fn is_old(&self) -> bool {
        let HttpExchange { request, response, .. } = self.exchange;
        let request = request.as_ref().map(|request| &request.message);
        let message = request.or(response.as_ref().map(|response| &response.message));
        message.is_some_and(|message| message.minor_version == 0)
    }
}

pub(super) fn part_if(v: &mut impl Out, there: bool, part: Part) {
    if there { v.part(part) } else { v.null() }
}

/// The request's URL; where it names no host, the server's address stands for it.
pub(super) fn url(item: &Item, request: &Request) -> String {
    url_pieces(item, request, &Target::parse(request.method(), request.target()), pieced)
}

/// The same in pieces.
pub(super) fn url_pieces<T>(
    item: &Item,
    request: &Request,
    target: &Target<'_>,
    take: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    let http::UrlParts { scheme, host, slash, rest } = http::url_parts(request, target, item.tls);
    let (scheme, slash) = (scheme.as_bytes(), slash.as_bytes());
    match host {
        Some(host) => take(&[scheme, host, slash, rest]),
        None => {
            let server = SocketAddr::new(item.server.addr, item.server.port).to_string();
            take(&[scheme, server.as_bytes(), slash, rest])
        }
    }
}

fn end(f: &mut impl Fields, end: &Endpoint, name: &Name) {
    f.field(key!("ip"), |v| v.ip(end.addr));
    f.field(key!("port"), |v| v.spelt(|into| spell::digits(into, end.port.into())));
    f.field(key!("name"), |v| match name.name() {
        Some(name) => v.text(name.as_bytes()),
        None => v.ip(end.addr),
    });
    f.field(key!("namespace"), |v| v.text(name.namespace().as_bytes()));
    if let Some(pod) = name.pod() {
        f.field(key!("pod"), |v| v.text(pod.as_bytes()));
    }
    if let Some(uid) = name.pod_uid() {
        f.field(key!("podUid"), |v| v.text(uid.to_string().as_bytes()));
    }
    if let Some(service) = name.service() {
        f.field(key!("service"), |v| v.text(service.as_bytes()));
    }
    if let Some(process) = &name.process {
        f.field(key!("processId"), |v| v.number(process.pid.into()));
        if let Some(name) = &process.name {
            f.field(key!("processName"), |v| v.text(name.as_bytes()));
        }
    }
    if let Some(container) = name.container_id() {
        f.field(key!("containerId"), |v| v.text(container.as_bytes()));
    }
    // The socket's, as its packets tell it; the process', where only that is known.
    let cgroup = name.process.as_ref().map_or(0, |process| process.cgroup_id);
    match if end.cgroup != 0 { end.cgroup } else { cgroup } {
        0 => {}
        id => f.field(key!("cgroupId"), |v| v.number(id)),
    }
}

fn protocol(f: &mut impl Fields, old: bool) {
    f.field(key!("name"), |v| v.plain(b"http"));
    f.field(key!("version"), |v| v.plain(if old { b"1.0" } else { b"1.1" }));
    f.field(key!("abbr"), |v| v.plain(b"HTTP"));
    f.field(key!("longName"), |v| {
        let name: &[u8] = if old {
            b"Hypertext Transfer Protocol -- HTTP/1.0"
        } else {
            b"Hypertext Transfer Protocol -- HTTP/1.1"
        };
        v.plain(name);
    });
    f.field(key!("layer4"), |v| v.plain(b"tcp"));
}

fn size(message: &Message) -> u64 {
    u64::from(message.head_size) + message.body.size
}
