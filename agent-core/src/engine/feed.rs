//! From chunks in order to items: which protocol a stream speaks, its dissector, and what the engine adds to drafts.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::config::{Event, Text};
use super::stream::Meta;
use crate::anomaly::{Anomaly, AnomalyKind};
use crate::dissect::registry::{Detection, MAX_DETECT, Parser, Protocol, detect};
use crate::dissect::{Arrival, Chunk, Context, Dissector, Draft, End, Next, Side, Spare};
use crate::flow::FlowKey;
use crate::item::{Endpoint, Item, Record};
use crate::stats::EngineStats;
use crate::tcp::Rules;
use crate::time::Timestamp;

/// What the streams of an engine have in common while they are fed.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) stats: EngineStats,
    pub(super) events: VecDeque<Event>,
    /// See [`super::Engine::taken`].
    pub(super) taken: Option<Vec<(usize, usize)>>,
    drafts: VecDeque<Draft>,
    pub(super) spare: Spare,
    next_item: u64,
}

impl Shared {
    /// With [`super::EngineConfig::text`].
    pub(super) fn new(text: bool) -> Self {
        Self { spare: Spare::with_text(text), taken: text.then(Vec::new), ..Self::default() }
    }

    /// What a reader is lent.
    fn context<'a>(&'a mut self, rules: &Rules<'a>) -> Context<'a> {
        Context { limits: rules.limits, hash: rules.hash, out: &mut self.drafts, spare: &mut self.spare }
    }
}

/// What reads a stream.
#[derive(Debug)]
pub(super) enum App {
    /// Not known yet; the first bytes of a side that could be something are kept.
    Probing(Option<Box<Kept>>),
    /// A protocol's reader.
    Reading(Parser),
    /// Nothing does.
    Opaque,
}

/// First bytes of both sides that did not suffice to tell.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: [Vec<u8>; 2],
    pieces: Vec<Piece>,
}

/// Bytes that came together.
#[derive(Debug)]
struct Piece {
    from: usize,
    length: usize,
    at: Arrival,
}

impl Kept {
    fn drop_side(&mut self, from: usize) {
        self.bytes[from] = Vec::new();
        self.pieces.retain(|p| p.from != from);
    }

    fn memory(&self) -> usize {
        let bytes: usize = self.bytes.iter().map(Vec::capacity).sum();
        bytes + self.pieces.capacity() * size_of::<Piece>() + size_of::<Self>()
    }
}

impl App {
    /// Whether nothing is under way: no message and no request that waits.
    pub(super) fn rests(&self) -> bool {
        match self {
            Self::Probing(kept) => kept.is_none(),
            Self::Reading(parser) => parser.rests(),
            Self::Opaque => true,
        }
    }

    /// Keeps nothing of what was lent.
    pub(super) fn give_back(&mut self, spare: &mut Spare) {
        if let Self::Reading(parser) = self {
            parser.give_back(spare);
        }
    }

    /// How many of the next bytes of a side nobody will look at.
    pub(super) fn unneeded(&self, side: Side) -> u64 {
        match self {
            Self::Probing(_) => 0,
            Self::Reading(parser) => parser.unneeded(side),
            Self::Opaque => u64::MAX,
        }
    }

    /// Heap memory held, in bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Probing(kept) => kept.as_ref().map_or(0, |k| k.memory()),
            Self::Reading(parser) => parser.memory(),
            Self::Opaque => 0,
        }
    }
}

/// Whether these are the first bytes of a TLS connection: a record of the handshake (RFC 8446 section 5.1) that begins with a
/// ClientHello or a ServerHello.
fn is_tls_handshake(data: &[u8]) -> bool {
    matches!(data, [0x16, 3, 0..=4, 0..=0x40, _, 1 | 2, ..])
}

/// What the engine lends a stream while it deals with it.
pub(super) struct Cx<'a> {
    pub(super) key: &'a FlowKey,
    pub(super) rules: Rules<'a>,
    pub(super) shared: &'a mut Shared,
}

/// One stream being fed.
pub(super) struct Feed<'a, 'b> {
    pub(super) meta: &'a mut Meta,
    pub(super) app: &'a mut App,
    pub(super) cx: &'a mut Cx<'b>,
}

