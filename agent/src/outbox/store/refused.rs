//! Changes that the disk refused, kept until it takes them: no more of them than are needed.
//!
//! Invariant: written in their order, they come to the same as all that were refused; they are bounded by the deliveries
//! that waited and by the folds, however long the disk takes nothing.

use std::collections::HashSet;

use super::Op;

/// Folds past which those that ended are forgotten. What is left of such a fold in the database is told once more, at worst.
const MOST_FOLDS: usize = 50_000;

/// Whether an error is not of one change, so that others would fail as well, perhaps after a long wait each.
pub(super) fn concerns_all(error: &anyhow::Error) -> bool {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase, ReadOnly,
        SystemIoFailure,
    };
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(
        code,
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseCorrupt
                | DatabaseLocked
                | DiskFull
                | NotADatabase
                | ReadOnly
                | SystemIoFailure
        )
    )
}

/// Leaves out what later changes make needless: all but the newest attempt and progress of a delivery, these too once it is
/// done, and all but the newest form of a fold.
pub(super) fn compact(ops: Vec<Op>) -> Vec<Op> {
    let (mut done, mut over) = (HashSet::new(), HashSet::new());
    let (mut tried, mut noted, mut folds) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut newest = Vec::new();
    let mut kept = Vec::new();
    for op in ops.into_iter().rev() {
        let needed = match &op {
            Op::Done(id, _) => {
                over.insert(*id);
                done.insert(*id);
                true
            }
            Op::Dead { id, .. } => {
                over.insert(*id);
                true
            }
            Op::Tried { id, .. } => !over.contains(id) && tried.insert(*id),
            // Of use to a dead letter, too: should it be sent again.
            Op::Progress(id, _) => !done.contains(id) && noted.insert(*id),
            Op::Insert(..) | Op::Flush(_) => true,
            Op::Folds(_) => false,
        };
        match op {
            Op::Folds(entries) => {
                newest.extend(entries.into_iter().filter(|(key, _)| folds.insert(key.clone())));
            }
            op if needed => kept.push(op),
            _ => {}
        }
    }
    kept.reverse();
    if newest.len() > MOST_FOLDS {
        newest.retain(|(_, entry)| entry.is_some());
    }
    if !newest.is_empty() {
        kept.push(Op::Folds(newest));
    }
    kept
}
