//! A window over a capture file: bytes are read in large pieces and parsed where they lie.
//!
//! ```text
//! block  [ room | rest of the block before | as read ... ]
//!          0    ^ start                                ^ end
//! ```
//!
//! Once packets are wanted, a thread reads ahead ([`Ahead`]): the file is copied out of the page cache, or inflated, beside
//! the parsing. What a block ends within goes into the room before the next one, so that records lie in one piece.
//!
//! Invariants: `start <= end <= buffer.len()`; a block is [`BLOCK`] with its [`ROOM`], and grows, up to the caller's need,
//! only for a record that does not fit; a few blocks exist. gzip (RFC 1952, several members allowed) is undone on the way.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use flate2::read::MultiGzDecoder;

/// What is read at once, in bytes.
pub(super) const BLOCK: usize = 512 << 10;
/// Room before it for what is left of the block before: the largest packets that files commonly have.
const ROOM: usize = 256 << 10;
/// Blocks that are read before they are asked for.
const AHEAD: usize = 2;
/// First bytes of a gzip member.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes that were read to sniff the format, then the rest.
type Source = io::Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// Counts what is read from the file itself, so that progress through a compressed file can be told.
struct Counted {
    source: Source,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(into)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

enum Reader {
    Plain(Counted),
    Gzip(Box<MultiGzDecoder<Counted>>),
}

/// What one read came to.
enum Piece {
    /// A block, and where the bytes in it end.
    Bytes(Vec<u8>, usize),
    /// The end; `true`: the compressed stream ended before its own end.
    End(bool),
    Failed(io::Error),
}

impl Reader {
    /// Reads into a block, behind its room.
    fn piece(&mut self, mut block: Vec<u8>) -> Piece {
        block.resize(ROOM + BLOCK, 0);
        loop {
            let into = block.get_mut(ROOM..).unwrap_or_default();
            let read = match self {
                Self::Plain(reader) => reader.read(into),
                Self::Gzip(decoder) => decoder.read(into),
            };
            return match read {
                Ok(0) => Piece::End(false),
                Ok(n) => Piece::Bytes(block, ROOM + n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // A compressed file cut short: what could be inflated is used.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Piece::End(true),
                Err(e) => Piece::Failed(e),
            };
        }
    }
}

/// Who reads: this thread, or, once packets are wanted, one of its own.
enum Way {
    /// With a block to read into.
    Here(Reader, Vec<u8>),
    Ahead(Ahead),
    Ended,
}

/// A thread that reads ahead. It ends with the file, or when nobody waits for its blocks.
struct Ahead {
    pieces: Receiver<Piece>,
    spent: Sender<Vec<u8>>,
}

impl Ahead {
    fn start(mut reader: Reader) -> io::Result<Self> {
        let (send, pieces): (SyncSender<Piece>, _) = sync_channel(AHEAD);
        let (spent, empty): (_, Receiver<Vec<u8>>) = channel();
        std::thread::Builder::new().name("read".to_owned()).spawn(move || {
            loop {
                let piece = reader.piece(empty.try_recv().unwrap_or_default());
                let last = !matches!(piece, Piece::Bytes(..));
                if send.send(piece).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Self { pieces, spent })
    }
}

/// Bytes of a capture file, shared by those who read packets in it. The last one who does gives its memory back to be read
/// into again.
#[derive(Debug, Default)]
pub struct Block {
    bytes: Vec<u8>,
    spent: Option<Sender<Vec<u8>>>,
}

impl Block {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(spent) = self.spent.take() {
            // Err: the thread has ended, and needs none.
            let _ = spent.send(std::mem::take(&mut self.bytes));
        }
    }
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
    way: Way,
    buffer: Arc<Block>,
    start: usize,
    end: usize,
    /// Offset, in the uncompressed file, of the first unread byte.
    offset: u64,
    /// Bytes read of a compressed file itself.
    compressed: Option<Arc<AtomicU64>>,
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
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { source: Cursor::new(first).chain(reader), read: Arc::clone(&read) };
        let reader = if compressed {
            Reader::Gzip(Box::new(MultiGzDecoder::new(counted)))
        } else {
            Reader::Plain(counted)
        };
        let compressed = compressed.then_some(read);
        let way = Way::Here(reader, Vec::new());
        Ok(Self { way, buffer: Arc::default(), start: 0, end: 0, offset: 0, compressed, cut: false })
    }

