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
    /// The common name, if it is one, in any case.
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        let (common, same) = match name.len() {
            4 => (Self::Host, same(name, b"host")),
            6 => (Self::Cookie, same(name, b"cookie")),
            7 => (Self::Upgrade, same(name, b"upgrade")),
            8 => (Self::Location, same(name, b"location")),
            10 => (Self::SetCookie, same(name, b"set-cookie")),
            12 => (Self::ContentType, same(name, b"content-type")),
            14 => (Self::ContentLength, same(name, b"content-length")),
            16 => (Self::ContentEncoding, same(name, b"content-encoding")),
            17 => (Self::TransferEncoding, same(name, b"transfer-encoding")),
            _ => return None,
        };
        same.then_some(common)
    }
}

/// Whether a name is `lower` but for the case of its letters. `lower` is in lower case, of as many bytes and at least four: words
/// that overlap cover it.
#[inline]
fn same<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Some(name) = name.first_chunk::<N>() else { return false };
    if N < 8 {
        return word::<4>(name, lower, 0) && word::<4>(name, lower, N - 4);
    }
    word::<8>(name, lower, 0)
        && (N == 8 || word::<8>(name, lower, N - 8))
        && (N <= 16 || word::<8>(name, lower, 8))
}

/// [`same`] for the `W` bytes from `at` on, at most eight.
#[inline]
fn word<const W: usize>(name: &[u8], lower: &[u8], at: usize) -> bool {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..W].copy_from_slice(&bytes[at..at + W]);
        u64::from_le_bytes(word)
    };
    const LETTER: u64 = 0x4040_4040_4040_4040;
    let lower = word(lower);
    // Letters of either case become small. (Of what common names hold, dashes alone have no such bit.)
    let letters = (lower & LETTER) >> 1;
    word(name) | letters == lower
}

/// Which fields of a head are [`Common`].
#[derive(Clone, Copy, Default, Debug)]
struct Places {
    /// Number of the first field of each [`Common`] name, counted from 1; 0: there is none, [`FAR`]: so far behind that it must be
    /// looked for.
    first: [u8; COMMON],
    /// A bit for each [`Common`] name that more than one field has.
    repeated: u16,
}

impl Places {
    /// Takes note of the name of field `at`, counted from 1.
    #[inline]
    fn note(&mut self, at: usize, name: &[u8]) {
        let Some(common) = Common::of(name) else { return };
        let number = &mut self.first[common as usize];
        if *number == 0 {
            *number = u8::try_from(at).unwrap_or(FAR);
        } else {
            self.repeated |= 1 << common as usize;
        }
    }
}

/// The fields of a head that is being read: working memory, used again for the next head.
#[derive(Default, Debug)]
pub(crate) struct Fields {
    spans: Vec<[u8; SPANS]>,
    places: Places,
}

impl Fields {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.places = Places::default();
    }

    /// Number of fields.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Adds a field: its name, and where that and the value are in the head.
    #[inline]
    pub(crate) fn push(&mut self, text: &[u8], name: Span, value: Span) {
        self.spans.push(coded(name, value));
        self.places.note(self.spans.len(), text);
    }

    /// The block of these fields over `head`. `plain`: see [`HeaderBlock::is_plain`].
    pub(crate) fn block(&self, head: &[u8], plain: bool) -> HeaderBlock {
        let spans = self.spans.as_flattened();
        let mut bytes = Vec::with_capacity(head.len() + spans.len());
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(spans);
        HeaderBlock::with(bytes, head.len(), self.places, plain)
    }
}

/// A field's spans as they are kept behind the head.
#[inline]
fn coded(name: Span, value: Span) -> [u8; SPANS] {
    let mut coded = [0; SPANS];
    for (into, place) in
        coded.as_chunks_mut().0.iter_mut().zip([name.start, name.end, value.start, value.end])
    {
        *into = place.to_le_bytes();
    }
    coded
}

/// Heads are bounded far below 4 GiB.
fn length(head: usize) -> u32 {
    u32::try_from(head).unwrap_or(u32::MAX)
}

/// Header fields in order, with case and repeats kept: ranges into one buffer.
#[derive(Clone, Default)]
pub struct HeaderBlock {
    /// The head's bytes, and behind them its spans: one allocation, for there are two for each item.
    bytes: Box<[u8]>,
    /// Length of the first part.
    head: u32,
    /// As in [`Places`], which would leave a byte unused.
    first: [u8; COMMON],
    repeated: u16,
    plain: bool,
}

/// See [`Places::first`].
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

    /// A block that holds `words`, as those of a start line, and these fields. It tells where the words are.
    #[must_use]
    pub fn with_words<const N: usize>(
        words: [&[u8]; N],
        fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
    ) -> ([Span; N], Self) {
        let mut buffer = Vec::new();
        let mut put = |text: &[u8]| {
            let start = length(buffer.len());
            buffer.extend_from_slice(text);
            Span { start, end: length(buffer.len()) }
        };
        let words = words.map(&mut put);
        let fields = fields.iter().map(|(name, value)| (put(name.as_ref()), put(value.as_ref()))).collect();
        (words, Self::new(buffer.into(), fields))
    }

    /// A block over these bytes one after the other.
    pub(crate) fn of(parts: &[&[u8]], fields: impl ExactSizeIterator<Item = (Span, Span)>) -> Self {
        let head = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(head + fields.len() * SPANS);
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let mut places = Places::default();
        for (at, (name, value)) in fields.enumerate() {
            places.note(at + 1, bytes[..head].get(name.range()).unwrap_or_default());
            bytes.extend_from_slice(&coded(name, value));
        }
        Self::with(bytes, head, places, false)
    }

    fn with(bytes: Vec<u8>, head: usize, Places { first, repeated }: Places, plain: bool) -> Self {
        Self { bytes: bytes.into(), head: length(head), first, repeated, plain }
    }

    /// All of its bytes but the spans.
    #[inline]
    pub(crate) fn head(&self) -> &[u8] {
        self.bytes.get(..self.head as usize).unwrap_or_default()
    }

    /// The same fields behind another start line, which takes the place of the first `before` bytes.
    pub(crate) fn behind(&self, line: &[u8], before: usize) -> Self {
        let (head, spans) = self.bytes.split_at(self.head().len());
        let section = head.get(before..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(line.len() + section.len() + spans.len());
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(section);
        let head = bytes.len();
        let by = length(line.len()).wrapping_sub(length(before));
        for places in spans.as_chunks::<SPANS>().0 {
            let mut moved = [0; SPANS];
            for (into, place) in moved.as_chunks_mut::<4>().0.iter_mut().zip(places.as_chunks::<4>().0) {
                *into = u32::from_le_bytes(*place).wrapping_add(by).to_le_bytes();
            }
            bytes.extend_from_slice(&moved);
        }
        Self { bytes: bytes.into(), head: length(head), ..*self }
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

    /// Whether both are of the very same bytes, the start line included.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.head == other.head && self.bytes == other.bytes
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
        assert!(one.is_same(&one) && !one.is_same(&block("PUT / ", &fields, "a: 1\r\nb: 2\r\n")));
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
