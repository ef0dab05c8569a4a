//! One TCP connection: what its packets say about its life, and the two directions of its bytes.
//!
//! ```text
//! (none) ── any packet ─→ open ── both FINs, all handed on ─→ closed (lingers) ─→ gone
//!                           │─── RST in the window ──────────────┘                 ▲
//!                           └─── time-out, eviction, reuse, end of capture ────────┘
//! ```

use super::config::{Place, Reason};
use super::feed::{App, Cx, Feed};
use super::hook::{Counting, HookPoint};
use crate::decode::TcpPacket;
use crate::dissect::{Arrival, Chunk, End, Side};
use crate::flow::FlowKey;
use crate::item::{Endpoint, StreamId};
use crate::limits::Limits;
use crate::packet::{Direction, Origin, Packet};
use crate::tcp::{Receiver, Segment, Seq};
use crate::time::Timestamp;

/// What is known of a stream besides its bytes.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) id: StreamId,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) bytes: u64,
    pub(super) items: u64,
    cgroup: [u64; 2],
    /// Memory of the reader, as last summed up.
    pub(super) dissect: usize,
    // How many of each, up to 65,535: a stream's place is small.
    pub(super) syn: u16,
    pub(super) synack: u16,
    pub(super) fin: u16,
    pub(super) rst: u16,
    /// Which end (0 or 1) is the client, once known.
    pub(super) client: Option<u8>,
    /// Which end sent the first payload.
    pub(super) first_data: Option<u8>,
    /// Which end sent the first packet.
    pub(super) first_packet: u8,
    /// Where the packets of each end count.
    counting: Counting,
    /// Whether each end's FIN was told to the reader.
    pub(super) ended: [bool; 2],
    /// Whether each end began with a TLS handshake.
    pub(super) tls: [bool; 2],
    /// Whether a SYN or SYN-ACK was seen.
    pub(super) handshake: bool,
    /// Whether bytes went by unread.
    pub(super) dropped: bool,
    /// Whether a segment overlapped others with different bytes, and no item tells of it yet.
    pub(super) overlap: bool,
    /// Whether it got beyond its handshake.
    pub(super) established: bool,
    /// Why it is closed, if it is.
    pub(super) reason: Option<Reason>,
}

impl Meta {
    /// Which side an end is. Detection has told by the time a reader asks.
    pub(super) fn side(&self, end: usize) -> Side {
        if self.client.map_or(0, usize::from) == end { Side::Client } else { Side::Server }
    }

    pub(super) fn endpoint(&self, key: &FlowKey, end: usize) -> Endpoint {
        Endpoint { addr: key.addr(end), port: key.port(end), cgroup: self.cgroup[end] }
    }
}

/// A stream in the table.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) meta: Meta,
    pub(super) sides: [Receiver; 2],
    pub(super) app: App,
    /// When the engine's timer for it rings.
    pub(super) armed: Option<Timestamp>,
    /// Its place among the readers with most memory.
    pub(super) weight: u8,
}

/// What a packet did to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// It goes on.
    Open,
    /// It is closed now.
    Closed,
    /// The packet was seen before, elsewhere on its way.
    Copy,
}

impl Stream {
    pub(super) fn new(id: StreamId, now: Timestamp, from: usize) -> Self {
        let meta = Meta {
            id,
            first: now,
            last: now,
            bytes: 0,
            items: 0,
            cgroup: [0; 2],
            dissect: 0,
            syn: 0,
            synack: 0,
            fin: 0,
            rst: 0,
            client: None,
            first_data: None,
            first_packet: from as u8,
            counting: Counting::default(),
            ended: [false; 2],
            tls: [false; 2],
            handshake: false,
            dropped: false,
            overlap: false,
            established: false,
            reason: None,
        };
        Self { meta, sides: Default::default(), app: App::Probing(None), armed: None, weight: 0 }
    }

    /// Whether a packet opens a new connection on this one's addresses and ports.
    pub(super) fn replaced_by(&self, from: usize, t: &TcpPacket<'_>) -> bool {
        let (own, peer) = (&self.sides[from], &self.sides[1 - from]);
        let closed = self.meta.reason.is_some();
        if !t.syn() {
            // Its handshake is missing from the capture. Both numbers must be new: a stray packet of the old one has at
            // least an acknowledgement that fits.
            return closed && !t.rst() && t.ack_flag() && own.never_had(t.seq) && peer.never_had(t.ack);
        }
        if t.rst() || t.fin() {
            return false;
        }
        // A handshake that goes on after a RST: that RST was forged, or answered something older.
        let revived =
            t.ack_flag() && self.meta.reason == Some(Reason::Reset) && !own.any_data() && !peer.any_data();
        if revived {
            return true;
        }
        if !own.known() {
            // A first SYN of this end: the other end's packets, if any, were a handshake's, or of an older connection.
            return !t.ack_flag() && (closed || (peer.known() && !peer.syn_seen()));
        }
        if own.same_syn(t.seq) {
            return false;
        }
        // Another SYN-ACK for the SYN at hand: the first one counts.
        let answers_syn = t.ack_flag() && peer.syn_seen() && peer.begins_at(t.ack) && !own.any_data();
        !answers_syn && (!t.ack_flag() || closed || !peer.in_window(t.ack))
    }

