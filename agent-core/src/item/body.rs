//! A message's body as it came, and its content, which is decoded each time that somebody reads it.
//!
//! Invariant: an item holds the coded bytes alone, so what counts its memory counts all of it; decoded ones are the
//! reader's, at most the cap of them at a time.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::anomaly::{Anomaly, AnomalyKind};
use crate::dissect::content::{Codings, Decoded, decode};

/// Of a body that its codings do not fit.
pub(super) static BAD_CODING: Anomaly = Anomaly {
    kind: AnomalyKind::HttpBadContentEncoding,
    msg: Cow::Borrowed("the body is not what its Content-Encoding says"),
};

/// A message's body.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Bytes after transfer decoding and before content decoding (what `Content-Length` says), missing ones included.
    pub size: u64,
    /// Bytes of `size` that were not captured.
    pub missing: u64,
    /// The start of the body after transfer decoding and before content decoding, at most [`crate::Limits::body`].
    /// [`Body::content`] is what it means.
    pub bytes: Box<[u8]>,
    /// Whether `bytes` is not all of the body (cap reached, or bytes missing).
    pub truncated: bool,
    /// The codings to undo, if there are any and all are known.
    pub coded: Option<Box<Coded>>,
    /// SHA-256 of the body after transfer and before content decoding, where asked for and nothing is missing.
    pub sha256: Option<Box<[u8; 32]>>,
}

/// How a body's content codings are undone, and whether they can be, once somebody tried.
#[derive(Debug)]
pub struct Coded {
    codings: Codings,
    cap: usize,
    /// How often it was decoded.
    times: AtomicU32,
    /// Whether it does not decode; known from the first time on.
    bad: AtomicBool,
}

/// What a body means: itself, or what its codings were undone to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content<'a> {
    /// The start of the body after transfer and content decoding, at most [`crate::Limits::body`].
    pub bytes: Cow<'a, [u8]>,
    /// True length of the content as far as it is known; equals `bytes.len()` unless `truncated`.
    pub size: u64,
    /// Whether `bytes` is not all of the content (cap reached, or bytes missing).
    pub truncated: bool,
    /// Whether a content coding was undone. When a coding failed this is false and `bytes` are the coded bytes.
    pub decoded: bool,
}

impl Coded {
    /// Undoes `codings` up to `cap` bytes of each. `None`: there is nothing that can be undone.
    #[must_use]
    pub fn new(codings: Codings, cap: usize) -> Option<Box<Self>> {
        let (times, bad) = (AtomicU32::new(0), AtomicBool::new(false));
        codings.decodable().then(|| Box::new(Self { codings, cap, times, bad }))
    }

    /// Decodes; the start of the body alone, if it is `cut`.
    fn decode(&self, bytes: &[u8], cut: bool) -> Decoded {
        let decoded = decode(&self.codings, bytes, cut, self.cap);
        if decoded == Decoded::Failed {
            self.bad.store(true, Ordering::Relaxed);
        }
        // Whoever sees this has to see that.
        self.times.fetch_add(1, Ordering::Release);
        decoded
    }

    fn times(&self) -> u32 {
        self.times.load(Ordering::Acquire)
    }

    /// Whether it does not decode, if that is known.
    fn verdict(&self) -> Option<bool> {
        (self.times() > 0).then(|| self.bad.load(Ordering::Relaxed))
    }
}

impl Clone for Coded {
    fn clone(&self) -> Self {
        let times = AtomicU32::new(self.times());
        let bad = AtomicBool::new(self.bad.load(Ordering::Relaxed));
        Self { codings: self.codings, cap: self.cap, times, bad }
    }
}

impl Body {
    /// What the body means. One with codings is decoded each time this is asked: read all that is needed of one answer.
    #[must_use]
    #[inline]
    pub fn content(&self) -> Content<'_> {
        match &self.coded {
            None => self.plain(),
            Some(coded) => self.decode(coded),
        }
    }

    #[cold]
    fn decode(&self, coded: &Coded) -> Content<'_> {
        if coded.verdict() == Some(true) {
            return self.plain();
        }
        let (content, truncated) = match coded.decode(&self.bytes, self.truncated) {
            Decoded::Whole(content) => (content, false),
            Decoded::Start(content) => (content, true),
            Decoded::Failed => return self.plain(),
        };
        Content { size: content.len() as u64, bytes: Cow::Owned(content), truncated, decoded: true }
    }

    /// The bytes as they came.
    #[inline]
    fn plain(&self) -> Content<'_> {
        let bytes = Cow::Borrowed(&*self.bytes);
        Content { bytes, size: self.size, truncated: self.truncated, decoded: false }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size == 0 && self.bytes.is_empty()
    }

    /// Whether [`Body::content`] has something to decode.
    #[must_use]
    #[inline]
    pub fn is_coded(&self) -> bool {
        self.coded.is_some()
    }

    /// Whether the body is not what its codings say. Decodes it where nobody did before.
    #[must_use]
    #[inline]
    pub fn is_badly_coded(&self) -> bool {
        self.coded.as_ref().is_some_and(|coded| {
            coded.verdict().unwrap_or_else(|| coded.decode(&self.bytes, self.truncated) == Decoded::Failed)
        })
    }

    /// How often it was decoded: 0 for as long as nobody has read it, and always of one without codings.
    #[must_use]
    pub fn times_decoded(&self) -> u32 {
        self.coded.as_ref().map_or(0, |coded| coded.times())
    }

    /// Heap memory held, in bytes.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        self.bytes.len() + if self.is_coded() { size_of::<Coded>() } else { 0 }
    }
}

#[cfg(test)]
mod tests;
