//! The store as a whole: opening it, and a stream's file on demand.
//!
//! ```text
//! dir/lock  next-stream  segments/segment-N.{pcapng,links}  streams/ID.pcap
//! ```
//!
//! Invariants: one process a folder; files are 0600 in folders of 0700; a file name is made of a number, so a stream id
//! cannot lead out of the folder.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_core::item::StreamId;

use super::appender::Appender;
use super::config::{Mode, StoreConfig, StoreStats};
use super::disk::Disk;
use super::extract::{Format, Walk};
use super::extracted::{Entry, Extracted, Key, Limits, Made, remove};
use super::fallback::{Fallback, Room};
use super::index::{Found, Index};
use super::link::{Ids, Position};
use super::log::{Flushed, Log, Pace};
use super::segment::{Bounds, Registry};
use super::shared::Shared;
use super::window::{self, Matched, Window};
use super::{CaptureFile, Hides, PcapAppender, PcapStore, StoreError, recover, writer};

/// How long a reader waits for the disk to take what waits before it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long the folder's lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// How often a reader starts again when the disk fails meanwhile.
pub(super) const TRIES: usize = 3;

/// A store, and the appenders of its workers in their order.
pub type Opened = (Arc<SegmentStore>, Vec<Box<dyn PcapAppender>>);

/// The PCAP store.
pub struct SegmentStore {
    pub(super) shared: Arc<Shared>,
    /// One a worker.
    pub(super) logs: Vec<Arc<Log>>,
    /// One a worker in mode matched, else none.
    pub(super) windows: Vec<Arc<Mutex<Window>>>,
    /// Those of earlier runs, by their first stream id.
    past: Vec<(Ids, Log)>,
    /// Whether there was an earlier run.
    had_past: bool,
    /// Held as long as the store is open.
    _lock: File,
}

impl SegmentStore {
    /// Opens the store in `config.dir` for so many workers (at least one), takes in what earlier runs left, and starts
    /// a writer thread for each worker. The appenders are in the workers' order; dropping one writes out what it has.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written, or another process has it.
    pub fn open(config: StoreConfig, workers: usize) -> Result<Opened, StoreError> {
        Self::open_in(config, workers, None)
    }

    /// A store in a temporary folder, removed when the store and its appenders are gone. `adjust` may change settings.
    ///
    /// # Errors
    /// As [`SegmentStore::open`].
    pub fn temporary(workers: usize, adjust: impl FnOnce(&mut StoreConfig)) -> Result<Opened, StoreError> {
        let folder =
            tempfile::Builder::new().prefix("remora-pcap-").tempdir().map_err(trouble("temporary folder"))?;
        let mut config = StoreConfig::new(folder.path());
        adjust(&mut config);
        config.dir = folder.path().to_owned();
        Self::open_in(config, workers, Some(folder))
    }

    /// The stream ids of a worker (from 0): the first, and the step to the next. No earlier run has used them.
    #[must_use]
    pub fn stream_ids(&self, worker: usize) -> Option<(StreamId, u64)> {
        self.logs.get(worker).map(|log| log.ids()).map(|ids| (StreamId(ids.first), u64::from(ids.step)))
    }

    /// Notes what an address is called, for name-resolution records of exports. Best effort.
    pub fn name(&self, ip: IpAddr, name: &str) {
        if let Err(error) = self.shared.notes.name(ip, name) {
            self.shared.trouble("noting a name", &error);
        }
    }