    /// Takes one packet that end `from` sent.
    pub(super) fn packet(
        &mut self,
        from: usize,
        t: &TcpPacket<'_>,
        packet: &Packet<'_>,
        cx: &mut Cx<'_>,
    ) -> Effect {
        if self.is_copy(from, t, packet.origin) {
            cx.shared.stats.copies += 1;
            return Effect::Copy;
        }
        self.count(from, t, cx.rules.now, packet.original_len);
        if self.meta.reason.is_some() {
            cx.shared.stats.after_close += 1;
            return Effect::Open;
        }
        if t.rst() {
            return self.reset(from, t, cx);
        }
        self.segment(from, t, packet.time, cx);
        if cx.rules.trim && t.wire > 0 {
            self.trim(from, cx);
        }
        if self.finished_sides(cx) { Effect::Closed } else { Effect::Open }
    }

    /// Whether the packet was already seen elsewhere on its way: see [`Counting`].
    pub(super) fn is_copy(&mut self, from: usize, t: &TcpPacket<'_>, origin: Origin) -> bool {
        let Some((point, direction)) = HookPoint::of(origin) else { return false };
        let at = if direction == Direction::Egress { from } else { 1 - from };
        if origin.cgroup != 0 {
            self.meta.cgroup[at] = origin.cgroup;
        }
        if self.meta.counting.elsewhere(from, point) && !self.tells_news(from, t) {
            return true;
        }
        self.meta.counting.count(from, point, t);
        false
    }

    /// Whether a packet has anything that those of its end have not had.
    fn tells_news(&self, from: usize, t: &TcpPacket<'_>) -> bool {
        let (open, own) = (self.meta.reason.is_none(), &self.sides[from]);
        let acknowledges = self.meta.counting.acknowledges_more(from, t);
        if t.rst() {
            return open && self.plausible_reset(from, t);
        }
        // Nothing is read of a closed stream any more; its last acknowledgement belongs to it.
        if !open {
            return acknowledges;
        }
        (t.syn() && !own.syn_seen())
            || (t.fin() && !own.fin_seen())
            || (t.wire > 0 && !own.has(t.seq.plus(u64::from(t.syn())), t.wire))
            || acknowledges
    }

    fn count(&mut self, from: usize, t: &TcpPacket<'_>, now: Timestamp, wire_bytes: u32) {
        let meta = &mut self.meta;
        self.sides[from].packets = self.sides[from].packets.saturating_add(1);
        meta.last = now;
        meta.bytes += u64::from(wire_bytes);
        meta.fin = meta.fin.saturating_add(u16::from(t.fin()));
        meta.rst = meta.rst.saturating_add(u16::from(t.rst()));
        if t.wire > 0 && !t.rst() {
            meta.first_data.get_or_insert(from as u8);
        }
        if t.syn() {
            meta.handshake = true;
            if t.ack_flag() {
                meta.synack = meta.synack.saturating_add(1);
                meta.client.get_or_insert(1 - from as u8);
            } else {
                // The first SYN tells more than a SYN-ACK that was captured before it.
                if meta.syn == 0 && meta.items == 0 && !matches!(self.app, App::Reading(_)) {
                    meta.client = Some(from as u8);
                }
                meta.syn = meta.syn.saturating_add(1);
            }
        } else if t.wire > 0 || (self.sides[1 - from].packets > 0 && !t.rst()) {
            meta.established = true;
        }
    }

    fn reset(&mut self, from: usize, t: &TcpPacket<'_>, cx: &mut Cx<'_>) -> Effect {
        if !self.plausible_reset(from, t) {
            cx.shared.stats.rst_ignored += 1;
            return Effect::Open;
        }
        self.close(Reason::Reset, cx);
        Effect::Closed
    }

    fn plausible_reset(&self, from: usize, t: &TcpPacket<'_>) -> bool {
        let (own, peer) = (&self.sides[from], &self.sides[1 - from]);
        if own.known() { own.plausible_rst(t.seq) } else { !t.ack_flag() || peer.in_window(t.ack) }
    }

