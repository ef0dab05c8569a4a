//! The database's form and version, how it is opened, and what is set aside because it cannot be.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, params};

use super::{Destinations, Found, Queued, unsigned};
use crate::outbox::BLOBS;
use crate::outbox::config::DeadLimits;
use crate::outbox::delivery::{Attachment, Body, DeliveryId};

/// Its name in the outbox's folder.
pub(in crate::outbox) const DATABASE: &str = "outbox.db";
/// What the names of those begin with that could not be read.
const ASIDE: &str = "outbox.db.unreadable-";
/// Of the form below. A change that an older remora cannot read gets the next number.
const VERSION: i64 = 1;
/// "Rmra": a database of another program is not taken for ours.
const APPLICATION: i64 = 0x526d_7261;
/// Another process may hold the write lock for one transaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// `entry.state`: waiting.
const WAITING: i64 = 0;

const FORM: &str = "
CREATE TABLE destination(
  id INTEGER PRIMARY KEY,
  label TEXT NOT NULL,
  secret TEXT NOT NULL UNIQUE
);
CREATE TABLE entry(
  id INTEGER PRIMARY KEY,
  state INTEGER NOT NULL,
  destination INTEGER NOT NULL REFERENCES destination(id),
  script TEXT NOT NULL,
  made INTEGER NOT NULL,
  queued INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  content TEXT NOT NULL,
  files TEXT NOT NULL,
  progress TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  error TEXT,
  failed INTEGER
);
CREATE INDEX entry_state ON entry(state, id);
CREATE TABLE fold(
  key TEXT PRIMARY KEY,
  destination INTEGER NOT NULL REFERENCES destination(id),
  entry TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE change(id INTEGER PRIMARY KEY, what TEXT NOT NULL);
CREATE TABLE next(id INTEGER NOT NULL);
INSERT INTO next VALUES (1);
";

/// One connection to write and one to read.
#[derive(Debug)]
pub(in crate::outbox) struct Opened {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
}

/// Opens the database, or makes it; one that cannot be read is set aside and a new one begun.
pub(super) fn open(folder: &Path, durable: bool) -> Result<Opened> {
    let path = folder.join(DATABASE);
    let writer = match connect(&path, durable) {
        Ok(writer) => writer,
        Err(error) if is_unreadable(&error) => {
            set_aside(folder, &error)?;
            connect(&path, durable)?
        }
        Err(error) => return Err(error),
    };
    // Not opened read-only: the connection that is closed last tidies up, and must be able to.
    let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    reader.busy_timeout(PATIENCE)?;
    reader.pragma_update(None, "query_only", true)?;
    Ok(Opened { writer, reader })
}

/// Opens the database of an outbox for `remora outbox`; it must be there.
pub(super) fn open_existing(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(PATIENCE)?;
    check(&connection)?;
    Ok(connection)
}

fn connect(path: &Path, durable: bool) -> Result<Connection> {
    // SQLite gives its other files the same permissions.
    let new = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    new.set_permissions(Permissions::from_mode(0o600))?;
    drop(new);
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    if version == 0 && tables == 0 {
        let form = connection.transaction()?;
        form.execute_batch(FORM)?;
        form.pragma_update(None, "user_version", VERSION)?;
        form.pragma_update(None, "application_id", APPLICATION)?;
        form.commit()?;
    }
    check(&connection)?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        bail!(Unreadable(format!("it is damaged: {found}")));
    }
    Ok(connection)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(String);

fn check(connection: &Connection) -> Result<()> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (version, application) = (number("user_version")?, number("application_id")?);
    if application != APPLICATION {
        bail!(Unreadable("it is another program's database".to_owned()));
    }
    if version != VERSION {
        bail!(Unreadable(format!("its form is number {version}; this remora reads number {VERSION}")));
    }
    Ok(())
}

fn is_unreadable(error: &anyhow::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    error.is::<Unreadable>() || matches!(code, Some(DatabaseCorrupt | NotADatabase | Unknown))
}

/// Databases set aside that are kept, the newest.
const MOST_ASIDE: usize = 3;

/// Alerts go on; what waited is kept for whoever can read it, with the copies of its files.
fn set_aside(folder: &Path, error: &anyhow::Error) -> Result<()> {
    let stamp = crate::outbox::folds::now() / 1_000;
    let aside = format!("{ASIDE}{stamp}");
    for suffix in ["", "-wal", "-shm"] {
        let from = folder.join(format!("{DATABASE}{suffix}"));
        if from.exists() {
            let to = folder.join(format!("{aside}{suffix}"));
            std::fs::rename(&from, to).with_context(|| format!("setting {} aside", from.display()))?;
        }
    }
    let copies = folder.join(BLOBS);
    if copies.exists() {
        std::fs::rename(&copies, folder.join(format!("{aside}-{BLOBS}"))).context("setting copies aside")?;
        DirBuilder::new().mode(0o700).create(&copies).context("making a folder for copies")?;
    }
    forget_aside(folder)?;
    tracing::error!(
        "outbox: {} cannot be read: {error:#}; it is now {aside}, what waited in it is NOT sent, and a new one is begun",
        folder.join(DATABASE).display()
    );
    Ok(())
}

