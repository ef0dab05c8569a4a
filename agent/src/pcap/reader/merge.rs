//! The records of all logs in the order of time.
//!
//! A log is in the order of capture, which is that of time but for a little: so many records of each log are looked at
//! before the first of them is handed out. A log is opened when the others have come to its time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::time::Duration;

use agent_core::Timestamp;
use agent_core::item::StreamId;

use super::Found;
use super::cursor::{Cursor, Record};

/// Captured bytes of one log that are looked at before the first is handed out.
const AHEAD_BYTES: usize = 1 << 20;

/// A log is opened so long before its first record's time is reached: it may have earlier ones.
const JITTER: Duration = Duration::from_secs(1);

/// Which streams are of interest.
type Wanted<'a> = &'a dyn Fn(Option<StreamId>) -> bool;

pub(super) struct Merge<'a> {
    wanted: Wanted<'a>,
    /// Records of a log to look at before the first is handed out; 0: each log stays in its order.
    ahead: usize,
    /// Logs that were begun, by number.
    active: BTreeMap<usize, Active>,
    /// The others, the one that begins last first.
    waiting: Vec<(Timestamp, usize, Cursor, Record)>,
    done: u64,
    vanished: u64,
}

struct Active {
    cursor: Cursor,
    heap: BinaryHeap<Reverse<Ahead>>,
    bytes: usize,
    taken: u64,
    ended: bool,
}

struct Ahead {
    key: (Timestamp, u64),
    record: Record,
}

impl PartialEq for Ahead {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Ahead {}

impl PartialOrd for Ahead {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ahead {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Active {
    fn push(&mut self, record: Record, in_order: bool) {
        let time = if in_order { Timestamp(0) } else { record.time };
        self.bytes += record.data.len();
        self.heap.push(Reverse(Ahead { key: (time, self.taken), record }));
        self.taken += 1;
    }

    fn fill(&mut self, wanted: Wanted<'_>, ahead: usize) -> io::Result<()> {
        while !self.ended && (self.heap.is_empty() || (self.heap.len() < ahead && self.bytes < AHEAD_BYTES)) {
            match self.cursor.next(wanted)? {
                Some(record) => self.push(record, ahead == 0),
                None => self.ended = true,
            }
        }
        Ok(())
    }

    fn first(&self) -> Option<Timestamp> {
        self.heap.peek().map(|first| first.0.record.time)
    }
}

impl<'a> Merge<'a> {
    pub(super) fn new<'f>(
        logs: impl Iterator<Item = &'f [Found]>,
        wanted: Wanted<'a>,
        ahead: usize,
    ) -> io::Result<Self> {
        let mut merge =
            Self { wanted, ahead, active: BTreeMap::new(), waiting: Vec::new(), done: 0, vanished: 0 };
        for (number, log) in logs.enumerate() {
            let mut cursor = Cursor::new(log);
            match cursor.next(wanted)? {
                Some(first) => merge.waiting.push((first.time, number, cursor, first)),
                None => merge.end(&cursor),
            }
        }
        merge.waiting.sort_by_key(|(time, number, ..)| Reverse((*time, *number)));
        Ok(merge)
    }

    fn end(&mut self, cursor: &Cursor) {
        self.done += cursor.position();
        self.vanished += cursor.vanished;
    }

    /// Bytes gone through.
    pub(super) fn position(&self) -> u64 {
        self.done + self.active.values().map(|active| active.cursor.position()).sum::<u64>()
    }

    /// Segments that were removed while they were read.
    pub(super) fn vanished(&self) -> u64 {
        self.vanished
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            let first = self.active.iter().filter_map(|(&n, active)| Some((active.first()?, n))).min();
            let begin = |next: &mut (Timestamp, usize, Cursor, Record)| {
                first.is_none_or(|(time, _)| next.0 <= time.after(JITTER))
            };
            if let Some((_, number, cursor, record)) = self.waiting.pop_if(begin) {
                let mut active = Active { cursor, heap: BinaryHeap::new(), bytes: 0, taken: 0, ended: false };
                active.push(record, self.ahead == 0);
                active.fill(self.wanted, self.ahead)?;
                self.active.insert(number, active);
                continue;
            }
            let Some((_, number)) = first else { return Ok(None) };
            return self.take(number);
        }
    }

    fn take(&mut self, number: usize) -> io::Result<Option<Record>> {
        let Some(active) = self.active.get_mut(&number) else { return Ok(None) };
        let Some(Reverse(Ahead { record, .. })) = active.heap.pop() else { return Ok(None) };
        active.bytes -= record.data.len();
        active.fill(self.wanted, self.ahead)?;
        if active.heap.is_empty()
            && let Some(active) = self.active.remove(&number)
        {
            self.end(&active.cursor);
        }
        Ok(Some(record))
    }
}
