//! Items and streams as lines, written by a thread of its own: a slow reader of standard output costs capture nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;

use super::render::{KEPT, Pages, Renderer};
use super::worker::Batch;
use super::{Pace, Stop};
use crate::view::{self, ItemView, Lines, Page};

/// Batches that may wait for the writer. Live ones are of 64 packets at most and thousands a second: a writer that does
/// not get its turn for a second must not lose any.
const QUEUE: usize = 16_384;
/// Batches written before what was written is flushed.
const FLUSH: usize = 64;
/// Memory that the items of waiting batches may hold together, in bytes; one batch alone may hold more.
const QUEUE_BYTES: usize = 64 << 20;
/// The same in replay, where the worker waits: what waits shall still be in the processor's cache when its turn comes.
const REPLAY_BYTES: usize = 2 << 20;
/// What is written at once, in bytes; one item alone may have more.
const BUFFER: usize = 256 << 10;
pub(super) const STDOUT: &str = "writing to standard output";

/// How items are written to standard output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Not at all.
    None,
    /// One line of text for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is written where.
#[derive(Clone, Debug)]
pub struct OutputConfig {
    /// Items, on standard output.
    pub format: Format,
    /// Streams, as JSON lines in this file.
    pub streams: Option<PathBuf>,
    /// How items are shown.
    pub view: Arc<ItemView>,
}

/// What the writer did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutputStats {
    /// Items that found the queue full.
    pub dropped_items: u64,
    /// Stream summaries that found the queue full.
    pub dropped_streams: u64,
}

#[derive(Default)]
struct Counters {
    dropped_items: AtomicU64,
    dropped_streams: AtomicU64,
}

/// Memory of the items that wait for the writer.
#[derive(Default)]
pub(super) struct Room {
    used: Mutex<Used>,
    freed: Condvar,
}

#[derive(Default)]
struct Used {
    bytes: usize,
    /// The writer is gone: nobody has to wait for it.
    ended: bool,
}

