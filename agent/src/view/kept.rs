//! What one item's text says that the next one's will say again: which stream, node, protocol and names; the headers, where a
//! connection's messages have the same ones, as most that poll, scrape and ask for health do, and all else that a head tells where
//! that is the same, too; the second.
//!
//! Invariants:
//! - Text is repeated only where all that it was made from is the same; names are held for as long as they are compared by where
//!   they are.
//! - At most [`SLOTS`] streams' are kept, five texts of [`MOST`] bytes each. Those that are not cost a little time, nothing else.

use std::sync::Arc;

use agent_core::item::{Endpoint, HeaderBlock};
use agent_core::{Item, StreamId};

use super::item::Shown;
use super::out::{Line, Side, Whole};
use super::redact::{Hidden, Names};
use super::spell::{self, SECOND};
use crate::captured::{Captured, Name, Node};

/// Streams whose text is kept: of those whose numbers share a slot, the last that had two items in turn.
const SLOTS: usize = 512;
/// Longest text that is kept, in bytes, and longest head.
const MOST: usize = 4096;
/// Heads in turn that differ from the one before them, until only one of [`SELDOM`] is kept: on such a connection it is of little use.
const PATIENCE: u32 = 4;
const SELDOM: u32 = 16;

/// Texts of streams, and of the last second.
#[derive(Debug)]
pub(super) struct Kept {
    slots: Vec<Slot>,
    second: (u64, [u8; SECOND]),
}

#[derive(Debug, Default)]
struct Slot {
    /// Whose item came last.
    last: StreamId,
    text: Option<Box<Said>>,
    /// Of its requests and of its responses.
    heads: [Heads; 2],
}

/// Headers of a stream's last messages.
#[derive(Debug, Default)]
struct Heads {
    last: Option<Box<Head>>,
    /// Heads that differed from the one that was kept.
    strange: u32,
    /// Heads that differed from it by their start lines alone.
    others: u32,
}

#[derive(Debug)]
struct Head {
    stream: StreamId,
    block: HeaderBlock,
    hidden: Arc<Names>,
    /// Of its fields.
    text: Vec<u8>,
    /// Of all that it tells of its message.
    message: Option<Message>,
}

#[derive(Debug)]
struct Message {
    line: Line,
    /// What a URL shows besides.
    server: Endpoint,
    tls: bool,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Said {
    about: About,
    text: Vec<u8>,
}

/// What the text is made from.
#[derive(Debug)]
struct About {
    stream: StreamId,
    ends: [Endpoint; 2],
    names: [Name; 2],
    node: Arc<Node>,
    worker: u16,
    /// TLS, HTTP/1.0, outgoing.
    flags: [bool; 3],
}

impl Default for Kept {
    fn default() -> Self {
        Self { slots: Vec::new(), second: (0, spell::second(0)) }
    }
}

impl Kept {
    /// The text of the item's stream, if it is kept.
    #[inline]
    pub(super) fn text(&self, shown: &Shown<'_>) -> Option<&[u8]> {
        let said = self.slots.get(slot(shown.captured.item.stream))?.text.as_deref()?;
        said.about.is_of(shown).then_some(&said.text)
    }

    /// Keeps the text of the item's stream, if the item before was its, too.
    pub(super) fn keep(&mut self, shown: &Shown<'_>, text: &[u8]) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Slot::default);
        }
        let stream = shown.captured.item.stream;
        let Some(slot) = self.slots.get_mut(slot(stream)) else { return };
        if std::mem::replace(&mut slot.last, stream) != stream || text.len() > MOST {
            return;
        }
        let about = About::of(shown);
        match &mut slot.text {
            Some(said) => {
                said.about = about;
                said.text.clear();
                said.text.extend_from_slice(text);
            }
            empty => *empty = Some(Box::new(Said { about, text: text.to_vec() })),
        }
    }

    /// The text of the head's fields, if the last one that was kept on its side of the stream is like it. (Should that be of another
    /// stream, its text is the same.)
    #[inline]
    pub(super) fn head(
        &self,
        stream: StreamId,
        side: Side,
        head: &HeaderBlock,
        hidden: &Hidden,
    ) -> Option<&[u8]> {
        let kept = self.slots.get(slot(stream))?.heads[side as usize].last.as_deref()?;
        let same = Arc::ptr_eq(&kept.hidden, hidden.names());
        (same && kept.block.is_like(head)).then_some(&kept.text)
    }

