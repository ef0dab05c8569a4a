//! Reads one message head: start line and header section (RFC 9112 sections 2 to 5).
//!
//! Most heads came before (`again`), or are as plain as can be, and read by `plain`. httparse reads all that is well formed.
//! What it refuses and servers accept nevertheless (folded headers, white space before the colon, lines without a colon,
//! more fields than expected) is read by the lenient reader below, with an anomaly for each kind of oddity. Either way the
//! head is copied once, into the item's own buffer.

use std::mem::MaybeUninit;

use super::framing::Framing;
use super::looks::Looks;
use super::probe::{MAX_METHOD, is_token};
use crate::anomaly::{Anomaly, AnomalyKind};
use crate::dissect::Side;
use crate::item::{HeaderBlock, Span};

/// Fields that the strict readers have room for; heads with more go to the lenient one.
pub(super) const FAST_FIELDS: usize = 64;

/// A head that was read.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) start: StartLine,
    pub(super) minor_version: u8,
    pub(super) block: HeaderBlock,
    /// Length as captured.
    pub(super) size: usize,
    pub(super) anomalies: Vec<Anomaly>,
    /// Where the body ends, if that was looked for already.
    pub(super) framing: Option<Framing>,
}

/// Request line or status line.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartLine {
    Request { method: Span, target: Span },
    Response { status: u16, reason: Span },
}

/// Why bytes are not a well-formed head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoHead {
    /// So far they are, but it goes on.
    Partial,
    /// They are not, or only leniently so.
    Invalid,
}

/// An anomaly with a fixed message.
pub(super) fn note(kind: AnomalyKind, msg: &'static str) -> Anomaly {
    Anomaly { kind, msg: msg.into() }
}

/// Reads a well-formed head at the start of `bytes`, which may hold more.
pub(super) fn parse_well_formed(side: Side, bytes: &[u8]) -> Result<Head, NoHead> {
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FAST_FIELDS];
    match side {
        Side::Client => {
            let mut request = httparse::Request::new(&mut []);
            match request.parse_with_uninit_headers(bytes, &mut fields) {
                Ok(httparse::Status::Complete(size)) => {
                    let (Some(method), Some(target)) = (request.method, request.path) else {
                        return Err(NoHead::Invalid);
                    };
                    let base = Base(bytes);
                    let start = StartLine::Request {
                        method: base.span(method.as_bytes()),
                        target: base.span(target.as_bytes()),
                    };
                    Ok(whole(base, size, start, request.version, request.headers))
                }
                Ok(httparse::Status::Partial) => Err(NoHead::Partial),
                Err(_) => Err(NoHead::Invalid),
            }
        }
        Side::Server => {
            let mut response = httparse::Response::new(&mut []);
            let config = httparse::ParserConfig::default();
            match config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
                Ok(httparse::Status::Complete(size)) => {
                    let Some(status) = response.code else { return Err(NoHead::Invalid) };
                    let base = Base(bytes);
                    let reason = match response.reason.filter(|reason| !reason.is_empty()) {
                        Some(reason) => {
                            let all = base.span(reason.as_bytes());
                            trim(bytes, all.start as usize, all.end as usize)
                        }
                        // httparse gives a foreign "" for no reason, and for one that holds bytes beyond ASCII.
                        None => base.reason(),
                    };
                    let start = StartLine::Response { status, reason };
                    Ok(whole(base, size, start, response.version, response.headers))
                }
                Ok(httparse::Status::Partial) => Err(NoHead::Partial),
                Err(_) => Err(NoHead::Invalid),
            }
        }
    }
}

fn whole(
    base: Base<'_>,
    size: usize,
    start: StartLine,
    version: Option<u8>,
    fields: &[httparse::Header<'_>],
) -> Head {
    let bytes = &base.0[..size];
    let spans = fields.iter().map(|f| (base.span(f.name.as_bytes()), base.span(f.value)));
    let looks = Looks::of(bytes);
    let mut anomalies = Vec::new();
    if looks.bare_lf {
        anomalies.push(note(AnomalyKind::HttpBareLf, "a line of the head ends without CR"));
    }
    Head {
        start,
        minor_version: version.unwrap_or(1),
        // No span of a well-formed head holds a line end.
        block: HeaderBlock::of(&[bytes], spans).known_plain(looks.plain),
        size,
        anomalies,
        framing: None,
    }
}

/// The buffer that spans are relative to.
#[derive(Clone, Copy)]
struct Base<'a>(&'a [u8]);

impl Base<'_> {
    fn span(self, part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
        if start > self.0.len() {
            return Span::default();
        }
        span(start, start + part.len())
    }

    /// The reason phrase of a status line.
    fn reason(self) -> Span {
        let end = memchr::memchr(b'\n', self.0).unwrap_or(self.0.len());
        status_line(&self.0[..end]).map_or_else(Span::default, |(_, _, reason)| reason)
    }
}

