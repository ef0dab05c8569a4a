//! The engine: packets and time in, items and streams' ends out.
//!
//! A packet costs one look-up in the flow table and no allocation; its payload, if it comes in order, goes to the
//! stream's dissector where it lies. Draw all events with [`Engine::poll_event`] after each packet and each call of
//! [`Engine::handle_timeout`] and [`Engine::finish`]: the queue has no other bound than what one call can bring about.
//!
//! Time is that of the packets; it never runs backwards here, whatever a capture says. With no packets coming, call
//! [`Engine::handle_timeout`] at [`Engine::poll_timeout`].

mod config;
mod feed;
mod hook;
mod order;
mod stream;
mod summary;
mod trim;
mod usual;

use std::collections::{BTreeSet, VecDeque};

pub use config::{
    DirectionSummary, EngineConfig, Event, Handled, HashedRun, Place, Reason, StreamSummary, Text, Trim,
    TrimWindow,
};

pub use order::Turn;

use crate::decode::{self, Decoded, Fragment, Fragments, Malformed, Reject, TcpPacket};
use crate::flow::{Class, FlowKey, Table};
use crate::item::StreamId;
use crate::limits::Limits;
use crate::packet::Packet;
use crate::stats::EngineStats;
use crate::time::Timestamp;
use feed::{Cx, Shared};
use stream::{Effect, Stream};

