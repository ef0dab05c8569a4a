//! Finds the values of header lines in the text of one direction, however it is cut.
//!
//! Invariant: what is not known to be harmless is hidden. Behind a hole nobody knows whose value the rest of a line is, nor
//! whether the next one goes on with it; only a whole start line, at the start of a segment, is believed.

use crate::dissect::Side;
use crate::dissect::http1::is_start_line;

/// Bytes of a name that are looked at; a longer one is none.
const LONGEST_NAME: usize = 256;
/// Bytes of a line behind a hole that are looked at for a start line; of a longer one all are hidden.
const LONGEST_START: usize = 64 << 10;
/// Places in such a line where a message may begin that are looked at.
const MOST_STARTS: usize = 256;

/// Where in a line the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// At its start, or in what may be its name.
    Name,
    /// Behind the colon of a name that is hidden, before the value.
    Before,
    /// In something that is hidden.
    Hidden,
    /// In something that is not.
    Shown,
    /// Behind a hole: in nobody knows what, until its line is complete.
    Unknown,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lines {
    at: At,
    name: Vec<u8>,
    /// Bytes of this line so far, up to 2; the CR does not count.
    length: u8,
    /// The line before is hidden, and this one may go on with it (RFC 9112 section 5.2).
    folds: bool,
    /// Offset of the next byte, if nothing is left out.
    next: u64,
    /// Bytes were lost since the last piece, of a body or not.
    lost: bool,
    /// There was a hole: lines are judged when they are complete.
    searching: bool,
    unsure: Unsure,
}

/// A line behind a hole. What looks like a header there may be of a body, and a message may begin
/// where a segment does.
#[derive(Debug, Default)]
struct Unsure {
    /// Offset of its first byte that is known.
    offset: u64,
    bytes: Vec<u8>,
    /// Where segments began in it.
    starts: Vec<usize>,
    /// All bytes, also those that are not kept.
    length: u64,
}

impl Unsure {
    fn push(&mut self, offset: u64, byte: u8) {
        if self.length == 0 {
            self.offset = offset;
            self.starts = vec![0];
        }
        self.length += 1;
        if self.bytes.len() < LONGEST_START {
            self.bytes.push(byte);
        }
    }

    fn segment_begins(&mut self) {
        if self.starts.len() < MOST_STARTS {
            self.starts.push(self.bytes.len());
        }
    }

    /// Hides what is not kept.
    fn hide_rest(&self, hide: &mut dyn FnMut(u64, u64)) {
        let kept = self.bytes.len() as u64;
        if self.length > kept {
            hide(self.offset + kept, self.length - kept);
        }
    }

    fn whole(&self) -> bool {
        self.length == self.bytes.len() as u64
    }

