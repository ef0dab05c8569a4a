//! A message's head: one buffer, and its fields as ranges into it.
//!
//! What every view asks of a head is found once, when it is made: where the common fields are, and whether its bytes can be
//! shown as they are.

use std::ops::Range;

/// A range of a [`HeaderBlock`]'s buffer. Always within it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A field that is looked for in every message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Common {
    /// `Host`.
    Host,
    /// `Content-Type`.
    ContentType,
    /// `Content-Length`.
    ContentLength,
    /// `Location`.
    Location,
    /// `Cookie`.
    Cookie,
    /// `Set-Cookie`.
    SetCookie,
    /// `Content-Encoding`.
    ContentEncoding,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
}

/// Number of [`Common`] fields.
const COMMON: usize = 9;

impl Common {
    fn of(name: &[u8]) -> Option<Self> {
        let (common, text): (_, &[u8]) = match name.len() {
            4 => (Self::Host, b"host"),
            6 => (Self::Cookie, b"cookie"),
            7 => (Self::Upgrade, b"upgrade"),
            8 => (Self::Location, b"location"),
            10 => (Self::SetCookie, b"set-cookie"),
            12 => (Self::ContentType, b"content-type"),
            14 => (Self::ContentLength, b"content-length"),
            16 => (Self::ContentEncoding, b"content-encoding"),
            17 => (Self::TransferEncoding, b"transfer-encoding"),
            _ => return None,
        };
        folds_to(name, text).then_some(common)
    }
}

/// Whether a name in lower case is `lower`, which has as many bytes, at least four, and only letters and dashes.
#[inline]
fn folds_to(name: &[u8], lower: &[u8]) -> bool {
    // Words that overlap cover all of it. The bit that makes letters small makes a dash of one other byte: CR.
    fn words<const N: usize>(
        name: &[u8],
        lower: &[u8],
        mut same: impl FnMut([u8; N], [u8; N]) -> bool,
    ) -> bool {
        let (Some((a, _)), Some((b, _))) = (name.split_first_chunk(), lower.split_first_chunk()) else {
            return false;
        };
        let (Some(y), Some(z)) = (name.last_chunk(), lower.last_chunk()) else { return false };
        same(*a, *b) && same(*y, *z)
    }
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let same = if lower.len() < 8 {
        words(name, lower, |a, b| u32::from_le_bytes(a) | FOLD as u32 == u32::from_le_bytes(b))
    } else {
        words(name, lower, |a, b| u64::from_le_bytes(a) | FOLD == u64::from_le_bytes(b))
            && (lower.len() <= 16 || name[8..].iter().zip(&lower[8..]).all(|(a, b)| a | 0x20 == *b))
    };
    same && !name.contains(&b'\r')
}

/// Header fields in order, with case and repeats kept: ranges into one buffer.
#[derive(Clone, Default)]
pub struct HeaderBlock {
    /// The head's bytes, and behind them its spans: one allocation, for there are two for each item.
    bytes: Box<[u8]>,
    /// Length of the first part.
    head: u32,
    /// Number of the first field of each [`Common`] name, counted from 1; 0: there is none, [`FAR`]: so far behind that it must be
    /// looked for.
    first: [u8; COMMON],
    /// A bit for each [`Common`] name that more than one field has.
    repeated: u16,
    plain: bool,
}

/// See [`HeaderBlock::first`].
const FAR: u8 = u8::MAX;

/// Bytes of a field's spans: start and end of its name, start and end of its value.
const SPANS: usize = 16;

impl std::fmt::Debug for HeaderBlock {
    /// Without what is only known of it for speed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields: Vec<(Span, Span)> = self.spans().collect();
        f.debug_struct("HeaderBlock").field("buffer", &self.head()).field("fields", &fields).finish()
    }
}