/// Heads are bounded far below 4 GiB, so the casts lose nothing.
pub(super) fn span(start: usize, end: usize) -> Span {
    Span { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
}

/// Reads a head of which the start line is valid and the rest whatever it is. `bytes` is a whole head, or as much of one
/// as there was (`cut`): then a last line without end is left out.
pub(super) fn parse_lenient(side: Side, bytes: &[u8], cut: bool, max_fields: usize) -> Option<Head> {
    let mut lines = Lines { bytes, at: 0, bare_lf: false, cut };
    let (first, end) = lines.next()?;
    let (start, minor_version) = start_line(side, &bytes[first..end], first)?;
    let mut fields = LenientFields::read(bytes, &mut lines, max_fields);
    let size = if cut { bytes.len() } else { lines.at };
    fields.odd.bare_lf = lines.bare_lf;
    Some(fields.finish(start, minor_version, size))
}

/// Start and end of each line, line ends left out.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    bare_lf: bool,
    cut: bool,
}

impl Iterator for Lines<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let from = self.at;
        let rest = self.bytes.get(from..).filter(|rest| !rest.is_empty())?;
        let Some(lf) = memchr::memchr(b'\n', rest) else {
            self.at = self.bytes.len();
            return if self.cut { None } else { Some((from, self.at)) };
        };
        self.at = from + lf + 1;
        let crlf = lf > 0 && rest[lf - 1] == b'\r';
        self.bare_lf |= !crlf;
        Some((from, from + lf - usize::from(crlf)))
    }
}

#[derive(Default)]
struct Oddities {
    bare_lf: bool,
    folded: bool,
    space: bool,
    no_colon: bool,
    control: bool,
    many: bool,
}

/// Collects fields. A folded value is joined in `folded`, which goes behind the captured bytes in the buffer.
struct LenientFields<'a> {
    bytes: &'a [u8],
    spans: Vec<(Span, Span)>,
    folded: Vec<u8>,
    odd: Oddities,
    max: usize,
}

impl<'a> LenientFields<'a> {
    /// Reads lines up to the empty one.
    fn read(bytes: &'a [u8], lines: &mut Lines<'_>, max: usize) -> Self {
        let mut fields = Self { bytes, spans: Vec::new(), folded: Vec::new(), odd: Oddities::default(), max };
        for (from, to) in lines {
            if from == to {
                break;
            }
            fields.line(from, to);
        }
        fields
    }

    fn line(&mut self, from: usize, to: usize) {
        let line = &self.bytes[from..to];
        self.odd.control |= line.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f);
        if matches!(line.first(), Some(b' ' | b'\t')) && !self.spans.is_empty() {
            return self.fold(from, to);
        }
        if self.spans.len() >= self.max {
            self.odd.many = true;
            return;
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let name = trim(self.bytes, from, from + colon);
                self.odd.space |= name != span(from, from + colon);
                (name, trim(self.bytes, from + colon + 1, to))
            }
            None => {
                self.odd.no_colon = true;
                (trim(self.bytes, from, to), span(to, to))
            }
        };
        self.spans.push((name, value));
    }

    /// Joins a continuation line to the last value by one space (RFC 9112 section 5.2).
    fn fold(&mut self, from: usize, to: usize) {
        self.odd.folded = true;
        let base = self.bytes.len();
        let more = trim(self.bytes, from, to);
        let Some((_, value)) = self.spans.last_mut() else { return };
        if (value.end as usize) != base + self.folded.len() || (value.start as usize) < base {
            let start = self.folded.len();
            self.folded.extend_from_slice(&self.bytes[value.start as usize..value.end as usize]);
            *value = span(base + start, base + self.folded.len());
        }
        if value.start != value.end && more.start != more.end {
            self.folded.push(b' ');
        }
        self.folded.extend_from_slice(&self.bytes[more.start as usize..more.end as usize]);
        value.end = span(0, base + self.folded.len()).end;
    }

    fn finish(self, start: StartLine, minor_version: u8, size: usize) -> Head {
        let mut anomalies = Vec::new();
        let odd = self.odd;
        for (seen, kind, msg) in [
            (odd.bare_lf, AnomalyKind::HttpBareLf, "a line of the head ends without CR"),
            (odd.folded, AnomalyKind::HttpObsFold, "a header is folded over lines"),
            (odd.space, AnomalyKind::HttpSpaceBeforeColon, "white space around a header's name"),
            (odd.no_colon, AnomalyKind::HttpInvalidMessage, "a header line without colon"),
            (odd.control, AnomalyKind::HttpInvalidMessage, "a control character in a header"),
            (odd.many, AnomalyKind::HttpHeadTooLarge, "more header fields than are kept"),
        ] {
            if seen {
                anomalies.push(note(kind, msg));
            }
        }
        let block = HeaderBlock::of(&[self.bytes, &self.folded], self.spans.into_iter());
        Head { start, minor_version, block, size, anomalies, framing: None }
    }
}

