//! Is a body text, and in which charset?

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};

use super::{lossy, split_once};

/// A body as a view shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Text<'a> {
    /// Text, in whatever charset it was.
    Text(Cow<'a, str>),
    /// Not text in the charset that was named or guessed: shown as base64.
    Binary(&'a [u8]),
}

/// The media type without its parameters, in lower case.
#[must_use]
pub fn mime_type(content_type: &[u8]) -> String {
    let essence = split_once(content_type, b';').map_or(content_type, |(before, _)| before);
    lossy(essence.trim_ascii()).to_ascii_lowercase()
}

/// A parameter of a field value such as `text/html; charset="utf-8"` (RFC 9110 section 5.6.6). The name is compared without
/// regard to case.
#[must_use]
pub fn parameter(value: &[u8], name: &str) -> Option<String> {
    let mut rest = &value[memchr::memchr(b';', value)? + 1..];
    loop {
        let (found, after) = split_once(rest, b'=')?;
        let (text, behind) = parameter_value(after);
        // A parameter without a value stands before this one's name.
        let found = found.rsplit(|&b| b == b';').next().unwrap_or(found);
        if found.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            return Some(text);
        }
        rest = behind;
    }
}

/// Value of a parameter, quotes and their escapes undone, and what is behind it.
fn parameter_value(after: &[u8]) -> (String, &[u8]) {
    let after = after.trim_ascii_start();
    let Some(quoted) = after.strip_prefix(b"\"") else {
        let (value, rest) = split_once(after, b';').unwrap_or((after, b""));
        return (lossy(value.trim_ascii()), rest);
    };
    let mut out = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, &b)) = bytes.next() {
        match b {
            b'"' => {
                let rest = &quoted[at + 1..];
                return (lossy(&out), split_once(rest, b';').map_or(&b""[..], |(_, rest)| rest));
            }
            b'\\' => out.extend(bytes.next().map(|(_, &escaped)| escaped)),
            _ => out.push(b),
        }
    }
    (lossy(&out), b"")
}

/// The charset that a `Content-Type` names, if it is a known one.
#[must_use]
pub fn charset(content_type: &[u8]) -> Option<&'static Encoding> {
    Encoding::for_label(parameter(content_type, "charset")?.as_bytes())
}

/// A body as text if it is: in the charset that `content_type` names, else in UTF-8, or in UTF-16 by its byte order mark.
/// `cut`: the body may end within a character, which is then left out.
#[must_use]
pub fn text<'a>(content_type: Option<&[u8]>, body: &'a [u8], cut: bool) -> Text<'a> {
    let named = content_type.and_then(charset);
    let (encoding, start) = match Encoding::for_bom(body) {
        Some((encoding, mark)) => (encoding, mark),
        None => (named.unwrap_or(UTF_8), 0),
    };
    let bytes = &body[start..];
    let bytes = if cut { &bytes[..whole_characters(encoding, bytes)] } else { bytes };
    if encoding == UTF_8 {
        return std::str::from_utf8(bytes).map_or(Text::Binary(body), |s| Text::Text(Cow::Borrowed(s)));
    }
    let decoded = encoding.decode_without_bom_handling_and_without_replacement(bytes);
    decoded.map_or(Text::Binary(body), Text::Text)
}

/// Length without a character that is cut at the end.
fn whole_characters(encoding: &'static Encoding, bytes: &[u8]) -> usize {
    if encoding == UTF_8 {
        return match std::str::from_utf8(bytes) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => bytes.len(),
        };
    }
    let (mut most, mut decoder) = (bytes.len(), encoding.new_decoder_without_bom_handling());
    if encoding.is_single_byte() {
        return most;
    }
    // At most one character is cut, of at most four bytes: take away bytes until the rest is whole.
    while bytes.len() - most < 4 && most > 0 {
        let mut out = String::with_capacity(decoder.max_utf8_buffer_length(most).unwrap_or(0));
        let (result, _) = decoder.decode_to_string_without_replacement(&bytes[..most], &mut out, true);
        if result == encoding_rs::DecoderResult::InputEmpty {
            return most;
        }
        most -= 1;
        decoder = encoding.new_decoder_without_bom_handling();
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(content_type: &str, body: &[u8], cut: bool) -> Option<String> {
        match text(Some(content_type.as_bytes()), body, cut) {
            Text::Text(text) => Some(text.into_owned()),
            Text::Binary(_) => None,
        }
    }

    #[test]
    fn charsets() {
        for (content_type, body, want) in [
            ("text/html; charset=UTF-8", "gr\u{fc}n".as_bytes(), Some("gr\u{fc}n")),
            ("text/html", b"gr\xfcn", None),
            ("text/html; charset=iso-8859-1", b"gr\xfcn \x80", Some("gr\u{fc}n \u{20ac}")),
            ("text/html;charset=\"windows-1252\"", b"\x93x\x94", Some("\u{201c}x\u{201d}")),
            ("text/plain; charset=us-ascii", b"plain", Some("plain")),
            ("text/plain; charset=utf-16le", b"h\0i\0", Some("hi")),
            ("text/plain; charset=utf-16le", b"h\0\0\xd8", None),
            ("text/plain", b"\xfe\xff\0h\0i", Some("hi")),
            ("text/plain", b"\xef\xbb\xbfhi", Some("hi")),
            ("text/plain; charset=shift_jis", b"\x82\xa0", Some("\u{3042}")),
            ("text/plain; charset=no-such", b"hi", Some("hi")),
            ("image/png", b"\x89PNG\r\n", None),
            ("", b"", Some("")),
        ] {
            assert_eq!(shown(content_type, body, false).as_deref(), want, "{content_type}");
        }
    }

    #[test]
    fn a_character_cut_at_the_end_is_left_out() {
        assert_eq!(
            shown("text/plain", "ab\u{20ac}".as_bytes().split_last().unwrap().1, true).as_deref(),
            Some("ab")
        );
        assert_eq!(shown("text/plain", "ab\u{20ac}".as_bytes().split_last().unwrap().1, false), None);
        assert_eq!(shown("text/plain; charset=utf-16le", b"h\0i\0x", true).as_deref(), Some("hi"));
        assert_eq!(shown("text/plain; charset=shift_jis", b"a\x82", true).as_deref(), Some("a"));
        assert_eq!(shown("text/plain", b"a\xff\xff\xffb", true), None);
    }

    #[test]
    fn parameters() {
        let value = b"multipart/form-data; x; a=\"b;\\\"c\"; Boundary=yy ;z=1";
        assert_eq!(parameter(value, "boundary").as_deref(), Some("yy"));
        assert_eq!(parameter(value, "a").as_deref(), Some("b;\"c"));
        assert_eq!(parameter(value, "z").as_deref(), Some("1"));
        assert_eq!(parameter(value, "x"), None);
        assert_eq!(mime_type(b" Text/HTML ; charset=x"), "text/html");
    }
}
