//! Names and values: queries, `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578) bodies.

use std::borrow::Cow;

use super::text::{parameter, text};
use super::{Text, lossy, split_once};

/// One parameter of a posted form.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Param {
    /// Name.
    pub name: String,
    /// Value; none for a file and for a part that is no text.
    pub value: Option<String>,
    /// Name of the file.
    pub file_name: Option<String>,
    /// Media type of the part.
    pub content_type: Option<String>,
}

/// Pairs of a query, in order, percent-decoded, `+` as a space, at most `limit`. Bytes that are not UTF-8 are replaced.
#[must_use]
pub fn query_pairs(query: &[u8], limit: usize) -> Vec<(String, String)> {
    self::query(query, limit).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// The same, one after the other.
pub fn query(query: &[u8], limit: usize) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split(|&b| b == b'&').filter(|pair| !pair.is_empty()).take(limit).map(|pair| {
        let (name, value) = split_once(pair, b'=').unwrap_or((pair, b""));
        (percent_decoded(name), percent_decoded(value))
    })
}

/// The parameters of an `application/x-www-form-urlencoded` body, at most `limit`.
#[must_use]
pub fn form_params(body: &[u8], limit: usize) -> Vec<Param> {
    let pairs = query_pairs(body.trim_ascii(), limit);
    pairs.into_iter().map(|(name, value)| Param { name, value: Some(value), ..Param::default() }).collect()
}

fn percent_decoded(text: &[u8]) -> Cow<'_, str> {
    if memchr::memchr2(b'+', b'%', text).is_none() {
        return std::str::from_utf8(text).map_or_else(|_| lossy(text).into(), Cow::Borrowed);
    }
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&b) = text.get(at) {
        at += 1;
        let byte = match b {
            b'+' => b' ',
            b'%' => {
                let pair =
                    text.get(at).zip(text.get(at + 1)).and_then(|(&h, &l)| Some(hex(h)? << 4 | hex(l)?));
                at += if pair.is_some() { 2 } else { 0 };
                pair.unwrap_or(b'%')
            }
            _ => b,
        };
        out.push(byte);
    }
    String::from_utf8(out).unwrap_or_else(|e| lossy(e.as_bytes())).into()
}

/// The parts of a `multipart/form-data` body, at most `limit`; none if `content_type` names no boundary. The last part of a
/// body that was cut is left out.
#[must_use]
pub fn multipart_params(content_type: &[u8], body: &[u8], limit: usize) -> Option<Vec<Param>> {
    let boundary = parameter(content_type, "boundary").filter(|b| !b.is_empty())?;
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let finder = memchr::memmem::Finder::new(&delimiter);
    let mut params = Vec::new();
    let mut rest = &body[finder.find(body)? + delimiter.len()..];
    while params.len() < limit && !rest.starts_with(b"--") {
        let Some(end) = delimiter_at(rest, &finder) else { break };
        params.extend(part(&rest[..end]));
        rest = &rest[end + delimiter.len()..];
    }
    Some(params)
}

/// The next delimiter that begins a line.
fn delimiter_at(rest: &[u8], finder: &memchr::memmem::Finder<'_>) -> Option<usize> {
    finder.find_iter(rest).find(|&at| at > 0 && rest[at - 1] == b'\n')
}

/// A part: what is between two delimiters, line ends included.
fn part(bytes: &[u8]) -> Option<Param> {
    let bytes = &bytes[memchr::memchr(b'\n', bytes)? + 1..];
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |b| b.strip_suffix(b"\r").unwrap_or(b));
    let mut param = Param::default();
    let mut rest = bytes;
    while let Some((line, after)) = split_once(rest, b'\n') {
        rest = after;
        let line = line.trim_ascii();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = split_once(line, b':') else { continue };
        if name.eq_ignore_ascii_case(b"content-disposition") {
            param.name = parameter(value, "name").unwrap_or_default();
            param.file_name = parameter(value, "filename");
        } else if name.eq_ignore_ascii_case(b"content-type") {
            param.content_type = Some(lossy(value.trim_ascii()));
        }
    }
    if param.file_name.is_none()
        && let Text::Text(value) = text(param.content_type.as_ref().map(String::as_bytes), rest, false)
    {
        param.value = Some(value.into_owned());
    }
    Some(param)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let pairs = query_pairs(b"a=1&b=x%20y+z&&c&a=%C3%BC&bad=%zz%4&d==", 100);
        let want = [("a", "1"), ("b", "x y z"), ("c", ""), ("a", "\u{fc}"), ("bad", "%zz%4"), ("d", "=")];
        assert_eq!(pairs, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(query_pairs(b"a&b&c", 2).len(), 2);
        assert_eq!(query_pairs(b"a=%ff", 2)[0].1, "\u{fffd}");
    }

    #[test]
    fn forms() {
        let params = form_params(b"login=foo&password=b%26r\r\n", 100);
        assert_eq!((params[1].name.as_str(), params[1].value.as_deref()), ("password", Some("b&r")));
    }

    #[test]
    fn multipart() {
        let body = b"preamble\r\n--xx\r\nContent-Disposition: form-data; name=\"a;b\"\r\n\r\nline 1\r\nline 2\r\n\
            --xx\r\ncontent-disposition: form-data; name=f; filename=\"r\\\"x.png\"\r\nContent-Type: image/png\r\n\r\n\
            \x89PNG\r\n--xx not at a line start --xx\r\n--xx\r\nContent-Disposition: form-data; name=\"e\"\r\n\r\n\r\n--xx--\r\n";
        let params = multipart_params(b"multipart/form-data; boundary=\"xx\"", body, 100).unwrap();
        let brief: Vec<_> =
            params.iter().map(|p| (p.name.as_str(), p.value.as_deref(), p.file_name.as_deref())).collect();
        assert_eq!(brief[0], ("a;b", Some("line 1\r\nline 2"), None));
        assert_eq!(brief[1], ("f", None, Some("r\"x.png")));
        assert_eq!(params[1].content_type.as_deref(), Some("image/png"));
        assert_eq!(brief.last(), Some(&("e", Some(""), None)));
        assert_eq!(multipart_params(b"multipart/form-data; boundary=xx", body, 1).unwrap().len(), 1);
        assert_eq!(multipart_params(b"multipart/form-data", body, 9), None);
        let cut = &body[..60];
        assert_eq!(multipart_params(b"multipart/form-data; boundary=xx", cut, 9), Some(Vec::new()));
    }
}
