//! The names that a filter may use: KFL2's and the item's own. The table of `docs/kfl.md` is made from this one.
//!
//! Invariants:
//! - A name of KFL2 takes KFL2's default where the item has nothing ("" 0 false [] {}); a path of the item is missing there.
//! - What Kubeshark has and items do not (DNS, Redis, …) is known, and always has its default.
//! - A name with `#` cannot be written: it is another reading of the name before it, taken where the other side asks for it.

/// What type of value a name has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Bool,
    Int,
    Double,
    Text,
    Time,
    List,
    Map,
    Object,
}

impl Kind {
    /// As a person says it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::Time => "timestamp",
            Self::List => "list",
            Self::Map => "map",
            Self::Object => "object",
        }
    }
}

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Src,
    Dst,
}

/// Which message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    Request,
    Response,
}

/// How a name is read from an item in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    /// Items never have it.
    Never,
    Http,
    Tcp,
    Tls,
    Id,
    Index,
    Stream,
    Worker,
    WorkerText,
    NodeName,
    NodeIp,
    Abbr,
    ProtocolName,
    ProtocolVersion,
    Layer4,
    Ip(Side),
    Port(Side),
    PortText(Side),
    Name(Side),
    Namespace(Side),
    Pod(Side),
    PodUid(Side),
    Service(Side),
    ProcessId(Side),
    ProcessName(Side),
    ItemNamespace,
    Namespaces,
    Pods,
    Services,
    Outgoing,
    Time,
    TimeMillis,
    Micros,
    Millis,
    WholeSize(Message),
    HeadersSize(Message),
    BodySize(Message),
    HttpVersion(Message),
    /// KFL2's: the request's, else the response's.
    AnyVersion,
    Headers(Message),
    Cookies(Message),
    Query,
    /// KFL2's map: of a repeated name the first value.
    QueryFirst,
    Method,
    Url,
    Target,
    Path,
    Segments,
    Status,
    StatusText,
    RedirectUrl,
    ContentSize,
    ContentMime,
    ContentText,
    ContentTruncated,
    PostMime,
    PostText,
    ErrorType,
    ErrorMsg,
    Source,
    /// KFL2's word for it.
    SourceKfl,
    Backend,
    Gaps,
    Truncated,
    /// Read out of the item's JSON, at this name's path.
    Deep,
}

/// A name.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) field: Field,
    /// Where it is in the item as scripts see it; "" for what is nowhere in it.
    pub(super) path: &'static str,
    /// Whether it is one of KFL2's, which have a default.
    pub(super) kfl2: bool,
}

pub(super) const fn kfl2(name: &'static str, kind: Kind, field: Field, path: &'static str) -> Name {
    Name { name, kind, field, path, kfl2: true }
}

const fn own(name: &'static str, kind: Kind, field: Field) -> Name {
    Name { name, kind, field, path: name, kfl2: false }
}

const fn other(name: &'static str, kind: Kind, field: Field, path: &'static str) -> Name {
    Name { name, kind, field, path, kfl2: false }
}

pub(super) use super::never::NEVER;
use Field as F;
use Kind::{Bool, Double, Int, List, Map, Object, Text, Time};
use Message::{Request, Response};
use Side::{Dst, Src};

