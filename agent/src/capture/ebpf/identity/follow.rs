//! The watched cgroups come and go: the programs, the paths and what /proc tells follow.
//!
//! The thread that holds the attachments for packets calls [`Follower::look`] before it attaches to what has come, so
//! that no connection is captured whose process could have been seen and was not. As there, nothing is inferred from
//! single changes: what is attached is made what is there and wanted.
//!
//! Bounds: the capture's own on attachments; each look has its time, and what is left is for the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::cgroup::{Cgroup, Wanted};
use super::super::error::LiveError;
use super::hooks;
use super::lookup::Lookup;
use super::older::{Bounds, Older};

/// How long one look may take.
const SLICE: Duration = Duration::from_millis(250);
/// How long /proc may be read for one cgroup.
const READING: Duration = Duration::from_millis(100);
/// Older sockets that are remembered of all cgroups that came.
const OLDER: usize = 1 << 18;

/// How often what happened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) now: AtomicU64,
    pub(super) came: AtomicU64,
    pub(super) went: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// Holds the programs and their links. Dropping it detaches them.
pub(in super::super) struct Follower {
    pub(super) attached: hooks::Attached,
    pub(super) wanted: Wanted,
    pub(super) lookup: Arc<Lookup>,
    pub(super) counts: Arc<Counts>,
    /// cgroups at a time at most.
    pub(super) limit: usize,
    /// Whether /proc is read for older sockets.
    pub(super) older: bool,
    /// Those that could not be attached to; each is counted and told once.
    pub(super) refused: BTreeSet<(PathBuf, u64)>,
}

impl Follower {
    /// Attaches to what has come, lets go what went. Whether everything is done: the next look is then not urgent. Adds to
    /// `folders` those in which something that comes or goes makes a difference.
    pub(in super::super) fn look(&mut self, folders: &mut BTreeSet<PathBuf>) -> bool {
        let until = Instant::now() + SLICE;
        let there = self.wanted.there(folders);
        // What has gone first, to make room; but what a cgroup around it takes over goes after that has come.
        self.let_go(|path, id| !fs::metadata(path).is_ok_and(|found| found.ino() == id));
        let known: BTreeMap<PathBuf, u64> =
            self.attached.cgroups().map(|(path, id)| (path.to_owned(), id)).collect();
        self.refused.retain(|(path, id)| there.get(path) == Some(id));
        let mut done = true;
        for (path, id) in &there {
            if known.get(path) == Some(id) {
                continue;
            }
            if Instant::now() > until {
                done = false;
                break;
            }
            self.come(path, *id);
        }
        self.let_go(|path, _| path.ancestors().skip(1).any(|outer| there.contains_key(outer)));
        self.counts.now.store(self.attached.cgroups().count() as u64, Ordering::Relaxed);
        done
    }

    fn come(&mut self, path: &Path, id: u64) {
        match self.attach(path) {
            Ok(()) => {
                self.refused.remove(&(path.to_owned(), id));
                self.counts.came.fetch_add(1, Ordering::Relaxed);
            }
            // It has just gone again.
            Err(_) if !path.is_dir() => {}
            Err(error) => {
                if self.refused.insert((path.to_owned(), id)) {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("processes in cgroup {} are not named: {error}", path.display());
                }
            }
        }
    }

    fn attach(&mut self, path: &Path) -> Result<(), LiveError> {
        let count = self.attached.cgroups().count();
        if count >= self.limit {
            return Err(LiveError::Setting {
                what: "cgroups whose processes are named",
                value: (count + 1).to_string(),
                allowed: "the limit of attachments",
            });
        }
        let cgroup: Cgroup = self.wanted.open(path)?;
        // Before the programs: whoever is seen has a place.
        if let Some(watcher) = &self.lookup.cgroups {
            watcher.add(path, cgroup.id);
        }
        self.attached.attach_cgroup(&cgroup)?;
        if self.older {
            self.read_older(path);
        }
        Ok(())
    }

    /// Who came into the cgroup before the programs may have connections already.
    fn read_older(&self, path: &Path) {
        let sockets = OLDER.saturating_sub(self.lookup.older().len());
        let bounds = Bounds { sockets, time: READING, ..Bounds::default() };
        let found = Older::read([path], bounds);
        self.lookup.older_mut().add(found);
    }

    fn let_go(&mut self, gone: impl Fn(&Path, u64) -> bool) {
        let gone: Vec<PathBuf> = self
            .attached
            .cgroups()
            .filter(|(path, id)| gone(path, *id))
            .map(|(path, _)| path.to_owned())
            .collect();
        for path in gone {
            if let Some(id) = self.attached.detach_cgroup(&path) {
                self.lookup.older_mut().forget(id);
                if let Some(watcher) = &self.lookup.cgroups {
                    watcher.remove(&path, id);
                }
                self.counts.went.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
