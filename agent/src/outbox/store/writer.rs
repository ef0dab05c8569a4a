//! The one that writes: as many changes as there are in a transaction.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Keep, Op, Outside, Row, change, millis, refused, schema, signed};
use crate::outbox::delivery::Destination;
use crate::outbox::folds;

/// Changes in one transaction.
const GROUP: usize = 512;
/// How often changes by `remora outbox` are looked for, and what the disk refused is tried again.
const LOOK: Duration = Duration::from_secs(1);
/// How often dead letters are judged by their age.
const TRIM: Duration = Duration::from_secs(60);
/// Destinations remembered.
const MAX_KNOWN: usize = 10_000;
/// Free pages given back to the file system at a time.
const VACUUM: u32 = 1_000;
/// Destinations that may be in the database before those that nothing is for are looked for while we run.
const MANY: i64 = 1_000;

/// Owns the connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    keep: Keep,
    known: HashMap<Destination, i64>,
    /// Changes that the disk refused, what later ones made needless left out: a few for each delivery that waited, and
    /// the newest form of each fold.
    refused: Vec<Op>,
    /// Of the database, when last looked at.
    version: i64,
    looked: Instant,
    trimmed: Option<Instant>,
    warned: Option<Instant>,
}

impl Writer {
    pub(super) fn new(connection: Connection, keep: Keep) -> Self {
        Self {
            connection,
            keep,
            known: HashMap::new(),
            refused: Vec::new(),
            version: -1,
            looked: Instant::now(),
            trimmed: None,
            warned: None,
        }
    }

    /// Until nobody can tell it anything any more.
    pub(super) fn run(&mut self, ops: &Receiver<Op>, outside: &dyn Fn(Outside)) {
        loop {
            let mut group = Vec::new();
            match ops.recv_timeout(LOOK) {
                Ok(op) => group.push(op),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while group.len() < GROUP
                && let Ok(op) = ops.try_recv()
            {
                group.push(op);
            }
            self.write(group);
            if self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                if let Err(error) = self.look(outside) {
                    self.warn(&error);
                }
            }
        }
        self.write(Vec::new());
    }

    /// One transaction; should it fail, the changes one by one.
    fn write(&mut self, group: Vec<Op>) {
        let mut ops = std::mem::take(&mut self.refused);
        let mut flushes = Vec::new();
        for op in group {
            match op {
                Op::Flush(done) => flushes.push(done),
                op => ops.push(op),
            }
        }
        if !ops.is_empty() {
            match self.commit(&ops) {
                Ok(()) => self.settle(ops),
                Err(_) => self.write_each(ops),
            }
        }
        for flush in flushes {
            // Whoever asked may have gone.
            let _ = flush.send(());
        }
    }

    /// One by one, until the disk or another process's lock says that there is no use in it.
    fn write_each(&mut self, ops: Vec<Op>) {
        let mut out_of_order = None::<String>;
        for op in ops {
            if out_of_order.is_none() {
                match self.commit(std::slice::from_ref(&op)) {
                    Ok(()) => {
                        self.settle(vec![op]);
                        continue;
                    }
                    Err(error) => {
                        // Who inserts is told, and says so.
                        if !matches!(op, Op::Insert(..)) {
                            self.warn(&error);
                        }
                        if refused::concerns_all(&error) {
                            out_of_order = Some(format!("{error:#}"));
                        } else {
                            self.refuse(op, &format!("{error:#}"));
                            continue;
                        }
                    }
                }
            }
            self.refuse(op, out_of_order.as_deref().unwrap_or_default());
        }
        self.refused = refused::compact(std::mem::take(&mut self.refused));
    }

    /// Whoever inserts is told; what cannot be taken back is tried again.
    fn refuse(&mut self, op: Op, why: &str) {
        match op {
            Op::Insert(_, reply) => {
                let _ = reply.send(Err(why.to_owned()));
            }
            op => self.refused.push(op),
        }
    }

    fn commit(&mut self, ops: &[Op]) -> Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let applied = ops.iter().try_for_each(|op| self.apply(op));
        let applied = applied.and_then(|()| Ok(self.connection.execute_batch("COMMIT")?));
        if applied.is_err() {
            // What it learned in the transaction is not so.
            self.known.clear();
            if !self.connection.is_autocommit() {
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        }
        applied
    }

    /// What follows once changes are on the disk.
    fn settle(&mut self, ops: Vec<Op>) {
        let mut dead = false;
        for op in ops {
            match op {
                Op::Insert(_, reply) => {
                    let _ = reply.send(Ok(()));
                }
                Op::Done(_, files) => self.keep.blobs.remove(&files),
                Op::Dead { .. } => dead = true,
                _ => {}
            }
        }
        if dead {
            self.trim();
        }
    }

