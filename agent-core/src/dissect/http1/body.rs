//! Collects one message's body: its true size always, its bytes up to the cap, its hash where asked for.
//!
//! Coded bodies are kept as they came, up to the cap, and decoded when somebody reads them ([`Body::content`]): that is bounded,
//! needs no decoder state between packets, and nothing at all of what nobody reads.

use sha2::{Digest, Sha256};

use crate::dissect::content::Codings;
use crate::item::{Body, Coded};

/// Memory is claimed for so many times the bytes that have come, where so many are promised: a large body is then moved twice
/// on its way to the cap, not six times.
const AHEAD: usize = 8;

/// A body being read.
#[derive(Debug)]
pub(super) struct BodyReader {
    size: u64,
    missing: u64,
    kept: Vec<u8>,
    /// Whether `kept` is all of the body so far.
    whole: bool,
    codings: Codings,
    cap: usize,
    hash: Option<Box<Sha256>>,
}

impl BodyReader {
    pub(super) fn new(codings: Codings, cap: usize, hash: bool) -> Self {
        let hash = hash.then(Box::default);
        Self { size: 0, missing: 0, kept: Vec::new(), whole: true, codings, cap, hash }
    }

    /// Takes bytes; `left` more are expected after them, as far as is known.
    pub(super) fn data(&mut self, data: &[u8], left: u64) {
        self.size = self.size.saturating_add(data.len() as u64);
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
        if !self.whole {
            return;
        }
        let room = self.cap - self.kept.len();
        let taken = &data[..data.len().min(room)];
        self.reserve(taken.len(), usize::try_from(left).unwrap_or(usize::MAX), room);
        self.kept.extend_from_slice(taken);
        self.whole = taken.len() == data.len();
    }

    /// Grows in steps that never claim more than [`AHEAD`] times what came: a length is only somebody's word.
    fn reserve(&mut self, now: usize, left: usize, room: usize) {
        if self.kept.capacity() - self.kept.len() < now {
            let ahead = left.min((AHEAD - 1) * (self.kept.len() + now)).min(room - now);
            self.kept.reserve_exact(now + ahead);
        }
    }

    /// Whether it looks at bytes, or only counts them.
    pub(super) fn wants(&self) -> bool {
        self.whole || self.hash.is_some()
    }

    /// Takes note of bytes that it would only count, or of lost ones.
    pub(super) fn skip(&mut self, unneeded: bool, n: u64) {
        if unneeded {
            self.size = self.size.saturating_add(n);
        } else {
            self.gap(n);
        }
    }

    /// Takes note of lost bytes.
    pub(super) fn gap(&mut self, n: u64) {
        self.size = self.size.saturating_add(n);
        self.missing = self.missing.saturating_add(n);
        self.whole = false;
        self.hash = None;
    }

    /// Bytes lost so far.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// Heap memory held.
    pub(super) fn memory(&self) -> usize {
        self.kept.capacity() + if self.hash.is_some() { size_of::<Sha256>() } else { 0 }
    }

    /// The body; `complete`: its end was seen.
    pub(super) fn finish(self, complete: bool) -> Body {
        let whole = self.whole && complete;
        let mut body = Body { size: self.size, missing: self.missing, ..Body::default() };
        if let (Some(hash), true, true) = (self.hash, complete, self.size > 0) {
            body.sha256 = Some(Box::new(hash.finalize().into()));
        }
        if self.size > 0 {
            body.coded = Coded::new(self.codings, self.cap);
        }
        body.bytes = self.kept.into();
        body.truncated = !whole;
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(coding: &str, cap: usize, hash: bool) -> BodyReader {
        let mut codings = Codings::default();
        codings.add(coding.as_bytes());
        BodyReader::new(codings, cap, hash)
    }

    #[test]
    fn a_small_body_is_copied_once_into_a_buffer_of_its_size() {
        let mut body = reader("", 100, false);
        body.data(b"hello", 0);
        assert_eq!(body.memory(), 5);
        let body = body.finish(true);
        assert_eq!(
            (&*body.bytes, body.size, body.content().size, body.truncated),
            (&b"hello"[..], 5, 5, false)
        );
        assert!(!body.content().decoded && body.sha256.is_none());
    }

    #[test]
    fn beyond_the_cap_only_the_size_grows() {
        let mut body = reader("", 1000, true);
        let block = [7; 1 << 16];
        for n in 0..1 << 16 {
            body.data(&block, u64::MAX - n);
        }
        assert!(body.memory() <= 1000 + size_of::<Sha256>());
        let body = body.finish(true);
        assert_eq!(
            (body.size, body.content().size, body.bytes.len(), body.truncated),
            (1 << 32, 1 << 32, 1000, true)
        );
        assert!(body.sha256.is_some());
    }

    #[test]
    fn a_promised_length_takes_no_memory() {
        let mut body = reader("", 1 << 20, false);
        body.data(b"x", u64::MAX);
        assert!(body.memory() <= AHEAD);
        for _ in 0..100_000 {
            body.data(b"0123456789", 1 << 40);
        }
        assert!(body.memory() <= 2_000_000, "{}", body.memory());
    }

    #[test]
    fn after_a_gap_the_content_is_the_start_before_it() {
        let mut body = reader("", 100, true);
        body.data(b"abc", 7);
        body.gap(4);
        body.data(b"xyz", 0);
        let body = body.finish(true);
        assert_eq!((body.size, body.missing, &*body.bytes, body.truncated), (10, 4, &b"abc"[..], true));
        assert_eq!((body.content().size, body.sha256), (10, None));
    }

    #[test]
    fn a_coding_that_fails_leaves_the_coded_bytes() {
        let mut body = reader("gzip", 100, true);
        body.data(b"not gzip", 0);
        let body = body.finish(true);
        let content = body.content();
        assert_eq!(
            (&*content.bytes, content.size, content.decoded, content.truncated),
            (&b"not gzip"[..], 8, false, false)
        );
        assert!(body.is_badly_coded() && body.sha256.is_some());
    }

    #[test]
    fn a_coded_body_cut_by_the_cap_is_decoded_as_far_as_it_goes() {
        use std::io::Write;
        let big: Vec<u8> =
            (0..40_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&big).unwrap();
        let coded = gz.finish().unwrap();
        let mut body = reader("gzip", 10_000, false);
        for piece in coded.chunks(1000) {
            body.data(piece, 0);
        }
        let body = body.finish(true);
        let content = body.content();
        assert!(!body.is_badly_coded() && content.decoded && content.truncated && body.truncated);
        assert_eq!((body.size, content.size, content.bytes.len()), (coded.len() as u64, 10_000, 10_000));
        assert!(big.starts_with(&content.bytes));
    }
}
