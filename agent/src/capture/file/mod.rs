//! Capture files: pcap and pcapng, plain or gzip'd, from a path or from standard input.
//!
//! ```text
//! file → Input (blocks, read ahead by a thread) → Classic | Ng (parse in place) → Packet that borrows the block
//! ```
//!
//! Invariants: nothing is allocated for a packet; memory is a few blocks that grow only for a record that does not fit.
//! A file cut short is a fact: its packets are used, [`FileSource::truncated`] tells, a warning names the place. A
//! record that cannot be is an error, after the packets before it were handed out. Unknown link types pass.

mod classic;
mod input;
mod ng;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Packet;

use super::{PacketSource, Progress};
use classic::Classic;
pub use input::Block;
use input::{BLOCK, Filled, Input};
use ng::Ng;

/// The largest packet accepted whatever the snap length says, in bytes: what tshark accepts.
const LARGEST_PACKET: u32 = 256 << 10;
/// A snap length above this is not believed.
const LARGEST_SNAPLEN: u32 = 16 << 20;

/// Why a capture file cannot be read (on). Names the file, the place, and what was found there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureFileError {
    /// It could not be opened.
    #[error("{path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{path}: not a capture file: it is empty; expected pcap or pcapng")]
    Empty {
        /// The file.
        path: String,
    },
    /// It begins like no format that is known.
    #[error("{path}: not a capture file: starts with {start}; expected pcap or pcapng")]
    NotACapture {
        /// The file.
        path: String,
        /// Its first bytes, in hexadecimal.
        start: String,
    },
    /// Something in it cannot be.
    #[error("{path}: damaged at byte {offset}: {found}")]
    Damaged {
        /// The file.
        path: String,
        /// Where, in bytes from the start of the (uncompressed) file.
        offset: u64,
        /// What was found there.
        found: String,
    },
    /// Reading failed.
    #[error("{path}: reading at byte {offset}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Where, in bytes from the start of the (uncompressed) file.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// What cannot be, in words; the file and the place are added on the way out.
#[derive(Debug)]
struct Defect(String);

impl Defect {
    fn new(found: impl Into<String>) -> Self {
        Self(found.into())
    }
}

/// What a parser made of the bytes at hand.
enum Step<'a> {
    /// A packet, in so many bytes of the file.
    Packet(Packet<'a>, usize),
    /// So many bytes that hold no packet.
    Consumed(usize),
    /// So many bytes that nobody needs; they need not be at hand.
    Skip(u64),
    /// At least so many bytes must be at hand.
    Need(usize),
}

/// A source whose packets lie in blocks of memory that others may hold on to.
pub trait BlockSource: Send {
    /// Hands the packets of the next block to `sink`, each with the place of its data in [`Block::bytes`]; `None`: there are no
    /// more.
    ///
    /// # Errors
    /// When the source cannot go on.
    fn poll_block(&mut self, sink: &mut dyn FnMut(usize, &Packet<'_>)) -> anyhow::Result<Option<Arc<Block>>>;
}

/// Bytes in hand that hold a whole packet, or one that somebody is just writing.
const MORE: usize = 64 << 10;

enum Format {
    Classic(Classic),
    Ng(Ng),
}

/// Packets from a capture file.
pub struct FileSource {
    path: String,
    input: Input,
    format: Format,
    len: Option<u64>,
    truncated: bool,
    /// Whether packets were asked for.
    begun: bool,
}

impl FileSource {
    /// Opens `path`, or standard input for `-`, and reads the file header.
    ///
    /// # Errors
    /// When it cannot be read, is empty, or is neither pcap nor pcapng.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CaptureFileError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        if path == Path::new("-") {
            return Self::from_reader("standard input", io::stdin());
        }
        let failed = |source| CaptureFileError::Open { path: name.clone(), source };
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let len = meta.is_file().then_some(meta.len());
        let input = Input::open(file).map_err(failed)?;
        Self::start(name, input, len)
    }

    /// Reads a capture from anything that can be read; `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`FileSource::open`].
    pub fn from_reader(name: &str, reader: impl Read + Send + 'static) -> Result<Self, CaptureFileError> {
        let input = Input::from_reader(Box::new(reader))
            .map_err(|source| CaptureFileError::Open { path: name.to_owned(), source })?;
        Self::start(name.to_owned(), input, None)
    }

    /// Size of the file as it lies on disk; unknown for a pipe.
    #[must_use]
    pub fn len_bytes(&self) -> Option<u64> {
        self.len
    }

    /// How much of [`FileSource::len_bytes`] has been read.
    #[must_use]
    pub fn position_bytes(&self) -> u64 {
        self.input.position()
    }

    /// Whether the file ended within a record (known once [`Progress::End`] was returned).
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    fn start(path: String, mut input: Input, len: Option<u64>) -> Result<Self, CaptureFileError> {
        let read = |path: &str, input: &Input, source| CaptureFileError::Read {
            path: path.to_owned(),
            offset: input.offset(),
            source,
        };
        input.fill(8).map_err(|e| read(&path, &input, e))?;
        let Some(&magic) = input.unread().first_chunk::<4>() else {
            return Err(unknown(path, input.unread()));
        };
        if ng::recognises(magic) {
            return Ok(Self {
                path,
                input,
                format: Format::Ng(Ng::default()),
                len,
                truncated: false,
                begun: false,
            });
        }
        if !classic::recognises(magic) {
            return Err(unknown(path, input.unread()));
        }
        let mut want = 4;
        loop {
            if input.fill(want).map_err(|e| read(&path, &input, e))? == Filled::End {
                let found =
                    format!("the file ends within its header ({} of {want} bytes)", input.unread().len());
                return Err(CaptureFileError::Damaged { path, offset: 0, found });
            }
            match Classic::header(input.unread()) {
                Ok(Ok((header, size))) => {
                    input.consume(size);
                    return Ok(Self {
                        path,
                        input,
                        format: Format::Classic(header),
                        len,
                        truncated: false,
                        begun: false,
                    });
                }
                Ok(Err(more)) => want = more,
                Err(Defect(found)) => return Err(CaptureFileError::Damaged { path, offset: 0, found }),
            }
        }
    }

