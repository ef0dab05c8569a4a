//! One of the workers: its share of each block through its engine and into its store, and what it finds handed on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use agent_core::engine::Turn;
use agent_core::{Engine, Event, Item, LinkType, Origin, Packet, StreamId};

use super::{Dealt, FOUND_BYTES, Find, Finds, Hand, Moment, NOTHING, Part, shared_out};
use crate::kfl::Filter;
use crate::pcap::PcapAppender;
use crate::pipeline::names::StreamNames;
use crate::pipeline::worker::{captured, info};
use crate::pipeline::{ItemCounts, Progress, Pulse, Sinks, WorkerReport};
use crate::process::Remembered;
use crate::view::{ItemView, Lines, Page, head};

/// See the module.
pub(super) struct Share {
    engine: Engine,
    store: Option<Box<dyn PcapAppender>>,
    names: StreamNames,
    sinks: Sinks,
    pulse: Arc<Pulse>,
    lines: Option<Lines>,
    /// The filter, unless it asks for numbers, which are not known here.
    filter: Option<(Arc<Filter>, Arc<ItemView>)>,
    wants_items: bool,
    wants_packets: bool,
    /// The first stream's number, and the step to the next.
    numbers: (u64, u64),
    /// Streams that began.
    opened: u64,
    found: Finds,
    /// Memory of what was found, its text aside.
    bytes: usize,
    most: usize,
    filtered: u64,
    items: ItemCounts,
}

/// Nobody takes what is found any more.
struct Over;

type Or<T> = Result<T, Over>;

impl Share {
    pub(super) fn new(part: Part, workers: u16, sinks: &Sinks, lines: Option<Arc<ItemView>>) -> Self {
        let Part { id: _, store, mut engine, pulse } = part;
        engine.limits = shared_out(&engine.limits, workers);
        let printed = sinks.output.as_ref().is_some_and(|output| output.wants().0);
        let wants_items = lines.is_some()
            || printed
            || sinks.scripts.is_some()
            || sinks.items.is_some()
            || sinks.api.is_some();
        Self {
            numbers: (engine.first_stream, engine.stream_step),
            engine: Engine::new(engine),
            store,
            names: StreamNames::new(
                sinks.resolver.clone(),
                sinks.processes.clone().map(Remembered::new),
                sinks.told.clone(),
            ),
            sinks: sinks.clone(),
            pulse,
            lines: lines.map(Lines::new),
            filter: sinks.filter.clone().filter(|(filter, _)| !filter.asks_for_numbers()),
            wants_items,
            wants_packets: sinks.wants_packets(),
            opened: 0,
            found: Finds::default(),
            bytes: 0,
            most: FOUND_BYTES / usize::from(workers.max(1)),
            filtered: 0,
            items: ItemCounts::default(),
        }
    }

    /// Runs until there are no more hands; then closes every stream.
    pub(super) fn run(
        mut self,
        hands: &Receiver<Hand>,
        finds: &SyncSender<Finds>,
        spent: &Receiver<Page>,
    ) -> WorkerReport {
        let to = To { finds, spent };
        // Err: what is found is not taken any more. It is over, then.
        let _ = self.all(hands, &to);
        self.pulse.end(self.told());
        let engine = self.engine.stats().clone();
        WorkerReport { engine, filtered: self.filtered, loss: NOTHING, error: None }
    }

    fn all(&mut self, hands: &Receiver<Hand>, to: &To<'_>) -> Or<()> {
        for hand in hands {
            self.hand(&hand, to)?;
            self.send(true, to)?;
            if self.pulse.beat() {
                self.pulse.tell(self.told());
            }
        }
        while let Some(turn) = self.engine.finish_next() {
            self.draw(Moment { packet: u64::MAX, turn });
            self.send_if_much(to)?;
        }
        self.send(true, to)
    }

    fn told(&self) -> Progress {
        let (engine, memory) = (self.engine.stats().clone(), self.engine.memory() as u64);
        Progress { engine, filtered: self.filtered, items: self.items, memory }
    }

    fn hand(&mut self, hand: &Hand, to: &To<'_>) -> Or<()> {
        let mut at = 0;
        for dealt in &hand.packets {
            let index = dealt.index as usize;
            self.others(hand, at, index);
            at = index;
            self.packet(hand, dealt);
            self.send_if_much(to)?;
        }
        self.others(hand, at, hand.times.len());
        // Should this be the end: what ends with the capture ends at the time of its last packet.
        self.pass(hand, hand.times.len().saturating_sub(1));
        Ok(())
    }