/// The header fields of a trailer section (RFC 9112 section 7.1.2), which ends with its empty line.
pub(super) fn parse_trailers(bytes: &[u8], max_fields: usize) -> (HeaderBlock, Vec<Anomaly>) {
    let mut lines = Lines { bytes, at: 0, bare_lf: false, cut: false };
    let fields = LenientFields::read(bytes, &mut lines, max_fields);
    let start = StartLine::Response { status: 0, reason: Span::default() };
    let head = fields.finish(start, 1, bytes.len());
    (head.block, head.anomalies)
}

pub(super) fn trim(bytes: &[u8], mut from: usize, mut to: usize) -> Span {
    let blank = |b: u8| matches!(b, b' ' | b'\t' | b'\r');
    while from < to && blank(bytes[to - 1]) {
        to -= 1;
    }
    while from < to && blank(bytes[from]) {
        from += 1;
    }
    span(from, to)
}

/// Reads a start line that begins at `offset` of its buffer; the line end is not part of it.
fn start_line(side: Side, line: &[u8], offset: usize) -> Option<(StartLine, u8)> {
    let moved = |s: Span| span(s.start as usize + offset, s.end as usize + offset);
    match side {
        Side::Client => {
            let (method, target, minor) = request_line(line)?;
            Some((StartLine::Request { method: moved(method), target: moved(target) }, minor))
        }
        Side::Server => {
            let (status, minor, reason) = status_line(line)?;
            Some((StartLine::Response { status, reason: moved(reason) }, minor))
        }
    }
}

/// Whether a line (without its end) can start a message.
pub(crate) fn is_start_line(side: Side, line: &[u8]) -> bool {
    start_line(side, line, 0).is_some()
}

/// Whether a line (without its end) can be a header field as it should be, or the continuation of one.
pub(super) fn is_field_line(line: &[u8]) -> bool {
    match memchr::memchr(b':', line) {
        _ if matches!(line.first(), Some(b' ' | b'\t')) => true,
        Some(colon) => colon > 0 && line[..colon].iter().all(|&b| is_token(b)),
        None => false,
    }
}

/// method SP target SP HTTP/1.x; spaces inside the target, which clients send in error, belong to it.
fn request_line(line: &[u8]) -> Option<(Span, Span, u8)> {
    let method = line.iter().take_while(|&&b| is_token(b)).count();
    if method == 0 || method > MAX_METHOD || line.get(method) != Some(&b' ') {
        return None;
    }
    let all = trim(line, method, line.len());
    let version = (all.end as usize).checked_sub(8).filter(|&at| at > all.start as usize)?;
    let minor = match &line[version..all.end as usize] {
        b"HTTP/1.0" => 0,
        b"HTTP/1.1" => 1,
        _ => return None,
    };
    let target = trim(line, all.start as usize, version);
    let separated = line[version - 1] == b' ';
    let printable = line[all.start as usize..version].iter().all(|&b| b >= b' ' || b == b'\t');
    (separated && printable && target.start < target.end).then_some((span(0, method), target, minor))
}