    /// Reads until `want` bytes are at hand. `false`: the file ends before them.
    fn fill(&mut self, want: usize) -> Result<bool, CaptureFileError> {
        match self.input.fill(want) {
            Ok(Filled::Enough) => Ok(true),
            Ok(Filled::End) => {
                if self.input.cut() || !self.input.unread().is_empty() {
                    self.cut_short(want);
                    let rest = self.input.unread().len();
                    self.input.consume(rest);
                }
                Ok(false)
            }
            Err(source) => Err(self.unreadable(source)),
        }
    }

    /// Passes over `n` bytes. `false`: the file ends before them.
    fn skip(&mut self, n: u64) -> Result<bool, CaptureFileError> {
        let passed = self.input.skip(n).map_err(|e| self.unreadable(e))?;
        if passed < n {
            self.cut_short(usize::try_from(n).unwrap_or(usize::MAX));
        }
        Ok(passed == n)
    }

    fn cut_short(&mut self, want: usize) {
        self.truncated = true;
        tracing::warn!(
            file = self.path,
            offset = self.input.offset(),
            "the capture file ends within a record of {want} bytes; what is before it was used"
        );
    }

    fn unreadable(&self, source: io::Error) -> CaptureFileError {
        CaptureFileError::Read { path: self.path.clone(), offset: self.input.offset(), source }
    }

    /// Hands at most `max` packets to `sink`. Stops short, rather than wait for the file, once there is one.
    #[inline]
    fn read(
        &mut self,
        max: usize,
        mut sink: impl FnMut(&Input, &Packet<'_>),
    ) -> Result<Progress, CaptureFileError> {
        let mut count = 0;
        if !std::mem::replace(&mut self.begun, true) && self.len.is_none_or(|len| len > BLOCK as u64) {
            self.input.read_ahead().map_err(|e| self.unreadable(e))?;
        }
        while count < max {
            let step = match &mut self.format {
                Format::Classic(classic) => classic.step(self.input.unread()),
                Format::Ng(ng) => ng.step(self.input.unread()),
            };
            let more = match step {
                Ok(Step::Packet(packet, size)) => {
                    sink(&self.input, &packet);
                    self.input.consume(size);
                    count += 1;
                    true
                }
                Ok(Step::Consumed(size)) => {
                    self.input.consume(size);
                    true
                }
                // What comes next is for the next call: an error, a wait or the end after packets that are in hand.
                Ok(Step::Need(_)) | Err(_) if count > 0 => break,
                Ok(Step::Skip(size)) if count > 0 && size > self.input.unread().len() as u64 => break,
                Ok(Step::Skip(size)) => self.skip(size)?,
                Ok(Step::Need(want)) => self.fill(want)?,
                Err(Defect(found)) => {
                    let offset = self.input.offset();
                    return Err(CaptureFileError::Damaged { path: self.path.clone(), offset, found });
                }
            };
            if !more {
                break;
            }
        }
        Ok(if count > 0 { Progress::Packets(count) } else { Progress::End })
    }
}

impl PacketSource for FileSource {
    fn poll(
        &mut self,
        max: usize,
        _wait: Duration,
        sink: &mut dyn FnMut(&Packet<'_>),
    ) -> anyhow::Result<Progress> {
        Ok(self.read(max.max(1), |_, packet| sink(packet))?)
    }

    fn has_more(&self) -> bool {
        self.input.unread().len() >= MORE
    }
}

impl BlockSource for FileSource {
    fn poll_block(&mut self, sink: &mut dyn FnMut(usize, &Packet<'_>)) -> anyhow::Result<Option<Arc<Block>>> {
        let place = |input: &Input, packet: &Packet<'_>| {
            packet.data.as_ptr() as usize - input.block().bytes().as_ptr() as usize
        };
        let progress = self.read(usize::MAX, |input, packet| sink(place(input, packet), packet))?;
        Ok(match progress {
            // Reading stops short of the next block once there is a packet: all of them lie in this one.
            Progress::Packets(_) => Some(Arc::clone(self.input.block())),
            Progress::Idle | Progress::End => None,
        })
    }
}

/// The largest packet that a file with that snap length may hold. Writers get the snap length wrong; a record far
/// beyond it is taken for damage.
fn largest_packet(snaplen: u32) -> u32 {
    LARGEST_PACKET.max(if snaplen > LARGEST_SNAPLEN { 0 } else { snaplen })
}

fn unknown(path: String, start: &[u8]) -> CaptureFileError {
    let start = start.get(..start.len().min(8)).unwrap_or_default();
    if start.is_empty() {
        return CaptureFileError::Empty { path };
    }
    let hex: Vec<String> = start.iter().map(|b| format!("{b:02x}")).collect();
    CaptureFileError::NotACapture { path, start: hex.join(" ") }
}
