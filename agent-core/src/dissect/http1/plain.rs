//! Reads the head that nearly all heads are, in one pass: printable ASCII in lines that end with CRLF, a request line or status
//! line as it should be, names of letters, digits and dashes, values that are not empty and have no white space around them but
//! one space before.
//!
//! Whatever else there is, it leaves to httparse; what it reads, httparse reads the same.

use super::classes::{Classes, WINDOW};
use super::head::{FAST_FIELDS, Head, StartLine, trim};
use crate::dissect::Side;
use crate::item::{Fields, Span};

/// Fields that a head may have, as for the readers of other heads.
const MAX_FIELDS: usize = FAST_FIELDS;

/// Reads a head at the start of `bytes`, which may hold more. `None` says nothing of it.
pub(super) fn read(side: Side, bytes: &[u8], fields: &mut Fields) -> Option<Head> {
    let mut scan = Scan::new(bytes)?;
    let (start, minor_version, end) = match side {
        Side::Client => request_line(&mut scan)?,
        Side::Server => status_line(&mut scan)?,
    };
    let size = header_section(&mut scan, end + 2, fields)?;
    let block = fields.block(bytes.get(..size)?, !scan.quoted(size));
    Some(Head { start, minor_version, block, size, anomalies: Vec::new(), framing: None })
}

/// Reads a start line with its end, which is all of `line`: that, the minor version, and whether it is plain as
/// [`HeaderBlock::is_plain`](crate::item::HeaderBlock::is_plain) says it.
pub(super) fn start_line(side: Side, line: &[u8]) -> Option<(StartLine, u8, bool)> {
    let mut scan = Scan::new(line)?;
    let (start, minor_version, end) = match side {
        Side::Client => request_line(&mut scan)?,
        Side::Server => status_line(&mut scan)?,
    };
    (end + 2 == line.len()).then(|| (start, minor_version, !scan.quoted(end)))
}

/// The fields from `at` on. Where the head ends.
#[inline(never)]
fn header_section(scan: &mut Scan<'_>, mut at: usize, fields: &mut Fields) -> Option<usize> {
    let bytes = scan.bytes;
    fields.clear();
    while *two(bytes, at)? != *b"\r\n" {
        let colon = scan.name_end(at);
        if colon == at || *bytes.get(colon)? != b':' || fields.len() == MAX_FIELDS {
            return None;
        }
        // One space, or none.
        let from = colon + 1 + usize::from(*bytes.get(colon + 1)? == b' ');
        let end = scan.line_end(from)?;
        let value = bytes.get(from..end)?;
        if *value.first()? == b' ' || *value.last()? == b' ' {
            return None;
        }
        fields.push(bytes.get(at..colon)?, span(at, colon), span(from, end));
        at = end + 2;
    }
    Some(at + 2)
}

/// The request line, its minor version, and where its CR is.
fn request_line(scan: &mut Scan<'_>) -> Option<(StartLine, u8, usize)> {
    let bytes = scan.bytes;
    let method = scan.name_end(0);
    if method == 0 || *bytes.get(method)? != b' ' {
        return None;
    }
    let end = scan.line_end(method + 1)?;
    let (target, version) = bytes.get(method + 1..end)?.split_last_chunk::<9>()?;
    let (space, version) = version.split_first()?;
    if *space != b' ' || target.is_empty() || memchr::memchr(b' ', target).is_some() {
        return None;
    }
    let target = span(method + 1, end - 9);
    Some((StartLine::Request { method: span(0, method), target }, minor_version(version)?, end))
}

/// The status line, its minor version, and where its CR is.
fn status_line(scan: &mut Scan<'_>) -> Option<(StartLine, u8, usize)> {
    let bytes = scan.bytes;
    let &[ref version @ .., b' ', a, b, c] = bytes.first_chunk::<12>()? else { return None };
    let minor = minor_version(version)?;
    let mut status = 0;
    for digit in [a, b, c] {
        status = status * 10 + u16::from(Some(digit.wrapping_sub(b'0')).filter(|&digit| digit < 10)?);
    }
    let end = scan.line_end(12)?;
    let reason = match bytes[12] {
        b' ' => trim(bytes, 13, end),
        b'\r' => span(12, 12),
        _ => return None,
    };
    Some((StartLine::Response { status, reason }, minor, end))
}

fn minor_version(version: &[u8]) -> Option<u8> {
    match version {
        b"HTTP/1.1" => Some(1),
        b"HTTP/1.0" => Some(0),
        _ => None,
    }
}

/// Within [`Scan::bytes`], whose places fit.
#[inline]
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

fn two(bytes: &[u8], at: usize) -> Option<&[u8; 2]> {
    bytes.get(at..)?.first_chunk()
}

/// Goes through bytes by their classes. Places asked for only ever grow.
struct Scan<'a> {
    bytes: &'a [u8],
    /// Of the window at hand.
    classes: Classes,
    /// Where that begins.
    at: usize,
    /// Whether windows before it hold quotation marks or backslashes.
    quoted: bool,
}