/// Removes all but the newest of what was set aside.
fn forget_aside(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let aside = entries.iter().filter_map(|entry| {
        let name = entry.file_name();
        let stamp = name.to_str()?.strip_prefix(ASIDE)?.split('-').next()?.parse::<u64>().ok()?;
        Some((stamp, entry.path()))
    });
    let mut by_stamp = BTreeMap::<u64, Vec<PathBuf>>::new();
    aside.for_each(|(stamp, path)| by_stamp.entry(stamp).or_default().push(path));
    for path in by_stamp.into_values().rev().skip(MOST_ASIDE).flatten() {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Ok(()) => tracing::warn!("outbox: {} is old and removed", path.display()),
            Err(error) => tracing::warn!("outbox: {} cannot be removed: {error}", path.display()),
        }
    }
    Ok(())
}

/// Removes destinations that nothing is for, with their secrets.
pub(super) fn forget_destinations(connection: &Connection) -> Result<()> {
    const SQL: &str = "DELETE FROM destination
        WHERE id NOT IN (SELECT destination FROM entry UNION SELECT destination FROM fold)";
    connection.execute(SQL, [])?;
    Ok(())
}

/// Gives free pages back to the file system, at most so many.
pub(super) fn vacuum(connection: &Connection, pages: u32) -> Result<()> {
    let mut query = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = query.query([])?;
    // Each step frees one page.
    while rows.next()?.is_some() {}
    Ok(())
}

/// All that an earlier run left. In one transaction: a letter that `remora outbox retry` revives at this moment is either
/// found or told of, not both, which would send it twice.
pub(super) fn found(connection: &mut Connection) -> Result<Found> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    change.execute("DELETE FROM change", [])?;
    forget_destinations(&change)?;
    let found = found_in(&change)?;
    change.commit()?;
    Ok(found)
}

fn found_in(connection: &Connection) -> Result<Found> {
    let destinations = destinations(connection)?;
    let mut found = Found {
        next_id: connection.query_row("SELECT max(id) FROM next", [], |row| row.get(0)).map(unsigned)?,
        ..Found::default()
    };
    let mut query =
        connection.prepare("SELECT id, bytes, queued, destination, files, state FROM entry ORDER BY id")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let files: Vec<Attachment> = serde_json::from_str(row.get_ref(4)?.as_str()?).unwrap_or_default();
        found.copies.extend(files.into_iter().filter_map(|file| match file.body {
            Body::Copy(name) => Some(name),
            Body::Missing(_) => None,
        }));
        if row.get::<_, i64>(5)? == WAITING
            && let Some(destination) = destinations.get(&row.get(3)?)
        {
            found.waiting.push((destination.clone(), found_one(row)?));
        }
    }
    let mut query = connection.prepare("SELECT key, entry, destination FROM fold")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        if let (Ok(entry), Some(destination)) =
            (serde_json::from_str(row.get_ref(1)?.as_str()?), destinations.get(&row.get(2)?))
        {
            found.folds.push((row.get(0)?, entry, destination.clone()));
        }
    }
    Ok(found)
}

/// From columns id, bytes, queued.
pub(super) fn found_one(row: &Row<'_>) -> rusqlite::Result<Queued> {
    Ok(Queued {
        id: DeliveryId(unsigned(row.get(0)?)),
        bytes: unsigned(row.get(1)?),
        queued: unsigned(row.get(2)?),
    })
}

fn destinations(connection: &Connection) -> Result<Destinations> {
    let mut query = connection.prepare("SELECT id, secret FROM destination")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut known = Destinations::new();
    for row in rows {
        let (id, text) = row?;
        match serde_json::from_str(&text) {
            Ok(destination) => drop(known.insert(id, destination)),
            // The parser's error could repeat a part of a secret.
            Err(_) => {
                tracing::error!("outbox: destination {id} cannot be read: what waits for it is not sent");
            }
        }
    }
    Ok(known)
}

/// Removes dead letters past their bounds, oldest first; the files of each.
pub(super) fn trim(connection: &mut Connection, limits: &DeadLimits) -> Result<Vec<Vec<Attachment>>> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let age = limits.max_age.as_millis().try_into().unwrap_or(u64::MAX);
    let oldest = signed(crate::outbox::folds::now().saturating_sub(age));
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Newest first: the letters beyond the count or the bytes, and those too old.
    const SQL: &str = "DELETE FROM entry WHERE id IN (
        SELECT id FROM (
          SELECT id, failed, row_number() OVER newest AS place, sum(bytes) OVER newest AS bytes
          FROM entry WHERE state = 1 WINDOW newest AS (ORDER BY failed DESC, id DESC)
        ) WHERE place > ?1 OR bytes > ?2 OR failed < ?3)
      RETURNING files";
    let removed = {
        let mut query = change.prepare_cached(SQL)?;
        let limits = params![signed(limits.max_count), signed(limits.max_bytes), oldest];
        let files = query.query_map(limits, |row| row.get::<_, String>(0))?;
        files.collect::<Result<Vec<_>, _>>()?
    };
    change.commit()?;
    Ok(removed.iter().map(|files| serde_json::from_str(files).unwrap_or_default()).collect())
}