    /// Acknowledgement, payload and FIN of a packet, in this order: an acknowledgement is older than the payload it
    /// comes with.
    fn segment(&mut self, from: usize, t: &TcpPacket<'_>, time: Timestamp, cx: &mut Cx<'_>) {
        let rules = cx.rules;
        let Self { meta, sides, app, .. } = self;
        let [a, b] = sides;
        let (own, peer) = if from == 0 { (a, b) } else { (b, a) };
        let held = own.held_memory() + peer.held_memory();
        let mut seq = t.seq;
        if t.syn() {
            if own.same_syn(seq) {
                meta.dropped |= own.syn(seq);
            }
            seq = seq.plus(1);
            peer.answers_syn();
            let missed = Seq(t.ack.0.wrapping_sub(1));
            if t.ack_flag() && !peer.syn_seen() && peer.same_syn(missed) {
                // The SYN was missed, or is still to come; its number is the one before what is acknowledged.
                meta.dropped |= peer.syn(missed);
            }
        }
        let mut acked = None;
        if t.ack_flag() {
            let answer = if t.wire > 0 { own.end_of(seq, t.wire) } else { None };
            acked = peer.acknowledged(t.ack, answer, rules.now);
            meta.dropped |= peer.began_before(t.ack);
            if own.is_first(seq) {
                peer.told_start(t.ack);
            }
        }
        let mut feed = Feed { meta, app, cx };
        if peer.waiting() {
            peer.settle(rules, &mut |chunk, at| feed.chunk(1 - from, chunk, at));
        }
        if let Some(acked) = acked {
            own.answers(acked);
        }
        if t.wire > 0 {
            let at = Arrival { time, offset: 0, acked, truncated: false };
            let segment = Segment { seq, payload: t.payload, wire: t.wire as u64, at };
            let new = feed.cx.shared.taken.is_some().then(|| own.not_held(seq, t.payload.len()));
            let mut sink = |chunk: Chunk<'_>, at: Arrival| feed.chunk(from, chunk, at);
            let outcome = own.segment(segment, rules, &mut sink);
            if let (Some(taken), Some(new)) = (feed.cx.shared.taken.as_mut(), new) {
                let (first, end) = outcome.fresh;
                let within = |(from, to): (usize, usize)| (from.max(first), to.min(end));
                taken.extend(new.into_iter().map(within).filter(|(from, to)| from < to));
            }
            let stats = &mut feed.cx.shared.stats;
            stats.retransmitted += outcome.repeated;
            stats.overlaps += u64::from(outcome.differs);
            stats.out_of_window += u64::from(outcome.wild);
            stats.evicted_holes += outcome.squeezed;
            feed.meta.overlap |= outcome.differs;
        } else if !t.syn() && !t.fin() {
            own.empty(seq, rules.now);
        }
        if t.fin() {
            own.fin(seq, t.wire, rules.now);
        }
        if own.waiting() {
            own.settle(rules, &mut |chunk, at| feed.chunk(from, chunk, at));
        }
        let stats = &mut feed.cx.shared.stats;
        let now_held = own.held_memory() + peer.held_memory();
        stats.held = (stats.held + now_held as u64).saturating_sub(held as u64);
        stats.held_peak = stats.held_peak.max(stats.held);
    }

    /// Tells the reader of sides that are done; closes the stream when both are. Whether it did.
    fn finished_sides(&mut self, cx: &mut Cx<'_>) -> bool {
        let now = cx.rules.now;
        for from in [0, 1] {
            if self.sides[from].done() && !self.meta.ended[from] {
                self.meta.ended[from] = true;
                let Self { meta, app, .. } = self;
                Feed { meta, app, cx }.end_side(from, now);
            }
        }
        if self.meta.ended == [true; 2] {
            self.close(Reason::Fin, cx);
            return true;
        }
        false
    }

    /// Time has passed: gives up holes that are due. Whether the stream is closed by that.
    pub(super) fn timer(&mut self, cx: &mut Cx<'_>) -> bool {
        let rules = cx.rules;
        self.with_sides(cx, |side, receiver, feed| {
            if receiver.waiting() {
                receiver.settle(rules, &mut |chunk, at| feed.chunk(side, chunk, at));
            }
        });
        self.meta.reason.is_none() && self.finished_sides(cx)
    }

    /// Memory of all streams' held segments is short: gives up this one's holes. Whether that closed it.
    pub(super) fn squeeze(&mut self, cx: &mut Cx<'_>) -> bool {
        self.flush(cx);
        self.meta.reason.is_none() && self.finished_sides(cx)
    }