impl<'a> Scan<'a> {
    /// `None` where places would not fit a span.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        u32::try_from(bytes.len()).ok()?;
        Some(Self { bytes, classes: Classes::at(bytes, 0), at: 0, quoted: false })
    }

    /// First place from `from` on that belongs to no name.
    #[inline]
    fn name_end(&mut self, from: usize) -> usize {
        self.find(from, |classes| !classes.name)
    }

    /// First place from `from` on where a line ends with CRLF: nothing else that is no text comes before.
    #[inline]
    fn line_end(&mut self, from: usize) -> Option<usize> {
        let end = self.find(from, |classes| classes.control);
        (*two(self.bytes, end)? == *b"\r\n").then_some(end)
    }

    /// There is always one: behind the last byte all is control.
    #[inline]
    fn find(&mut self, mut from: usize, of: impl Fn(&Classes) -> u64) -> usize {
        loop {
            // A place behind the window is behind all of its bits.
            let found = of(&self.classes).unbounded_shr((from - self.at) as u32);
            if found != 0 {
                return from + found.trailing_zeros() as usize;
            }
            self.advance();
            from = from.max(self.at);
        }
    }

    #[cold]
    #[inline(never)]
    fn advance(&mut self) {
        self.quoted |= self.classes.quote != 0;
        self.at += WINDOW;
        self.classes = Classes::at(self.bytes, self.at);
    }

    /// Whether there are quotation marks or backslashes before `end`, which is not before the window nor more than a line end
    /// behind it.
    fn quoted(&self, end: usize) -> bool {
        let behind = u64::MAX.unbounded_shl((end - self.at) as u32);
        self.quoted || self.classes.quote & !behind != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::http1::head::parse_well_formed;
    use crate::item::Common;
    use proptest::prelude::*;

    /// What this reads, httparse reads the same.
    fn check(side: Side, bytes: &[u8]) -> bool {
        let Some(head) = read(side, bytes, &mut Fields::default()) else { return false };
        let other = parse_well_formed(side, bytes).unwrap();
        assert_eq!(format!("{head:?}"), format!("{other:?}"), "{}", bytes.escape_ascii());
        assert_eq!(head.block.is_plain(), other.block.is_plain(), "{}", bytes.escape_ascii());
        for name in [Common::Host, Common::ContentLength, Common::Cookie, Common::TransferEncoding] {
            let said = |head: &Head| (head.block.common(name).map(<[u8]>::to_vec), head.block.repeats(name));
            assert_eq!(said(&head), said(&other), "{}", bytes.escape_ascii());
        }
        true
    }

    #[test]
    fn plain_heads_are_read() {
        let long = format!("GET /{0}?x=\"{0} HTTP/1.0\r\nX-1: {0}\\\r\nA:b\r\n\r\n{0}", "a".repeat(150));
        for (side, head) in [
            (Side::Client, "GET / HTTP/1.1\r\n\r\n"),
            (Side::Client, "M-SEARCH * HTTP/1.0\r\nHost: a b\r\nHOST: c:d\r\nx-b3-traceid: 1\r\n\r\nbody\""),
            (Side::Client, &long),
            (Side::Server, "HTTP/1.1 200 OK\r\nServer: \"x\"\r\n\r\n\x01"),
            (Side::Server, "HTTP/1.0 404\r\n\r\n"),
            (Side::Server, "HTTP/1.1 204 \r\nA: b\r\n\r\n"),
            (Side::Server, "HTTP/1.1 500  two words \r\nDate: Sat, 21 Nov 2026 19:33:55 GMT\r\n\r\n"),
        ] {
            assert!(check(side, head.as_bytes()), "{head}");
            for length in 0..head.len() {
                check(side, &head.as_bytes()[..length]);
            }
        }
    }

    #[test]
    fn what_is_odd_is_left_to_others() {
        for (side, head) in [
            (Side::Client, "GET / HTTP/1.1\n\n"),
            (Side::Client, "GET  / HTTP/1.1\r\n\r\n"),
            (Side::Client, "GET /a b HTTP/1.1\r\n\r\n"),
            (Side::Client, "GET / HTTP/2.0\r\n\r\n"),
            (Side::Client, "GET / HTTP/1.1\r\nA : b\r\n\r\n"),
            (Side::Client, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
            (Side::Client, "GET / HTTP/1.1\r\nA:\r\n\r\n"),
            (Side::Client, "GET / HTTP/1.1\r\nA:  b\r\n\r\n"),
            (Side::Client, "GET / HTTP/1.1\r\nA: b \r\n\r\n"),
            (Side::Client, "GET / HTTP/1.1\r\n: b\r\n\r\n"),
            (Side::Client, "GET / HTTP/1.1\r\nA: b\tc\r\n\r\n"),
            (Side::Server, "HTTP/1.1 2x0 OK\r\n\r\n"),
            (Side::Server, "HTTP/1.1 200OK\r\n\r\n"),
            (Side::Server, "HTTP/1.1 200 \u{e4}\r\n\r\n"),
        ] {
            assert!(!check(side, head.as_bytes()), "{head}");
        }
        let many = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n));
        assert!(check(Side::Client, many(MAX_FIELDS).as_bytes()));
        assert!(!check(Side::Client, many(MAX_FIELDS + 1).as_bytes()));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_httparse_reads(
            server in any::<bool>(),
            lines in prop::collection::vec("[-A-Za-z0-9 :,\"\\\\\t_/é]{0,90}", 0..6),
            odd in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            ends in prop::collection::vec(prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r"]), 8),
            body in "[a-z\"\r\n]{0,80}",
        ) {
            let (side, first) = match server {
                true => (Side::Server, "HTTP/1.1 200 OK"),
                false => (Side::Client, "POST /a?b=c HTTP/1.1"),
            };
            let mut bytes = [first, "\r\n"].concat();
            for (line, end) in lines.iter().zip(&ends) {
                let name = if line.len() % 3 == 0 { "content-Length: " } else { "Name-1: " };
                bytes += &[name, line, end].concat();
            }
            let mut bytes = [bytes.as_bytes(), b"\r\n", body.as_bytes()].concat();
            if let Some((at, byte)) = odd {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            check(side, &bytes);
        }
    }
}