impl Feed<'_, '_> {
    /// Takes the next chunk that end `from` (0 or 1) sent.
    pub(super) fn chunk(&mut self, from: usize, chunk: Chunk<'_>, at: Arrival) {
        match chunk {
            Chunk::Data(data) => self.cx.shared.stats.payload += data.len() as u64,
            Chunk::Gap(length) if at.truncated => self.cx.shared.stats.trimmed += length,
            Chunk::Gap(length) => {
                self.cx.shared.stats.gaps += 1;
                self.cx.shared.stats.gap_bytes += length;
            }
        }
        match (&mut *self.app, chunk) {
            (App::Opaque, _) => {}
            (App::Reading(_), _) => self.read(from, chunk, at),
            (App::Probing(_), Chunk::Data(data)) => self.probe(from, data, at),
            (App::Probing(_), Chunk::Gap(_)) => self.forget(from),
        }
        if let Chunk::Gap(lost) = chunk
            && self.cx.shared.taken.is_some()
        {
            self.texts();
            let gap =
                Text { stream: self.meta.id, from: from as u8, offset: at.offset, bytes: Vec::new(), lost };
            self.cx.shared.events.push_back(Event::Text(Box::new(gap)));
        }
    }

    fn read(&mut self, from: usize, chunk: Chunk<'_>, at: Arrival) {
        let App::Reading(parser) = &mut *self.app else { return };
        let side = self.meta.side(from);
        let Cx { rules, shared, .. } = &mut *self.cx;
        let next = parser.chunk(side, chunk, at, &mut shared.context(rules));
        shared.stats.refused_messages += parser.take_refused();
        if next == Next::Opaque {
            shared.stats.opaque += 1;
            *self.app = App::Opaque;
        }
        self.items();
        self.account();
    }

    /// Looks whether these bytes, alone or behind those kept, begin something that is known.
    fn probe(&mut self, from: usize, data: &[u8], at: Arrival) {
        let App::Probing(kept) = &mut *self.app else { return };
        if let Some(kept) = kept.as_mut().filter(|k| !k.bytes[from].is_empty()) {
            let room = MAX_DETECT.saturating_sub(kept.bytes[from].len());
            kept.bytes[from].extend_from_slice(data.get(..room).unwrap_or(data));
            let found = detect(&kept.bytes[from]);
            let before = kept.bytes[from].len() - room.min(data.len());
            match self.believed(from, found) {
                Detection::Yes(_, protocol) => {
                    self.keep_back(from, before);
                    return self.begin(protocol, from, data, at);
                }
                Detection::NeedMore => return self.note_piece(from, data.len(), at),
                Detection::No => self.forget(from),
            }
        }
        match self.believed(from, detect(data)) {
            Detection::Yes(_, protocol) => self.begin(protocol, from, data, at),
            Detection::NeedMore if data.len() < MAX_DETECT => {
                if let App::Probing(kept) = &mut *self.app {
                    kept.get_or_insert_default().bytes[from].extend_from_slice(data);
                }
                self.note_piece(from, data.len(), at);
            }
            _ => {
                self.meta.dropped = true;
                self.text(from, at.offset, data);
                self.meta.tls[from] |= at.offset == 0 && is_tls_handshake(data);
                if self.meta.tls == [true; 2] {
                    self.cx.shared.stats.tls += 1;
                    *self.app = App::Opaque;
                    self.account();
                }
            }
        }
    }

    /// A detection that contradicts the handshake's roles is none; without a handshake it tells the roles.
    fn believed(&mut self, from: usize, found: Detection) -> Detection {
        let Detection::Yes(side, _) = found else { return found };
        match self.meta.client {
            Some(client) if (usize::from(client) == from) != (side == Side::Client) => Detection::No,
            Some(_) => found,
            None => {
                let client = if side == Side::Client { from } else { 1 - from };
                self.meta.client = Some(client as u8);
                found
            }
        }
    }

    /// Cuts what was added to the kept bytes only to look at them.
    fn keep_back(&mut self, from: usize, length: usize) {
        if let App::Probing(Some(kept)) = &mut *self.app {
            kept.bytes[from].truncate(length);
        }
    }

    fn note_piece(&mut self, from: usize, length: usize, at: Arrival) {
        if let App::Probing(Some(kept)) = &mut *self.app {
            kept.pieces.push(Piece { from, length, at });
        }
        self.account();
    }

    fn forget(&mut self, from: usize) {
        self.meta.dropped = true;
        if let App::Probing(Some(kept)) = &mut *self.app {
            if let Some(offset) = kept.pieces.iter().find(|p| p.from == from).map(|p| p.at.offset) {
                let bytes: usize = kept.pieces.iter().filter(|p| p.from == from).map(|p| p.length).sum();
                let side = self.meta.side(from);
                let bytes = kept.bytes[from].get(..bytes).unwrap_or_default();
                self.cx.shared.spare.text(side, offset, bytes);
            }
            kept.drop_side(from);
        }
        self.texts();
        self.account();
    }

    /// Tells of bytes that no reader got.
    fn text(&mut self, from: usize, offset: u64, bytes: &[u8]) {
        let side = self.meta.side(from);
        self.cx.shared.spare.text(side, offset, bytes);
        self.texts();
    }

