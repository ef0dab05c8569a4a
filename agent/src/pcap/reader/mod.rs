//! A store's folder, read by somebody who has not opened the store: another process may be writing it.
//!
//! ```text
//! StoreFolder ─► Cursor (a log's records in their order) ─► merged by time ─► pcapng, pcap
//!           └──► links alone ─► which streams there are
//! ```
//!
//! Invariants: nothing is changed and no lock is taken. The writer appends data before the links to it, so that what a
//! links file tells of when it is opened is there; a segment that retention removes meanwhile is passed over, and counted.

mod cursor;
mod export;
mod identity;
mod list;
mod merge;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::fallback::Detour;
use super::link::{self, Ids};
use super::segment::{data_name, links_name, number_of};
use super::store::trouble;

pub use export::{ExportFormat, Exported, Select};
pub use list::StreamEntry;

/// The segments of a store.
pub struct StoreFolder {
    dir: PathBuf,
    /// By log, each in the order in which it was written.
    logs: BTreeMap<(u64, u32), Vec<Found>>,
}

/// One segment.
#[derive(Clone)]
struct Found {
    number: u32,
    /// The first record in it…
    first: u32,
    /// …and where its data lies, in bytes.
    base: u64,
    data: PathBuf,
    links: PathBuf,
    ids: Ids,
    /// Bytes of both files when the folder was read.
    bytes: u64,
}

impl StoreFolder {
    /// Looks what there is.
    ///
    /// # Errors
    /// When `dir` is not a store's folder, or cannot be read.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let segments = dir.join("segments");
        let mut numbers = Vec::new();
        for file in fs::read_dir(&segments).map_err(trouble(segments.display()))? {
            let name = file.map_err(trouble(segments.display()))?.file_name();
            let number = name.to_str().filter(|name| name.ends_with(".links")).and_then(number_of);
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let mut logs: BTreeMap<_, Vec<Found>> = BTreeMap::new();
        for number in numbers {
            let (data, links) = (segments.join(data_name(number)), segments.join(links_name(number)));
            // Removed since, or not begun yet.
            let Some(found) = look(number, data, links).map_err(trouble(segments.display()))? else {
                continue;
            };
            logs.entry((found.ids.first, found.ids.step)).or_default().push(found);
        }
        Ok(Self { dir: dir.to_owned(), logs })
    }

    /// Takes in records that are in memory, with their segments' numbers.
    pub(super) fn include(&mut self, detours: &[(u32, Arc<Detour>)]) -> Result<(), StoreError> {
        for (number, detour) in detours {
            let found = look(*number, detour.data.clone(), detour.links.clone());
            let found = found.map_err(trouble(detour.links.display()))?;
            let Some(found) = found.map(|found| Found { first: detour.first, base: detour.base, ..found })
            else {
                continue;
            };
            let log = self.logs.entry((found.ids.first, found.ids.step)).or_default();
            log.push(found);
            log.sort_by_key(|found| (found.number, found.first));
        }
        Ok(())
    }

    /// Bytes of all segments: what reading all of it means.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.logs.values().flatten().map(|found| found.bytes).sum()
    }

    /// Bytes of the links alone: what [`StoreFolder::streams`] reads.
    #[must_use]
    pub fn link_bytes(&self) -> u64 {
        let len = |found: &Found| fs::metadata(&found.links).map_or(0, |meta| meta.len());
        self.logs.values().flatten().map(len).sum()
    }
}

fn look(number: u32, data: PathBuf, links: PathBuf) -> io::Result<Option<Found>> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => Ok(None),
        _ => Err(error),
    };
    let mut header = [0; link::SIZE];
    let read = || -> io::Result<(u64, Option<Ids>)> {
        let mut file = File::open(&links)?;
        file.read_exact(&mut header)?;
        let ids = Ids::decode(&header);
        Ok((file.metadata()?.len() + fs::metadata(&data)?.len(), ids))
    };
    let mut read = read;
    match read() {
        Ok((bytes, Some(ids))) => Ok(Some(Found { number, first: 0, base: 0, data, links, ids, bytes })),
        Ok((_, None)) => Ok(None),
        Err(error) => gone(error),
    }
}
