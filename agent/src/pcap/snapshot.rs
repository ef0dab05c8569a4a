//! Several streams, or all, as one file: read from the segments as they lie, in the order of time.
//!
//! Invariants: the file holds at least what was committed before the call; as long as nothing more was, the same file is
//! handed out again; a file never takes more than extracted files may together.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use agent_core::LinkType;
use agent_core::item::StreamId;

use super::extract::Format;
use super::extracted::{Entry, Key, Made, remove};
use super::fallback::Room;
use super::index::Found;
use super::link::Position;
use super::log::Flushed;
use super::reader::{ExportFormat, Select, StoreFolder};
use super::store::{PATIENCE, TRIES, trouble};
use super::{PcapStore, SegmentStore, StoreError, lock, writer};

impl SegmentStore {
    /// The merged file of `streams`; none stands for all.
    pub(super) fn merged(&self, streams: &[StreamId]) -> Result<PathBuf, StoreError> {
        let mut streams = streams.to_vec();
        streams.sort_unstable();
        streams.dedup();
        let key = Key::Merged(streams);
        let entry = self.shared.extracted.entry(&key);
        let result = self.merge_into(&key, &mut lock(&entry));
        self.shared.extracted.release(&key, &entry);
        result
    }

    fn merge_into(&self, key: &Key, entry: &mut Entry) -> Result<PathBuf, StoreError> {
        let Key::Merged(streams) = key else { return Err(StoreError::Off("no streams")) };
        for _ in 0..TRIES {
            let at = self.marks(streams)?;
            if let Some(file) = entry.reuse(|made| made.at == at) {
                return Ok(file.path);
            }
            match self.flush_all(&at) {
                Flushed::Done => return self.merge(streams, at, entry),
                Flushed::Changed => {}
                Flushed::TimedOut => break,
            }
        }
        let source = io::Error::new(io::ErrorKind::TimedOut, "the disk does not take what is before it");
        Err(trouble("writing a snapshot")(source))
    }

    /// The last record of each stream, or of each log.
    fn marks(&self, streams: &[StreamId]) -> Result<Vec<Position>, StoreError> {
        if streams.is_empty() {
            self.windows.iter().for_each(|window| lock(window).store_all());
            return Ok(self.logs.iter().filter_map(|log| log.last()).collect());
        }
        let mark = |&stream: &StreamId| {
            let known = self.keep(stream);
            match self.log_of(stream)?.find(stream) {
                Found::At(at) => Ok(at),
                Found::Gone => Err(self.expired(stream)),
                Found::Never if known => Err(StoreError::Passed(stream)),
                Found::Never => Err(self.absent(stream)),
            }
        };
        streams.iter().map(mark).collect()
    }

    fn flush_all(&self, at: &[Position]) -> Flushed {
        if at.is_empty() {
            return Flushed::Done;
        }
        // Up to each log's own end: segments' numbers say nothing about which log they are of.
        for log in &self.logs {
            match log.last().map_or(Flushed::Done, |last| log.flush(last, PATIENCE)) {
                Flushed::Done => {}
                other => return other,
            }
        }
        Flushed::Done
    }

    fn merge(
        &self,
        streams: &[StreamId],
        at: Vec<Position>,
        entry: &mut Entry,
    ) -> Result<PathBuf, StoreError> {
        let extracted = &self.shared.extracted;
        let merged = match (self.merge_in(streams, extracted.folder(), false), self.shared.fallback.folder())
        {
            (Err(refused @ StoreError::Io { .. }), Some(folder)) => {
                self.merge_in(streams, folder, true).map_err(|_| refused)
            }
            (result, _) => result,
        };
        let (path, format, len, packets, room) = merged?;
        let made = Made { path: path.clone(), format, at, len, packets, room };
        if let Some(old) = entry.made.replace(made) {
            remove(&old.path);
        }
        entry.used = Instant::now();
        Ok(path)
    }

    /// Makes the file in `folder`.
    fn merge_in(
        &self,
        streams: &[StreamId],
        folder: &Path,
        in_memory: bool,
    ) -> Result<(PathBuf, Format, u64, u64, Room), StoreError> {
        let extracted = &self.shared.extracted;
        let temporary = folder.join(extracted.temporary());
        let placed = self.write_merged(streams, &temporary, in_memory).and_then(|(format, len, packets)| {
            let room = extracted.take_room(len, in_memory).ok_or_else(|| self.too_large(len, in_memory))?;
            let path = folder.join(extracted.snapshot(format.extension()));
            fs::rename(&temporary, &path).map_err(trouble("writing a snapshot"))?;
            Ok((path, format, len, packets, room))
        });
        placed.inspect_err(|_| remove(&temporary))
    }

    /// Writes a classic file, or pcapng where link types mix. Gives its format, its length and its packets.
    fn write_merged(
        &self,
        streams: &[StreamId],
        temporary: &Path,
        in_memory: bool,
    ) -> Result<(Format, u64, u64), StoreError> {
        let wanted: HashSet<StreamId> = streams.iter().copied().collect();
        let filter = |stream: Option<StreamId>| stream.is_some_and(|stream| wanted.contains(&stream));
        let select = Select { filter: (!streams.is_empty()).then_some(&filter as _), ..Select::default() };
        let mut folder = StoreFolder::open(&self.shared.config.dir)?;
        // Held: their files stay as long as they are read.
        let detours = self.shared.registry.detours();
        folder.include(&detours)?;
        for (format, kind) in
            [(Format::Classic(LinkType(0)), ExportFormat::Classic), (Format::Ng, ExportFormat::Ng)]
        {
            remove(temporary);
            let file = writer::create(temporary).map_err(trouble("writing a snapshot"))?;
            let limit = self.shared.extracted.limit(in_memory);
            let mut out = BufWriter::with_capacity(256 << 10, Limited { file, len: 0, limit });
            let result = folder.export(&select, kind, &mut out, &mut |_| {});
            let flushed = out.flush();
            let len = out.get_ref().len;
            if len > limit {
                return Err(self.too_large(len, in_memory));
            }
            match result {
                Ok(exported) => {
                    flushed.map_err(trouble("writing a snapshot"))?;
                    return Ok((format, len, exported.packets));
                }
                Err(StoreError::Mixed(..)) if kind == ExportFormat::Classic => {}
                Err(error) => return Err(error),
            }
        }
        Err(trouble("writing a snapshot")(io::Error::other("no format holds it")))
    }

    fn too_large(&self, needed: u64, in_memory: bool) -> StoreError {
        let limit = self.shared.extracted.limit(in_memory);
        StoreError::NoRoom { what: "the snapshot".to_owned(), needed, limit }
    }
}

/// A file that takes so many bytes and no more.
struct Limited {
    file: File,
    len: u64,
    limit: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len() as u64;
        if self.len > self.limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
