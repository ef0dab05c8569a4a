//! From a cgroup's id to its path: the watched folders and all below, kept up to date as cgroups come and go.
//!
//! A cgroup that has gone is remembered for a while, because items of its last moments may still be made. Its inotify
//! watch stays unless it is removed (the folder's inode never counts as unlinked), so its parent's watch, or for a
//! watched folder itself whoever detaches from it, tells that it is gone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::time::ClockId;

use super::lookup::clock;
use crate::process::{PodUid, container_id, pod_uid};

/// cgroups that are known at once.
const MOST: usize = 16_384;
/// Of those that have gone: how many are remembered.
const GONE: usize = 1024;
/// Folders this far below a watched one are not looked into.
const DEPTH: usize = 32;
/// Without inotify for every folder: how often all are looked at, in milliseconds.
const RESCAN: u16 = 1000;

/// A cgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Below the mount, with a slash before it.
    pub(super) path: Arc<str>,
    /// Of the path.
    pub(super) container: Option<Arc<str>>,
    /// Of the path.
    pub(super) pod: Option<PodUid>,
    /// When it was found to be gone, as the programs' clock has it.
    pub(super) gone_ns: Option<u64>,
}

/// The cgroups that are known.
#[derive(Debug)]
pub(super) struct Cgroups {
    table: RwLock<Table>,
    refused: AtomicU64,
    most: usize,
}

#[derive(Debug, Default)]
struct Table {
    places: HashMap<u64, Place>,
    /// Of those in `places`, oldest first.
    gone: VecDeque<u64>,
}

impl Cgroups {
    fn new(most: usize) -> Self {
        Self { table: RwLock::default(), refused: AtomicU64::new(0), most }
    }

    pub(super) fn place(&self, id: u64) -> Option<Place> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).places.get(&id).cloned()
    }

    /// cgroups that there was no room for.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn add(&self, id: u64, mount: &Path, folder: &Path) {
        let below = folder.strip_prefix(mount).unwrap_or(folder);
        let path = format!("/{}", below.display());
        let container = container_id(&path).map(Arc::from);
        let pod = pod_uid(&path);
        let place = Place { path: Arc::from(path), container, pod, gone_ns: None };
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.places.len() >= self.most && !table.places.contains_key(&id) {
            match table.gone.pop_front() {
                Some(oldest) => drop(table.places.remove(&oldest)),
                None => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
        table.places.insert(id, place);
    }

    /// It is gone, and will be forgotten once enough others are.
    fn gone(&self, id: u64) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = table.places.get_mut(&id) else {
            return; // There was no room for it.
        };
        if place.gone_ns.is_some() {
            return;
        }
        place.gone_ns = Some(clock(ClockId::CLOCK_MONOTONIC));
        table.gone.push_back(id);
        if table.gone.len() > GONE
            && let Some(oldest) = table.gone.pop_front()
        {
            table.places.remove(&oldest);
        }
    }
}

/// Watched folders that came (or went: false), with their ids, for the thread to look into.
type Changed = Arc<Mutex<Vec<(PathBuf, u64, bool)>>>;

/// Through the pipe: there is something among what has changed.
const LOOK: u8 = 1;
/// Through the pipe: it is over.
const END: u8 = 0;

