//! A window over a capture file: bytes are read in large pieces into one buffer and parsed where they lie.
//!
//! ```text
//! buffer  [ consumed | unread ........ | free ]
//!         0        start              end    len
//! ```
//!
//! Invariants: `start <= end <= buffer.len()`; the buffer starts at [`WINDOW`] and grows, up to the caller's need,
//! only for a record that does not fit. gzip (RFC 1952, several members allowed) is undone on the way.

use std::fs::File;
use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// Size of the buffer, in bytes.
const WINDOW: usize = 1 << 20;
/// The least free space worth a read before the unread bytes are moved to the front.
const MIN_READ: usize = 64 << 10;
/// First bytes of a gzip member.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes that were read to sniff the format, then the rest.
type Source = io::Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// Counts what is read from the file itself, so that progress through a compressed file can be told.
struct Counted {
    source: Source,
    read: u64,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(into)?;
        self.read += n as u64;
        Ok(n)
    }
}

enum Reader {
    Plain(Counted),
    Gzip(Box<MultiGzDecoder<Counted>>),
}

/// What there was of the bytes asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filled {
    /// All of them.
    Enough,
    /// The file ends before them.
    End,
}

/// The window.
pub(super) struct Input {
    reader: Reader,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset, in the uncompressed file, of `buffer[0]`.
    base: u64,
    ended: bool,
    /// Whether the compressed stream ended before its own end.
    cut: bool,
}

impl Input {
    pub(super) fn open(file: File) -> io::Result<Self> {
        Self::from_reader(Box::new(file))
    }

    pub(super) fn from_reader(mut reader: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut first = Vec::with_capacity(GZIP.len());
        reader.by_ref().take(GZIP.len() as u64).read_to_end(&mut first)?;
        let compressed = first == GZIP;
        let counted = Counted { source: Cursor::new(first).chain(reader), read: 0 };
        let reader = if compressed {
            Reader::Gzip(Box::new(MultiGzDecoder::new(counted)))
        } else {
            Reader::Plain(counted)
        };
        Ok(Self { reader, buffer: vec![0; WINDOW], start: 0, end: 0, base: 0, ended: false, cut: false })
    }

    /// Bytes read and not yet consumed.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Marks the first `n` unread bytes as done with.
    pub(super) fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    /// Offset of the first unread byte in the uncompressed file.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// How far through the file as it lies on disk, in bytes.
    pub(super) fn position(&self) -> u64 {
        match &self.reader {
            Reader::Plain(_) => self.offset(),
            Reader::Gzip(decoder) => decoder.get_ref().read,
        }
    }

    /// Whether a compressed file ended in the middle.
    pub(super) fn cut(&self) -> bool {
        self.cut
    }

    /// Reads until at least `want` bytes are unread, or the file ends.
    pub(super) fn fill(&mut self, want: usize) -> io::Result<Filled> {
        while self.end - self.start < want {
            if self.ended {
                return Ok(Filled::End);
            }
            self.make_room(want);
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            let read = match &mut self.reader {
                Reader::Plain(reader) => reader.read(free),
                Reader::Gzip(decoder) => decoder.read(free),
            };
            match read {
                Ok(0) => self.ended = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A compressed file cut short: what could be inflated is used.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => (self.ended, self.cut) = (true, true),
                Err(e) => return Err(e),
            }
        }
        Ok(Filled::Enough)
    }

    /// Passes over `n` bytes, however many. Returns how many there were.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<u64> {
        let mut left = n;
        while left > 0 {
            if self.start == self.end && self.fill(1)? == Filled::End {
                break;
            }
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(self.end - self.start);
            self.consume(step);
            left -= step as u64;
        }
        Ok(n - left)
    }

    /// Makes room for `want` unread bytes, and for a read that is worth its call.
    fn make_room(&mut self, want: usize) {
        if self.start == self.end
            || self.buffer.len() - self.end < MIN_READ.max(want - (self.end - self.start))
        {
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        if want > self.buffer.len() {
            self.buffer.resize(want, 0);
        }
    }
}