/// All names that items have something for.
pub(super) static NAMES: &[Name] = &[
    kfl2("http", Bool, F::Http, "protocol.name"),
    kfl2("tcp", Bool, F::Tcp, "protocol.layer4"),
    kfl2("tls", Bool, F::Tls, "tls"),
    kfl2("protocol", Text, F::Abbr, "protocol.abbr"),
    kfl2("method", Text, F::Method, "request.method"),
    kfl2("url", Text, F::Target, "request.target"),
    kfl2("path", Text, F::Path, "request.path"),
    kfl2("status_code", Int, F::Status, "response.status"),
    kfl2("http_version", Text, F::AnyVersion, "request.httpVersion"),
    kfl2("query_string", Map, F::QueryFirst, "request.queryString"),
    kfl2("request.headers", Map, F::Headers(Request), "request.headers"),
    kfl2("response.headers", Map, F::Headers(Response), "response.headers"),
    kfl2("request_headers", Map, F::Headers(Request), "request.headers"),
    kfl2("response_headers", Map, F::Headers(Response), "response.headers"),
    kfl2("request.cookies", Map, F::Cookies(Request), "request.cookies"),
    kfl2("response.cookies", Map, F::Cookies(Response), "response.cookies"),
    kfl2("request_headers_size", Int, F::HeadersSize(Request), "request.headersSize"),
    kfl2("response_headers_size", Int, F::HeadersSize(Response), "response.headersSize"),
    kfl2("request_body_size", Int, F::BodySize(Request), "request.bodySize"),
    kfl2("response_body_size", Int, F::BodySize(Response), "response.bodySize"),
    kfl2("request_size", Int, F::WholeSize(Request), "requestSize"),
    kfl2("response_size", Int, F::WholeSize(Response), "responseSize"),
    kfl2("elapsed_time", Int, F::Micros, "elapsedTime"),
    kfl2("timestamp", Time, F::Time, "timestamp"),
    other("timestamp#number", Int, F::TimeMillis, "timestamp"),
    kfl2("src.ip", Text, F::Ip(Src), "src.ip"),
    kfl2("dst.ip", Text, F::Ip(Dst), "dst.ip"),
    kfl2("src.port", Int, F::Port(Src), "src.port"),
    kfl2("dst.port", Int, F::Port(Dst), "dst.port"),
    other("src.port#text", Text, F::PortText(Src), "src.port"),
    other("dst.port#text", Text, F::PortText(Dst), "dst.port"),
    kfl2("src.name", Text, F::Name(Src), "src.name"),
    kfl2("dst.name", Text, F::Name(Dst), "dst.name"),
    kfl2("src.namespace", Text, F::Namespace(Src), "src.namespace"),
    kfl2("dst.namespace", Text, F::Namespace(Dst), "dst.namespace"),
    kfl2("src.pod.name", Text, F::Pod(Src), "src.pod"),
    kfl2("dst.pod.name", Text, F::Pod(Dst), "dst.pod"),
    kfl2("src.pod.namespace", Text, F::Namespace(Src), "src.namespace"),
    kfl2("dst.pod.namespace", Text, F::Namespace(Dst), "dst.namespace"),
    kfl2("src.service.name", Text, F::Service(Src), "src.service"),
    kfl2("dst.service.name", Text, F::Service(Dst), "dst.service"),
    kfl2("src.service.namespace", Text, F::Namespace(Src), "src.namespace"),
    kfl2("dst.service.namespace", Text, F::Namespace(Dst), "dst.namespace"),
    kfl2("local_process_name", Text, F::ProcessName(Src), "src.processName"),
    kfl2("remote_process_name", Text, F::ProcessName(Dst), "dst.processName"),
    kfl2("namespaces", List, F::Namespaces, "src.namespace"),
    kfl2("pods", List, F::Pods, "src.pod"),
    kfl2("services", List, F::Services, "src.service"),
    kfl2("namespace", Text, F::ItemNamespace, "namespace"),
    kfl2("node_name", Text, F::NodeName, "node.name"),
    kfl2("node_ip", Text, F::NodeIp, "node.ip"),
    kfl2("stream", Text, F::Stream, "stream"),
    kfl2("index", Int, F::Index, "index"),
    kfl2("worker", Int, F::Worker, "worker"),
    other("worker#text", Text, F::WorkerText, "worker"),
    kfl2("capture_source", Text, F::SourceKfl, "capture.source"),
    kfl2("capture_backend", Text, F::Backend, "capture.source"),
    own("id", Text, F::Id),
    own("node", Object, F::Deep),
    own("node.name", Text, F::NodeName),
    own("node.ip", Text, F::NodeIp),
    own("protocol.name", Text, F::ProtocolName),
    own("protocol.version", Text, F::ProtocolVersion),
    own("protocol.abbr", Text, F::Abbr),
    own("protocol.longName", Text, F::Deep),
    own("protocol.layer4", Text, F::Layer4),
    own("src", Object, F::Deep),
    own("dst", Object, F::Deep),
    own("src.pod", Text, F::Pod(Src)),
    own("dst.pod", Text, F::Pod(Dst)),
    own("src.podUid", Text, F::PodUid(Src)),
    own("dst.podUid", Text, F::PodUid(Dst)),
    own("src.service", Text, F::Service(Src)),
    own("dst.service", Text, F::Service(Dst)),
    own("src.processId", Int, F::ProcessId(Src)),
    own("dst.processId", Int, F::ProcessId(Dst)),
    own("src.processName", Text, F::ProcessName(Src)),
    own("dst.processName", Text, F::ProcessName(Dst)),
    own("src.containerId", Text, F::Deep),
    own("dst.containerId", Text, F::Deep),
    own("src.cgroupId", Int, F::Deep),
    own("dst.cgroupId", Int, F::Deep),
    own("outgoing", Bool, F::Outgoing),
    own("startTime", Text, F::Deep),
    own("elapsedTime", Double, F::Millis),
    own("requestSize", Int, F::WholeSize(Request)),
    own("responseSize", Int, F::WholeSize(Response)),
    own("request", Object, F::Deep),
    own("request.method", Text, F::Method),
    own("request.url", Text, F::Url),
    own("request.target", Text, F::Target),
    own("request.path", Text, F::Path),
    own("request.pathSegments", List, F::Segments),
    own("request.httpVersion", Text, F::HttpVersion(Request)),
    own("request.headersList", List, F::Deep),
    own("request.trailersList", List, F::Deep),
    own("request.queryString", Map, F::Query),
    own("request.postData", Object, F::Deep),
    own("request.postData.mimeType", Text, F::PostMime),
    own("request.postData.params", List, F::Deep),
    own("request.postData.encoding", Text, F::Deep),
    own("request.postData.text", Text, F::PostText),
    own("request.postData.truncated", Bool, F::Deep),
    own("request.headersSize", Int, F::HeadersSize(Request)),
    own("request.bodySize", Int, F::BodySize(Request)),
    own("request.bodySha256", Text, F::Deep),
    own("response", Object, F::Deep),
    own("response.status", Int, F::Status),
    own("response.statusText", Text, F::StatusText),
    own("response.httpVersion", Text, F::HttpVersion(Response)),
    own("response.interim", List, F::Deep),
    own("response.headersList", List, F::Deep),
    own("response.trailersList", List, F::Deep),
    own("response.content", Object, F::Deep),
    own("response.content.size", Int, F::ContentSize),
    own("response.content.mimeType", Text, F::ContentMime),
    own("response.content.encoding", Text, F::Deep),
    own("response.content.text", Text, F::ContentText),
    own("response.content.truncated", Bool, F::ContentTruncated),
    own("response.redirectURL", Text, F::RedirectUrl),
    own("response.headersSize", Int, F::HeadersSize(Response)),
    own("response.bodySize", Int, F::BodySize(Response)),
    own("response.bodySha256", Text, F::Deep),
    own("anomalies", List, F::Deep),
    own("error", Object, F::Deep),
    own("error.type", Text, F::ErrorType),
    own("error.msg", Text, F::ErrorMsg),
    own("capture", Object, F::Deep),
    own("capture.source", Text, F::Source),
    own("capture.gaps", Int, F::Gaps),
    own("capture.truncated", Bool, F::Truncated),
    own("passed", Bool, F::Deep),
    own("failed", Bool, F::Deep),
];