    /// Keeps the text of the head's fields, if the stream's is kept.
    pub(super) fn keep_head(
        &mut self,
        stream: StreamId,
        side: Side,
        block: &HeaderBlock,
        hidden: &Hidden,
        text: &[u8],
    ) {
        let Some(slot) = self.slots.get_mut(slot(stream)) else { return };
        if text.len().max(block.memory()) > MOST
            || slot.text.as_ref().is_none_or(|said| said.about.stream != stream)
        {
            return;
        }
        let heads = &mut slot.heads[side as usize];
        let new = heads.last.as_ref().is_none_or(|head| head.stream != stream);
        (heads.strange, heads.others) =
            if new { (0, 0) } else { (heads.strange.wrapping_add(1), heads.others) };
        if heads.strange > PATIENCE && !heads.strange.is_multiple_of(SELDOM) {
            return;
        }
        let (block, hidden) = (block.clone(), Arc::clone(hidden.names()));
        match &mut heads.last {
            Some(head) => {
                (head.stream, head.block, head.hidden) = (stream, block, hidden);
                head.text.clear();
                head.text.extend_from_slice(text);
                head.message = None;
            }
            empty => {
                *empty = Some(Box::new(Head { stream, block, hidden, text: text.to_vec(), message: None }));
            }
        }
    }

    /// The text of all that a head tells of its message, if the last one that was kept on its side of the stream is the very same.
    #[inline]
    pub(super) fn message(&self, item: &Item, whole: Whole<'_>) -> Option<&[u8]> {
        let kept = self.slots.get(slot(item.stream))?.heads[whole.side as usize].last.as_deref()?;
        let said = kept.message.as_ref()?;
        let same = Arc::ptr_eq(&kept.hidden, whole.hidden.names())
            && (said.line, said.server, said.tls) == (whole.line, item.server, item.tls);
        (same && kept.block.is_same(whole.head)).then_some(&said.text)
    }

    /// Keeps that text, if the head's fields are kept.
    pub(super) fn keep_message(&mut self, item: &Item, whole: Whole<'_>, text: &[u8]) {
        let heads = self.slots.get_mut(slot(item.stream)).map(|slot| &mut slot.heads[whole.side as usize]);
        let Some(Heads { last: Some(kept), others, .. }) = heads else { return };
        if !Arc::ptr_eq(&kept.hidden, whole.hidden.names()) || text.len() > MOST {
            return;
        }
        if !kept.block.is_same(whole.head) {
            *others = others.wrapping_add(1);
            let seldom = *others > PATIENCE && !others.is_multiple_of(SELDOM);
            if seldom || !kept.block.is_like(whole.head) {
                return;
            }
            kept.block = whole.head.clone();
        }
        let mut room = kept.message.take().map_or_else(Vec::new, |said| said.text);
        room.clear();
        room.extend_from_slice(text);
        let Item { server, tls, .. } = *item;
        kept.message = Some(Message { line: whole.line, server, tls, text: room });
    }

    /// [`spell::second`], made once a second.
    #[inline]
    pub(super) fn second(&mut self, seconds: u64) -> [u8; SECOND] {
        if self.second.0 != seconds {
            self.second = (seconds, spell::second(seconds));
        }
        self.second.1
    }
}

fn slot(stream: StreamId) -> usize {
    stream.0 as usize % SLOTS
}

fn flags(shown: &Shown<'_>) -> [bool; 3] {
    [shown.captured.item.tls, shown.is_old(), shown.captured.outgoing]
}

impl About {
    fn of(shown: &Shown<'_>) -> Self {
        let Captured { item, src, dst, node, worker, .. } = shown.captured;
        Self {
            stream: item.stream,
            ends: [item.client, item.server],
            names: [src.clone(), dst.clone()],
            node: Arc::clone(node),
            worker: *worker,
            flags: flags(shown),
        }
    }

    #[inline]
    fn is_of(&self, shown: &Shown<'_>) -> bool {
        let Captured { item, src, dst, node, worker, .. } = shown.captured;
        let [own_src, own_dst] = &self.names;
        self.stream == item.stream
            && self.ends == [item.client, item.server]
            && Arc::ptr_eq(&self.node, node)
            && self.worker == *worker
            && self.flags == flags(shown)
            && is_same(own_src, src)
            && is_same(own_dst, dst)
    }
}

/// Whether both are the very same; equal ones may be different all the same.
#[inline]
fn is_same(a: &Name, b: &Name) -> bool {
    fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }
    same(a.known.as_ref(), b.known.as_ref())
        && same(a.process.as_ref(), b.process.as_ref())
        && a.workload == b.workload
}

#[cfg(test)]
mod tests {
    use agent_core::item::{Common, Span};

    use super::*;
    use crate::view::Redaction;