    /// What the store has done and holds.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let counters = &self.shared.counters;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let logs = self.logs.iter().map(Arc::as_ref).chain(self.past.iter().map(|(_, log)| log));
        let (index_bytes, index_evicted) =
            logs.map(Log::index_use).fold((0, 0), |(bytes, count), (b, c)| (bytes + b as u64, count + c));
        let windows: Vec<window::Counts> = self.windows.iter().map(|w| super::lock(w).counts()).collect();
        StoreStats {
            window_bytes: windows.iter().map(|counts| counts.bytes as u64).sum(),
            passed_packets: windows.iter().map(|counts| counts.passed).sum(),
            let_go: windows.iter().map(|counts| counts.let_go).sum(),
            packets: read(&counters.packets),
            bytes: read(&counters.bytes),
            refused_packets: read(&counters.refused_packets),
            refused_bytes: read(&counters.refused_bytes),
            detoured_packets: read(&counters.detoured_packets),
            fallback_bytes: self.shared.fallback.used(),
            errors: read(&counters.errors),
            segments: self.shared.registry.count() as u64,
            stored_bytes: self.shared.registry.bytes(),
            expired_segments: self.shared.registry.expired(),
            down: self.logs.iter().any(|log| log.is_down()),
            index_bytes,
            index_evicted,
            extractions: read(&counters.extractions),
            extracted_bytes: self.shared.extracted.bytes(),
        }
    }

    fn open_in(
        mut config: StoreConfig,
        workers: usize,
        temporary: Option<tempfile::TempDir>,
    ) -> Result<Opened, StoreError> {
        let workers = workers.max(1);
        folder(&config.dir, false)?;
        config.dir = config.dir.canonicalize().map_err(trouble(config.dir.display()))?;
        let disk =
            Disk::of(config.dir.clone(), config.reserve_bytes).map_err(trouble(config.dir.display()))?;
        config.segment_bytes = config.segment_size(workers, disk.size());
        let lock = take(&config.dir)?;
        let (segments, streams) = (config.dir.join("segments"), config.dir.join("streams"));
        folder(&segments, true)?;
        folder(&streams, true)?;
        clean(&streams).map_err(trouble(streams.display()))?;

        let limits = Limits {
            bytes: config.extracted_bytes,
            age: config.extracted_age,
            grace: config.extracted_grace,
        };
        let bounds = Bounds { bytes: config.max_bytes, age: config.max_age };
        let registry = Registry::new(segments.clone(), bounds);
        let recovered =
            recover::recover(&registry, config.index_bytes).map_err(trouble(segments.display()))?;
        let mark = config.dir.join("next-stream");
        let fallback = Fallback::new(&config.fallback_dir, config.fallback_bytes, workers);
        let extracted = Extracted::new(streams, limits, Arc::clone(fallback.files()));
        let mut shared = Shared::new(config, registry, disk, extracted, fallback, mark.clone());
        shared.temporary = temporary;
        let shared = Arc::new(shared);

        let marked = shared.read_mark(recovered.highest).map_err(trouble(mark.display()))?;
        let had_past = marked > 0 || recovered.highest > 0;
        let step = u32::try_from(workers).unwrap_or(u32::MAX);
        let base = marked.max(recovered.highest + 1).next_multiple_of(u64::from(step));
        shared.reserve(StreamId(base)).map_err(trouble(mark.display()))?;

        let logs = (0..u64::from(step))
            .map(|worker| Arc::new(log(&shared, Ids { first: base + worker, step })))
            .collect();
        let mut past: Vec<(Ids, Log)> = recovered
            .logs
            .into_iter()
            .map(|(ids, index)| (ids, Log::finished(index, pace(&shared))))
            .collect();
        past.sort_unstable_by_key(|(ids, _)| std::cmp::Reverse(ids.first));
        let mut store = Self { shared, logs, windows: Vec::new(), past, had_past, _lock: lock };
        let mut appenders = store.start_writers().map_err(trouble("starting a thread"))?;
        if store.shared.config.mode == Mode::Matched {
            appenders = appenders.into_iter().map(|appender| store.put_before(appender)).collect();
        }
        Ok((Arc::new(store), appenders))
    }

    fn start_writers(&self) -> io::Result<Vec<Box<dyn PcapAppender>>> {
        let mut appenders: Vec<Box<dyn PcapAppender>> = Vec::with_capacity(self.logs.len());
        for (worker, log) in self.logs.iter().enumerate() {
            let (for_log, for_shared) = (Arc::clone(log), Arc::clone(&self.shared));
            let thread = std::thread::Builder::new()
                .name(format!("pcap-store-{worker}"))
                .spawn(move || writer::run(&for_log, &for_shared))?;
            appenders.push(Box::new(Appender::new(Arc::clone(log), Arc::clone(&self.shared), thread)));
        }
        Ok(appenders)
    }

    /// Puts a window before an appender.
    fn put_before(&mut self, appender: Box<dyn PcapAppender>) -> Box<dyn PcapAppender> {
        let config = &self.shared.config;
        let limits = window::Limits::new(config.window_bytes, config.window_age);
        let window = Arc::new(Mutex::new(Window::new(limits, appender)));
        self.windows.push(Arc::clone(&window));
        Box::new(Matched::new(window))
    }

    /// The window that a stream's packets pass through.
    fn window_of(&self, stream: StreamId) -> Option<&Mutex<Window>> {
        let worker = self.logs.iter().position(|log| log.ids().ordinal(stream).is_some())?;
        self.windows.get(worker).map(Arc::as_ref)
    }

    /// The log that a stream of that number is, or was, in.
    pub(super) fn log_of(&self, stream: StreamId) -> Result<&Log, StoreError> {
        if let Some(log) = self.logs.iter().find(|log| log.ids().ordinal(stream).is_some()) {
            return Ok(log);
        }
        let past = self.past.iter().find(|(ids, _)| ids.ordinal(stream).is_some());
        if let Some((_, log)) = past {
            log.forget_before(self.shared.registry.oldest());
            return Ok(log);
        }
        Err(self.absent(stream))
    }

    /// Why a stream that no index knows is not there.
    pub(super) fn absent(&self, stream: StreamId) -> StoreError {
        let before = self.logs.first().is_some_and(|log| stream.0 < log.ids().first);
        if before && self.had_past { self.expired(stream) } else { StoreError::Unknown(stream) }
    }

    pub(super) fn expired(&self, stream: StreamId) -> StoreError {
        StoreError::Expired { stream, since: self.shared.registry.began() }
    }

    /// A stream's file, as it is or redacted.
    fn one(&self, key: &Key, stream: StreamId, hides: Option<Hides<'_>>) -> Result<CaptureFile, StoreError> {
        let known = self.keep(stream);
        let log = self.log_of(stream)?;
        if log.find(stream) == Found::Never {
            return Err(if known { StoreError::Passed(stream) } else { self.absent(stream) });
        }
        let entry = self.shared.extracted.entry(key);
        let result = self.extract(stream, log, &mut super::lock(&entry), hides);
        self.shared.extracted.release(key, &entry);
        result
    }

    fn extract(
        &self,
        stream: StreamId,
        log: &Log,
        entry: &mut Entry,
        hides: Option<Hides<'_>>,
    ) -> Result<CaptureFile, StoreError> {
        for _ in 0..TRIES {
            let at = match log.find(stream) {
                Found::At(at) => at,
                Found::Never => return Err(self.absent(stream)),
                Found::Gone => {
                    return entry.reuse(|_| true).ok_or_else(|| self.expired(stream));
                }
            };
            if let Some(file) = entry.reuse(|made| made.at == [at]) {
                return Ok(file);
            }
            match log.flush(at, PATIENCE) {
                Flushed::Done => return self.make(stream, at, entry, hides),
                Flushed::Changed => {}
                Flushed::TimedOut => break,
            }
        }
        let source = io::Error::new(io::ErrorKind::TimedOut, "the disk does not take what is before it");
        Err(StoreError::Io { what: format!("writing stream {stream}"), source })
    }

    /// Makes the stream's file up to `at`: what is new is added to a copy of the last one where that can be.
    fn make(
        &self,
        stream: StreamId,
        at: Position,
        entry: &mut Entry,
        hides: Option<Hides<'_>>,
    ) -> Result<CaptureFile, StoreError> {
        let failed = |source| StoreError::Io { what: format!("reading stream {stream}"), source };
        let registry = &self.shared.registry;
        entry.made.take_if(|made| !made.intact());
        // What is hidden of later packets may depend on earlier ones: a redacted copy is made as a whole.
        let extend = |made: &&Made| hides.is_none() && matches!(made.format, Format::Classic(_));
        let before = entry.made.as_ref().filter(extend);
        let mut walk = Walk::back(registry, stream, at, before.and_then(|made| made.at.first().copied()))
            .map_err(failed)?;
        let base = before.filter(|made| walk.met && walk.format() == made.format);
        if before.is_some() && base.is_none() {
            walk = Walk::back(registry, stream, at, None).map_err(failed)?;
        }
        if walk.packets == 0 {
            return Err(self.expired(stream));
        }
        let made = self.write(stream, at, &walk, base, hides)?;
        let file = made.file();
        if let Some(old) = entry.made.replace(made)
            && old.path != file.path
        {
            remove(&old.path);
        }
        entry.used = Instant::now();
        self.shared.counters.extractions.fetch_add(1, Ordering::Relaxed);
        Ok(file)
    }

    fn write(
        &self,
        stream: StreamId,
        at: Position,
        walk: &Walk,
        base: Option<&Made>,
        hides: Option<Hides<'_>>,
    ) -> Result<Made, StoreError> {
        let format = walk.format();
        let header = if base.is_some() { Vec::new() } else { walk.header(format) };
        let len = base.map_or(header.len() as u64, |made| made.len) + walk.size(format);
        let packets = base.map_or(0, |made| made.packets) + walk.packets;
        let write = |temporary: &Path| {
            let mut file = writer::create(temporary)?;
            if let Some(made) = base {
                io::copy(&mut File::open(&made.path)?, &mut file)?;
            }
            writer::write_all(&file, &header)?;
            match hides {
                Some(hides) => walk.write_redacted(stream, format, &file, hides),
                None => walk.write(stream, format, &file),
            }
        };
        let name = Extracted::name(stream, format, hides.is_some());
        let (path, room) = self.put(stream, &name, len, &write)?;
        Ok(Made { path, format, at: vec![at], len, packets, room })
    }

    /// Puts the stream's file of `len` bytes that `write` makes where it belongs, or in memory if the disk does not take it.
    fn put(
        &self,
        stream: StreamId,
        name: &str,
        len: u64,
        write: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<(PathBuf, Room), StoreError> {
        let extracted = &self.shared.extracted;
        let put_in = |folder: &Path, in_memory: bool| {
            let Some(room) = extracted.take_room(len, in_memory) else {
                let limit = extracted.limit(in_memory);
                return Err(StoreError::NoRoom { what: format!("stream {stream}"), needed: len, limit });
            };
            let temporary = folder.join(extracted.temporary());
            let path = folder.join(name);
            let written = write(&temporary).and_then(|()| fs::rename(&temporary, &path));
            if let Err(source) = written {
                remove(&temporary);
                return Err(trouble(format!("writing the capture of stream {stream}"))(source));
            }
            Ok((path, room))
        };
        match (put_in(extracted.folder(), false), self.shared.fallback.folder()) {
            // A file that could not be read does not get better elsewhere, but does no harm there either.
            (Err(refused @ StoreError::Io { .. }), Some(folder)) => put_in(folder, true).map_err(|_| refused),
            (result, _) => result,
        }
    }
}

