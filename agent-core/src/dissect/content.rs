//! Content codings (RFC 9110 section 8.4), undone up to a cap.
//!
//! A body costs no more than the cap in output, and a fixed amount in decoder state, whatever its ratio: decoding stops
//! one byte past the cap, brotli's window is at most 16 MiB (RFC 7932; large windows are refused) and Zstandard's at most
//! 8 MiB (RFC 9659). All decoders are pure Rust.
//!
//! The Zstandard decoder (ruzstd) asserts the sums of its own arithmetic. No input is known that makes one fail: millions of
//! damaged frames did not (a test holds some against it), and what is read of the input is checked before it. Should
//! there be one nevertheless, unwinding confines it to its body, which then counts as not decodable; the process's panic hook
//! prints it, which nothing in this crate can help, for there is one hook for all threads. Nothing else relies on
//! unwinding: where a panic aborts (WebAssembly), such an input would end the program.

use std::io::{ErrorKind, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Codings of one message that are undone; more are left as they are.
const MAX_STACKED: usize = 4;

/// Zstandard windows beyond this are refused (RFC 9659 section 3).
const ZSTD_WINDOW: u64 = 8 << 20;

/// One coding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The codings of a body, in the order in which they were applied.
#[derive(Clone, Copy, Default, Debug)]
pub struct Codings {
    stack: [Option<Coding>; MAX_STACKED],
    unknown: bool,
}

impl Codings {
    /// Adds the value of a `Content-Encoding` field.
    pub fn add(&mut self, value: &[u8]) {
        for name in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let coding = match name.len() {
                0 => continue,
                _ if is("identity") => continue,
                _ if is("gzip") || is("x-gzip") => Some(Coding::Gzip),
                _ if is("deflate") => Some(Coding::Deflate),
                _ if is("br") => Some(Coding::Brotli),
                _ if is("zstd") => Some(Coding::Zstd),
                _ => None,
            };
            match self.stack.iter_mut().find(|slot| slot.is_none()) {
                Some(slot) if coding.is_some() => *slot = coding,
                _ => self.unknown = true,
            }
        }
    }

    /// Whether there is something that can be undone: one coding or more, all of them known.
    #[must_use]
    pub fn decodable(&self) -> bool {
        !self.unknown && self.stack[0].is_some()
    }

    /// Whether the content is as it was made.
    #[must_use]
    pub fn identity(&self) -> bool {
        !self.unknown && self.stack[0].is_none()
    }
}

/// What decoding gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// All of the content.
    Whole(Vec<u8>),
    /// Its start: the cap was reached, or the coded bytes were cut.
    Start(Vec<u8>),
    /// The bytes are not what the coding says.
    Failed,
}

/// Undoes `codings`, last applied first. `cut`: the coded bytes are only the start of the body. At most `cap` bytes are
/// kept of each step.
#[must_use]
pub fn decode(codings: &Codings, coded: &[u8], cut: bool, cap: usize) -> Decoded {
    let mut cut = cut;
    let mut current: Option<Vec<u8>> = None;
    for coding in codings.stack.iter().rev().flatten() {
        let input = current.as_deref().unwrap_or(coded);
        match step(*coding, input, cut, cap) {
            Decoded::Whole(out) => current = Some(out),
            Decoded::Start(out) => {
                cut = true;
                current = Some(out);
            }
            Decoded::Failed => return Decoded::Failed,
        }
    }
    let out = current.unwrap_or_else(|| coded.to_vec());
    if cut { Decoded::Start(out) } else { Decoded::Whole(out) }
}

fn step(coding: Coding, input: &[u8], cut: bool, cap: usize) -> Decoded {
    if input.is_empty() {
        // An empty body stays empty, whatever it is said to be.
        return if cut { Decoded::Start(Vec::new()) } else { Decoded::Whole(Vec::new()) };
    }
    match coding {
        Coding::Gzip => gzip(input, cut, cap),
        Coding::Deflate => deflate(input, cut, cap),
        Coding::Brotli => brotli(input, cut, cap),
        Coding::Zstd => zstd(input, cut, cap),
    }
}

/// How reading from a decoder ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    Cap,
    InputEnd,
    Corrupt,
}

/// Reads until `out` holds `cap` bytes, and looks whether there is one more.
fn read_capped(from: &mut impl Read, out: &mut Vec<u8>, cap: usize) -> Ending {
    loop {
        let start = out.len();
        // As much again as there is: few steps, and no copy of what was decoded.
        out.resize(start + start.max(8 << 10).min(cap.saturating_sub(start).saturating_add(1)), 0);
        let read = from.read(&mut out[start..]);
        out.truncate(start + read.as_ref().map_or(0, |n| *n));
        match read {
            Ok(0) => return Ending::Done,
            Ok(_) if out.len() > cap => {
                out.truncate(cap);
                return Ending::Cap;
            }
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ending::InputEnd,
            Err(_) => return Ending::Corrupt,
        }
    }
}

fn judged(ending: Ending, out: Vec<u8>, cut: bool) -> Decoded {
    match ending {
        Ending::Done if !cut => Decoded::Whole(out),
        Ending::Done | Ending::Cap => Decoded::Start(out),
        Ending::InputEnd if cut => Decoded::Start(out),
        Ending::InputEnd | Ending::Corrupt => Decoded::Failed,
    }
}

