//! The parts of a request-target (RFC 9112 section 3.2).

use std::borrow::Cow;

use super::split_once;
use crate::item::{Common, Request};

/// A request-target, taken apart. Everything is as sent, without decoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Target<'a> {
    /// Scheme of the absolute-form.
    pub scheme: Option<&'a [u8]>,
    /// Authority of the absolute-form and the authority-form.
    pub authority: Option<&'a [u8]>,
    /// Path; `*` for the asterisk-form, empty for the authority-form.
    pub path: &'a [u8],
    /// Query without its question mark.
    pub query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Takes the target of a request with this method apart.
    #[must_use]
    pub fn parse(method: &[u8], target: &'a [u8]) -> Self {
        if method == b"CONNECT" && !target.starts_with(b"/") {
            return Self { authority: Some(target), ..Self::default() };
        }
        // Most targets begin with a slash, and then no scheme does.
        let colon = if target.starts_with(b"/") { None } else { memchr::memmem::find(target, b"://") };
        let (scheme, authority, rest) = match colon {
            Some(at)
                if at > 0
                    && target[..at].iter().all(|&b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
            {
                let after = &target[at + 3..];
                let end = after.iter().position(|b| b"/?#".contains(b)).unwrap_or(after.len());
                (Some(&target[..at]), Some(&after[..end]), &after[end..])
            }
            _ => (None, None, target),
        };
        let rest = split_once(rest, b'#').map_or(rest, |(before, _)| before);
        let (path, query) = split_once(rest, b'?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let path = if path.is_empty() && authority.is_some() { b"/" } else { path };
        Self { scheme, authority, path, query }
    }
}

/// The path's segments, as sent; empty ones at its ends left out. Bytes that are not UTF-8 are replaced.
pub fn path_segments(path: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    raw_segments(path).map(String::from_utf8_lossy)
}

/// The same as bytes.
pub fn raw_segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let segments = (!path.is_empty()).then(|| path.split(|&b| b == b'/'));
    segments.into_iter().flatten()
}

/// Whom the request is for: authority of the target, else the `Host` field (RFC 9112 section 3.2.2).
#[must_use]
pub fn host(request: &Request) -> Option<&[u8]> {
    host_of(&Target::parse(request.method(), request.target()), request)
}

#[inline]
fn host_of<'a>(target: &Target<'a>, request: &'a Request) -> Option<&'a [u8]> {
    let host = target.authority.or_else(|| request.message.head.common(Common::Host))?;
    let host = memchr::memrchr(b'@', host).map_or(host, |at| &host[at + 1..]);
    Some(host).filter(|host| !host.is_empty())
}

/// An absolute URL in pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UrlParts<'a> {
    /// Scheme and slashes; empty where the target has them.
    pub scheme: &'static str,
    /// Host and port; `None`: the request names none.
    pub host: Option<&'a [u8]>,
    /// What stands before `rest`: a slash, or nothing.
    pub slash: &'static str,
    /// The request-target, or nothing.
    pub rest: &'a [u8],
}

/// The absolute URL of a request with this target: scheme by `tls` unless the target has one, host from the request.
#[must_use]
pub fn url_parts<'a>(request: &'a Request, target: &Target<'a>, tls: bool) -> UrlParts<'a> {
    if target.scheme.is_some() {
        return UrlParts { scheme: "", host: Some(b""), slash: "", rest: request.target() };
    }
    // Neither asterisk-form nor authority-form has a path.
    let rest = if target.path == b"*" || target.authority.is_some() { b"" } else { request.target() };
    UrlParts {
        scheme: if tls { "https://" } else { "http://" },
        host: host_of(target, request),
        slash: if rest.is_empty() || rest.starts_with(b"/") { "" } else { "/" },
        rest,
    }
}

/// [`url_parts`] put together, with `fallback` (such as `10.0.0.1:80`) for a host that is not named. Bytes that are not UTF-8
/// are replaced.
#[must_use]
pub fn absolute_url(request: &Request, tls: bool, fallback: &str) -> String {
    let target = Target::parse(request.method(), request.target());
    let UrlParts { scheme, host, slash, rest } = url_parts(request, &target, tls);
    let host = String::from_utf8_lossy(host.unwrap_or(fallback.as_bytes()));
    format!("{scheme}{host}{slash}{}", String::from_utf8_lossy(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{HeaderBlock, Message, Span};

    fn request(method: &str, target: &str, host: Option<&str>) -> Request {
        let mut buffer = Vec::new();
        let mut put = |text: &str| {
            let start = u32::try_from(buffer.len()).unwrap();
            buffer.extend_from_slice(text.as_bytes());
            Span { start, end: u32::try_from(buffer.len()).unwrap() }
        };
        let (method, target) = (put(method), put(target));
        let fields = host.map(|h| (put("Host"), put(h))).into_iter().collect();
        let head = HeaderBlock::new(buffer.into(), fields);
        Request { method, target, message: Message { head, ..Message::default() } }
    }

    #[test]
    fn forms() {
        for (method, target, authority, path, query) in [
            ("GET", "/a/b?c=d?e", None, "/a/b", Some("c=d?e")),
            ("GET", "/a?", None, "/a", Some("")),
            ("GET", "http://h:1/a?b#c", Some("h:1"), "/a", Some("b")),
            ("GET", "http://h?b", Some("h"), "/", Some("b")),
            ("GET", "/redirect?to=http://x/", None, "/redirect", Some("to=http://x/")),
            ("OPTIONS", "*", None, "*", None),
            ("CONNECT", "h:443", Some("h:443"), "", None),
        ] {
            let t = Target::parse(method.as_bytes(), target.as_bytes());
            let got = (t.authority, t.path, t.query);
            assert_eq!(
                got,
                (authority.map(str::as_bytes), path.as_bytes(), query.map(str::as_bytes)),
                "{target}"
            );
        }
    }

    #[test]
    fn segments() {
        assert!(path_segments(b"/a/b%20c//d/").eq(["a", "b%20c", "", "d"]));
        assert_eq!(path_segments(b"/").chain(path_segments(b"")).count(), 0);
    }

    #[test]
    fn urls_and_hosts() {
        for (method, target, host_field, tls, url, name) in [
            ("GET", "/a?b", Some("shop:80"), false, "http://shop:80/a?b", Some("shop:80")),
            ("GET", "/a", None, true, "https://10.0.0.1:443/a", None),
            ("GET", "http://x/y", Some("shop"), true, "http://x/y", Some("x")),
            ("GET", "http://u:p@x/y", None, false, "http://u:p@x/y", Some("x")),
            ("OPTIONS", "*", Some("shop"), false, "http://shop", Some("shop")),
            ("CONNECT", "h:443", Some("other"), false, "http://h:443", Some("h:443")),
            ("GET", "odd", Some(""), false, "http://10.0.0.1:443/odd", None),
        ] {
            let request = request(method, target, host_field);
            assert_eq!(absolute_url(&request, tls, "10.0.0.1:443"), url);
            assert_eq!(host(&request), name.map(str::as_bytes), "{target}");
        }
    }
}
