//! Taking deliveries from scripts: judged, copied, written down, put into a lane.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Shared;
use super::state::Waiting;
use crate::outbox::blobs::Source;
use crate::outbox::delivery::{Attachment, Body, Content, DeliveryId, Destination, Job, Parts};
use crate::outbox::folds::{self, Verdict};
use crate::outbox::store::Row;
use crate::outbox::{Delivery, OutboxError, check, worker};

/// Why a file is left out for which there is no room.
const TOO_MUCH: &str = "too much is waiting to be sent";

impl Shared {
    pub(super) fn enqueue(
        self: &Arc<Self>,
        script: &str,
        delivery: Delivery,
    ) -> Result<DeliveryId, OutboxError> {
        check::arguments(&delivery)?;
        let Parts { destination, mut content, files, fold } = delivery.split();
        if self.lock().closed {
            return Err(OutboxError::Closed);
        }
        let verdict = self.folds().judge(folds::now(), script, &destination, &content, fold.as_ref());
        let ticket = match verdict {
            Verdict::Held(under) => {
                self.counters.suppressed.add();
                return Ok(under);
            }
            Verdict::Send(told, ticket) => {
                if let Some(told) = told {
                    content.tell(told);
                }
                ticket
            }
        };
        let sources =
            files.iter().map(|(name, path)| Source::open(name, path)).collect::<Result<Vec<_>, _>>();
        let accepted = sources.and_then(|sources| {
            let id = self.room_for(&content).inspect_err(|_| {
                self.folds().refused(folds::now(), script, &destination, &content);
            })?;
            self.accept_as(id, script, destination, content, sources, |row| {
                self.folds().refused(folds::now(), &row.script, &row.destination, &row.content);
            })
        });
        match accepted {
            Ok(id) => {
                self.folds().sent(&ticket, id);
                Ok(id)
            }
            Err(error) => {
                self.folds().not_sent(ticket);
                Err(error)
            }
        }
    }

    /// A number for a delivery, and room for its text.
    fn room_for(&self, content: &Content) -> Result<DeliveryId, OutboxError> {
        self.lock().reserve(content.bytes(), &self.config)
    }

    /// Takes a delivery without files over, as [`Shared::accept_as`].
    pub(super) fn accept(
        self: &Arc<Self>,
        script: &str,
        destination: Destination,
        content: Content,
    ) -> Result<DeliveryId, OutboxError> {
        let id = self.room_for(&content)?;
        self.accept_as(id, script, destination, content, Vec::new(), |_| ())
    }

    /// Takes a delivery over that there is room for: when this returns it is on the disk, or in memory if the disk refuses it.
    /// `refused` is told if there is no room there, either.
    fn accept_as(
        self: &Arc<Self>,
        id: DeliveryId,
        script: &str,
        destination: Destination,
        content: Content,
        sources: Vec<Source>,
        refused: impl FnOnce(&Row),
    ) -> Result<DeliveryId, OutboxError> {
        let text = content.bytes();
        let config = &self.config;
        let whole = content.is_its_file();
        let most = if whole { config.max_object_bytes } else { config.max_delivery_bytes };
        let (files, copied) = self.take_over(id, sources, most);
        if let Some(cause) = missing(&files).filter(|_| whole) {
            self.lock().release(text + copied);
            if cause == TOO_MUCH {
                return Err(OutboxError::FullBytes { limit: self.most_of_files() });
            }
            return check::invalid("path", cause);
        }
        let bytes = text + copied;
        let made = SystemTime::now();
        let script = script.to_owned();
        let row = Row { id, destination, script, made, content, files, bytes };
        let memory = match self.store.insert(row.clone()) {
            Ok(()) => None,
            Err(cause) => Some(self.keep_in_memory(&row, &cause).inspect_err(|_| refused(&row))?),
        };
        let waiting = Waiting { id, bytes, queued: folds::now(), attempts: 0, answered: 0, memory };
        self.counters.queued.add();
        self.push(row.destination, waiting);
        Ok(id)
    }

    /// What waits may be no more than this for a file to be taken, too: the rest is left to texts.
    fn most_of_files(&self) -> u64 {
        self.config.max_bytes / 4 * 3
    }

    /// Copies what there is room for; the rest is named in the message.
    fn take_over(&self, id: DeliveryId, sources: Vec<Source>, most: u64) -> (Vec<Attachment>, u64) {
        let mut files = Vec::with_capacity(sources.len());
        let mut copied = 0u64;
        for (number, source) in sources.into_iter().enumerate() {
            let size = source.size;
            if copied.saturating_add(size) > most {
                files.push(
                    source.without_content(format!("the files of one delivery may have {most} bytes in all")),
                );
            } else if !self.lock().reserve_bytes(size, self.most_of_files()) {
                files.push(source.without_content(TOO_MUCH.to_owned()));
            } else {
                copied += size;
                files.push(self.blobs.copy(source, id, number));
            }
        }
        if copied > 0
            && let Err(error) = self.blobs.settle()
        {
            tracing::warn!("outbox: copies of files may not survive a power cut: {error}");
        }
        (files, copied)
    }

    /// The disk takes nothing: alerts go on without it.
    fn keep_in_memory(&self, row: &Row, cause: &str) -> Result<Box<Job>, OutboxError> {
        let text = row.content.bytes();
        let mut state = self.lock();
        if state.memory.saturating_add(text) > self.config.max_memory {
            state.release(row.bytes);
            drop(state);
            self.blobs.remove(&row.files);
            return Err(OutboxError::FullBytes { limit: self.config.max_memory });
        }
        state.memory += text;
        let silent = state.warned.is_some_and(|at| at.elapsed() < Duration::from_secs(60));
        if !silent {
            state.warned = Some(Instant::now());
            tracing::error!(
                "outbox: the disk takes no deliveries ({cause}): they are kept in memory and sent, but lost if this process ends"
            );
        }
        drop(state);
        self.counters.in_memory.add();
        let Row { id, script, made, content, files, .. } = row.clone();
        Ok(Box::new(Job { id, script, content, files, made, progress: None }))
    }

    pub(super) fn push(self: &Arc<Self>, destination: Destination, waiting: Waiting) {
        if self.lock().push(&destination, waiting) {
            self.runtime.spawn(worker::run(Arc::clone(self), destination));
        }
    }
}

/// Why a file was not taken over.
fn missing(files: &[Attachment]) -> Option<String> {
    files.iter().find_map(|file| match &file.body {
        Body::Missing(why) => Some(why.clone()),
        Body::Copy(_) => None,
    })
}