/// Every name.
pub(super) fn all() -> impl Iterator<Item = &'static Name> {
    NAMES.iter().chain(NEVER.into_iter().flatten())
}

/// The name as written.
pub(super) fn find(name: &str) -> Option<&'static Name> {
    all().find(|known| known.name == name)
}

/// Another reading of a name: `src.port#text`.
pub(super) fn reading(name: &Name, as_kind: Kind) -> Option<&'static Name> {
    let hidden = all().find(|known| known.name.split_once('#').is_some_and(|(of, _)| of == name.name));
    hidden.filter(|hidden| hidden.kind == as_kind)
}

/// What may have been meant: the nearest of `known`, if it is near.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| text.to_ascii_lowercase().replace(['_', '.'], "");
    let folded = fold(written);
    let allowed = (folded.chars().count() / 3).clamp(1, 4);
    let best = known
        .filter(|name| !name.contains('#'))
        .map(|name| (distance(&folded, &fold(name)), name))
        .min_by_key(|&(folded, name)| (folded, distance(written, name), name.len()));
    best.filter(|&(distance, _)| distance <= allowed).map(|(_, name)| name)
}

/// Levenshtein's distance, of the first 40 characters.
fn distance(a: &str, b: &str) -> usize {
    const MOST: usize = 40;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(MOST).collect(), b.chars().take(MOST).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_for_two_things() {
        let mut names: Vec<_> = all().map(|name| name.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(!names.contains(&""));
    }

    #[test]
    fn the_nearest_name_is_offered() {
        let near = |written| nearest(written, all().map(|name| name.name));
        assert_eq!(near("statuscode"), Some("status_code"));
        assert_eq!(near("response.stauts"), Some("response.status"));
        assert_eq!(near("src.pod.nmae"), Some("src.pod.name"));
        assert_eq!(near("elapsed_tme"), Some("elapsed_time"));
        assert_eq!(near("xylophone"), None);
    }
}