/// The thread that keeps [`Cgroups`] up to date. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) cgroups: Arc<Cgroups>,
    mount: PathBuf,
    changed: Changed,
    pipe: PipeWriter,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Looks at `roots` and all below them, below `mount`, and keeps looking.
    pub(super) fn start(mount: PathBuf, roots: &[PathBuf]) -> std::io::Result<Self> {
        let (reader, pipe) = std::io::pipe()?;
        let cgroups = Arc::new(Cgroups::new(MOST));
        let changed = Changed::default();
        let mut walk = Walk {
            cgroups: Arc::clone(&cgroups),
            mount: mount.clone(),
            roots: BTreeMap::new(),
            changed: Arc::clone(&changed),
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            watched: HashMap::new(),
            by_path: HashMap::new(),
            blind: false,
        };
        for root in roots {
            let id = fs::metadata(root).map_or(0, |metadata| metadata.ino());
            walk.root(root.clone(), id);
        }
        let thread =
            std::thread::Builder::new().name(String::from("cgroups")).spawn(move || walk.keep(&reader))?;
        Ok(Self { cgroups, mount, changed, pipe, thread: Some(thread) })
    }

    /// One more folder to watch. It is known when this returns; those below it a moment later.
    pub(super) fn add(&self, root: &Path, id: u64) {
        self.cgroups.add(id, &self.mount, root);
        self.tell(root, id, true);
    }

    /// A folder that was watched is gone, or is within another one that is.
    pub(super) fn remove(&self, root: &Path, id: u64) {
        self.tell(root, id, false);
    }

    fn tell(&self, root: &Path, id: u64, came: bool) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.len() < MOST {
            changed.push((root.to_owned(), id, came));
        }
        drop(changed);
        // The thread may have ended already.
        let _ = (&self.pipe).write_all(&[LOOK]);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // As above.
        let _ = self.pipe.write_all(&[END]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Walk {
    cgroups: Arc<Cgroups>,
    mount: PathBuf,
    roots: BTreeMap<PathBuf, u64>,
    changed: Changed,
    inotify: Inotify,
    watched: HashMap<WatchDescriptor, (PathBuf, u64)>,
    by_path: HashMap<PathBuf, WatchDescriptor>,
    /// Some folder could not be watched.
    blind: bool,
}

impl Walk {
    /// Looks at everything anew.
    fn all(&mut self) {
        let paths: Vec<PathBuf> = self.by_path.keys().cloned().collect();
        paths.iter().for_each(|path| self.unwatch(path));
        for (root, id) in std::mem::take(&mut self.roots) {
            self.root(root, id);
        }
    }

    /// Enters a watched folder, unless it is gone, or another of its name has come.
    fn root(&mut self, root: PathBuf, id: u64) {
        if is(&root, id) {
            self.enter(&root, 0);
            self.roots.insert(root, id);
        } else {
            self.cgroups.gone(id);
        }
    }

    fn roots_changed(&mut self) {
        let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        for (root, id, came) in changed {
            if came {
                self.root(root, id);
                continue;
            }
            self.unwatch(&root);
            if self.roots.get(&root) == Some(&id) {
                self.roots.remove(&root);
            }
        }
    }

    /// Removes the watch of a folder that is gone; the kernel then says so.
    fn unwatch(&mut self, folder: &Path) {
        let Some(descriptor) = self.by_path.get(folder).copied() else { return };
        if self.watched.get(&descriptor).is_none_or(|(_, id)| !is(folder, *id)) {
            self.by_path.remove(folder);
            // Where the inode is unlinked, the kernel has removed it.
            let _ = self.inotify.rm_watch(descriptor);
        }
    }

    fn watch(&mut self, folder: &Path, id: u64, descriptor: WatchDescriptor) {
        self.watched.insert(descriptor, (folder.to_owned(), id));
        let before = self.by_path.insert(folder.to_owned(), descriptor);
        if let Some(before) = before.filter(|before| *before != descriptor) {
            // Of one that had the same name. As above.
            let _ = self.inotify.rm_watch(before);
        }
    }

    /// Notes a folder and those below it. Watched first, so that none that is made meanwhile is missed.
    fn enter(&mut self, folder: &Path, depth: usize) {
        let Ok(metadata) = fs::symlink_metadata(folder) else { return };
        if !metadata.is_dir() || depth > DEPTH {
            return;
        }
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        if self.watched.len() < MOST {
            match self.inotify.add_watch(folder, flags) {
                Ok(descriptor) => self.watch(folder, metadata.ino(), descriptor),
                Err(Errno::ENOENT) => return,
                Err(error) => self.cannot_watch(folder, error),
            }
        }
        self.cgroups.add(metadata.ino(), &self.mount, folder);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.enter(&entry.path(), depth + 1);
            }
        }
    }

    fn cannot_watch(&mut self, folder: &Path, error: Errno) {
        if !self.blind {
            tracing::warn!(
                "cgroups below {} are looked at once a second: inotify: {error} (raise fs.inotify.max_user_watches)",
                folder.display()
            );
        }
        self.blind = true;
    }

    /// Until the other end of the pipe says so, or is gone.
    fn keep(mut self, mut pipe: &PipeReader) {
        loop {
            let mut fds = [
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
                PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
            ];
            let patience = if self.blind { PollTimeout::from(RESCAN) } else { PollTimeout::NONE };
            match poll(&mut fds, patience) {
                Ok(0) => self.all(),
                Ok(_) if fds[1].any().unwrap_or(true) => {
                    let mut words = [END; 64];
                    let count = match pipe.read(&mut words) {
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        read => read.unwrap_or(0),
                    };
                    if count == 0 || words[..count].contains(&END) {
                        return;
                    }
                    self.roots_changed();
                }
                Ok(_) => self.changed(),
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!("cgroups are not watched any more: poll: {error}");
                    return;
                }
            }
        }
    }

    fn changed(&mut self) {
        let events: Vec<InotifyEvent> = self.inotify.read_events().unwrap_or_default();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                self.all();
            } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                // The folder is gone, and now its watch too.
                if let Some((folder, id)) = self.watched.remove(&event.wd) {
                    self.cgroups.gone(id);
                    if self.by_path.get(&folder) == Some(&event.wd) {
                        self.by_path.remove(&folder);
                    }
                }
            } else if let (Some((folder, _)), Some(name)) = (self.watched.get(&event.wd), event.name) {
                let made = folder.join(name);
                if event.mask.contains(AddWatchFlags::IN_DELETE) {
                    self.unwatch(&made);
                    continue;
                }
                let depth = made.strip_prefix(&self.mount).map_or(0, |below| below.components().count());
                self.enter(&made, depth);
            }
        }
    }
}

