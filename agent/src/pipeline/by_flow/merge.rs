//! Puts what the workers found back into the order of the file, and gives streams and items the numbers that one worker would
//! have given them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::vec::IntoIter;

use agent_core::StreamId;

use super::lines::Lines;
use super::{Find, Finds, Moment};
use crate::captured::{Captured, ClosedStream};
use crate::hooks::PacketInfo;
use crate::pipeline::output::is_closed_pipe;
use crate::pipeline::worker::Batch;
use crate::pipeline::{Pace, Sinks};
use crate::view::Page;

/// Memory of items that are handed on at once, in bytes.
const BATCH_BYTES: usize = 1 << 20;

/// One worker's finds.
struct From {
    finds: Receiver<Finds>,
    spent: Sender<Page>,
    left: IntoIter<(Moment, Find)>,
    text: Page,
    /// Whether these are the block's last.
    last: bool,
    /// Its streams' numbers, by what it calls them.
    streams: HashMap<StreamId, StreamId>,
}

impl From {
    fn moment(&self) -> Option<Moment> {
        self.left.as_slice().first().map(|(moment, _)| *moment)
    }
}

/// See the module.
pub(super) struct Merge {
    from: Vec<From>,
    sinks: Sinks,
    lines: Option<Lines>,
    /// Whether streams keep the numbers that the workers gave them, because packets were stored under them.
    stored: bool,
    next_stream: u64,
    next_index: u64,
    batch: Batch,
    packets: Vec<PacketInfo>,
    filtered: u64,
}

impl Merge {
    pub(super) fn new(sinks: &Sinks, lines: bool, stored: bool) -> anyhow::Result<Self> {
        Ok(Self {
            from: Vec::new(),
            sinks: sinks.clone(),
            lines: lines.then(Lines::open).transpose()?,
            stored,
            next_stream: 1,
            next_index: 0,
            batch: Batch::default(),
            packets: Vec::new(),
            filtered: 0,
        })
    }

    /// One worker more.
    pub(super) fn add(&mut self, finds: Receiver<Finds>, spent: Sender<Page>) {
        let (left, streams) = (Vec::new().into_iter(), HashMap::new());
        self.from.push(From { finds, spent, left, text: Page::default(), last: true, streams });
    }

    /// Hands on what is found until there is no more. Items that the filter kept back here.
    ///
    /// # Errors
    /// When something could not be written. A reader that went away (a closed pipe) is no error: it asks for the end.
    pub(super) fn run(mut self) -> anyhow::Result<u64> {
        match self.blocks() {
            Ok(()) => {}
            Err(error) if is_closed_pipe(&error) => self.sinks.stop.set(),
            Err(error) => return Err(error),
        }
        Ok(self.filtered)
    }

    fn blocks(&mut self) -> anyhow::Result<()> {
        loop {
            // All end with the same block, but for one that panicked: the others' finds are good without its own.
            let mut more = false;
            for worker in 0..self.from.len() {
                more |= self.refill(worker)?;
            }
            if !more {
                return Ok(());
            }
            while let Some((worker, until)) = self.first()? {
                while let Some(moment) = self.from[worker].moment()
                    && until.is_none_or(|until| moment <= until)
                    && let Some((_, find)) = self.from[worker].left.next()
                {
                    self.find(worker, find)?;
                }
            }
            self.hand_on();
        }
    }

    /// Whose find is the first, and when the next worker's is.
    fn first(&mut self) -> anyhow::Result<Option<(usize, Option<Moment>)>> {
        let (mut first, mut second) = (None, None);
        for worker in 0..self.from.len() {
            while self.from[worker].moment().is_none() && !self.from[worker].last {
                self.refill(worker)?;
            }
            let Some(moment) = self.from[worker].moment() else { continue };
            match first {
                Some((_, least)) if moment >= least => {
                    second = Some(second.map_or(moment, |second: Moment| second.min(moment)));
                }
                before => {
                    second = before.map(|(_, moment)| moment);
                    first = Some((worker, moment));
                }
            }
        }
        Ok(first.map(|(worker, _)| (worker, second)))
    }

    /// Waits for more of a worker's finds. `false`: it is over.
    fn refill(&mut self, worker: usize) -> anyhow::Result<bool> {
        if let Some(lines) = &mut self.lines {
            lines.flush(self.from.iter().map(|from| from.text.text()))?;
        }
        let from = &mut self.from[worker];
        let Ok(Finds { finds, text, last }) = from.finds.recv() else {
            (from.left, from.last) = (Vec::new().into_iter(), true);
            return Ok(false);
        };
        // Err: the worker has ended, and needs none.
        let _ = from.spent.send(std::mem::replace(&mut from.text, text));
        (from.left, from.last) = (finds.into_iter(), last);
        Ok(true)
    }

    /// What a stream is called.
    fn number(&self, worker: usize, stream: StreamId) -> StreamId {
        if self.stored { stream } else { self.from[worker].streams.get(&stream).copied().unwrap_or(stream) }
    }

    fn index(&mut self) -> u64 {
        self.next_index += 1;
        self.next_index - 1
    }

    fn find(&mut self, worker: usize, find: Find) -> anyhow::Result<()> {
        match find {
            Find::Opened(stream) => {
                if !self.stored {
                    self.from[worker].streams.insert(stream, StreamId(self.next_stream));
                    self.next_stream += 1;
                }
            }
            Find::Line { stream, start, end } => {
                let (stream, index) = (self.number(worker, stream), self.index());
                if let Some(lines) = &mut self.lines {
                    lines.add(worker, self.from[worker].text.text_mut(), start..end, (stream, index));
                    if lines.is_full() {
                        lines.flush(self.from.iter().map(|from| from.text.text()))?;
                    }
                }
            }
            Find::Item(mut item) => {
                item.item.stream = self.number(worker, item.item.stream);
                item.item.index = self.index();
                self.item(item);
            }
            Find::Filtered => drop(self.index()),
            Find::Closed(mut summary, names) => {
                let local = summary.stream;
                summary.stream = self.number(worker, local);
                self.from[worker].streams.remove(&local);
                if self.sinks.wants_streams() {
                    let (src, dst) = *names;
                    let summary = (*summary).clone();
                    self.batch.closed.push(Arc::new(ClosedStream { summary, src, dst }));
                }
                self.batch.streams.push(*summary);
            }
            Find::Packet(packet) => self.packets.push(packet),
        }
        Ok(())
    }

    fn item(&mut self, item: Box<Captured>) {
        let asked = self.sinks.filter.as_ref().filter(|(filter, _)| filter.asks_for_numbers());
        if asked.is_some_and(|(filter, view)| !filter.matches(&item, view)) {
            self.filtered += 1;
            return;
        }
        self.batch.bytes += item.unpacked();
        self.batch.items.push(Arc::from(item));
        if self.batch.bytes >= BATCH_BYTES {
            self.hand_on();
        }
    }

    /// Gives what was put in order to the sinks.
    fn hand_on(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let packets = std::mem::take(&mut self.packets);
        self.sinks.scripts_and_sinks(&batch, packets, Pace::Replay);
        if let Some(output) = &self.sinks.output {
            output.send(batch, Pace::Replay);
        }
    }
}
