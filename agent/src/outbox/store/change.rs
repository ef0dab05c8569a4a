//! What people do with letters: list, show, retry, drop. It works on the database of a running agent, too: what was done
//! is put down in the table `change`, where the agent finds it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::{self, DATABASE, found_one};
use super::{Outside, signed, unsigned};
use crate::outbox::blobs::Blobs;
use crate::outbox::delivery::{Attachment, Body, DeliveryId};
use crate::outbox::folds;

/// The letters of an outbox in a folder.
#[derive(Debug)]
pub struct Letters {
    connection: Connection,
    folder: PathBuf,
}

/// Whether a letter waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterState {
    /// To be sent.
    Waiting,
    /// Given up.
    Dead,
}

/// A letter, without secrets.
#[derive(Clone, Debug, Serialize)]
pub struct Letter {
    /// Its number.
    pub id: u64,
    /// Whether it waits or is dead.
    pub state: LetterState,
    /// Where to.
    pub destination: String,
    /// The script that made it.
    pub script: String,
    /// When, in milliseconds since 1970.
    pub made_ms: u64,
    /// Bytes of text and files.
    pub bytes: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why the last one did.
    pub error: Option<String>,
    /// When it was given up, in milliseconds since 1970.
    pub failed_ms: Option<u64>,
    /// What it says.
    pub content: Value,
    /// Its files.
    pub files: Vec<LetterFile>,
}

/// A file of a letter.
#[derive(Clone, Debug, Serialize)]
pub struct LetterFile {
    /// Name shown.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Where the outbox has its copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<PathBuf>,
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Letters read at a time.
const PAGE: u32 = 100;

const SELECT: &str = "SELECT e.id, e.state, d.label, e.script, e.made, e.bytes, e.attempts, e.error, e.failed, e.content, e.files
    FROM entry e JOIN destination d ON d.id = e.destination";

impl Letters {
    /// Opens the outbox in the data folder `data`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = data.join(super::super::FOLDER);
        let path = folder.join(DATABASE);
        if !path.exists() {
            bail!("{} has no outbox: give the agent's --data-dir", data.display());
        }
        let connection = schema::open_existing(&path).with_context(|| path.display().to_string())?;
        Ok(Self { connection, folder })
    }

    /// Gives each letter, oldest first, to `each`, until it errs. However long `each` takes (a pager is waited for), no read
    /// is open meanwhile: it would keep the running agent's log from being taken up, which then grows without end.
    ///
    /// # Errors
    /// `each`'s, or when the database cannot be read.
    pub fn list(&self, each: &mut dyn FnMut(Letter) -> Result<()>) -> Result<()> {
        self.list_after(None, each)
    }

    /// As [`Letters::list`], those with a number past that one.
    ///
    /// # Errors
    /// As there.
    pub fn list_after(&self, after: Option<u64>, each: &mut dyn FnMut(Letter) -> Result<()>) -> Result<()> {
        let mut query =
            self.connection.prepare(&format!("{SELECT} WHERE e.id > ?1 ORDER BY e.id LIMIT {PAGE}"))?;
        let mut after = after.map_or(-1, signed);
        loop {
            let mut page = Vec::new();
            let mut rows = query.query(params![after])?;
            while let Some(row) = rows.next()? {
                page.push(self.letter(row)?);
            }
            drop(rows);
            let Some(last) = page.last() else { return Ok(()) };
            after = signed(last.id);
            page.into_iter().try_for_each(&mut *each)?;
        }
    }