/// HTTP/1.x SP status [SP reason].
fn status_line(line: &[u8]) -> Option<(u16, u8, Span)> {
    let minor = match line.get(..9)? {
        b"HTTP/1.0 " => 0,
        b"HTTP/1.1 " => 1,
        _ => return None,
    };
    let at = 9 + line[9..].iter().take_while(|&&b| b == b' ').count();
    let code = line.get(at..at + 3).filter(|code| code.iter().all(u8::is_ascii_digit))?;
    let status = code.iter().fold(0, |n, &d| n * 10 + u16::from(d - b'0'));
    let reason = match line.get(at + 3) {
        None | Some(b'\r') => span(at + 3, at + 3),
        Some(b' ') => trim(line, at + 4, line.len()),
        Some(_) => return None,
    };
    Some((status, minor, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::http1::again::{Heads, parse_strict};

    fn fields(head: &Head) -> Vec<(String, String)> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        head.block.iter().map(|(n, v)| (text(n), text(v))).collect()
    }

    fn kinds(head: &Head) -> Vec<AnomalyKind> {
        head.anomalies.iter().map(|a| a.kind).collect()
    }

    fn strict(side: Side, bytes: &[u8]) -> Head {
        parse_strict(side, bytes, &mut Heads::default()).unwrap()
    }

    #[test]
    fn both_readers_agree_on_a_plain_head() {
        let bytes = b"PATCH /a?b=c HTTP/1.1\r\nHost:  x \r\nX-Empty:\r\nA: 1\r\nA: 2\r\n\r\nbody";
        let fast = strict(Side::Client, bytes);
        let slow = parse_lenient(Side::Client, &bytes[..fast.size], false, 512).unwrap();
        for head in [&fast, &slow] {
            let StartLine::Request { method, target } = head.start else { panic!() };
            assert_eq!((head.block.bytes(method), head.block.bytes(target)), (&b"PATCH"[..], &b"/a?b=c"[..]));
            assert_eq!((head.minor_version, head.size), (1, bytes.len() - 4));
            let want = [("Host", "x"), ("X-Empty", ""), ("A", "1"), ("A", "2")];
            assert_eq!(fields(head), want.map(|(n, v)| (n.to_owned(), v.to_owned())));
            assert!(head.anomalies.is_empty());
        }
    }

    #[test]
    fn status_lines() {
        for (bytes, status, reason) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], 200, &b"OK"[..]),
            (b"HTTP/1.0 404\r\n\r\n", 404, b""),
            (b"HTTP/1.1 204 \r\n\r\n", 204, b""),
            (b"HTTP/1.1 500 K\xc3\xb6nnte sein\r\n\r\n", 500, b"K\xc3\xb6nnte sein"),
        ] {
            let head = strict(Side::Server, bytes);
            let StartLine::Response { status: s, reason: r } = head.start else { panic!() };
            assert_eq!((s, head.block.bytes(r)), (status, reason), "{}", bytes.escape_ascii());
        }
        assert!(is_start_line(Side::Server, b"HTTP/1.1  200 Two spaces"));
        for bad in
            [&b"HTTP/1.1 20"[..], b"HTTP/1.1 2000 OK", b"HTTP/2.0 200 OK", b"ICY 200 OK", b"HTTP/1.1 -12"]
        {
            assert!(!is_start_line(Side::Server, bad));
        }
    }

    #[test]
    fn oddities_are_read_and_named() {
        let bytes =
            b"GET /a b HTTP/1.1\nHost : x\r\nFold: one\r\n\t two \r\n   three\r\nnocolon\r\nC: a\0b\r\n\r\n";
        assert_eq!(parse_strict(Side::Client, bytes, &mut Heads::default()).unwrap_err(), NoHead::Invalid);
        let head = parse_lenient(Side::Client, bytes, false, 512).unwrap();
        let want = [("Host", "x"), ("Fold", "one two three"), ("nocolon", ""), ("C", "a\0b")];
        assert_eq!(fields(&head), want.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(
            kinds(&head),
            [
                AnomalyKind::HttpBareLf,
                AnomalyKind::HttpObsFold,
                AnomalyKind::HttpSpaceBeforeColon,
                AnomalyKind::HttpInvalidMessage,
                AnomalyKind::HttpInvalidMessage,
            ]
        );
        let StartLine::Request { target, .. } = head.start else { panic!() };
        assert_eq!(head.block.bytes(target), b"/a b");
        assert_eq!(head.size, bytes.len());
    }

    #[test]
    fn two_folded_values_do_not_run_into_each_other() {
        let head = parse_lenient(
            Side::Server,
            b"HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\nB: 3\r\n 4\r\n 5\r\nC:\r\n 6\r\n\r\n",
            false,
            512,
        )
        .unwrap();
        let want = [("A", "1 2"), ("B", "3 4 5"), ("C", "6")];
        assert_eq!(fields(&head), want.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn number_of_fields_is_bounded() {
        let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
        for n in 0..600 {
            bytes.extend_from_slice(format!("h{n}: {n}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        assert_eq!(parse_strict(Side::Client, &bytes, &mut Heads::default()).unwrap_err(), NoHead::Invalid);
        let head = parse_lenient(Side::Client, &bytes, false, 512).unwrap();
        assert_eq!(head.block.len(), 512);
        assert_eq!(kinds(&head), [AnomalyKind::HttpHeadTooLarge]);
    }

    #[test]
    fn a_cut_head_keeps_its_whole_lines() {
        let head = parse_lenient(Side::Client, b"GET / HTTP/1.1\r\nA: 1\r\nB: half", true, 512).unwrap();
        assert_eq!(fields(&head), [("A".to_owned(), "1".to_owned())]);
        assert!(parse_lenient(Side::Client, b"GET / HTTP", true, 512).is_none());
    }

    #[test]
    fn bare_lf_is_read_by_the_fast_reader_and_named() {
        let head = strict(Side::Client, b"GET / HTTP/1.1\nHost: a\n\n");
        assert_eq!(kinds(&head), [AnomalyKind::HttpBareLf]);
        assert_eq!(head.size, 24);
    }
}