/// RFC 1952, with several members; what follows them is ignored, as browsers do.
fn gzip(input: &[u8], cut: bool, cap: usize) -> Decoded {
    let mut out = Vec::new();
    let mut rest = input;
    loop {
        let mut decoder = GzDecoder::new(rest);
        let ending = read_capped(&mut decoder, &mut out, cap);
        rest = decoder.into_inner();
        if ending != Ending::Done || !rest.starts_with(&[0x1f, 0x8b]) {
            return judged(ending, out, cut);
        }
    }
}

/// zlib (RFC 1950), or raw deflate (RFC 1951), which many senders mean.
fn deflate(input: &[u8], cut: bool, cap: usize) -> Decoded {
    let zlib = match *input {
        [cmf, flg, ..] => cmf & 0x0f == 8 && u16::from_be_bytes([cmf, flg]).is_multiple_of(31),
        [cmf] => cmf & 0x0f == 8,
        [] => true,
    };
    if zlib {
        let mut out = Vec::new();
        let ending = read_capped(&mut ZlibDecoder::new(input), &mut out, cap);
        let answer = judged(ending, out, cut);
        if answer != Decoded::Failed {
            return answer;
        }
    }
    let mut out = Vec::new();
    let ending = read_capped(&mut DeflateDecoder::new(input), &mut out, cap);
    judged(ending, out, cut)
}

/// RFC 7932.
fn brotli(input: &[u8], cut: bool, cap: usize) -> Decoded {
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut out = Vec::new();
    let mut buffer = [0; 8 << 10];
    let (mut left, mut at, mut total) = (input.len(), 0, 0);
    loop {
        let (mut room, mut end) = (buffer.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            input,
            &mut room,
            &mut end,
            &mut buffer,
            &mut total,
            &mut state,
        );
        let wanted = cap.saturating_sub(out.len());
        out.extend_from_slice(&buffer[..end.min(wanted)]);
        if end > wanted {
            return Decoded::Start(out);
        }
        let ending = match result {
            BrotliResult::NeedsMoreOutput => continue,
            BrotliResult::ResultSuccess => Ending::Done,
            BrotliResult::NeedsMoreInput => Ending::InputEnd,
            BrotliResult::ResultFailure => Ending::Corrupt,
        };
        return judged(ending, out, cut);
    }
}

/// RFC 8878: frames, skippable ones between them.
fn zstd(input: &[u8], cut: bool, cap: usize) -> Decoded {
    let mut out = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        if let Some(after) = skippable(rest) {
            match after {
                Some(after) => rest = after,
                None => return judged(Ending::InputEnd, out, cut),
            }
            continue;
        }
        // See the module: no input is known for which this matters.
        let frame = std::panic::catch_unwind(|| zstd_frame(rest, cap - out.len()));
        let Ok((more, ending, after)) = frame else { return Decoded::Failed };
        out.extend_from_slice(&more);
        if ending != Ending::Done {
            return judged(ending, out, cut);
        }
        rest = after;
    }
    judged(Ending::Done, out, cut)
}

/// RFC 8878 section 3.1.2: the bytes after a skippable frame, `Some(None)` if it is cut.
fn skippable(input: &[u8]) -> Option<Option<&[u8]>> {
    let magic = u32::from_le_bytes(*input.first_chunk()?);
    if magic & 0xffff_fff0 != 0x184d_2a50 {
        return None;
    }
    let size = input.get(4..8).and_then(|b| b.first_chunk().copied()).map(u32::from_le_bytes);
    Some(size.and_then(|n| input.get(8 + n as usize..)))
}

/// Decodes one frame up to `cap` bytes: output, how it ended, the input after it.
fn zstd_frame(input: &[u8], cap: usize) -> (Vec<u8>, Ending, &[u8]) {
    /// A last, empty, raw block, and a checksum that nobody checks: makes the decoder give out what it holds back as
    /// its window.
    const LAST_BLOCK: &[u8] = &[1, 0, 0, 0, 0, 0, 0];
    let mut source = input;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    if decoder.init(&mut source).is_err() {
        return (Vec::new(), input_or_bytes(source), &[]);
    }
    let mut ending = Ending::Done;
    let enough = BlockDecodingStrategy::UptoBytes(cap.saturating_add(1));
    match decoder.decode_blocks(&mut source, enough) {
        Ok(true) => {}
        Ok(false) => ending = Ending::Cap,
        Err(_) => ending = input_or_bytes(source),
    }
    if ending != Ending::Done && decoder.decode_blocks(LAST_BLOCK, BlockDecodingStrategy::All).is_err() {
        return (Vec::new(), Ending::Corrupt, &[]);
    }
    let mut out = decoder.collect().unwrap_or_default();
    if out.len() > cap {
        out.truncate(cap);
        ending = Ending::Cap;
    }
    (out, ending, source)
}

/// Why the Zstandard decoder failed: reading past the end leaves nothing of the input.
fn input_or_bytes(rest: &[u8]) -> Ending {
    if rest.is_empty() { Ending::InputEnd } else { Ending::Corrupt }
}

#[cfg(test)]
mod tests;