    /// Lets the time of others' packets pass, from this one to before that one: with the first that makes something due, that
    /// is done.
    #[inline]
    fn others(&mut self, hand: &Hand, mut from: usize, to: usize) {
        while let Some(times) = hand.times.get(from..to)
            && let Some(latest) = times.last()
        {
            let check = self.engine.next_check();
            if *latest < check {
                return;
            }
            from += times.partition_point(|time| *time < check);
            self.pass(hand, from);
            from += 1;
        }
    }

    #[inline]
    fn pass(&mut self, hand: &Hand, index: usize) {
        let number = hand.first + index as u64;
        if let Some(now) = hand.times.get(index) {
            self.engine.pass(*now, number);
            while let Some(turn) = self.engine.due() {
                self.draw(Moment { packet: number, turn });
            }
        }
    }

    fn packet(&mut self, hand: &Hand, dealt: &Dealt) {
        let index = dealt.index as usize;
        self.pass(hand, index);
        let data = if dealt.held { &hand.held[..] } else { hand.block.bytes() };
        let packet = Packet {
            time: dealt.time,
            link: LinkType(dealt.link),
            data: data
                .get(dealt.start as usize..)
                .and_then(|d| d.get(..dealt.len as usize))
                .unwrap_or_default(),
            original_len: dealt.original_len,
            origin: Origin { interface: dealt.interface, ..Origin::default() },
        };
        let moment = Moment { packet: hand.first + index as u64, turn: Turn::PACKET };
        let (stream, fragment, copy) = if dealt.given_up {
            self.engine.pass_over(&packet);
            (None, true, false)
        } else {
            let handled = self.engine.handle_packet(&packet);
            (handled.stream, handled.fragment, handled.copy)
        };
        if let Some(store) = self.store.as_mut().filter(|_| !copy) {
            store.append(stream, &packet);
        }
        if self.wants_packets && !copy {
            self.found.finds.push((moment, Find::Packet(info(&packet, fragment))));
        }
        let streams = self.engine.stats().streams;
        while self.opened < streams {
            let (first, step) = self.numbers;
            let stream = StreamId(first + step * self.opened);
            self.opened += 1;
            self.found.finds.push((moment, Find::Opened(stream)));
        }
        self.draw(moment);
    }

    /// Takes what the engine found.
    #[inline]
    fn draw(&mut self, moment: Moment) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Item(item) => self.item(moment, item),
                Event::StreamClosed(summary) => {
                    let names = self.names.closed(&summary);
                    self.found.finds.push((moment, Find::Closed(summary, Box::new(names))));
                }
                // A file's packets are all there, whole.
                Event::Trim(_) | Event::Text(_) => {}
            }
        }
    }

    fn item(&mut self, moment: Moment, item: Box<Item>) {
        self.items.add(&item);
        if !self.wants_items && self.filter.is_none() {
            return;
        }
        let stream = item.stream;
        // All of a file's are one worker's, to whoever sees them.
        let item = captured(item, 0, &self.sinks, &mut self.names);
        if self.filter.as_ref().is_some_and(|(filter, view)| !filter.matches(&item, view)) {
            self.filtered += 1;
            self.found.finds.push((moment, Find::Filtered));
            return;
        }
        let find = match &mut self.lines {
            Some(lines) => {
                let text = &mut self.found.text;
                // Its own numbers, which others will stand in the place of, are longer than none.
                let start = text.text().len() + head::more(stream, item.item.index);
                text.blank::<{ head::LONGER }>();
                lines.write(&item, text);
                Find::Line { stream, start, end: text.text().len() }
            }
            None => {
                self.bytes += item.memory();
                Find::Item(Box::new(item))
            }
        };
        self.found.finds.push((moment, find));
    }

    /// A packet can bring much more than its own size: compressed bodies, thousands of small messages.
    #[inline]
    fn send_if_much(&mut self, to: &To<'_>) -> Or<()> {
        if self.bytes + self.found.text.text().len() < self.most { Ok(()) } else { self.send(false, to) }
    }

    /// Commits the store, then hands on what was found.
    fn send(&mut self, last: bool, to: &To<'_>) -> Or<()> {
        if let Some(store) = &mut self.store {
            store.commit();
        }
        let mut text = to.spent.try_recv().unwrap_or_default();
        text.clear(self.most);
        let next = Finds { finds: Vec::with_capacity(self.found.finds.len()), text, last: false };
        let mut found = std::mem::replace(&mut self.found, next);
        found.last = last;
        self.bytes = 0;
        to.finds.send(found).map_err(|_| Over)
    }
}

/// Where finds go, and where the memory of their text comes back from.
struct To<'a> {
    finds: &'a SyncSender<Finds>,
    spent: &'a Receiver<Page>,
}
