//! Items and streams as lines, written by a thread of its own: a slow reader of standard output costs capture nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use agent_core::StreamSummary;
use anyhow::Context as _;

use super::{Pace, Stop};
use crate::captured::Captured;
use crate::view::{self, ItemView};

/// Batches that may wait for the writer.
const QUEUE: usize = 64;
const BUFFER: usize = 256 << 10;

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

struct Batch {
    items: Vec<Arc<Captured>>,
    streams: Vec<StreamSummary>,
}

/// The writer's front: workers send batches, [`Output::close`] waits for the last.
pub struct Output {
    sender: Mutex<Option<SyncSender<Batch>>>,
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
        let mut writer = Writer {
            format: config.format,
            view: config.view,
            out: BufWriter::with_capacity(BUFFER, io::stdout()),
            streams,
            line: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || writer.run(&receiver, &stop))
            .context("starting the output thread")?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            wants_streams,
            wants_items,
            counters: Counters::default(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a batch over, emptying both lists. Live, a full queue drops it and counts; in replay it waits.
    pub(super) fn send(&self, items: &mut Vec<Arc<Captured>>, streams: &mut Vec<StreamSummary>, pace: Pace) {
        if !self.wants_items {
            items.clear();
        }
        if !self.wants_streams {
            streams.clear();
        }
        if items.is_empty() && streams.is_empty() {
            return;
        }
        let batch = Batch { items: std::mem::take(items), streams: std::mem::take(streams) };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return };
        let refused = match pace {
            Pace::Replay => sender.send(batch).err().map(|error| error.0),
            Pace::Live => sender.try_send(batch).err().map(|error| match error {
                TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
            }),
        };
        if let Some(batch) = refused {
            self.counters.dropped_items.fetch_add(batch.items.len() as u64, Ordering::Relaxed);
            self.counters.dropped_streams.fetch_add(batch.streams.len() as u64, Ordering::Relaxed);
        }
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
    format: Format,
    view: Arc<ItemView>,
    out: BufWriter<io::Stdout>,
    streams: Option<(PathBuf, BufWriter<File>)>,
    line: Vec<u8>,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Batch>, stop: &Stop) -> anyhow::Result<()> {
        let result = self.write_all(receiver);
        if let Err(error) = result {
            // Nobody reads any more, or the disk refuses: let the workers end rather than work for nothing.
            stop.set();
            let closed_pipe =
                error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
            return if closed_pipe { Ok(()) } else { Err(error) };
        }
        Ok(())
    }

    fn write_all(&mut self, receiver: &Receiver<Batch>) -> anyhow::Result<()> {
        while let Ok(batch) = receiver.recv() {
            self.write(&batch)?;
            let mut more = 0;
            while let Ok(batch) = receiver.try_recv() {
                self.write(&batch)?;
                more += 1;
                if more == QUEUE {
                    break;
                }
            }
            self.flush()?;
        }
        self.flush()
    }

    fn write(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for item in &batch.items {
            self.line.clear();
            match self.format {
                Format::None => break,
                Format::Text => view::text_line(item, &mut self.line),
                Format::Json => self.view.json(item, &mut self.line),
            }
            self.line.push(b'\n');
            self.out.write_all(&self.line)?;
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

    fn flush(&mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        if let Some((path, file)) = &mut self.streams {
            file.flush().with_context(|| to(path))?;
        }
        Ok(())
    }
}

fn to(path: &Path) -> String {
    format!("writing {}", path.display())
}