    /// One letter.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn show(&self, id: u64) -> Result<Letter> {
        let mut query = self.connection.prepare(&format!("{SELECT} WHERE e.id = ?1"))?;
        let mut rows = query.query(params![signed(id)])?;
        match rows.next()? {
            Some(row) => self.letter(row),
            None => bail!("there is no letter {id}: it was delivered or dropped"),
        }
    }

    /// Has dead letters sent again, behind what waits for their destinations; `None`: all. How many.
    ///
    /// # Errors
    /// When one of them is no dead letter; then none is.
    pub fn retry(&mut self, ids: Option<&[u64]>) -> Result<usize> {
        let change = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let ids = match ids {
            Some(ids) => ids.iter().map(|id| signed(*id)).collect(),
            None => dead(&change)?,
        };
        for id in &ids {
            const SQL: &str =
                "UPDATE entry SET state = 0, attempts = 0, error = NULL, failed = NULL, queued = ?2
                WHERE id = ?1 AND state = 1";
            if change.execute(SQL, params![id, signed(folds::now())])? == 0 {
                bail!("{id} is not a dead letter: nothing was changed (`remora outbox list` shows them)");
            }
            change.execute("INSERT OR REPLACE INTO change VALUES (?1, 'retried')", params![id])?;
        }
        change.commit()?;
        Ok(ids.len())
    }

    /// Drops letters, dead or waiting; `None`: all dead ones. How many.
    ///
    /// # Errors
    /// When there is none of such a number; then none is dropped.
    pub fn drop(&mut self, ids: Option<&[u64]>) -> Result<usize> {
        let mut copies = Vec::new();
        let change = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let ids = match ids {
            Some(ids) => ids.iter().map(|id| signed(*id)).collect(),
            None => dead(&change)?,
        };
        for id in &ids {
            let files = change
                .query_row("DELETE FROM entry WHERE id = ?1 RETURNING files", params![id], |row| {
                    row.get::<_, String>(0)
                })
                .with_context(|| format!("there is no letter {id}: nothing was dropped"))?;
            copies.extend(serde_json::from_str::<Vec<Attachment>>(&files).unwrap_or_default());
            change.execute("INSERT OR REPLACE INTO change VALUES (?1, 'dropped')", params![id])?;
        }
        change.commit()?;
        Blobs::open(self.folder.join(super::super::BLOBS), false, 0)?.remove(&copies);
        Ok(ids.len())
    }

    fn letter(&self, row: &Row<'_>) -> Result<Letter> {
        let number = |column| row.get::<_, i64>(column).map(unsigned);
        let files: Vec<Attachment> = serde_json::from_str(row.get_ref(10)?.as_str()?)?;
        let files = files.into_iter().map(|Attachment { name, size, body }| match body {
            Body::Copy(copy) => {
                let copy = Some(self.folder.join(super::super::BLOBS).join(copy));
                LetterFile { name, size, copy, missing: None }
            }
            Body::Missing(why) => LetterFile { name, size, copy: None, missing: Some(why) },
        });
        Ok(Letter {
            id: number(0)?,
            state: if number(1)? == 0 { LetterState::Waiting } else { LetterState::Dead },
            destination: row.get(2)?,
            script: row.get(3)?,
            made_ms: number(4)?,
            bytes: number(5)?,
            attempts: row.get(6)?,
            error: row.get(7)?,
            failed_ms: row.get::<_, Option<i64>>(8)?.map(unsigned),
            content: serde_json::from_str(row.get_ref(9)?.as_str()?)?,
            files: files.collect(),
        })
    }
}

fn dead(connection: &Connection) -> Result<Vec<i64>> {
    let mut query = connection.prepare("SELECT id FROM entry WHERE state = 1 ORDER BY id")?;
    let ids = query.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Takes what was done since the last look, in the order of the letters.
pub(super) fn taken(connection: &mut Connection) -> Result<Vec<Outside>> {
    const RETRIED: &str =
        "SELECT e.id, e.bytes, e.queued, d.secret FROM entry e JOIN destination d ON d.id = e.destination
        WHERE e.state = 0 AND e.id IN (SELECT id FROM change WHERE what = 'retried') ORDER BY e.id";
    let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut done = Vec::new();
    {
        let mut query = change.prepare_cached("SELECT id FROM change WHERE what = 'dropped'")?;
        let dropped = query.query_map([], |row| row.get::<_, i64>(0))?;
        for id in dropped {
            done.push(Outside::Dropped(DeliveryId(unsigned(id?))));
        }
        let mut query = change.prepare_cached(RETRIED)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            // One that cannot be read was complained about at the start.
            if let Ok(destination) = serde_json::from_str(row.get_ref(3)?.as_str()?) {
                done.push(Outside::Retried(destination, found_one(row)?));
            }
        }
    }
    change.execute("DELETE FROM change", [])?;
    change.commit()?;
    Ok(done)
}
