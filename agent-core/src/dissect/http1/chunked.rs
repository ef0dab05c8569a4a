//! The chunked transfer coding (RFC 9112 section 7.1): sizes, extensions (skipped), data, trailers.
//!
//! A bare LF is taken for CRLF; every other deviation ends the body, for nobody could say where it goes on.

/// Longest chunk-size line with its extensions.
const MAX_SIZE_LINE: u32 = 16 << 10;

/// State of one chunked body.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// The size being read, then the data of this chunk still to come.
    left: u64,
    /// Bytes of the current size line.
    line: u32,
    digits: bool,
    trailers: Vec<u8>,
    /// Start of the current line in `trailers`.
    trailer_line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Size,
    /// Behind the size: white space, the CR.
    SizeEnd,
    /// Behind a semicolon, up to the LF.
    Extension,
    Data,
    /// CRLF behind the data: both bytes, or LF alone, missing.
    DataEnd,
    DataLf,
    Trailers,
}

/// What a step came upon.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step<'a> {
    /// All input was used.
    More,
    /// Bytes of the body.
    Data(&'a [u8]),
    /// The end, with the trailer section if it holds a field.
    End(Option<Vec<u8>>),
    /// Not valid.
    Bad(&'static str),
}

impl Chunked {
    /// Takes bytes: how many were used, and what they were. Called again until the input is used.
    pub(super) fn step<'a>(&mut self, data: &'a [u8], max_trailers: usize) -> (usize, Step<'a>) {
        let mut at = 0;
        while at < data.len() {
            match self.state {
                State::Data => {
                    let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len() - at);
                    self.left -= n as u64;
                    if self.left == 0 {
                        self.state = State::DataEnd;
                    }
                    return (at + n, Step::Data(&data[at..at + n]));
                }
                State::Trailers => {
                    let (used, end) = self.trailer(&data[at..], max_trailers);
                    at += used;
                    if let Some(end) = end {
                        return (at, end);
                    }
                }
                _ => {
                    if let Some(bad) = self.byte(data[at]) {
                        return (at, Step::Bad(bad));
                    }
                    at += 1;
                }
            }
        }
        (at, Step::More)
    }

    fn byte(&mut self, b: u8) -> Option<&'static str> {
        match (self.state, b) {
            (State::DataEnd, b'\r') => self.state = State::DataLf,
            (State::DataEnd | State::DataLf, b'\n') => {
                *self = Self::default();
            }
            (State::DataEnd | State::DataLf, _) => return Some("chunk data goes on where CRLF should be"),
            (_, b'\n') => return self.size_line_ends(),
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => return self.digit(b),
            (State::Size, b' ' | b'\t') if !self.digits => {}
            (State::Size | State::SizeEnd, b' ' | b'\t' | b'\r') => self.state = State::SizeEnd,
            (State::Size | State::SizeEnd, b';') if self.digits => self.state = State::Extension,
            (State::Size | State::SizeEnd, _) => {
                return Some("a chunk size that is not a hexadecimal number");
            }
            _ => {}
        }
        self.line += 1;
        (self.line > MAX_SIZE_LINE).then_some("a chunk-size line without end")
    }

    fn digit(&mut self, b: u8) -> Option<&'static str> {
        self.digits = true;
        self.line += 1;
        if self.left >> 60 != 0 {
            return Some("a chunk size beyond 64 bits");
        }
        if self.line > MAX_SIZE_LINE {
            return Some("a chunk-size line without end");
        }
        let value = match b {
            b'0'..=b'9' => b - b'0',
            _ => (b | 0x20) - b'a' + 10,
        };
        self.left = self.left << 4 | u64::from(value);
        None
    }

    fn size_line_ends(&mut self) -> Option<&'static str> {
        if !self.digits {
            return Some("a chunk-size line without a number");
        }
        self.state = if self.left == 0 { State::Trailers } else { State::Data };
        None
    }

    /// Takes bytes of the trailer section, up to and with the empty line that ends it.
    fn trailer(&mut self, data: &[u8], max: usize) -> (usize, Option<Step<'static>>) {
        let end = memchr::memchr(b'\n', data).map_or(data.len(), |lf| lf + 1);
        if self.trailers.len() + end > max {
            return (0, Some(Step::Bad("a trailer section past the limit of a head")));
        }
        self.trailers.extend_from_slice(&data[..end]);
        let line = &self.trailers[self.trailer_line..];
        if line != b"\r\n" && line != b"\n" {
            if line.ends_with(b"\n") {
                self.trailer_line = self.trailers.len();
            }
            return (end, None);
        }
        let trailers = std::mem::take(&mut self.trailers);
        (end, Some(Step::End((self.trailer_line > 0).then_some(trailers))))
    }

    /// Skips `n` lost bytes if they all lie in this chunk's data; else framing is lost.
    pub(super) fn skip(&mut self, n: u64) -> bool {
        if self.state != State::Data || n > self.left {
            return false;
        }
        self.left -= n;
        if self.left == 0 {
            self.state = State::DataEnd;
        }
        true
    }

    /// Bytes of the chunk at hand still to come; 0 where something else than data comes next.
    pub(super) fn left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Whether the last chunk was there, so that only the end of the trailer section is missing.
    pub(super) fn data_complete(&self) -> bool {
        self.state == State::Trailers
    }

    /// Heap memory held.
    pub(super) fn memory(&self) -> usize {
        self.trailers.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Body, trailers and length of the unused rest.
    type Read = (Vec<u8>, Option<Vec<u8>>, usize);

    /// What is read, or what is bad; bytes given `n` at a time.
    fn read(bytes: &[u8], n: usize) -> Result<Read, &'static str> {
        let mut chunked = Chunked::default();
        let mut body = Vec::new();
        let mut done = 0;
        for piece in bytes.chunks(n) {
            let mut at = 0;
            while at < piece.len() {
                let (used, step) = chunked.step(&piece[at..], 64);
                at += used;
                match step {
                    Step::More => {}
                    Step::Data(data) => body.extend_from_slice(data),
                    Step::End(trailers) => return Ok((body, trailers, bytes.len() - done - at)),
                    Step::Bad(why) => return Err(why),
                }
            }
            done += piece.len();
        }
        Err("not ended")
    }

    #[test]
    fn bodies_however_cut() {
        for (bytes, body, trailers, rest) in [
            (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..], None, 0),
            (b"5;a=b;c=\"d\"\r\nhello\r\n00A \r\n0123456789\r\n0;x\r\n\r\nnext", b"hello0123456789", None, 4),
            (b"3\nabc\n0\n\n", b"abc", None, 0),
            (b"1\r\na\r\n0\r\nX: 1\r\nY: 2\r\n\r\n", b"a", Some(&b"X: 1\r\nY: 2\r\n\r\n"[..]), 0),
            (b"0\r\n\r\n", b"", None, 0),
        ] {
            for n in 1..=bytes.len() {
                let want = Ok((body.to_vec(), trailers.map(<[u8]>::to_vec), rest));
                assert_eq!(read(bytes, n), want, "{} by {n}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_not_valid() {
        for bytes in [
            &b"x\r\n"[..],
            b"-1\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"\r\n",
            b"5\r\nhelloworld",
            b"10000000000000000\r\n",
            b"5 5\r\nhello",
            &[&b"0\r\nA: "[..], &[b'x'; 99]].concat(),
        ] {
            for n in [1, 3, bytes.len()] {
                assert!(read(bytes, n).is_err(), "{} by {n}", bytes.escape_ascii());
            }
        }
        let long = [&b"5;"[..], &vec![b'x'; MAX_SIZE_LINE as usize]].concat();
        assert_eq!(read(&long, 1000), Err("a chunk-size line without end"));
        let zeros = vec![b'0'; MAX_SIZE_LINE as usize + 1];
        assert_eq!(read(&zeros, 1000), Err("a chunk-size line without end"));
    }

    #[test]
    fn a_gap_is_skipped_only_within_data() {
        let mut chunked = Chunked::default();
        assert!(!chunked.skip(1));
        assert_eq!(chunked.step(b"a\r\n012", 64), (6, Step::Data(b"012")));
        assert!(!chunked.skip(8));
        assert!(chunked.skip(7));
        assert!(!chunked.skip(1));
        assert_eq!(chunked.step(b"\r\n0\r\n", 64), (5, Step::More));
        assert_eq!(chunked.step(b"\r\n", 64), (2, Step::End(None)));
    }

    /// What the last byte of `line` comes to.
    fn last(line: &[u8]) -> Step<'_> {
        let mut chunked = Chunked::default();
        assert_eq!(chunked.step(&line[..line.len() - 1], 100), (line.len() - 1, Step::More));
        chunked.step(&line[line.len() - 1..], 100).1
    }

    #[test]
    fn a_size_line_is_bad_from_its_first_wrong_byte() {
        let most = MAX_SIZE_LINE as usize;
        let (digits, extension) = ("0".repeat(most), format!("1;{}", "x".repeat(most - 2)));
        for (line, good) in [
            ("5", true),
            (" \t5", true),
            ("5 ", true),
            ("5 5", false),
            (";", false),
            (" ;", false),
            ("\r\n", false),
            ("\n", false),
            (&digits, true),
            (&format!("{digits}0"), false),
            (&extension, true),
            (&format!("{extension}x"), false),
            ("ffffffffffffffff", true),
            ("10000000000000000", false),
        ] {
            assert_eq!(last(line.as_bytes()) == Step::More, good, "{:?}", &line[..line.len().min(20)]);
        }
    }

    #[test]
    fn trailers_may_be_as_long_as_the_limit() {
        let trailers = b"A: b\r\n\r\n";
        for (max, good) in [(trailers.len(), true), (trailers.len() - 1, false)] {
            let mut chunked = Chunked::default();
            assert_eq!(chunked.step(b"0\r\n", max), (3, Step::More));
            let (_, step) = chunked.step(trailers, max);
            assert_eq!(matches!(step, Step::End(Some(_))), good, "{step:?}");
        }
    }
}
