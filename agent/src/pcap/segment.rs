//! The segments of all logs: their files, their sizes, and which go first.
//!
//! Invariants: numbers only grow, so the lowest is the oldest. What retention takes out of the registry can no longer
//! be found, and its files are deleted when the last one who reads or writes them lets go. Segments that are still
//! written are never taken out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::Timestamp;

use super::fallback::Detour;
use super::lock;

/// One segment: a pcapng file and its links.
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) data: PathBuf,
    pub(super) links: PathBuf,
    /// Bytes of both files.
    bytes: AtomicU64,
    /// Capture time of its first packet, in nanoseconds; 0: none yet.
    began: AtomicU64,
    /// When it was written last, in milliseconds since the epoch.
    written: AtomicU64,
    sealed: AtomicBool,
    doomed: AtomicBool,
    /// Its last records, where the disk did not take them.
    detour: Mutex<Option<Arc<Detour>>>,
    /// The next packet should begin another one.
    turn: AtomicBool,
}

impl Segment {
    pub(super) fn detour(&self) -> Option<Arc<Detour>> {
        lock(&self.detour).clone()
    }

    /// From now on its records are in memory.
    pub(super) fn take_detour(&self, detour: &Arc<Detour>) {
        *lock(&self.detour) = Some(Arc::clone(detour));
    }

    pub(super) fn turn(&self) {
        self.turn.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_to_turn(&self) -> bool {
        self.turn.load(Ordering::Relaxed)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if *self.doomed.get_mut() {
            for path in [&self.data, &self.links] {
                if let Err(error) = fs::remove_file(path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %path.display(), %error, "a segment of the PCAP store could not be removed");
                }
            }
        }
    }
}

/// File name of a segment's data; its links are beside it.
pub(super) fn data_name(number: u32) -> String {
    format!("segment-{number:010}.pcapng")
}

/// File name of a segment's links.
pub(super) fn links_name(number: u32) -> String {
    format!("segment-{number:010}.links")
}

/// Number of the segment whose data or links file is called `name`.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let (number, _) = name.strip_prefix("segment-")?.split_once('.')?;
    number.parse().ok().filter(|&n| n > 0)
}

/// When retention takes a segment out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// All segments together.
    pub(super) bytes: u64,
    /// Since a segment was written last.
    pub(super) age: Option<Duration>,
}

/// All segments that can be found.
pub(super) struct Registry {
    folder: PathBuf,
    bounds: Bounds,
    segments: Mutex<Segments>,
    bytes: AtomicU64,
    /// Lowest number that can still be found.
    oldest: AtomicU32,
    expired: AtomicU64,
}

struct Segments {
    known: BTreeMap<u32, Arc<Segment>>,
    next: u32,
}

impl Registry {
    pub(super) fn new(folder: PathBuf, bounds: Bounds) -> Self {
        Self {
            folder,
            bounds,
            segments: Mutex::new(Segments { known: BTreeMap::new(), next: 1 }),
            bytes: AtomicU64::new(0),
            oldest: AtomicU32::new(1),
            expired: AtomicU64::new(0),
        }
    }

    /// A new segment, still without files. `None`: the numbers are used up.
    pub(super) fn begin(&self) -> Option<Arc<Segment>> {
        let mut segments = lock(&self.segments);
        let number = segments.next;
        segments.next = number.checked_add(1)?;
        let segment = Arc::new(self.segment(number));
        segments.known.insert(number, Arc::clone(&segment));
        Some(segment)
    }

    /// Takes in a finished segment of an earlier run: its size, its first packet's time, when it was written last.
    pub(super) fn adopt(&self, number: u32, bytes: u64, began: Timestamp, written: SystemTime) {
        let segment = self.segment(number);
        segment.sealed.store(true, Ordering::Release);
        self.grow(&segment, bytes, began);
        segment.written.store(millis(written), Ordering::Relaxed);
        let mut segments = lock(&self.segments);
        segments.next = segments.next.max(number.saturating_add(1));
        segments.known.insert(number, Arc::new(segment));
    }

    pub(super) fn find(&self, number: u32) -> Option<Arc<Segment>> {
        lock(&self.segments).known.get(&number).cloned()
    }