/// Whether the folder is there and the one that is meant.
fn is(folder: &Path, id: u64) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.ino() == id)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn id(folder: &Path) -> u64 {
        fs::metadata(folder).unwrap().ino()
    }

    fn wait(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Folders of any file system do; in the tests over the kernel they are cgroups.
    #[test]
    fn folders_are_known_when_they_come_and_a_while_after_they_went() {
        let mount = tempfile::tempdir().unwrap();
        let at = |path: &str| mount.path().join(path);
        fs::create_dir_all(at("watched/old/deep")).unwrap();
        fs::create_dir(at("other")).unwrap();
        let watcher = Watcher::start(mount.path().to_owned(), &[at("watched")]).unwrap();
        let path = |id: u64| watcher.cgroups.place(id).map(|place| place.path.to_string());
        assert_eq!(path(id(&at("watched"))).as_deref(), Some("/watched"));
        assert_eq!(path(id(&at("watched/old/deep"))).as_deref(), Some("/watched/old/deep"));
        assert_eq!(path(id(&at("other"))), None);

        let container = format!("watched/new/docker-{}.scope", "0a".repeat(32));
        fs::create_dir_all(at(&container)).unwrap();
        let made = id(&at(&container));
        wait(|| path(made).is_some());
        assert_eq!(watcher.cgroups.place(made).unwrap().container.as_deref(), Some(&*"0a".repeat(32)));
        fs::remove_dir(at(&container)).unwrap();
        fs::create_dir(at("watched/after")).unwrap();
        wait(|| path(id(&at("watched/after"))).is_some());
        assert!(path(made).is_some(), "gone, and still known");
    }

    #[test]
    fn watched_folders_come_and_go() {
        let mount = tempfile::tempdir().unwrap();
        let at = |path: &str| mount.path().join(path);
        let watcher = Watcher::start(mount.path().to_owned(), &[]).unwrap();
        let path = |id: u64| watcher.cgroups.place(id).map(|place| place.path.to_string());
        fs::create_dir_all(at("late/deep")).unwrap();
        let (late, deep) = (id(&at("late")), id(&at("late/deep")));
        watcher.add(&at("late"), late);
        assert_eq!(path(late).as_deref(), Some("/late"), "at once");
        wait(|| path(deep).as_deref() == Some("/late/deep"));
        fs::create_dir(at("late/after")).unwrap();
        wait(|| path(id(&at("late/after"))).is_some());
        fs::remove_dir_all(at("late")).unwrap();
        watcher.remove(&at("late"), late);
        let gone = |id: &u64| watcher.cgroups.table.read().unwrap().gone.contains(id);
        wait(|| gone(&late) && gone(&deep));
        // Gone before it was looked into.
        watcher.add(&at("brief"), 1);
        wait(|| gone(&1));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let cgroups = Cgroups::new(4);
        let mount = Path::new("/m");
        for id in 1..=6 {
            cgroups.add(id, mount, &mount.join(id.to_string()));
        }
        assert_eq!((cgroups.place(4).is_some(), cgroups.place(5), cgroups.refused()), (true, None, 2));
        cgroups.gone(2);
        cgroups.add(7, mount, &mount.join("7"));
        assert_eq!((cgroups.place(2), cgroups.place(7).is_some(), cgroups.refused()), (None, true, 2));
        for id in 100..100 + 2 * GONE as u64 {
            cgroups.add(id, mount, &mount.join("x"));
            cgroups.gone(id);
            assert!(cgroups.table.read().unwrap().places.len() <= 4);
        }
    }
}