    fn with_sides(&mut self, cx: &mut Cx<'_>, mut f: impl FnMut(usize, &mut Receiver, &mut Feed<'_, '_>)) {
        let before = self.held_memory();
        let Self { meta, sides, app, .. } = self;
        let mut feed = Feed { meta, app, cx };
        for (side, receiver) in sides.iter_mut().enumerate() {
            f(side, receiver, &mut feed);
        }
        let after = self.held_memory();
        cx.shared.stats.held = (cx.shared.stats.held + after as u64).saturating_sub(before as u64);
    }

    fn held_memory(&self) -> usize {
        self.sides.iter().map(Receiver::held_memory).sum()
    }

    /// Hands on all that is held, of both directions in the order of capture.
    fn flush(&mut self, cx: &mut Cx<'_>) {
        let rules = cx.rules;
        while let Some(next) = self.first_waiting() {
            self.with_sides(cx, |side, receiver, feed| {
                if side == next {
                    receiver.give_up_first(rules, &mut |chunk, at| feed.chunk(side, chunk, at));
                }
            });
        }
    }

    fn first_waiting(&self) -> Option<usize> {
        let waiting = |side: &usize| self.sides[*side].waiting();
        // A side that waits with nothing held has only a trailing gap: it goes last.
        (0..2)
            .filter(waiting)
            .min_by_key(|&side| self.sides[side].first_time().unwrap_or(Timestamp(u64::MAX)))
    }

    /// Ends the stream: all held bytes are handed on, and the reader tells what is left.
    pub(super) fn close(&mut self, reason: Reason, cx: &mut Cx<'_>) {
        let now = cx.rules.now;
        if self.meta.reason.is_some() {
            return;
        }
        self.flush(cx);
        let Self { meta, app, sides, .. } = self;
        meta.reason = Some(reason);
        let mut feed = Feed { meta, app, cx };
        for (from, side) in sides.iter().enumerate() {
            if side.done() && !feed.meta.ended[from] {
                feed.meta.ended[from] = true;
                feed.end_side(from, now);
            }
        }
        let end = match reason {
            Reason::Fin => End::Fin,
            Reason::Reset => End::Reset,
            Reason::Timeout => End::Timeout,
            Reason::Evicted => End::Evicted,
            Reason::CaptureEnd => End::CaptureEnd,
            Reason::Reused => End::Reused,
        };
        feed.finish(end, App::Opaque);
        self.untrim(cx);
        let stats = &mut cx.shared.stats;
        *match reason {
            Reason::Fin => &mut stats.closed_fin,
            Reason::Reset => &mut stats.closed_reset,
            Reason::Timeout => &mut stats.closed_timeout,
            Reason::Evicted => &mut stats.closed_evicted,
            Reason::CaptureEnd => &mut stats.closed_capture_end,
            Reason::Reused => &mut stats.closed_reused,
        } += 1;
        stats.joined += u64::from(!self.meta.handshake);
    }

    /// Drops the reader to save memory; a later message may be recognised again.
    pub(super) fn drop_reader(&mut self, cx: &mut Cx<'_>) {
        self.meta.dropped = true;
        let Self { meta, app, .. } = self;
        Feed { meta, app, cx }.finish(End::Evicted, App::Probing(None));
    }

    /// Where the payload of a packet of this stream lies in `data`.
    pub(super) fn place(&self, from: usize, t: &TcpPacket<'_>, data: &[u8]) -> Option<Place> {
        let at = (t.payload.as_ptr() as usize).checked_sub(data.as_ptr() as usize)?;
        let within = at + t.payload.len() <= data.len();
        let offset = self.sides[from].place(t.seq.plus(u64::from(t.syn())));
        within.then(|| Place {
            stream: self.meta.id,
            from: from as u8,
            offset,
            at,
            header: at.saturating_sub(t.header),
            len: t.payload.len(),
        })
    }

    /// When the stream wants to be woken for holes.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Timestamp> {
        self.sides.iter().filter_map(|s| s.deadline(limits)).min()
    }

    /// Whether it may be over without being seen to be: one end has closed, nothing is under way, and packets are seen at that
    /// end's own socket, where the other's FIN does not pass any more once the socket has only to wait.
    pub(super) fn half_closed(&self) -> bool {
        let Meta { ended, cgroup, reason, .. } = &self.meta;
        let closer = usize::from(ended[1]);
        ended[0] != ended[1] && reason.is_none() && cgroup[closer] != 0 && self.app.rests()
    }

    /// Whether a direction waits for missing bytes.
    pub(super) fn waiting(&self) -> bool {
        self.sides.iter().any(Receiver::waiting)
    }
}