    /// Counts bytes written to a segment; `first` is the time of the first packet in them.
    pub(super) fn grow(&self, segment: &Segment, bytes: u64, first: Timestamp) {
        self.touch(segment, first);
        segment.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Something was written to the segment, wherever it went.
    pub(super) fn touch(&self, segment: &Segment, first: Timestamp) {
        // Err: it has begun already.
        let _ = segment.began.compare_exchange(0, first.0, Ordering::Relaxed, Ordering::Relaxed);
        segment.written.store(millis(SystemTime::now()), Ordering::Relaxed);
    }

    /// The segment is written no more: retention may have it.
    pub(super) fn seal(&self, segment: &Segment) {
        segment.sealed.store(true, Ordering::Release);
    }

    /// The segment came to nothing: its files go.
    pub(super) fn discard(&self, segment: &Segment) {
        if lock(&self.segments).known.remove(&segment.number).is_some() {
            self.doom(segment);
        }
    }

    /// Takes out the oldest finished segments until the rest is within the bounds.
    pub(super) fn retain(&self) {
        while self.bytes() > self.bounds.bytes && self.take_out(|_| true) {}
        if let Some(age) = self.bounds.age {
            let horizon = millis(SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH));
            while self.take_out(|segment| segment.written.load(Ordering::Relaxed) < horizon) {}
        }
    }

    /// Takes out the oldest finished segment on the disk for want of room there. `false`: there is none.
    pub(super) fn give_up(&self) -> bool {
        self.take_out(|segment| segment.bytes.load(Ordering::Relaxed) > 0)
    }

    /// Lets the oldest records go that are in memory, of finished segments. `false`: there are none.
    pub(super) fn give_up_detour(&self) -> bool {
        let segments = lock(&self.segments);
        let oldest =
            segments.known.values().find(|s| s.sealed.load(Ordering::Acquire) && s.detour().is_some());
        let Some(segment) = oldest.cloned() else { return false };
        drop(segments);
        let detour = lock(&segment.detour).take();
        if detour.is_some_and(|detour| detour.first == 0) {
            // Nothing else is left of it.
            self.take_out(|s| s.number == segment.number);
        }
        true
    }

    /// The records that are in memory, with their segments' numbers.
    pub(super) fn detours(&self) -> Vec<(u32, Arc<Detour>)> {
        let segments = lock(&self.segments);
        segments.known.values().filter_map(|s| Some((s.number, s.detour()?))).collect()
    }

    /// Takes out the oldest finished segment that will do. `false`: there is none.
    fn take_out(&self, will_do: impl Fn(&Segment) -> bool) -> bool {
        let mut segments = lock(&self.segments);
        let finished = |s: &&Arc<Segment>| s.sealed.load(Ordering::Acquire) && will_do(s);
        let found = segments.known.values().find(finished).map(|s| s.number);
        let Some(segment) = found.and_then(|number| segments.known.remove(&number)) else { return false };
        let oldest = segments.known.first_key_value().map_or(segments.next, |(&number, _)| number);
        drop(segments);
        self.oldest.store(oldest, Ordering::Release);
        self.expired.fetch_add(1, Ordering::Relaxed);
        self.doom(&segment);
        true
    }

    /// The files go when the last one who has the segment lets go.
    fn doom(&self, segment: &Segment) {
        let bytes = segment.bytes.load(Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        segment.doomed.store(true, Ordering::Release);
    }

    /// Capture time of the oldest packet, as far as the segments' first packets tell; `None`: nothing is stored.
    pub(super) fn began(&self) -> Option<Timestamp> {
        let segments = lock(&self.segments);
        let times = segments.known.values().map(|s| s.began.load(Ordering::Relaxed)).filter(|&t| t > 0);
        times.min().map(Timestamp)
    }

    pub(super) fn oldest(&self) -> u32 {
        self.oldest.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.segments).known.len()
    }

    pub(super) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn segment(&self, number: u32) -> Segment {
        Segment {
            number,
            data: self.folder.join(data_name(number)),
            links: self.folder.join(links_name(number)),
            bytes: AtomicU64::new(0),
            began: AtomicU64::new(0),
            written: AtomicU64::new(millis(SystemTime::now())),
            sealed: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            detour: Mutex::new(None),
            turn: AtomicBool::new(false),
        }
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