    /// From here on a thread reads ahead.
    ///
    /// # Errors
    /// When there can be none.
    pub(super) fn read_ahead(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.way, Way::Ended) {
            Way::Here(reader, _) => self.way = Way::Ahead(Ahead::start(reader)?),
            other => self.way = other,
        }
        Ok(())
    }

    /// Bytes read and not yet consumed.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The block that the unread bytes lie in.
    pub(super) fn block(&self) -> &Arc<Block> {
        &self.buffer
    }

    /// Marks the first `n` unread bytes as done with.
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        self.start += n;
        self.offset += n as u64;
    }

    /// Offset of the first unread byte in the uncompressed file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How far through the file as it lies on disk, in bytes.
    pub(super) fn position(&self) -> u64 {
        self.compressed.as_ref().map_or(self.offset, |read| read.load(Ordering::Relaxed))
    }

    /// Whether a compressed file ended in the middle.
    pub(super) fn cut(&self) -> bool {
        self.cut
    }

    /// Reads until at least `want` bytes are unread, or the file ends.
    pub(super) fn fill(&mut self, want: usize) -> io::Result<Filled> {
        while self.end - self.start < want {
            let piece = match &mut self.way {
                Way::Ended => return Ok(Filled::End),
                Way::Here(reader, block) => reader.piece(std::mem::take(block)),
                // A thread that is gone has told the end.
                Way::Ahead(ahead) => ahead.pieces.recv().unwrap_or(Piece::End(false)),
            };
            match piece {
                Piece::Bytes(block, end) => self.take(block, end),
                Piece::End(cut) => (self.way, self.cut) = (Way::Ended, cut),
                Piece::Failed(error) => {
                    self.way = Way::Ended;
                    return Err(error);
                }
            }
        }
        Ok(Filled::Enough)
    }

    /// Goes on with a block, whose bytes end at `end`.
    fn take(&mut self, mut block: Vec<u8>, end: usize) {
        let left = self.end - self.start;
        match ROOM.checked_sub(left) {
            Some(start) => {
                block[start..ROOM].copy_from_slice(self.unread());
                let before = self.replace(block);
                (self.start, self.end) = (start, end);
                if let Some(mut before) = Arc::into_inner(before).filter(|before| before.spent.is_none()) {
                    self.give_back(std::mem::take(&mut before.bytes));
                }
            }
            // A record larger than the room: it is put together here.
            None => {
                if Arc::get_mut(&mut self.buffer).is_none() {
                    let own = self.unread().to_vec();
                    self.replace(own);
                    (self.start, self.end) = (0, left);
                }
                if let Some(Block { bytes, .. }) = Arc::get_mut(&mut self.buffer) {
                    bytes.truncate(self.end);
                    bytes.drain(..self.start);
                    bytes.extend_from_slice(&block[ROOM..end]);
                    (self.start, self.end) = (0, bytes.len());
                }
                self.give_back(block);
            }
        }
    }

    /// Puts a block into the place of the one at hand.
    fn replace(&mut self, bytes: Vec<u8>) -> Arc<Block> {
        let spent = match &self.way {
            Way::Ahead(ahead) => Some(ahead.spent.clone()),
            Way::Here(..) | Way::Ended => None,
        };
        std::mem::replace(&mut self.buffer, Arc::new(Block { bytes, spent }))
    }

    fn give_back(&mut self, block: Vec<u8>) {
        match &mut self.way {
            Way::Here(_, next) => *next = block,
            // Err: the thread has ended, and needs none.
            Way::Ahead(ahead) => drop(ahead.spent.send(block)),
            Way::Ended => {}
        }
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
}