    /// Without its CR.
    fn line(&self) -> &[u8] {
        self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes)
    }

    /// Where in it a start line begins that ends with it.
    fn start_line(&self) -> Option<usize> {
        let begins = |start: &usize| {
            let line = self.line().get(*start..).unwrap_or_default();
            is_start_line(Side::Client, line) || is_start_line(Side::Server, line)
        };
        self.starts.iter().copied().find(|start| self.whole() && begins(start))
    }
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            at: At::Name,
            name: Vec::new(),
            length: 0,
            folds: false,

            next: 0,
            lost: false,
            searching: false,
            unsure: Unsure::default(),
        }
    }

    /// Bytes of the direction were lost.
    pub(super) fn lost(&mut self) {
        self.lost = true;
    }

    /// Nothing more comes, or not without a hole.
    pub(super) fn end(&mut self, hides: &dyn Fn(&[u8]) -> bool, hide: &mut dyn FnMut(u64, u64)) {
        let unsure = std::mem::take(&mut self.unsure);
        if self.at != At::Unknown {
            self.judge(&unsure, hides, hide);
            return;
        }
        for (offset, _) in (unsure.offset..).zip(&unsure.bytes).filter(|(_, byte)| **byte != b'\r') {
            hide(offset, 1);
        }
        unsure.hide_rest(hide);
    }

    /// Judges a line, or what is there of it, by its name.
    fn judge(&mut self, unsure: &Unsure, hides: &dyn Fn(&[u8]) -> bool, hide: &mut dyn FnMut(u64, u64)) {
        for (offset, &byte) in (unsure.offset..).zip(&unsure.bytes) {
            if self.byte(byte, hides) {
                hide(offset, 1);
            }
        }
        unsure.hide_rest(hide);
    }

    /// A line behind a hole is complete.
    fn searched(&mut self, hides: &dyn Fn(&[u8]) -> bool, hide: &mut dyn FnMut(u64, u64)) {
        let unsure = std::mem::take(&mut self.unsure);
        let start = unsure.start_line();
        if start.is_none() && self.at != At::Unknown && unsure.whole() {
            self.judge(&unsure, hides, hide);
            self.byte(b'\n', hides);
            return;
        }
        let all = if unsure.whole() { unsure.line().len() as u64 } else { unsure.length };
        let hidden = start.map_or(all, |start| start as u64);
        if hidden > 0 {
            hide(unsure.offset, hidden);
        }
        self.begin_line(start.is_none());
    }

    /// Takes the next piece; `hide` is given the first offset and the length of what is to be hidden.
    pub(super) fn take(
        &mut self,
        offset: u64,
        bytes: &[u8],
        hides: &dyn Fn(&[u8]) -> bool,
        hide: &mut dyn FnMut(u64, u64),
    ) {
        if offset != self.next {
            // What is left out and not lost is of a body.
            let rests = self.length == 0 && self.unsure.length == 0;
            let known = rests && self.next != 0 && !self.lost;
            self.end(hides, hide);
            self.begin_line(false);
            self.at = if known { At::Name } else { At::Unknown };
            self.searching |= !known;
        }
        self.lost = false;
        self.unsure.segment_begins();
        self.next = offset + bytes.len() as u64;
        let mut run: Option<u64> = None;
        for (offset, &byte) in (offset..).zip(bytes) {
            if self.searching {
                if byte == b'\n' {
                    self.searched(hides, hide);
                } else {
                    self.unsure.push(offset, byte);
                }
                continue;
            }
            match (self.byte(byte, hides), run) {
                (true, None) => run = Some(offset),
                (false, Some(from)) => {
                    hide(from, offset - from);
                    run = None;
                }
                _ => {}
            }
        }
        if let Some(from) = run {
            hide(from, self.next - from);
        }
    }

    /// Whether this byte is to be hidden.
    fn byte(&mut self, byte: u8, hides: &dyn Fn(&[u8]) -> bool) -> bool {
        if byte == b'\n' {
            let hidden = matches!(self.at, At::Before | At::Hidden);
            self.begin_line(hidden);
            return false;
        }
        if byte == b'\r' {
            return false;
        }
        let first = self.length == 0;
        self.length = 1;
        let blank = matches!(byte, b' ' | b'\t');
        match self.at {
            At::Name if first && blank && self.folds => self.at = At::Before,
            At::Name if byte == b':' => {
                let hidden = self.name.len() <= LONGEST_NAME && hides(self.name.trim_ascii());
                self.at = if hidden { At::Before } else { At::Shown };
            }
            At::Name if self.name.len() <= LONGEST_NAME => self.name.push(byte),
            At::Before if !blank => self.at = At::Hidden,
            _ => {}
        }
        self.at == At::Hidden
    }

    fn begin_line(&mut self, folds: bool) {
        self.at = At::Name;
        self.name.clear();
        self.length = 0;
        self.folds = folds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left to see of pieces at their offsets.
    fn seen(pieces: &[(u64, &str)]) -> String {
        let mut lines = Lines::new();
        let mut out: Vec<Vec<u8>> = Vec::new();
        let mut hidden = Vec::new();
        let hides = |name: &[u8]| name.eq_ignore_ascii_case(b"cookie");
        for (offset, text) in pieces {
            // Only behind an empty line it is a body that is left out.
            if !out.last().is_some_and(|last| last.ends_with(b"\r\n\r\n")) {
                lines.lost();
            }
            out.push(text.as_bytes().to_vec());
            lines.take(*offset, text.as_bytes(), &hides, &mut |from, len| hidden.push(from..from + len));
        }
        lines.end(&hides, &mut |from, len| hidden.push(from..from + len));
        for ((offset, _), bytes) in pieces.iter().zip(&mut out) {
            let bytes =
                (*offset..).zip(bytes).filter(|(at, _)| hidden.iter().any(|range| range.contains(at)));
            bytes.for_each(|(_, byte)| *byte = b'*');
        }
        String::from_utf8(out.concat()).unwrap()
    }

    #[test]
    fn values_are_hidden_however_the_text_is_cut() {
        let text = "GET / HTTP/1.1\r\nHost: h\r\nCOOKIE :  a=b; c\r\n\td\r\nX: y\r\ncookie:\n e\n\nGET /cookie: HTTP/1.1\n\n";
        let want = "GET / HTTP/1.1\r\nHost: h\r\nCOOKIE :  ******\r\n\t*\r\nX: y\r\ncookie:\n *\n\nGET /cookie: HTTP/1.1\n\n";
        for n in 1..=text.len() {
            let pieces: Vec<(u64, &str)> = text
                .as_bytes()
                .chunks(n)
                .enumerate()
                .map(|(i, piece)| ((i * n) as u64, std::str::from_utf8(piece).unwrap()))
                .collect();
            assert_eq!(seen(&pieces), want, "by {n}");
        }
    }

    #[test]
    fn a_hole_behind_an_empty_line_is_no_body_where_bytes_were_lost() {
        let hides = |name: &[u8]| name == b"cookie";
        for (lost, want) in [(false, vec![]), (true, vec![(90, 6)])] {
            let (mut lines, mut hidden) = (Lines::new(), Vec::new());
            lines.take(0, b"A: b\r\n\r\n", &hides, &mut |_, _| panic!("nothing is hidden"));
            if lost {
                lines.lost();
            }
            lines.take(90, b"secret\r\nA: b\r\n", &hides, &mut |from, len| hidden.push((from, len)));
            assert_eq!(hidden, want);
        }
    }

    #[test]
    fn behind_a_body_a_line_begins_and_behind_a_hole_nobody_knows() {
        assert_eq!(seen(&[(0, "A: b\r\n\r\n"), (50, "Xookie: 1\r\n")]), "A: b\r\n\r\nXookie: 1\r\n");
        assert_eq!(seen(&[(0, "A: b\r\n"), (50, "kie: 1\r\nB: c\r\n")]), "A: b\r\n******\r\nB: c\r\n");
        assert_eq!(
            seen(&[(0, "Cookie: 1"), (50, "23\r\n"), (54, "B: c")]),
            "Cookie: *\r\nB: c".replace("*\r", "***\r")
        );
        assert_eq!(seen(&[(1 << 20, "secret\r\nB: c\r\n")]), "******\r\nB: c\r\n");
        assert_eq!(seen(&[(1 << 20, "GET / HTTP/1.1\r\nB: c")]), "GET / HTTP/1.1\r\nB: c");
        // A start line in pieces, and what only looks like the start of one.
        assert_eq!(
            seen(&[(9, "x; GE"), (14, "T / HT"), (20, "TP/1.1\r\nB: c")]),
            "*****T / HTTP/1.1\r\nB: c"
        );
        assert_eq!(
            seen(&[(9, "x; "), (12, "GET / HT"), (20, "TP/1.1\r\nB: c")]),
            "***GET / HTTP/1.1\r\nB: c"
        );
        assert_eq!(
            seen(&[(9, "SECRET"), (15, "\r\n\tSECRET\r\nB: c\r\n")]),
            "******\r\n\t******\r\nB: c\r\n"
        );
        assert_eq!(seen(&[(9, "SECRET WORD")]), "***********");
        assert_eq!(seen(&[(9, "HTTP/1.1 200")]), "************");
        // Chunk sizes: the line behind the data ends what was before it.
        assert_eq!(seen(&[(0, "\n5\r\n"), (9, "\r\n6\r\n")]), "\n5\r\n\r\n6\r\n");
    }
}
