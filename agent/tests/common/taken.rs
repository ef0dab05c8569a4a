//! What an agent takes of memory and disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What a process and its folders take, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Taken {
    pub(crate) resident: u64,
    pub(crate) outbox: u64,
    pub(crate) store: u64,
    pub(crate) rest: u64,
}

impl Taken {
    /// `data`, `pcap` and `items` in `dir`, and the resident memory of process `pid`.
    pub(crate) fn now(pid: u32, dir: &Path) -> Self {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).expect("Rss");
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let (outbox, store) = (on_disk(&dir.join("data/outbox")), on_disk(&dir.join("pcap")));
        let rest = on_disk(&dir.join("data/scripts")) + on_disk(&dir.join("items"));
        Self { resident: kib << 10, outbox, store, rest }
    }

    pub(crate) fn most(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            outbox: self.outbox.max(other.outbox),
            store: self.store.max(other.store),
            rest: self.rest.max(other.rest),
        }
    }
}

/// Bytes that a folder's files occupy; some go while they are counted.
fn on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => on_disk(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}