/// See the module.
pub struct Engine {
    config: EngineConfig,
    table: Table<Stream>,
    fragments: Fragments,
    /// Streams that wait for missing bytes, by when they must be looked at.
    timers: BTreeSet<(Timestamp, u32)>,
    /// Readers with more than their share of memory, by the magnitude of it; kept only while `watching`.
    heavy: BTreeSet<(u8, u32)>,
    /// Streams whose readers may keep their working memory while they rest, the last one at the end; at most [`usual::LENT`].
    lent: VecDeque<u32>,
    /// Dissectors hold so much that it may soon be too much.
    watching: bool,
    shared: Shared,
    now: Timestamp,
    /// Nothing is due before this.
    next_check: Timestamp,
    next_stream: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("stats", &self.shared.stats)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without streams.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            table: Table::new(config.hash_seed),
            fragments: Fragments::new(config.hash_seed ^ 0x0066_7261_676d_656e),
            timers: BTreeSet::new(),
            heavy: BTreeSet::new(),
            lent: VecDeque::with_capacity(usual::LENT + 1),
            watching: false,
            shared: Shared::new(config.text),
            now: Timestamp::default(),
            next_check: Timestamp(u64::MAX),
            next_stream: config.first_stream,
            config,
        }
    }

    /// Takes one packet.
    pub fn handle_packet(&mut self, packet: &Packet<'_>) -> Handled {
        self.now = self.now.max(packet.time);
        if self.now >= self.next_check {
            self.expire();
        }
        if let Some(taken) = &mut self.shared.taken {
            taken.clear();
        }
        self.count(packet);
        match decode::decode(packet.link, packet.data, packet.original_len) {
            Ok(Decoded::Tcp(tcp)) => self.tcp(&tcp, packet),
            Ok(Decoded::Fragment(fragment)) => self.fragment(&fragment, packet),
            Err(reject) => {
                self.reject(reject);
                Handled::default()
            }
        }
    }

    #[inline]
    fn count(&mut self, packet: &Packet<'_>) {
        let stats = &mut self.shared.stats;
        stats.packets += 1;
        stats.bytes += u64::from(packet.original_len);
        stats.truncated += u64::from(packet.data.len() < packet.original_len as usize);
    }

    /// Where the payload of the packet that was handled last lies; `None`: it is a fragment, or nothing of a
    /// stream.
    #[must_use]
    pub fn payload_place(&self, packet: &Packet<'_>) -> Option<Place> {
        let Ok(Decoded::Tcp(tcp)) = decode::decode(packet.link, packet.data, packet.original_len) else {
            return None;
        };
        let (key, from) = FlowKey::of(&tcp)?;
        self.table.get(self.table.find(&key)?)?.place(from, &tcp, packet.data)
    }

    /// The parts of the payload of the packet that was handled last, counted from its first byte, that were taken: they are,
    /// or will be, read. With [`EngineConfig::text`].
    pub(crate) fn taken(&self) -> &[(usize, usize)] {
        self.shared.taken.as_deref().unwrap_or_default()
    }

    /// Where a fragment of an IP datagram lies in the packet's data, without its IP header, and whether it is the first.
    pub(crate) fn fragment_in(packet: &Packet<'_>) -> Option<(std::ops::Range<usize>, bool)> {
        let decoded = decode::decode(packet.link, packet.data, packet.original_len);
        let Ok(Decoded::Fragment(fragment)) = decoded else { return None };
        let at = (fragment.frame.data.as_ptr() as usize).checked_sub(packet.data.as_ptr() as usize)?;
        Some((at..at + fragment.frame.data.len(), fragment.offset == 0))
    }

    /// Lets time pass without a packet.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.expire();
    }

    /// When [`Self::handle_timeout`] is due at the latest, if no packet comes before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let limits = &self.config.limits;
        let streams = Class::ALL.iter().filter_map(|&class| self.class_deadline(class));
        streams.chain(self.timers.first().map(|t| t.0)).chain(self.fragments.deadline(limits)).min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// The capture ended: what is held is handed on, holes as gaps, and all streams are closed.
    pub fn finish(&mut self) {
        while self.finish_next().is_some() {}
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &EngineStats {
        &self.shared.stats
    }

    /// Heap memory held for streams, in bytes, but for what dissectors hold and events that were not drawn.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.table.memory() + self.fragments.memory() + self.shared.stats.held as usize
    }

    fn reject(&mut self, reject: Reject) {
        let stats = &mut self.shared.stats;
        *match reject {
            Reject::UnknownLink => &mut stats.unknown_link,
            Reject::NotTcp => &mut stats.non_tcp,
            Reject::HeaderCut => &mut stats.header_cut,
            Reject::Malformed(Malformed::Link) => &mut stats.malformed_link,
            Reject::Malformed(Malformed::Ip) => &mut stats.malformed_ip,
            Reject::Malformed(Malformed::Tcp) => &mut stats.malformed_tcp,
            Reject::Malformed(Malformed::Tunnel) => &mut stats.malformed_tunnel,
        } += 1;
    }

    fn fragment(&mut self, fragment: &Fragment<'_>, packet: &Packet<'_>) -> Handled {
        let inserted = self.fragments.insert(fragment, self.now, &self.config.limits);
        let stats = &mut self.shared.stats;
        stats.fragments += 1;
        stats.fragment_overlaps += u64::from(inserted.overlap);
        stats.fragments_refused += u64::from(inserted.refused);
        stats.fragments_evicted += inserted.evicted;
        stats.defragmented += u64::from(inserted.whole.is_some());
        self.next_check = self.next_check.min(self.now.after(self.config.limits.fragment_timeout));
        let Some(whole) = inserted.whole else {
            let stream = inserted.stream.or_else(|| self.stream_of_first(fragment));
            return Handled { stream, fragment: true, copy: false };
        };
        let handled = match decode::resume(&whole) {
            Ok(Decoded::Tcp(tcp)) => self.tcp(&tcp, packet),
            // Fragments in fragments are no traffic of this world.
            Ok(Decoded::Fragment(_)) => {
                self.reject(Reject::NotTcp);
                Handled::default()
            }
            Err(reject) => {
                self.reject(reject);
                Handled::default()
            }
        };
        Handled { fragment: true, stream: handled.stream.or(inserted.stream), ..handled }
    }

    /// The first fragment holds the ports: the others belong where it does.
    fn stream_of_first(&mut self, fragment: &Fragment<'_>) -> Option<StreamId> {
        let (key, _) = FlowKey::of(&decode::first_fragment(fragment)?)?;
        let at = self.table.find(&key)?;
        let id = self.table.get(at)?.meta.id;
        self.fragments.belongs(&fragment.key, id);
        Some(id)
    }

    fn tcp(&mut self, tcp: &TcpPacket<'_>, packet: &Packet<'_>) -> Handled {
        let Some((key, from)) = FlowKey::of(tcp) else {
            self.shared.stats.malformed_tcp += 1;
            return Handled::default();
        };
        self.shared.stats.segments += 1;
        if let Some(handled) = self.next_data(&key, from, tcp, packet) {
            return handled;
        }
        let at = self.place(&key, from, tcp);
        let rules = self.config.rules(self.now);
        let Some((key, stream)) = self.table.get_mut(at) else { return Handled::default() };
        let (was_waiting, was_established) = (stream.armed.is_some(), stream.meta.established);
        let was_half = stream.half_closed();
        let mut cx = Cx { key, rules, shared: &mut self.shared };
        let effect = stream.packet(from, tcp, packet, &mut cx);
        let id = stream.meta.id;
        let established = stream.meta.established && !was_established;
        let half = stream.half_closed();
        let look = was_waiting || stream.waiting();
        let reweigh = self.watching && weight(stream.meta.dissect, rules.limits) != stream.weight;
        match effect {
            Effect::Closed => {
                self.table.set_class(at, Class::Linger, self.now);
                self.check_by(self.now.after(self.config.limits.linger));
            }
            Effect::Open if established => {
                self.table.set_class(at, Class::Open, self.now);
                self.check_by(self.now.after(self.config.limits.idle_timeout));
            }
            Effect::Open if half != was_half => {
                self.table.set_class(at, if half { Class::HalfClosed } else { Class::Open }, self.now);
                self.check_by(self.now.after(self.config.limits.half_closed));
            }
            _ => self.table.touch(at, self.now),
        }
        if look {
            self.arm(at);
            self.keep_reassembly_budget();
        }
        if reweigh {
            self.weigh(at);
        }
        if self.shared.stats.dissect > self.config.limits.dissect_total as u64 / 2 || self.watching {
            self.keep_dissect_budget();
        }
        Handled { stream: Some(id), fragment: false, copy: effect == Effect::Copy }
    }

    /// The place of a packet's stream, which is made if there is none.
    fn place(&mut self, key: &FlowKey, from: usize, tcp: &TcpPacket<'_>) -> u32 {
        if let Some(at) = self.table.find_next(key) {
            let replaced = self.table.get(at).is_some_and(|s| s.replaced_by(from, tcp));
            if !replaced {
                return at;
            }
            self.close(at, Reason::Reused);
            self.remove(at);
        }
        while self.table.len() >= self.config.limits.streams.max(1) {
            self.evict();
        }
        let id = StreamId(self.next_stream);
        self.next_stream += self.config.stream_step.max(1);
        self.shared.stats.streams += 1;
        self.shared.stats.active_streams += 1;
        self.check_by(self.now.after(self.config.limits.handshake_timeout));
        self.table.insert(*key, Stream::new(id, self.now, from), Class::Handshake, self.now)
    }

    /// Makes room for a stream: closed ones first, then, under a flood of handshakes, those, then the longest idle.
    fn evict(&mut self) {
        let oldest = |class| self.table.oldest(class);
        let flood = self.table.len_of(Class::Handshake) * 2 > self.table.len();
        let victim = oldest(Class::Linger).or_else(|| oldest(Class::HalfClosed)).or_else(|| {
            let (handshake, open) = (oldest(Class::Handshake), oldest(Class::Open));
            match (handshake, open) {
                (Some(h), Some(o)) => Some(if flood || h.1 <= o.1 { h } else { o }),
                (h, o) => h.or(o),
            }
        });
        if let Some((at, _)) = victim {
            self.close(at, Reason::Evicted);
            self.remove(at);
        }
    }

    fn close(&mut self, at: u32, reason: Reason) {
        let rules = self.config.rules(self.now);
        if let Some((key, stream)) = self.table.get_mut(at) {
            stream.close(reason, &mut Cx { key, rules, shared: &mut self.shared });
        }
    }

    /// Forgets a closed stream, and tells its end.
    fn remove(&mut self, at: u32) {
        if let Some((key, stream)) = self.table.remove(at) {
            if let Some(armed) = stream.armed {
                self.timers.remove(&(armed, at));
            }
            if stream.weight > 0 {
                self.heavy.remove(&(stream.weight, at));
            }
            self.shared.stats.active_streams -= 1;
            let summary = stream.summary(&key);
            self.shared.events.push_back(Event::StreamClosed(Box::new(summary)));
        }
    }

    fn check_by(&mut self, deadline: Timestamp) {
        self.next_check = self.next_check.min(deadline);
    }

    /// Sets the timer of a stream that waits for missing bytes, or takes it away.
    fn arm(&mut self, at: u32) {
        let Some((_, stream)) = self.table.get_mut(at) else { return };
        let wanted = stream.deadline(&self.config.limits);
        let armed = std::mem::replace(&mut stream.armed, wanted);
        if armed != wanted {
            if let Some(old) = armed {
                self.timers.remove(&(old, at));
            }
            if let Some(new) = wanted {
                self.timers.insert((new, at));
                self.check_by(new);
            }
        }
    }

    /// Notes how much memory a stream's reader has.
    fn weigh(&mut self, at: u32) {
        let Some((_, stream)) = self.table.get_mut(at) else { return };
        let weight = weight(stream.meta.dissect, &self.config.limits);
        let old = std::mem::replace(&mut stream.weight, weight);
        if old > 0 {
            self.heavy.remove(&(old, at));
        }
        if weight > 0 {
            self.heavy.insert((weight, at));
        }
    }

    /// While more is held than allowed, the stream whose missing bytes are due first loses its holes.
    fn keep_reassembly_budget(&mut self) {
        while self.shared.stats.held > self.config.limits.reassembly_total as u64 {
            let Some(&(_, at)) = self.timers.first() else { return };
            self.shared.stats.evicted_holes_total += 1;
            let rules = self.config.rules(self.now);
            let Some((key, stream)) = self.table.get_mut(at) else { return };
            let closed = stream.squeeze(&mut Cx { key, rules, shared: &mut self.shared });
            self.after_timer(at, closed);
        }
    }

    /// Watches who holds how much from half of what is allowed on, until it is a quarter again: most of the time nobody has to
    /// know.
    fn watch(&mut self) {
        let (held, total) = (self.shared.stats.dissect, self.config.limits.dissect_total as u64);
        if self.watching && held < total / 4 {
            self.watching = false;
            self.heavy.clear();
        } else if !self.watching && held > total / 2 {
            self.watching = true;
            for at in self.table.places() {
                // What it weighed when they were watched before is not known any more.
                if let Some((_, stream)) = self.table.get_mut(at) {
                    stream.weight = 0;
                }
                self.weigh(at);
            }
        }
    }

    /// While dissectors hold more than allowed, the biggest (to a factor of two) is given up.
    fn keep_dissect_budget(&mut self) {
        self.watch();
        while self.shared.stats.dissect > self.config.limits.dissect_total as u64 {
            let Some(&(_, at)) = self.heavy.last() else { return };
            self.shared.stats.evicted_readers += 1;
            let rules = self.config.rules(self.now);
            if let Some((key, stream)) = self.table.get_mut(at) {
                stream.drop_reader(&mut Cx { key, rules, shared: &mut self.shared });
            }
            self.weigh(at);
        }
    }

    fn after_timer(&mut self, at: u32, closed: bool) {
        if closed {
            self.table.set_class(at, Class::Linger, self.now);
            self.check_by(self.now.after(self.config.limits.linger));
        }
        self.arm(at);
        self.weigh(at);
    }

    fn timeout_of(&self, class: Class) -> std::time::Duration {
        let limits = &self.config.limits;
        match class {
            Class::Handshake => limits.handshake_timeout,
            Class::Open => limits.idle_timeout,
            Class::HalfClosed => limits.half_closed,
            Class::Linger => limits.linger,
        }
    }

    /// When the first stream of a class is due. A stream is queued with the first packet of a tick: a tick is added.
    fn class_deadline(&self, class: Class) -> Option<Timestamp> {
        let (_, since) = self.table.oldest(class)?;
        Some(Timestamp(since.after(self.timeout_of(class)).0.saturating_add(crate::flow::TICK)))
    }

    /// Does all that is due.
    fn expire(&mut self) {
        while self.expire_next().is_some() {}
        self.expired();
    }
}

/// Magnitude of a reader's memory, 0 up to its share of the whole.
fn weight(memory: usize, limits: &Limits) -> u8 {
    let share = limits.dissect_total / limits.streams.max(1);
    if memory <= share { 0 } else { (usize::BITS - memory.leading_zeros()) as u8 }
}

#[cfg(test)]
mod tests;
