//! Heads that do not lie whole in a chunk, are odd, or must be looked for.

use super::{Began, Env, JUDGED, Reader, Search, State, Turn};
use crate::anomaly::{Anomaly, AnomalyKind};
use crate::dissect::http1::head::{is_field_line, is_start_line, note, parse_lenient};
use crate::dissect::http1::probe::{KNOWN, MAX_METHOD, is_token};
use crate::dissect::{Arrival, Side};
use crate::item::{Body, ErrorKind, ItemError};
use crate::pair::{Loss, Tail, fault};
use crate::time::Timestamp;

impl Reader {
    /// Takes the next line of a head in pieces, or the part of it that is there.
    pub(super) fn collect(&mut self, data: &[u8], at: Arrival, env: &mut Env<'_, '_>) -> (usize, Turn) {
        let candidate = matches!(self.state, State::Candidate(_));
        let lf = memchr::memchr(b'\n', data);
        let used = lf.map_or(data.len(), |lf| lf + 1);
        if self.head.len() + used > env.cx.limits.head {
            return (self.head_too_large(data, at, env), Turn::Http);
        }
        self.head.extend_from_slice(&data[..used]);
        self.began.truncated |= at.truncated;
        let line = &self.head[self.line..];
        if lf.is_none() {
            // Of a long start line only the new bytes are looked at.
            let shaped = self.head.len() - used > JUDGED || could_start(self.side, line, candidate);
            if self.line == 0 && !(shaped && printable(&data[..used])) {
                self.no_head(env);
            }
            return (used, Turn::Http);
        }
        let text = content(line);
        if self.line == 0 {
            let shaped = could_start(self.side, text, candidate) && printable(text);
            if !(shaped && is_start_line(self.side, text)) {
                self.no_head(env);
                return (used, Turn::Http);
            }
        } else if text.is_empty() {
            return self.head_complete(at, data, used, env);
        } else if candidate && !is_field_line(text) {
            env.pair.skipped(self.side, self.began.acked);
            self.next_candidate(at, used);
            return (used, Turn::Http);
        }
        self.line = self.head.len();
        (used, Turn::Http)
    }

    fn head_complete(
        &mut self,
        at: Arrival,
        data: &[u8],
        used: usize,
        env: &mut Env<'_, '_>,
    ) -> (usize, Turn) {
        let bytes = std::mem::take(&mut self.head);
        match parse_lenient(self.side, &bytes, false, env.cx.limits.headers) {
            Some(head) => self.accept(head, at, data, used, env),
            // Its start line was looked at already: cannot be.
            None => (used, Turn::Http),
        }
    }

    /// A line of a candidate is no header field: it may itself be a start line.
    fn next_candidate(&mut self, at: Arrival, used: usize) {
        let State::Candidate(search) = self.state else { return };
        let line = self.head.split_off(self.line);
        let text = content(&line);
        self.head = Vec::new();
        if !is_start_line(self.side, text) || !could_start(self.side, text, true) {
            self.shared = true;
            self.state = State::Search(Search { at_line_start: true, ..search });
            return;
        }
        let end = at.offset + used as u64;
        // Where the line began in an earlier segment, what that one acknowledged is not known any more.
        let acked = at.acked.filter(|_| line.len() <= used);
        let offset = end - line.len() as u64;
        let shared = offset > self.segment;
        self.began = Began { time: at.time, offset, acked, truncated: at.truncated, shared };
        self.line = line.len();
        self.head = line;
    }

    /// The collected bytes start no message.
    fn no_head(&mut self, env: &mut Env<'_, '_>) {
        let at_line_start = self.head.last() == Some(&b'\n');
        self.head = Vec::new();
        self.shared = true;
        env.pair.skipped(self.side, self.began.acked);
        if let State::Candidate(search) = self.state {
            self.state = State::Search(Search { at_line_start, ..search });
            return;
        }
        // Behind a request for a tunnel they may be the tunnel's, while the answer is not yet here.
        if self.side == Side::Server || !env.pair.tunnel_asked() {
            let msg = match self.side {
                Side::Client => "the client sent bytes that are no request",
                Side::Server => "the server sent bytes that are no response",
            };
            env.pair.note(self.side, note(AnomalyKind::HttpInvalidMessage, msg), env.cx.limits.anomalies);
        }
        env.pair.left_over(self.side);
        self.lose(Loss::Between, env);
        self.state = State::Search(Search { gap: false, at_line_start });
    }

    /// The head does not fit: what there is of it is handed on. Returns how much of `data` was used.
    fn head_too_large(&mut self, data: &[u8], at: Arrival, env: &mut Env<'_, '_>) -> usize {
        if matches!(self.state, State::Candidate(_)) {
            self.no_head(env);
            return 0;
        }
        let room = (env.cx.limits.head - self.head.len()).min(data.len());
        self.head.extend_from_slice(&data[..room]);
        if self.line == 0 && !(could_start(self.side, &self.head, false) && printable(&self.head)) {
            self.no_head(env);
            return room;
        }
        let anomaly = || note(AnomalyKind::HttpHeadTooLarge, "a header section past its limit");
        let error = fault(ErrorKind::Dissection, "the header section is too large to be kept");
        let begun = self.cut_head(at.time, 0, error, Some(anomaly()), env);
        if !begun {
            // The start line alone was past it.
            env.pair.note(self.side, anomaly(), env.cx.limits.anomalies);
        }
        self.lose(if begun { Loss::Within } else { Loss::Between }, env);
        self.state = State::Search(Search { gap: false, at_line_start: false });
        room
    }