impl PcapStore for SegmentStore {
    fn snapshot(&self, streams: Option<&[StreamId]>) -> Result<PathBuf, StoreError> {
        self.merged(streams.unwrap_or_default())
    }

    fn file(&self, stream: StreamId) -> Result<CaptureFile, StoreError> {
        self.one(&Key::Stream(stream), stream, None)
    }

    fn redacted(&self, stream: StreamId, hides: Hides<'_>) -> Result<CaptureFile, StoreError> {
        self.one(&Key::Redacted(stream), stream, Some(hides))
    }

    fn keep(&self, stream: StreamId) -> bool {
        self.window_of(stream).is_some_and(|window| super::lock(window).keep(stream))
    }

    fn note(&self, stream: StreamId, text: &str) {
        if let Err(error) = self.shared.notes.note(stream, text) {
            self.shared.trouble("noting an alert", &error);
        }
    }

    fn is_kept(&self, stream: StreamId) -> bool {
        self.window_of(stream).is_none_or(|window| super::lock(window).is_kept(stream))
    }

    fn folder(&self) -> PathBuf {
        self.shared.extracted.folder().to_owned()
    }

    fn memory_folder(&self) -> Option<PathBuf> {
        self.shared.fallback.folder().map(Path::to_owned)
    }
}

impl Made {
    pub(super) fn file(&self) -> CaptureFile {
        CaptureFile { path: self.path.clone(), size: self.len, packets: self.packets }
    }
}

