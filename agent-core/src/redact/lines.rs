//! Finds the values of header lines in the text of one direction, however it is cut.
//!
//! Invariant: what is not known to be harmless is hidden. Behind a hole nobody knows whose value the rest of a line is.

/// Bytes of a name that are looked at; a longer one is none.
const LONGEST_NAME: usize = 256;

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
    /// Behind a hole: in nobody knows what.
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
    /// The line before was empty, or there was none: a hole behind it is a body.
    between: bool,
    /// Offset of the next byte, if nothing is left out.
    next: u64,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { at: At::Name, name: Vec::new(), length: 0, folds: false, between: true, next: 0 }
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
            let known = self.between && self.length == 0 && self.next != 0;
            self.begin_line(false);
            self.at = if known { At::Name } else { At::Unknown };
        }
        // A message may begin where a segment does.
        if self.at == At::Unknown && may_start(bytes) {
            self.begin_line(false);
        }
        self.next = offset + bytes.len() as u64;
        let mut run: Option<u64> = None;
        for (offset, &byte) in (offset..).zip(bytes) {
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
            self.between = self.length == 0 && self.at != At::Unknown;
            let hidden = matches!(self.at, At::Before | At::Hidden) && !self.between;
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
        matches!(self.at, At::Hidden | At::Unknown)
    }

    fn begin_line(&mut self, folds: bool) {
        self.at = At::Name;
        self.name.clear();
        self.length = 0;
        self.folds = folds;
    }
}

/// Whether these bytes may be the start of a message: a status line, or a method, as far as they go.
fn may_start(bytes: &[u8]) -> bool {
    let status = b"HTTP/1.".iter().zip(bytes).all(|(want, have)| want == have);
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase()).count();
    status || ((3..=20).contains(&method) && matches!(bytes.get(method), None | Some(b' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left to see of pieces at their offsets.
    fn seen(pieces: &[(u64, &str)]) -> String {
        let mut lines = Lines::new();
        let mut out = String::new();
        let hides = |name: &[u8]| name.eq_ignore_ascii_case(b"cookie");
        for (offset, text) in pieces {
            let mut bytes = text.as_bytes().to_vec();
            lines.take(*offset, text.as_bytes(), &hides, &mut |from, len| {
                let from = (from - offset) as usize;
                bytes[from..from + len as usize].fill(b'*');
            });
            out.push_str(&String::from_utf8(bytes).unwrap());
        }
        out
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
    fn behind_a_body_a_line_begins_and_behind_a_hole_nobody_knows() {
        assert_eq!(seen(&[(0, "A: b\r\n\r\n"), (50, "Xookie: 1\r\n")]), "A: b\r\n\r\nXookie: 1\r\n");
        assert_eq!(seen(&[(0, "A: b\r\n"), (50, "kie: 1\r\nB: c\r\n")]), "A: b\r\n******\r\nB: c\r\n");
        assert_eq!(
            seen(&[(0, "Cookie: 1"), (50, "23\r\n"), (54, "B: c")]),
            "Cookie: *\r\nB: c".replace("*\r", "***\r")
        );
        assert_eq!(seen(&[(1 << 20, "secret\r\nB: c\r\n")]), "******\r\nB: c\r\n");
        assert_eq!(seen(&[(1 << 20, "GET / HTTP/1.1\r\nB: c")]), "GET / HTTP/1.1\r\nB: c");
        // Chunk sizes: the line behind the data ends what was before it.
        assert_eq!(seen(&[(0, "\n5\r\n"), (9, "\r\n6\r\n")]), "\n5\r\n\r\n6\r\n");
    }
}