impl Used {
    fn is_full(&self, more: usize, most: usize) -> bool {
        !self.ended && self.bytes > 0 && self.bytes.saturating_add(more) > most
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for so many bytes. `false`: there is none, and no waiting for it.
    pub(super) fn take(&self, bytes: usize, pace: Pace) -> bool {
        let mut used = self.lock();
        if pace == Pace::Replay {
            let full = |used: &mut Used| used.is_full(bytes, REPLAY_BYTES);
            used = self.freed.wait_while(used, full).unwrap_or_else(PoisonError::into_inner);
        } else if used.is_full(bytes, QUEUE_BYTES) {
            return false;
        }
        used.bytes += bytes;
        true
    }

    /// Whether so many bytes would have to wait in replay.
    fn is_full(&self, bytes: usize) -> bool {
        self.lock().is_full(bytes, REPLAY_BYTES)
    }

    pub(super) fn give(&self, bytes: usize) {
        let mut used = self.lock();
        used.bytes = used.bytes.saturating_sub(bytes);
        self.freed.notify_all();
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.freed.notify_all();
    }
}

/// The writer's front: workers send batches, [`Output::close`] waits for the last.
pub struct Output {
    sender: Mutex<Option<SyncSender<Batch>>>,
    room: Arc<Room>,
    /// For items as JSON.
    renderer: Option<Renderer>,
    wants_streams: bool,
    wants_items: bool,
    counters: Counters,
    thread: Mutex<Option<JoinHandle<anyhow::Result<()>>>>,
}

impl Output {
    /// Opens the files and starts the writer.
    ///
    /// # Errors
    /// When the file for streams cannot be made.
    pub fn start(config: OutputConfig, stop: Stop) -> anyhow::Result<Self> {
        let streams = match &config.streams {
            Some(path) => {
                let file = File::create(path).with_context(|| format!("--streams {}", path.display()))?;
                Some((path.clone(), BufWriter::with_capacity(BUFFER, file)))
            }
            None => None,
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let (wants_items, wants_streams) = (config.format != Format::None, streams.is_some());
        let room = Arc::new(Room::default());
        let out = stdout()?;
        let pages = Arc::new(Pages::default());
        let renderer = (config.format == Format::Json)
            .then(|| Renderer::new(Arc::clone(&config.view), Arc::clone(&pages)));
        let mut writer = Writer {
            room: Arc::clone(&room),
            pages,
            format: config.format,
            lines: Lines::new(config.view),
            out,
            text: Page::default(),
            streams,
            line: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || writer.run(&receiver, &stop))
            .context("starting the output thread")?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            room,
            renderer,
            wants_streams,
            wants_items,
            counters: Counters::default(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Whether items, and whether streams are written at all.
    pub(super) fn wants(&self) -> (bool, bool) {
        (self.wants_items, self.wants_streams)
    }

    /// Takes a batch. Live, it is dropped and counted where there is no room; in replay this makes lines of it, and waits for
    /// room.
    pub(super) fn send(&self, mut batch: Batch, pace: Pace) {
        if !self.wants_items {
            batch.items.clear();
            batch.bytes = 0;
        }
        if !self.wants_streams {
            batch.streams.clear();
        }
        if batch.items.is_empty() && batch.streams.is_empty() {
            return;
        }
        if pace == Pace::Replay
            && let Some(renderer) = &self.renderer
            && self.room.is_full(batch.bytes)
        {
            renderer.render(&mut batch);
        }
        if !self.room.take(batch.bytes, pace) {
            return self.count(&batch);
        }
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return };
        let refused = match pace {
            Pace::Replay => sender.send(batch).err().map(|error| error.0),
            Pace::Live => sender.try_send(batch).err().map(|error| match error {
                TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
            }),
        };
        if let Some(batch) = refused {
            self.room.give(batch.bytes);
            self.count(&batch);
        }
    }

    /// Counts what was dropped.
    fn count(&self, batch: &Batch) {
        let rendered = batch.rendered.as_ref().map_or(0, |rendered| rendered.items);
        let items = (batch.items.len() + rendered) as u64;
        self.counters.dropped_items.fetch_add(items, Ordering::Relaxed);
        self.counters.dropped_streams.fetch_add(batch.streams.len() as u64, Ordering::Relaxed);
    }

    /// Writes what waits and ends the writer.
    ///
    /// # Errors
    /// When something could not be written. A reader that went away (a closed pipe) is no error.
    pub fn close(&self) -> anyhow::Result<()> {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        match self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(thread) => {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the output thread panicked")))
            }
            None => Ok(()),
        }
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> OutputStats {
        OutputStats {
            dropped_items: self.counters.dropped_items.load(Ordering::Relaxed),
            dropped_streams: self.counters.dropped_streams.load(Ordering::Relaxed),
        }
    }
}

struct Writer {
    room: Arc<Room>,
    pages: Arc<Pages>,
    format: Format,
    lines: Lines,
    out: File,
    /// Lines for `out`.
    text: Page,
    streams: Option<(PathBuf, BufWriter<File>)>,
    line: Vec<u8>,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Batch>, stop: &Stop) -> anyhow::Result<()> {
        let result = self.write_all(receiver);
        self.room.end();
        if let Err(error) = result {
            // Nobody reads any more, or the disk refuses: let the workers end rather than work for nothing.
            stop.set();
            return if is_closed_pipe(&error) { Ok(()) } else { Err(error) };
        }
        Ok(())
    }

    fn write_all(&mut self, receiver: &Receiver<Batch>) -> anyhow::Result<()> {
        while let Ok(batch) = receiver.recv() {
            self.write_batch(batch)?;
            let mut more = 0;
            while let Ok(batch) = receiver.try_recv() {
                self.write_batch(batch)?;
                more += 1;
                if more == FLUSH {
                    break;
                }
            }
            self.flush()?;
        }
        self.flush()
    }

    fn write_batch(&mut self, mut batch: Batch) -> anyhow::Result<()> {
        let written = match batch.rendered.take() {
            Some(rendered) => self.write_lines(rendered.page),
            None => Ok(()),
        };
        let written = written.and_then(|()| self.write(&batch));
        let bytes = batch.bytes;
        batch.go_home();
        self.room.give(bytes);
        written
    }

    /// Writes lines that the worker made.
    fn write_lines(&mut self, page: Page) -> anyhow::Result<()> {
        let text = page.text();
        if text.len() < BUFFER / 4 {
            self.text.copy(text);
            if self.text.text().len() >= BUFFER {
                self.flush_items()?;
            }
        } else {
            self.flush_items()?;
            self.out.write_all(text).context(STDOUT)?;
        }
        self.pages.put(page);
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for item in &batch.items {
            match self.format {
                Format::None => break,
                Format::Text => self.text.append(|text| {
                    view::text_line(item, text);
                    text.push(b'\n');
                }),
                Format::Json => self.lines.write(item, &mut self.text),
            }
            if self.text.text().len() >= BUFFER {
                self.flush_items()?;
            }
        }
        if let Some((path, file)) = &mut self.streams {
            for summary in &batch.streams {
                self.line.clear();
                view::stream_json(summary, &mut self.line);
                self.line.push(b'\n');
                file.write_all(&self.line).with_context(|| to(path))?;
            }
        }
        Ok(())
    }

    fn flush_items(&mut self) -> anyhow::Result<()> {
        let written = self.out.write_all(self.text.text()).context(STDOUT);
        self.text.clear(KEPT);
        written
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.flush_items()?;
        if let Some((path, file)) = &mut self.streams {
            file.flush().with_context(|| to(path))?;
        }
        Ok(())
    }
}

/// Standard output, not through the standard library's own buffer, which would look for the ends of lines and copy.
pub(super) fn stdout() -> anyhow::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned().context(STDOUT)?.into())
}

/// Whether nobody reads what is written any more, which is no error.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn to(path: &Path) -> String {
    format!("writing {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn live_a_full_room_refuses_and_one_batch_alone_may_be_larger() {
        let room = Room::default();
        assert!(room.take(2 * QUEUE_BYTES, Pace::Live));
        assert!(!room.take(1, Pace::Live));
        room.give(2 * QUEUE_BYTES);
        assert!(room.take(QUEUE_BYTES, Pace::Live));
    }

    #[test]
    fn in_replay_a_full_room_is_waited_for_unless_the_writer_is_gone() {
        let room = Arc::new(Room::default());
        assert!(room.take(REPLAY_BYTES, Pace::Replay));
        let waits = |room: &Arc<Room>| {
            let room = Arc::clone(room);
            std::thread::spawn(move || room.take(1, Pace::Replay))
        };
        let waiting = waits(&room);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        room.give(1);
        assert!(waiting.join().unwrap());
        let waiting = waits(&room);
        room.end();
        assert!(waiting.join().unwrap());
    }
}
