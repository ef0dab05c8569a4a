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
    bytes: AtomicU64,
    temporary: AtomicU64,
}

impl Extracted {
    pub(super) fn new(folder: PathBuf, limits: Limits) -> Self {
        let entries = Mutex::new(HashMap::new());
        Self { folder, limits, entries, bytes: AtomicU64::new(0), temporary: AtomicU64::new(0) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the stream's finished file lies.
    pub(super) fn path(&self, stream: StreamId, format: Format) -> PathBuf {
        self.folder.join(match format {
            Format::Classic(_) => format!("{stream}.pcap"),
            Format::Ng => format!("{stream}.pcapng"),
        })
    }

    /// A new name for a merged file.
    pub(super) fn snapshot(&self, extension: &str) -> PathBuf {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("snapshot-{number:06}.{extension}"))
    }

    /// A name for a file that is not finished.
    pub(super) fn temporary(&self) -> PathBuf {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!(".{number}.tmp"))
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

    /// Takes room for a file of `len` bytes. `false`: there is none.
    pub(super) fn take_room(&self, len: u64) -> bool {
        let room = charge(len);
        if room > self.limits.bytes {
            return false;
        }
        for sweep in [true, false] {
            let taken = self.bytes.fetch_add(room, Ordering::AcqRel);
            if taken + room <= self.limits.bytes {
                return true;
            }
            self.bytes.fetch_sub(room, Ordering::AcqRel);
            if sweep {
                self.sweep_to(self.limits.bytes.saturating_sub(room).min(self.limits.bytes / 8 * 7));
            }
        }
        false
    }

    /// Gives back the room of a file of `len` bytes.
    pub(super) fn give_room(&self, len: u64) {
        self.bytes.fetch_sub(charge(len), Ordering::AcqRel);
    }

    /// Bytes that the files take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limits.bytes
    }

    /// Removes files past their age.
    pub(super) fn sweep(&self) {
        self.sweep_to(self.limits.bytes);
    }

    /// Removes files past their age, and then the longest unused until at most `target` bytes are left.
    fn sweep_to(&self, target: u64) {
        let mut entries = lock(&self.entries);
        let mut unheld: Vec<(Duration, Key)> = entries
            .iter()
            .filter(|(_, entry)| Arc::strong_count(entry) == 1)
            .map(|(key, entry)| (age(entry), key.clone()))
            .collect();
        unheld.sort_unstable_by(|a, b| b.cmp(a));
        for (age, key) in unheld {
            let spare = self.bytes() > target && age >= self.limits.grace;
            if age < self.limits.age && !spare {
                break;
            }
            let opened =
                |entry: &Arc<Mutex<Entry>>| lock(entry).made.as_ref().is_some_and(|made| is_open(&made.path));
            if entries.get(&key).is_some_and(opened) {
                continue;
            }
            let Some(entry) = entries.remove(&key) else { continue };
            if let Some(made) = lock(&entry).made.take() {
                remove(&made.path);
                self.give_room(made.len);
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
