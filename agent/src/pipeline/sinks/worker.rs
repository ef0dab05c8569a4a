//! A sink's thread: items become lines of JSON, lines become batches.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::config::To;
use super::file::JsonFile;
use super::{Counters, Queue, Room};
use crate::captured::Captured;
use crate::outbox::{
    Delivery, ElasticDocument, ElasticTarget, Outbox, OutboxError, SplunkEvent, SplunkTarget, WebMessage,
    WebTarget,
};
use crate::pipeline::Pace;
use crate::view::ItemView;

/// Items of one batch, at most…
const BATCH: usize = 500;
/// …and bytes of JSON, unless one item alone is larger.
const BATCH_BYTES: usize = 1 << 20;
/// How long an item waits for others.
const WAIT: Duration = Duration::from_secs(1);
/// How often the log tells of refused items.
const TELL: Duration = Duration::from_secs(60);
/// In replay, how long a crowded outbox is waited for, for each batch.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where batches go.
pub(super) enum Way {
    Elastic { outbox: Arc<dyn Outbox>, target: ElasticTarget, index: String },
    Splunk { outbox: Arc<dyn Outbox>, target: SplunkTarget, metadata: Vec<(String, String)> },
    Web { outbox: Arc<dyn Outbox>, target: WebTarget },
    File(Box<JsonFile>),
}

impl Way {
    pub(super) fn open(to: To, name: &str, outbox: Option<&Arc<dyn Outbox>>) -> anyhow::Result<Self> {
        let outbox = || outbox.map(Arc::clone).with_context(|| format!("{name} needs the outbox"));
        Ok(match to {
            To::Elastic { target, index } => Self::Elastic { outbox: outbox()?, target, index },
            To::Splunk { target, metadata } => Self::Splunk { outbox: outbox()?, target, metadata },
            To::Web { target } => Self::Web { outbox: outbox()?, target },
            To::File(config) => {
                let shown = config.path.display().to_string();
                Self::File(Box::new(JsonFile::open(config).context(shown)?))
            }
        })
    }

    /// Bytes of JSON in one batch, at most, unless one item alone is larger: a file is put aside between batches.
    fn most(&self) -> usize {
        match self {
            Self::File(file) => usize::try_from(file.max_bytes()).unwrap_or(BATCH_BYTES).min(BATCH_BYTES),
            _ => BATCH_BYTES,
        }
    }

    fn outbox(&self) -> Option<&Arc<dyn Outbox>> {
        match self {
            Self::Elastic { outbox, .. } | Self::Splunk { outbox, .. } | Self::Web { outbox, .. } => {
                Some(outbox)
            }
            Self::File(_) => None,
        }
    }

    fn send(&mut self, sink: &str, lines: Vec<String>) -> anyhow::Result<()> {
        let queue = |outbox: &Arc<dyn Outbox>, delivery| outbox.enqueue(sink, delivery).map(drop);
        match self {
            Self::Elastic { outbox, target, index } => {
                let documents = lines.iter().map(|line| ElasticDocument::new(index, line));
                let documents = documents.collect::<Result<Vec<_>, OutboxError>>()?;
                queue(outbox, Delivery::ElasticMany { target: target.clone(), documents })?;
            }
            Self::Splunk { outbox, target, metadata } => {
                let event = SplunkEvent::events(lines, metadata.clone())?;
                queue(outbox, Delivery::Splunk { target: target.clone(), event })?;
            }
            Self::Web { outbox, target } => {
                let message = WebMessage { mime: "application/x-ndjson".to_owned(), body: joined(&lines) };
                queue(outbox, Delivery::Web { target: target.clone(), message })?;
            }
            Self::File(file) => file.write(joined(&lines).as_bytes())?,
        }
        Ok(())
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

pub(super) struct Sink {
    name: String,
    view: Arc<ItemView>,
    way: Way,
    pace: Pace,
    counters: Arc<Counters>,
    room: Arc<Room>,
    lines: Vec<String>,
    bytes: usize,
    /// Since when the first line waits.
    since: Instant,
    told: Option<Instant>,
}

impl Sink {
    pub(super) fn new(
        name: &str,
        view: Arc<ItemView>,
        way: Way,
        pace: Pace,
        counters: Arc<Counters>,
        room: Arc<Room>,
    ) -> Self {
        let (lines, since, name) = (Vec::new(), Instant::now(), name.to_owned());
        Self { name, view, way, pace, counters, room, lines, bytes: 0, since, told: None }
    }

    /// Until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Queue) {
        loop {
            let wait = if self.lines.is_empty() { WAIT } else { WAIT.saturating_sub(self.since.elapsed()) };
            match queue.recv_timeout(wait) {
                Ok((items, bytes)) => {
                    items.iter().for_each(|item| self.take(item));
                    drop(items);
                    self.room.give(bytes);
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !self.lines.is_empty() && self.since.elapsed() >= WAIT {
                self.flush();
            }
        }
        self.flush();
        self.room.end();
        if let Way::File(file) = self.way
            && let Err(error) = file.close()
        {
            tracing::error!("sink {}: {error}", self.name);
        }
    }

    fn take(&mut self, item: &Captured) {
        let mut json = Vec::new();
        self.view.json(item, &mut json);
        let Ok(line) = String::from_utf8(json) else { return };
        if line.is_empty() {
            return;
        }
        if self.bytes > 0 && self.bytes + line.len() + 1 > self.way.most() {
            self.flush();
        }
        if self.lines.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += line.len() + 1;
        self.lines.push(line);
        if self.lines.len() >= BATCH {
            self.flush();
        }
    }

    fn idle(&mut self) {
        if let Way::File(file) = &mut self.way
            && let Err(error) = file.idle()
        {
            self.tell(&error.into(), 0);
        }
    }

    fn flush(&mut self) {
        let (lines, bytes) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.bytes));
        if lines.is_empty() {
            return;
        }
        let count = lines.len() as u64;
        let sent = if self.may_send() {
            self.way.send(&self.name, lines)
        } else {
            Err(anyhow::anyhow!("half of what the outbox may hold is waiting; the rest is left to alerts"))
        };
        match sent {
            Ok(()) => {
                Counters::add(&self.counters.items, count);
                Counters::add(&self.counters.batches, 1);
                Counters::add(&self.counters.bytes, bytes as u64);
            }
            Err(error) => {
                Counters::add(&self.counters.refused, count);
                self.tell(&error, count);
            }
        }
    }

    /// Whether the outbox has room for what is no alert. A file can wait for it, traffic cannot.
    fn may_send(&self) -> bool {
        let Some(outbox) = self.way.outbox() else { return true };
        let deadline = Instant::now() + if self.pace == Pace::Replay { PATIENCE } else { Duration::ZERO };
        while outbox.is_crowded() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    fn tell(&mut self, error: &anyhow::Error, items: u64) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            tracing::error!(
                "sink {}: {items} items lost: {error:#}; more are counted, not told, for a minute",
                self.name
            );
        }
    }
}
