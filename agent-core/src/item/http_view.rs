//! What views of an HTTP message show besides its bytes: the parts of a target, queries, cookies, forms, text.
//!
//! Pure functions over borrowed bytes. They take whatever was sent: what cannot be decoded is left as it is, and lists are
//! bounded by the caller.

mod form;
mod target;
mod text;

pub use form::{Param, form_params, multipart_params, query, query_pairs};
pub use target::{Target, UrlParts, absolute_url, host, path_segments, raw_segments, url_parts};
pub use text::{Text, charset, mime_type, parameter, text};

use super::{Common, HeaderBlock};

/// A cookie that a response sets (RFC 6265 section 4.1).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetCookie {
    /// Name.
    pub name: String,
    /// Value, quotes kept.
    pub value: String,
    /// `Path`.
    pub path: Option<String>,
    /// `Domain`.
    pub domain: Option<String>,
    /// `Expires`, as sent.
    pub expires: Option<String>,
    /// `Max-Age`, as sent.
    pub max_age: Option<String>,
    /// `SameSite`.
    pub same_site: Option<String>,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `Secure`.
    pub secure: bool,
}

/// Names and values of the cookies that a request carries (RFC 6265 section 4.2), at most `limit`.
#[must_use]
pub fn cookies(fields: &HeaderBlock, limit: usize) -> Vec<(String, String)> {
    if !fields.has(Common::Cookie) {
        return Vec::new();
    }
    let values = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
    values
        .flat_map(|(_, value)| value.split(|&b| b == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
        .map(name_value)
        .take(limit)
        .collect()
}

/// The cookies that a response sets, at most `limit`.
#[must_use]
pub fn set_cookies(fields: &HeaderBlock, limit: usize) -> Vec<SetCookie> {
    if !fields.has(Common::SetCookie) {
        return Vec::new();
    }
    let values = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"set-cookie"));
    values.map(|(_, value)| set_cookie(value)).take(limit).collect()
}

fn set_cookie(field: &[u8]) -> SetCookie {
    let mut parts = field.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let (name, value) = parts.next().map(name_value).unwrap_or_default();
    let mut cookie = SetCookie { name, value, ..SetCookie::default() };
    for part in parts {
        let (name, value) = name_value(part);
        match name.to_ascii_lowercase().as_str() {
            "path" => cookie.path = Some(value),
            "domain" => cookie.domain = Some(value),
            "expires" => cookie.expires = Some(value),
            "max-age" => cookie.max_age = Some(value),
            "samesite" => cookie.same_site = Some(value),
            "httponly" => cookie.http_only = true,
            "secure" => cookie.secure = true,
            _ => {}
        }
    }
    cookie
}

fn name_value(pair: &[u8]) -> (String, String) {
    let (name, value) = split_once(pair, b'=').unwrap_or((pair, b""));
    (lossy(name.trim_ascii()), lossy(value.trim_ascii()))
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    memchr::memchr(at, bytes).map(|i| (&bytes[..i], &bytes[i + 1..]))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Span;

    fn block(fields: &[(&str, &str)]) -> HeaderBlock {
        let mut buffer = Vec::new();
        let mut put = |text: &str| {
            let start = u32::try_from(buffer.len()).unwrap();
            buffer.extend_from_slice(text.as_bytes());
            Span { start, end: u32::try_from(buffer.len()).unwrap() }
        };
        let spans = fields.iter().map(|(n, v)| (put(n), put(v))).collect();
        HeaderBlock::new(buffer.into(), spans)
    }

    #[test]
    fn cookies_of_both_kinds() {
        let request = block(&[("Cookie", "a=1; b=\"x=y\";; lone ; =v"), ("cookie", "c=3")]);
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let all = [pair("a", "1"), pair("b", "\"x=y\""), pair("lone", ""), pair("", "v"), pair("c", "3")];
        assert_eq!(cookies(&request, 100), all);
        assert_eq!(cookies(&request, 2), all[..2]);
        let response = block(&[
            (
                "Set-Cookie",
                "id=7; Path=/a; HTTPONLY; Secure; SameSite=Lax; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=5",
            ),
            ("set-cookie", ""),
        ]);
        let set = set_cookies(&response, 100);
        assert_eq!((set.len(), set[0].name.as_str(), set[0].value.as_str()), (2, "id", "7"));
        assert!(set[0].http_only && set[0].secure && !set[1].secure);
        assert_eq!(set[0].expires.as_deref(), Some("Wed, 21 Oct 2026 07:28:00 GMT"));
        assert_eq!((set[0].path.as_deref(), set[0].same_site.as_deref()), (Some("/a"), Some("Lax")));
    }
}