impl HeaderBlock {
    /// A block over `buffer`; a span that leaves the buffer reads as empty.
    #[must_use]
    #[expect(
        clippy::boxed_local,
        clippy::needless_pass_by_value,
        reason = "who makes a block is done with its parts"
    )]
    pub fn new(buffer: Box<[u8]>, fields: Box<[(Span, Span)]>) -> Self {
        Self::of(&[&buffer], fields.iter().copied())
    }

    /// A block over these bytes one after the other.
    pub(crate) fn of(parts: &[&[u8]], fields: impl ExactSizeIterator<Item = (Span, Span)>) -> Self {
        let head = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(head + fields.len() * SPANS);
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let (mut first, mut repeated) = ([0; COMMON], 0);
        for (at, (name, value)) in fields.enumerate() {
            if let Some(common) = bytes[..head].get(name.range()).and_then(Common::of) {
                let number = &mut first[common as usize];
                if *number == 0 {
                    *number = u8::try_from(at + 1).unwrap_or(FAR);
                } else {
                    repeated |= 1 << common as usize;
                }
            }
            let mut spans = [0; SPANS];
            for (into, place) in
                spans.as_chunks_mut().0.iter_mut().zip([name.start, name.end, value.start, value.end])
            {
                *into = place.to_le_bytes();
            }
            bytes.extend_from_slice(&spans);
        }
        // Heads are bounded far below 4 GiB.
        let head = u32::try_from(head).unwrap_or(u32::MAX);
        Self { bytes: bytes.into(), head, first, repeated, plain: false }
    }

    fn head(&self) -> &[u8] {
        self.bytes.get(..self.head as usize).unwrap_or_default()
    }

    fn spans(&self) -> impl ExactSizeIterator<Item = (Span, Span)> {
        let spans = self.bytes.get(self.head as usize..).unwrap_or_default();
        spans.as_chunks::<SPANS>().0.iter().map(|spans| {
            let place =
                |at: usize| u32::from_le_bytes([spans[at], spans[at + 1], spans[at + 2], spans[at + 3]]);
            (Span { start: place(0), end: place(4) }, Span { start: place(8), end: place(12) })
        })
    }

    /// The same, of which is known that no byte within its spans is other than printable ASCII, and none a quotation mark or a
    /// backslash.
    pub(crate) fn known_plain(mut self, plain: bool) -> Self {
        self.plain = plain;
        self
    }

    /// Whether all of it is printable ASCII without quotation marks and backslashes, so that names and values can be shown as they
    /// are. `false` says nothing.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The bytes of a span.
    #[must_use]
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.head().get(span.range()).unwrap_or_default()
    }

    /// Name and value of each field, in order. A folded value is joined by one space; outer white space is cut.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let head = self.head();
        self.spans().map(|(name, value)| {
            let bytes = |span: Span| head.get(span.range()).unwrap_or_default();
            (bytes(name), bytes(value))
        })
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.bytes.len() - self.head().len()) / SPANS
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value of the first field of that name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v)
    }

    /// Value of the first field of a common name, without a search.
    #[must_use]
    #[inline]
    pub fn common(&self, name: Common) -> Option<&[u8]> {
        match self.first[name as usize] {
            0 => None,
            FAR => self.iter().find(|(n, _)| Common::of(n) == Some(name)).map(|(_, v)| v),
            at => self.iter().nth(usize::from(at) - 1).map(|(_, value)| value),
        }
    }

    /// Whether a field of a common name is there.
    #[must_use]
    #[inline]
    pub fn has(&self, name: Common) -> bool {
        self.first[name as usize] != 0
    }

    /// Whether several fields of a common name are there.
    #[must_use]
    #[inline]
    pub fn repeats(&self, name: Common) -> bool {
        self.repeated & 1 << name as usize != 0
    }

    /// Whether both have the same fields in the same order, case and spacing, wherever they begin. `false` says nothing.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let start = |block: &Self| block.spans().next().map_or(block.head, |(name, _)| name.start);
        let (a, b) = (start(self), start(other));
        if self.plain != other.plain || self.head().get(a as usize..) != other.head().get(b as usize..) {
            return false;
        }
        if a == b {
            return self.bytes.get(self.head as usize..) == other.bytes.get(other.head as usize..);
        }
        let moved = |span: Span, by: u32| (span.start.wrapping_sub(by), span.end.wrapping_sub(by));
        let same = |(one, two): ((Span, Span), (Span, Span))| {
            moved(one.0, a) == moved(two.0, b) && moved(one.1, a) == moved(two.1, b)
        };
        self.len() == other.len() && self.spans().zip(other.spans()).all(same)
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(names: &[&str]) -> HeaderBlock {
        let mut buffer = Vec::new();
        let mut put = |text: &str| {
            let start = buffer.len() as u32;
            buffer.extend_from_slice(text.as_bytes());
            Span { start, end: buffer.len() as u32 }
        };
        let fields = names.iter().enumerate().map(|(n, name)| (put(name), put(&n.to_string()))).collect();
        HeaderBlock::new(buffer.into(), fields)
    }

    #[test]
    fn common_fields_are_those_that_a_search_finds() {
        let names = [
            (Common::Host, "HOST"),
            (Common::ContentType, "content-Type"),
            (Common::ContentLength, "Content-Length"),
            (Common::Location, "Location"),
            (Common::Cookie, "cookie"),
            (Common::SetCookie, "Set-Cookie"),
            (Common::ContentEncoding, "Content-Encoding"),
            (Common::TransferEncoding, "Transfer-Encoding"),
            (Common::Upgrade, "Upgrade"),
        ];
        assert_eq!(names.len(), COMMON);
        for before in [0, 3, 253, 254, 255, 400] {
            for (common, name) in names {
                let mut fields = vec!["Date"; before];
                assert!(!block(&fields).has(common));
                fields.extend([name, "Host2", name]);
                let block = block(&fields);
                let found = block.common(common);
                assert_eq!(found, block.get(name), "{name} behind {before}");
                assert_eq!(found, Some(before.to_string().as_bytes()));
                assert!(block.has(common) && block.repeats(common));
            }
        }
        let block =
            block(&["Host", "Server", "Connection", "Locatiom", "Hosu", "Set\rCookie", "Content\rType"]);
        assert!(!block.has(Common::ContentType));
        assert!(block.common(Common::Cookie).is_none() && !block.has(Common::SetCookie));
        assert!(!block.has(Common::Location) && !block.repeats(Common::Host));
    }

    #[test]
    fn a_letter_that_differs_anywhere_makes_another_name() {
        for name in
            ["host", "cookie", "upgrade", "location", "set-cookie", "content-length", "transfer-encoding"]
        {
            for at in 0..name.len() {
                for byte in 0..=255 {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let same = other.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(Common::of(&other).is_some(), same, "{name} with {byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn blocks_are_alike_where_their_fields_are() {
        let block = |line: &str, fields: &[(u32, u32, u32, u32)], rest: &str| {
            let by = line.len() as u32;
            let span = |start, end| Span { start: start + by, end: end + by };
            let fields = fields.iter().map(|&(a, b, c, d)| (span(a, b), span(c, d))).collect();
            HeaderBlock::new([line, rest].concat().into_bytes().into(), fields)
        };
        let fields = [(0, 1, 3, 4), (6, 7, 9, 10)];
        let one = block("GET / ", &fields, "a: 1\r\nb: 2\r\n");
        assert!(one.is_like(&one) && one.is_like(&block("POST /long ", &fields, "a: 1\r\nb: 2\r\n")));
        for other in [
            block("GET / ", &fields, "a: 1\r\nb: 3\r\n"),
            block("GET / ", &fields, "A: 1\r\nb: 2\r\n"),
            block("GET / ", &fields[..1], "a: 1\r\nb: 2\r\n"),
            block("GET / ", &fields[1..], "a: 1\r\nb: 2\r\n"),
            block("GET / ", &[(0, 1, 3, 4), (6, 7, 8, 10)], "a: 1\r\nb: 2\r\n"),
            block("GET / ", &fields, "a: 1\r\nb: 2\r\n").known_plain(true),
        ] {
            assert!(!one.is_like(&other) && !other.is_like(&one));
        }
        let empty = block("GET / ", &[], "");
        assert!(empty.is_like(&block("PUT /x ", &[], "")) && !empty.is_like(&one));
    }

    #[test]
    fn a_span_that_leaves_the_buffer_reads_as_empty() {
        let block = block(&["Host"]);
        assert_eq!(block.bytes(Span { start: 3, end: 99 }), b"");
    }
}
