//! The database of what waits and what is dead: SQLite, in WAL mode. SQLite rather than a single-process store, because
//! `remora outbox` reads and changes the letters of a running agent, and no protocol between the two is needed for that.
//!
//! ```text
//! scripts ── insert, wait ─┐
//! workers ── done, dead ───┼─► channel ─► one writer: all that is there in one transaction, one fsync ─► replies
//! clock ──── folds ────────┘                 └─ looks for changes by `remora outbox`
//! ```
//!
//! Invariants: an insert that returned is on the disk (if durable); a removal is on the disk before the copies of its files
//! go; secrets are in the table `destination` only, which nothing that lists or shows reads but for its label. A change
//! that the disk refuses is kept and tried again: it must not be lost, or a delivered message would be sent twice.

mod change;
mod refused;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

use super::blobs::Blobs;
use super::config::DeadLimits;
use super::delivery::{Attachment, Content, DeliveryId, Destination, Job};
use super::folds::{Entry, Key};
use super::stats::Counters;

pub use change::{Letter, LetterFile, LetterState, Letters};
use schema::Opened;

/// Changes that may wait for the writer; those who bring more wait with them.
const QUEUE: usize = 4_096;
/// Longest wait for a disk that hangs.
const FLUSH: Duration = Duration::from_secs(10);

/// The writer, and a connection to read.
#[derive(Debug)]
pub(super) struct Store {
    ops: Option<SyncSender<Op>>,
    reader: Mutex<Connection>,
    thread: Option<JoinHandle<()>>,
}

/// A new delivery.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: DeliveryId,
    pub(super) destination: Destination,
    pub(super) script: String,
    pub(super) made: SystemTime,
    pub(super) content: Content,
    pub(super) files: Vec<Attachment>,
    pub(super) bytes: u64,
}

/// What is found at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) waiting: Vec<(Destination, Queued)>,
    pub(super) folds: Vec<(Key, Entry, Destination)>,
    pub(super) next_id: u64,
    /// Names of all copies that letters need.
    pub(super) copies: std::collections::HashSet<String>,
}

/// A delivery that waits, without what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Queued {
    pub(super) id: DeliveryId,
    pub(super) bytes: u64,
    /// When it was queued, in ms since 1970.
    pub(super) queued: u64,
}

/// What `remora outbox` did while we run.
#[derive(Debug)]
pub(super) enum Outside {
    Retried(Destination, Queued),
    Dropped(DeliveryId),
}

/// One change.
#[derive(Debug)]
pub(super) enum Op {
    Insert(Box<Row>, SyncSender<Result<(), String>>),
    Done(DeliveryId, Vec<Attachment>),
    Dead {
        id: DeliveryId,
        attempts: u32,
        error: String,
    },
    Tried {
        id: DeliveryId,
        attempts: u32,
        error: String,
    },
    Progress(DeliveryId, String),
    Folds(Vec<(Key, Option<(Entry, Destination)>)>),
    /// Answered once all before it is written.
    Flush(oneshot::Sender<()>),
}

/// What the writer needs beside the database.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) blobs: Arc<Blobs>,
    pub(super) counters: Arc<Counters>,
    pub(super) dead: DeadLimits,
}

impl Store {
    /// Opens or makes the database in `folder`; an unreadable one is set aside.
    pub(super) fn open(
        folder: &Path,
        durable: bool,
        keep: Keep,
        outside: impl Fn(Outside) + Send + 'static,
    ) -> Result<(Self, Found)> {
        let Opened { mut writer, reader } = schema::open(folder, durable)?;
        let found = schema::found(&mut writer)?;
        let (ops, received): (SyncSender<Op>, Receiver<Op>) = sync_channel(QUEUE);
        let mut thread = writer::Writer::new(writer, keep);
        let thread = std::thread::Builder::new()
            .name("outbox".to_owned())
            .spawn(move || thread.run(&received, &outside))
            .context("starting the outbox's thread")?;
        Ok((Self { ops: Some(ops), reader: Mutex::new(reader), thread: Some(thread) }, found))
    }

    /// Writes a delivery down; when this returns it is there.
    pub(super) fn insert(&self, row: Row) -> Result<(), String> {
        let (reply, answer) = sync_channel(1);
        self.tell(Op::Insert(Box::new(row), reply));
        answer.recv().unwrap_or_else(|_| Err("the outbox's thread has ended".to_owned()))
    }

    /// Hands a change to the writer; does not wait for the disk.
    pub(super) fn tell(&self, op: Op) {
        if let Some(ops) = &self.ops
            && ops.send(op).is_err()
        {
            tracing::error!("outbox: its thread has ended: a change is not written down");
        }
    }

    /// Waits until all that was told is on the disk, or has been refused by it.
    pub(super) async fn flush(&self) {
        let (reply, answer) = oneshot::channel();
        self.tell(Op::Flush(reply));
        let _ = tokio::time::timeout(FLUSH, answer).await;
    }

    /// What a waiting delivery says; `None`: it is no longer there.
    pub(super) fn load(&self, id: DeliveryId) -> Result<Option<Job>> {
        const SQL: &str =
            "SELECT script, made, content, files, progress FROM entry WHERE id = ?1 AND state = 0";
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut query = reader.prepare_cached(SQL)?;
        let row = query
            .query_row(params![signed(id.0)], |row| {
                let text = |column| row.get::<_, String>(column);
                Ok((text(0)?, row.get::<_, i64>(1)?, text(2)?, text(3)?, row.get::<_, Option<String>>(4)?))
            })
            .optional()?;
        let Some((script, made, content, files, progress)) = row else { return Ok(None) };
        let content = serde_json::from_str(&content).map_err(|e| anyhow!("its content: {e}"))?;
        let files = serde_json::from_str(&files).map_err(|e| anyhow!("its files: {e}"))?;
        Ok(Some(Job { id, script, content, files, made: time(made), progress }))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.ops.take());
        // Its own thread may be the last to know the outbox: it was just telling it something.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            // A panic there has been printed; a destructor cannot pass it on.
            let _ = thread.join();
        }
    }
}

/// SQLite's integers are signed.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn millis(time: SystemTime) -> i64 {
    signed(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().try_into().unwrap_or(u64::MAX))
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unsigned(millis))
}

type Destinations = HashMap<i64, Destination>;