    /// Hands on as much of a head as there was, if its start line was there.
    pub(super) fn cut_head(
        &mut self,
        last: Timestamp,
        gaps: u32,
        error: ItemError,
        anomaly: Option<Anomaly>,
        env: &mut Env<'_, '_>,
    ) -> bool {
        let bytes = std::mem::take(&mut self.head);
        let Some(mut head) = parse_lenient(self.side, &bytes, true, env.cx.limits.headers) else {
            return false;
        };
        head.anomalies.extend(anomaly);
        let tail = Tail {
            last,
            gaps,
            truncated: self.began.truncated,
            error: Some(error),
            body: cut_body(),
            ..Tail::default()
        };
        self.announce(head, env);
        self.finish_message(tail, env);
        true
    }

    /// Looks for the start of a message.
    pub(super) fn search(
        &mut self,
        search: Search,
        data: &[u8],
        at: Arrival,
        env: &mut Env<'_, '_>,
    ) -> usize {
        let lf = memchr::memchr(b'\n', data);
        if search.at_line_start {
            // Only spares a copy of what cannot be one. An empty line is as another that starts nothing: where the capture
            // begins with it, it may be the end of a head.
            if could_start(self.side, &data[..lf.unwrap_or(data.len())], true) {
                self.begin(at);
                self.state = State::Candidate(search);
                return 0;
            }
        }
        self.shared = true;
        env.pair.skipped(self.side, at.acked);
        self.state = State::Search(Search { at_line_start: lf.is_some(), ..search });
        lf.map_or(data.len(), |lf| lf + 1)
    }
}

/// The body of a message of which only the head, or not even that, was seen.
fn cut_body() -> Body {
    Body { truncated: true, ..Body::default() }
}

/// A line without its end.
fn content(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l))
}

/// Whether a message can begin with these bytes; `strict`: where framing was lost, only methods that look like one.
fn could_start(side: Side, bytes: &[u8], strict: bool) -> bool {
    match side {
        Side::Server => b"HTTP/1.".iter().zip(bytes).all(|(want, have)| want == have),
        Side::Client => {
            let method = bytes.iter().take(MAX_METHOD).take_while(|&&b| is_token(b)).count();
            let whole = method < bytes.len();
            // The byte behind the longest that there can be is no space if it goes on.
            if whole && (method == 0 || bytes[method] != b' ') {
                return false;
            }
            let name = &bytes[..method];
            let shaped = name.iter().all(u8::is_ascii_uppercase) && (!whole || (3..=20).contains(&method));
            // Where the capture begins within a method, `EAD` is the end of one and none of its own.
            let rest = whole && KNOWN.iter().any(|known| known.ends_with(name));
            let likely = !strict || KNOWN.contains(&name) || (shaped && !rest);
            likely && printable(bytes)
        }
    }
}

fn printable(bytes: &[u8]) -> bool {
    !bytes.iter().any(|&b| b < b' ' && b != b'\t' && b != b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_can_begin_with() {
        let longest = "A".repeat(MAX_METHOD);
        // With framing at hand, and where it was lost.
        for (bytes, known, lost) in [
            (&b""[..], true, true),
            (b"GE", true, true),
            (b"GET /\tx\r", true, true),
            (b"GET /\x01", false, false),
            (b"BREW /pot", true, true),
            (b"brew /pot", true, false),
            (b"AB /", true, false),
            (b"A /", true, false),
            (b"FOO /", true, true),
            (b"AAAAAAAAAAAAAAAAAAAA /", true, true),
            (b"AAAAAAAAAAAAAAAAAAAAA /", true, false),
            // One of its own, although it ends another.
            (b"PATCH /", true, true),
            // The end of a known one, if it is whole.
            (b"EAD", true, true),
            (b"EAD /", true, false),
            (b" GET /", false, false),
            (b"GET\t/", false, false),
            (b"GET\r\n", false, false),
            (longest.as_bytes(), true, true),
            (format!("{longest}A").as_bytes(), false, false),
        ] {
            let could = |strict| could_start(Side::Client, bytes, strict);
            assert_eq!((could(false), could(true)), (known, lost), "{}", bytes.escape_ascii());
        }
        for (bytes, could) in [(&b""[..], true), (b"HTT", true), (b"HTTP/1.1 200", true), (b"HTTP/2", false)]
        {
            assert_eq!(could_start(Side::Server, bytes, true), could);
        }
    }

    #[test]
    fn the_end_of_a_line_is_none_of_it() {
        for (line, text) in
            [(&b"a\r\n"[..], &b"a"[..]), (b"a\n", b"a"), (b"a\r", b"a\r"), (b"\r\r\n", b"\r"), (b"", b"")]
        {
            assert_eq!(content(line), text);
        }
    }
}