    const STREAM: StreamId = StreamId(7);

    fn block(value: &str) -> HeaderBlock {
        let (_, block) = HeaderBlock::with_words([b"GET"], &[("Host", value)]);
        assert!(block.has(Common::Host));
        block
    }

    /// With the text of a stream, so that its heads are kept.
    fn kept() -> Kept {
        let end = Endpoint { addr: [127, 0, 0, 1].into(), port: 1, cgroup: 0 };
        let node = Arc::new(Node { name: String::new(), ip: end.addr });
        let names = [Name::default(), Name::default()];
        let about = About { stream: STREAM, ends: [end; 2], names, node, worker: 0, flags: [false; 3] };
        let mut kept = Kept::default();
        kept.slots.resize_with(SLOTS, Slot::default);
        kept.slots[slot(STREAM)].text = Some(Box::new(Said { about, text: Vec::new() }));
        kept
    }

    fn keeps(kept: &mut Kept, stream: StreamId, block: &HeaderBlock, text: &[u8]) -> bool {
        let hidden = Redaction::off().now();
        kept.keep_head(stream, Side::Request, block, &hidden, text);
        kept.head(stream, Side::Request, block, &hidden) == Some(text)
    }

    #[test]
    fn what_is_large_or_of_a_stream_that_is_not_kept_is_not_kept() {
        let mut kept = kept();
        assert!(keeps(&mut kept, STREAM, &block("a"), b"text"));
        assert!(!keeps(&mut kept, STREAM, &block("b"), &[b'x'; MOST + 1]));
        assert!(!keeps(&mut kept, STREAM, &block(&"c".repeat(MOST)), b"text"));
        let other = StreamId(STREAM.0 + SLOTS as u64);
        assert!(!keeps(&mut kept, other, &block("a"), b"text"));
        assert!(keeps(&mut kept, STREAM, &block("d"), b"text"));
    }

    #[test]
    fn heads_that_are_always_new_are_seldom_kept() {
        let mut kept = kept();
        let count = |kept: &mut Kept, stream| {
            (0..1_600).filter(|n| keeps(kept, stream, &block(&n.to_string()), b"text")).count()
        };
        assert!((100..=106).contains(&count(&mut kept, STREAM)));
        assert!(keeps(&mut kept, STREAM, &block("a"), b"text"));
        assert!(!keeps(&mut kept, STREAM, &block("b"), b"text"));
        // A new stream in its place begins anew.
        let other = StreamId(STREAM.0 + SLOTS as u64);
        if let Some(said) = &mut kept.slots[slot(STREAM)].text {
            said.about.stream = other;
        }
        assert!(keeps(&mut kept, other, &block("a"), b"text"));
        assert!(keeps(&mut kept, other, &block("b"), b"text"));
    }

    #[test]
    fn messages_that_are_always_new_are_seldom_kept_and_large_ones_never() {
        let end = Endpoint { addr: [127, 0, 0, 1].into(), port: 1, cgroup: 0 };
        let record = agent_core::Record::Http(Box::default());
        let item = Item::new(STREAM, 0, end, end, record);
        let redaction = Redaction::off();
        let hidden = redaction.now();
        let line = Line { minor_version: 1, status: 0, words: [Span::default(); 2] };
        let head = |n: usize| HeaderBlock::with_words([n.to_string().as_bytes()], &[("Host", "a")]).1;
        let keeps = |kept: &mut Kept, head: &HeaderBlock, text: &[u8]| {
            let whole = Whole { side: Side::Request, head, line, hidden: &hidden };
            kept.keep_message(&item, whole, text);
            kept.message(&item, whole) == Some(text)
        };
        let mut kept = kept();
        kept.keep_head(STREAM, Side::Request, &block("z"), &hidden, b"another");
        assert!(keeps(&mut kept, &block("z"), b"of another"));
        kept.keep_head(STREAM, Side::Request, &head(0), &hidden, b"head");
        assert!(!keeps(&mut kept, &head(0), &[b'x'; MOST + 1]));
        let whole = Whole { side: Side::Request, head: &head(0), line, hidden: &hidden };
        assert_eq!(kept.message(&item, whole), None, "nothing is left of the head before");
        assert!(keeps(&mut kept, &head(0), b"text") && keeps(&mut kept, &head(0), b"other"));
        assert!(!keeps(&mut kept, &head(0), &[b'x'; MOST + 1]));
        let count = (1..1_600).filter(|&n| keeps(&mut kept, &head(n), b"text")).count();
        assert!((100..=106).contains(&count), "{count}");
    }
}