    /// Hands on the text that was told of.
    #[inline]
    fn texts(&mut self) {
        if self.cx.shared.spare.text.is_some() {
            self.told_texts();
        }
    }

    fn told_texts(&mut self) {
        let Shared { spare, events, .. } = &mut *self.cx.shared;
        for text in spare.text.iter_mut().flat_map(|texts| texts.drain(..)) {
            let from = u8::from(self.meta.side(1) == text.side);
            let Meta { id: stream, .. } = *self.meta;
            events.push_back(Event::Text(Box::new(Text {
                stream,
                from,
                offset: text.offset,
                bytes: text.bytes,
                lost: 0,
            })));
        }
    }

    /// Starts the reader: first what was kept of both sides, as it came, then these bytes.
    fn begin(&mut self, protocol: Protocol, from: usize, data: &[u8], at: Arrival) {
        match protocol {
            Protocol::Http1 => self.cx.shared.stats.detected_http1 += 1,
        }
        let joined = self.meta.dropped || !self.meta.handshake;
        let before = std::mem::replace(self.app, App::Reading(protocol.parser(joined)));
        if let App::Probing(Some(kept)) = before {
            let mut at_byte = [0; 2];
            for Piece { from, length, at } in kept.pieces {
                let bytes = kept.bytes[from].get(at_byte[from]..at_byte[from] + length).unwrap_or_default();
                at_byte[from] += length;
                if !bytes.is_empty() {
                    self.read(from, Chunk::Data(bytes), at);
                }
            }
        }
        self.read(from, Chunk::Data(data), at);
        for from in [0, 1] {
            if self.meta.ended[from] {
                self.end_side(from, at.time);
            }
        }
    }

    /// End `from` sent its FIN, and all before it was handed on.
    pub(super) fn end_side(&mut self, from: usize, at: Timestamp) {
        let side = self.meta.side(from);
        if let App::Reading(parser) = &mut *self.app {
            let Cx { rules, shared, .. } = &mut *self.cx;
            parser.end_side(side, End::Fin, at, &mut shared.context(rules));
            shared.stats.refused_messages += parser.take_refused();
            self.items();
            self.account();
        }
    }

    /// The reader is done with: it tells what is left. `then` takes its place.
    pub(super) fn finish(&mut self, end: End, then: App) {
        if matches!(self.app, App::Probing(Some(_))) {
            self.forget(0);
            self.forget(1);
        }
        if let App::Reading(mut parser) = std::mem::replace(self.app, then) {
            let Cx { rules, shared, .. } = &mut *self.cx;
            parser.finish(end, rules.now, &mut shared.context(rules));
            shared.stats.refused_messages += parser.take_refused();
            self.items();
        }
        self.account();
    }

    /// Sums up dissectors' memory.
    fn account(&mut self) {
        let now = self.app.memory();
        let stats = &mut self.cx.shared.stats;
        stats.dissect = (stats.dissect + now as u64).saturating_sub(self.meta.dissect as u64);
        stats.dissect_peak = stats.dissect_peak.max(stats.dissect);
        self.meta.dissect = now;
    }

    /// Makes items of drafts.
    #[inline]
    fn items(&mut self) {
        self.texts();
        if !self.cx.shared.drafts.is_empty() {
            self.made_items();
        }
    }

    fn made_items(&mut self) {
        while let Some(draft) = self.cx.shared.drafts.pop_front() {
            let mut noted = draft.anomalies;
            if std::mem::take(&mut self.meta.overlap) && noted.len() < self.cx.rules.limits.anomalies {
                let msg = "a segment overlapped bytes that were already there, with different ones";
                noted.push(Anomaly { kind: AnomalyKind::TcpOverlapDiffers, msg: Cow::Borrowed(msg) });
            }
            let stats = &mut self.cx.shared.stats;
            stats.items += 1;
            match draft.record {
                Record::Http(_) => stats.items_http1 += 1,
            }
            self.meta.items += 1;
            let client = self.meta.client.map_or(0, usize::from);
            let item = Item {
                stream: self.meta.id,
                index: self.cx.shared.next_item,
                client: self.endpoint(client),
                server: self.endpoint(1 - client),
                tls: false,
                record: draft.record,
                started: draft.started,
                finished: draft.finished,
                noted,
                error: draft.error,
                gaps: draft.gaps,
                truncated: draft.truncated,
            };
            self.cx.shared.next_item += 1;
            self.cx.shared.events.push_back(Event::Item(Box::new(item)));
        }
    }

    fn endpoint(&self, end: usize) -> Endpoint {
        self.meta.endpoint(self.cx.key, end)
    }
}
