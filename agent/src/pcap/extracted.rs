//! The files that [`PcapStore::path`](super::PcapStore::path) handed out: one a stream, kept for the next call, within
//! their own limits of bytes and age.
//!
//! Invariants: a file is complete when it gets its name, and never changes under it (a longer one is put in its place).
//! A file handed out within the grace time is not removed; where that leaves no room, a new one is refused. Only
//! entries that nobody holds are swept.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use agent_core::item::StreamId;

use super::extract::Format;
use super::fallback::{Budget, Room};
use super::link::Position;
use super::lock;

/// What a file takes on disk is counted in units of this many bytes, which bounds the number of files too.
const UNIT: u64 = 4096;

/// Limits of the extracted files together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) age: Duration,
    /// A file handed out less than this ago stays.
    pub(super) grace: Duration,
}

/// What a file is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Key {
    /// One stream.
    Stream(StreamId),
    /// Several, in the order of their numbers; none stands for all.
    Merged(Vec<StreamId>),
    /// One stream, redacted.
    Redacted(StreamId),
}

/// What there is of a stream.
pub(super) struct Entry {
    pub(super) made: Option<Made>,
    pub(super) used: Instant,
}

/// A finished file.
pub(super) struct Made {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// The last record in it, of each stream or log that it is of.
    pub(super) at: Vec<Position>,
    pub(super) len: u64,
    pub(super) packets: u64,
    /// What it takes, of the disk or of memory.
    pub(super) room: Room,
}

impl Made {
    /// Whether the file is still there as it was made.
    pub(super) fn intact(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|meta| meta.is_file() && meta.len() == self.len)
    }
}

pub(super) struct Extracted {
    folder: PathBuf,
    limits: Limits,
    entries: Mutex<HashMap<Key, Arc<Mutex<Entry>>>>,
    /// What files may take on the disk…
    disk: Arc<Budget>,
    /// …and in memory, while the disk takes none.
    memory: Arc<Budget>,
    temporary: AtomicU64,
}

impl Extracted {
    pub(super) fn new(folder: PathBuf, limits: Limits, memory: Arc<Budget>) -> Self {
        let entries = Mutex::new(HashMap::new());
        let disk = Budget::new(limits.bytes);
        Self { folder, limits, entries, disk, memory, temporary: AtomicU64::new(0) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the stream's finished file is called.
    pub(super) fn name(stream: StreamId, format: Format, redacted: bool) -> String {
        let redacted = if redacted { "-redacted" } else { "" };
        format!("{stream}{redacted}.{}", format.extension())
    }

    /// A new name for a merged file.
    pub(super) fn snapshot(&self, extension: &str) -> String {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        format!("snapshot-{number:06}.{extension}")
    }

    /// A name for a file that is not finished.
    pub(super) fn temporary(&self) -> String {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        format!(".{number}.tmp")
    }

    /// The stream's entry. Who holds its lock makes the stream's file.
    pub(super) fn entry(&self, key: &Key) -> Arc<Mutex<Entry>> {
        let fresh = || Arc::new(Mutex::new(Entry { made: None, used: Instant::now() }));
        Arc::clone(lock(&self.entries).entry(key.clone()).or_insert_with(fresh))
    }

    /// Lets go of an entry; one that came to nothing is forgotten.
    pub(super) fn release(&self, key: &Key, entry: &Arc<Mutex<Entry>>) {
        let mut entries = lock(&self.entries);
        // Under the map's lock nobody new can take it: two holders are the map and the caller.
        if Arc::strong_count(entry) == 2 && lock(entry).made.is_none() {
            entries.remove(key);
        }
    }

    /// Takes room for a file of `len` bytes, on the disk or in memory. `None`: there is none.
    pub(super) fn take_room(&self, len: u64, in_memory: bool) -> Option<Room> {
        let budget = if in_memory { &self.memory } else { &self.disk };
        let room = charge(len);
        if room > budget.limit() {
            return None;
        }
        budget.take(room).or_else(|| {
            self.sweep_to(budget, budget.limit().saturating_sub(room).min(budget.limit() / 8 * 7));
            budget.take(room)
        })
    }

    /// Bytes that the files take on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.disk.used()
    }

    /// Bytes that they may take there, or in memory.
    pub(super) fn limit(&self, in_memory: bool) -> u64 {
        if in_memory { self.memory.limit() } else { self.disk.limit() }
    }

    /// Removes files past their age.
    pub(super) fn sweep(&self) {
        self.sweep_to(&self.disk, self.disk.limit());
    }

    /// Removes files past their age, and then the longest unused of `budget` until at most `target` bytes of it are taken.
    fn sweep_to(&self, budget: &Arc<Budget>, target: u64) {
        let mut entries = lock(&self.entries);
        let mut unheld: Vec<(Duration, Key)> = entries
            .iter()
            .filter(|(_, entry)| Arc::strong_count(entry) == 1)
            .map(|(key, entry)| (age(entry), key.clone()))
            .collect();
        unheld.sort_unstable_by(|a, b| b.cmp(a));
        for (age, key) in unheld {
            let spare = budget.used() > target && age >= self.limits.grace;
            if age < self.limits.age && !spare {
                break;
            }
            let elsewhere = |entry: &Arc<Mutex<Entry>>| {
                lock(entry).made.as_ref().is_some_and(|made| !made.room.is_of(budget))
            };
            if age < self.limits.age && entries.get(&key).is_some_and(elsewhere) {
                continue;
            }
            let opened =
                |entry: &Arc<Mutex<Entry>>| lock(entry).made.as_ref().is_some_and(|made| is_open(&made.path));
            if entries.get(&key).is_some_and(opened) {
                continue;
            }
            let Some(entry) = entries.remove(&key) else { continue };
            if let Some(made) = lock(&entry).made.take() {
                remove(&made.path);
            }
        }
    }
}

fn charge(len: u64) -> u64 {
    len.max(1).next_multiple_of(UNIT)
}

fn age(entry: &Mutex<Entry>) -> Duration {
    match entry.try_lock() {
        Ok(entry) => entry.used.elapsed(),
        Err(TryLockError::Poisoned(entry)) => entry.into_inner().used.elapsed(),
        Err(TryLockError::WouldBlock) => Duration::ZERO,
    }
}

/// Whether somebody has the file open.
///
/// The kernel grants the lease to write only where nobody else has it open. Where the file system knows no leases the
/// answer is no: a file that is removed while it is open stays readable.
fn is_open(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    // SAFETY: fcntl with F_SETLEASE takes two numbers, touches no memory of ours, and `file` is open.
    let leased = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    leased != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

/// Removes a file; that it is gone already is no trouble.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file of the PCAP store could not be removed");
    }
}