    fn apply(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Insert(row, _) => self.insert(row),
            Op::Done(id, _) => self.run_sql("DELETE FROM entry WHERE id = ?1", params![signed(id.0)]),
            Op::Dead { id, attempts, error } => self.run_sql(
                "UPDATE entry SET state = 1, attempts = ?2, error = ?3, failed = ?4 WHERE id = ?1",
                params![signed(id.0), attempts, error, signed(folds::now())],
            ),
            Op::Tried { id, attempts, error } => self.run_sql(
                "UPDATE entry SET attempts = ?2, error = ?3 WHERE id = ?1",
                params![signed(id.0), attempts, error],
            ),
            Op::Progress(id, progress) => {
                self.run_sql("UPDATE entry SET progress = ?2 WHERE id = ?1", params![signed(id.0), progress])
            }
            Op::Folds(entries) => entries.iter().try_for_each(|(key, entry)| match entry {
                Some((entry, destination)) => {
                    let destination = self.destination(destination)?;
                    let entry = serde_json::to_string(entry)?;
                    self.run_sql(
                        "INSERT OR REPLACE INTO fold(key, destination, entry) VALUES (?1, ?2, ?3)",
                        params![key, destination, entry],
                    )
                }
                None => self.run_sql("DELETE FROM fold WHERE key = ?1", params![key]),
            }),
            Op::Flush(_) => Ok(()),
        }
    }

    fn insert(&mut self, row: &Row) -> Result<()> {
        const SQL: &str =
            "INSERT INTO entry(id, state, destination, script, made, queued, bytes, content, files)
            VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let destination = self.destination(&row.destination)?;
        let (content, files) = (serde_json::to_string(&row.content)?, serde_json::to_string(&row.files)?);
        let made = millis(row.made);
        let (id, bytes) = (signed(row.id.0), signed(row.bytes));
        self.run_sql(SQL, params![id, destination, row.script, made, made, bytes, content, files])?;
        self.run_sql("UPDATE next SET id = max(id, ?1)", params![id.saturating_add(1)])
    }

    /// Its number in the database.
    fn destination(&mut self, destination: &Destination) -> Result<i64> {
        if let Some(id) = self.known.get(destination) {
            return Ok(*id);
        }
        let secret = serde_json::to_string(destination)?;
        let known = self
            .connection
            .prepare_cached("SELECT id FROM destination WHERE secret = ?1")?
            .query_row(params![secret], |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                let label = destination.label();
                self.run_sql(
                    "INSERT INTO destination(label, secret) VALUES (?1, ?2)",
                    params![label, secret],
                )?;
                self.connection.last_insert_rowid()
            }
        };
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(destination.clone(), id);
        Ok(id)
    }

    fn run_sql(&self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Changes from outside, dead letters past their bounds, free pages.
    fn look(&mut self, outside: &dyn Fn(Outside)) -> Result<()> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if version != self.version {
            self.version = version;
            change::taken(&mut self.connection)?.into_iter().for_each(outside);
        }
        if self.trimmed.is_none_or(|at| at.elapsed() >= TRIM) {
            self.trim();
            self.forget_destinations()?;
            schema::vacuum(&self.connection, VACUUM)?;
        }
        Ok(())
    }

    /// A script may send to ever new ones.
    fn forget_destinations(&mut self) -> Result<()> {
        const SQL: &str = "SELECT count(*) FROM destination";
        if self.connection.query_row(SQL, [], |row| row.get::<_, i64>(0))? > MANY {
            self.known.clear();
            schema::forget_destinations(&self.connection)?;
        }
        Ok(())
    }

    /// Removes dead letters past their bounds, oldest first.
    fn trim(&mut self) {
        self.trimmed = Some(Instant::now());
        match schema::trim(&mut self.connection, &self.keep.dead) {
            Ok(files) if files.is_empty() => {}
            Ok(letters) => {
                tracing::warn!("outbox: {} dead letters are past their bounds and removed", letters.len());
                for files in &letters {
                    self.keep.counters.dead_dropped.add();
                    self.keep.blobs.remove(files);
                }
            }
            Err(error) => self.warn(&error),
        }
    }

    /// At most once a minute.
    fn warn(&mut self, error: &anyhow::Error) {
        if self.warned.is_none_or(|at| at.elapsed() >= TRIM) {
            self.warned = Some(Instant::now());
            tracing::error!("outbox: its database cannot be written: {error:#}; tried again until it can");
        }
    }
}

#[cfg(test)]
mod tests;