impl Entry {
    /// The file at hand, if it will do.
    pub(super) fn reuse(&mut self, will_do: impl FnOnce(&Made) -> bool) -> Option<CaptureFile> {
        let made = self.made.as_ref().filter(|made| will_do(made) && made.intact())?;
        self.used = Instant::now();
        Some(made.file())
    }
}

fn pace(shared: &Shared) -> Pace {
    let config = &shared.config;
    // The writer must start well before the queue is full.
    let flush_bytes = config.flush_bytes.min(config.queue_bytes / 4);
    Pace { queue_bytes: config.queue_bytes, flush_bytes, flush_age: config.flush_age }
}

fn log(shared: &Shared, ids: Ids) -> Log {
    Log::new(Index::new(ids, shared.config.index_bytes), pace(shared))
}

pub(super) fn trouble(what: impl ToString) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { what: what.to_string(), source }
}

/// Makes a folder for its owner only; with `own`, also one that was there becomes so.
fn folder(path: &Path, own: bool) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let made = made
        .and_then(|()| if own { fs::set_permissions(path, Permissions::from_mode(0o700)) } else { Ok(()) });
    made.map_err(trouble(path.display()))
}

/// Makes sure that no other process has the store.
fn take(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(trouble(path.display()))?;
    // The one who had it may be about to end: a process that is being restarted, a child between fork and exec.
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(trouble(path.display())(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(StoreError::InUse(dir.to_owned()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Removes the files that an earlier run extracted.
fn clean(streams: &Path) -> io::Result<()> {
    for file in fs::read_dir(streams)? {
        let file = file?;
        let name = file.file_name();
        let ours =
            name.to_str().is_some_and(|n| [".pcap", ".pcapng", ".tmp"].iter().any(|end| n.ends_with(end)));
        if ours && file.file_type()?.is_file() {
            remove(&file.path());
        }
    }
    Ok(())
}
