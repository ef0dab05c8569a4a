//! Malformed and suspicious traffic, as data on an item.

use std::borrow::Cow;

/// What was odd. The names are part of the item's contract (`anomalies[].type`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AnomalyKind {
    /// Two copies of the same sequence range differ; the first was kept.
    TcpOverlapDiffers,
    /// Bytes that are no message where one was expected.
    HttpInvalidMessage,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.3): a request-smuggling shape.
    HttpBothLengths,
    /// Several `Content-Length` values that differ (RFC 9112 section 6.3).
    HttpConflictingLengths,
    /// A `Content-Length` that is no decimal number that fits.
    HttpBadLength,
    /// A chunk-size line that is not valid (RFC 9112 section 7.1).
    HttpBadChunk,
    /// `Transfer-Encoding` whose last coding is not `chunked`, or one that is not known.
    HttpBadTransferEncoding,
    /// A line ended by a bare LF (RFC 9112 section 2.2).
    HttpBareLf,
    /// A header folded over lines (RFC 9112 section 5.2).
    HttpObsFold,
    /// White space between a field name and its colon (RFC 9112 section 5.1).
    HttpSpaceBeforeColon,
    /// A header section past its limit.
    HttpHeadTooLarge,
    /// A content coding that does not decode.
    HttpBadContentEncoding,
}

impl AnomalyKind {
    /// The name in items: `anomalies[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TcpOverlapDiffers => "tcp-overlap-differs",
            Self::HttpInvalidMessage => "http-invalid-message",
            Self::HttpBothLengths => "http-both-lengths",
            Self::HttpConflictingLengths => "http-conflicting-lengths",
            Self::HttpBadLength => "http-bad-length",
            Self::HttpBadChunk => "http-bad-chunk",
            Self::HttpBadTransferEncoding => "http-bad-transfer-encoding",
            Self::HttpBareLf => "http-bare-lf",
            Self::HttpObsFold => "http-obs-fold",
            Self::HttpSpaceBeforeColon => "http-space-before-colon",
            Self::HttpHeadTooLarge => "http-head-too-large",
            Self::HttpBadContentEncoding => "http-bad-content-encoding",
        }
    }
}

/// One oddity of an item's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anomaly {
    /// What it was.
    pub kind: AnomalyKind,
    /// In words, for a person.
    pub msg: Cow<'static, str>,
}
