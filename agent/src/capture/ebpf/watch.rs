//! Interfaces and cgroups that come and go while capture runs.
//!
//! A thread of its own, born into the network namespace in which capture was started, holds the attachments. It looks
//! at what there is whenever the kernel tells of a change to an interface or a cgroup, or the choice of pods has changed,
//! and every [`LOOK_TOLD`] for what nobody told, and makes what is attached be what is there and wanted. Nothing is
//! inferred from single notifications: what went and came back between two looks has another number.
//!
//! Bounds: [`Bounds`] on attachments and on changes that wait to be told; what is refused is counted, and told once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::attach::{Attached, TcHook};
use super::error::LiveError;
use super::identity::Follower;
use super::interface::Interface;
use super::netlink::Socket;
use super::netlink::link::{self, Link};
use super::plan::Plan;
use super::told::Folders;

/// How often is looked where the kernel does not tell of everything.
const LOOK: Duration = Duration::from_millis(500);
/// The same where the kernel tells of what comes and goes, and takes what hangs on it along.
const LOOK_TOLD: Duration = Duration::from_secs(2);
/// The same where pods' own cgroups are attached to and not told of: what a new one says first is said soon after its cgroup was made.
const LOOK_FOR_PODS: Duration = Duration::from_millis(100);
/// Between two looks at least: a hundred interfaces that come at once are one change.
const BREATH: Duration = Duration::from_millis(20);
/// How long one look may take, for a tcx link takes the kernel some 10 ms (it waits for packets in flight): then the
/// end, and what is new, are looked for again before it goes on.
const SLICE: Duration = Duration::from_millis(250);
/// Changes that wait to be told.
const MAX_CHANGES: usize = 1024;

/// What came or went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Captured from now on: `veth0 (tcx, Ethernet)`, `cgroup /sys/fs/cgroup/shop.service`.
    Came(String),
    /// No longer there: `interface veth0`, `cgroup /sys/fs/cgroup/shop.service`.
    Went(String),
    /// Wanted, and not to be had: which, and why.
    Refused(String, String),
}

/// How often what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AttachStats {
    /// Interfaces and cgroups attached to now.
    pub now: u64,
    /// All that were ever attached to.
    pub came: u64,
    /// All that went.
    pub went: u64,
    /// Those that could not be attached to, or were too many; each counts once.
    pub refused: u64,
    /// Interfaces whose clsact filters somebody else removed; they were attached to again.
    pub stripped: u64,
    /// Changes that nobody asked for in time.
    pub untold: u64,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<Key, String>,
    changes: VecDeque<Change>,
    stats: AttachStats,
    hook: TcHook,
}

/// What a target is known by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Interface(u32),
    Cgroup(PathBuf),
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change to the state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, change: Change) {
        if self.changes.len() < MAX_CHANGES {
            self.changes.push_back(change);
        } else {
            self.stats.untold += 1;
        }
    }

    fn came(&mut self, key: Key, words: String) {
        self.stats.came += 1;
        self.tell(Change::Came(words.clone()));
        self.names.insert(key, words);
        self.stats.now = self.names.len() as u64;
    }

    fn went(&mut self, key: &Key, words: String) {
        self.stats.went += 1;
        self.tell(Change::Went(words));
        self.names.remove(key);
        self.stats.now = self.names.len() as u64;
    }
}

/// What watches, in its thread.
struct Watch {
    plan: Plan,
    attached: Attached,
    /// The programs that tell of processes.
    identity: Option<Follower>,
    /// Tells of cgroups; `None`: nobody does.
    folders: Option<Folders>,
    /// When it was last looked whether somebody removed filters.
    filters_seen: Instant,
    refused: BTreeSet<String>,
    shared: Arc<Shared>,
    /// The last look was cut short.
    unfinished: bool,
}

/// What one look could not attach to, and until when it goes on.
struct Refusals {
    until: Instant,
    all: BTreeSet<String>,
    /// The first that was named, not taken in by a pattern, or not permitted.
    first: Option<LiveError>,
}

impl Watch {
    /// Makes what is attached be what is there and wanted. Gives the first refusal that is no matter of course.
    fn look(&mut self) -> Option<LiveError> {
        let mut refusals = Refusals { until: Instant::now() + SLICE, all: BTreeSet::new(), first: None };
        self.unfinished = false;
        match link::list(&mut self.plan.socket) {
            Ok(there) => self.look_at_interfaces(&there, &mut refusals),
            // It is tried again soon.
            Err(error) => tracing::warn!(%error, "interfaces cannot be listed"),
        }
        // Many interfaces do not keep cgroups waiting.
        let mut looked = BTreeSet::new();
        let cgroups = self.plan.cgroups.as_ref().map(|wanted| wanted.there(&mut looked));
        // After these were found, and before packets are captured there.
        if let Some(identity) = &mut self.identity {
            self.unfinished |= !identity.look(&mut looked);
        }
        if let Some(folders) = &mut self.folders {
            // What came before it was watched, nobody tells.
            self.unfinished |= folders.follow(&looked);
        }
        refusals.until = Instant::now() + SLICE;
        if let Some(there) = cgroups {
            self.look_at_cgroups(&there, &mut refusals);
        }
        if self.unfinished {
            self.refused.append(&mut refusals.all);
        } else {
            self.refused = refusals.all;
        }
        self.shared.lock().hook = self.attached.hook();
        refusals.first
    }

    fn refuse(&self, refusals: &mut Refusals, target: String, named: bool, error: LiveError) {
        if !self.refused.contains(&target) {
            let mut state = self.shared.lock();
            state.stats.refused += 1;
            state.tell(Change::Refused(target.clone(), error.to_string()));
        }
        refusals.all.insert(target);
        if named || error.is_not_permitted() {
            refusals.first.get_or_insert(error);
        }
    }

    fn look_at_interfaces(&mut self, there: &[Link], refusals: &mut Refusals) {
        let there: BTreeMap<u32, &Link> = there
            .iter()
            .filter(|link| self.plan.interfaces.takes(&link.name))
            .map(|link| (link.index, link))
            .collect();
        let gone: Vec<u32> = self
            .attached
            .interfaces()
            .filter(|(index, name)| there.get(index).is_none_or(|link| link.name != *name))
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            if let Some(name) = self.attached.detach_interface(index) {
                self.shared.lock().went(&Key::Interface(index), format!("interface {name}"));
            }
        }
        for (index, link) in there {
            let named = self.plan.interfaces.names(&link.name);
            if self.attached.has_interface(index) || self.is_late(refusals, named) {
                continue;
            }
            let attached = self
                .room()
                .and_then(|()| Interface::of(link))
                .and_then(|interface| self.attached.attach_interface(&interface));
            match attached {
                Ok(()) => {
                    let words = self.attached.words(index).unwrap_or_default();
                    self.shared.lock().came(Key::Interface(index), words);
                }
                Err(error) => {
                    self.refuse(refusals, format!("interface {}", link.name), named, error);
                }
            }
        }
    }

    fn look_at_cgroups(&mut self, there: &BTreeMap<PathBuf, u64>, refusals: &mut Refusals) {
        // What is new first: a cgroup around one that is watched already leaves no gap.
        for (path, id) in there {
            let named = self.plan.cgroups.as_ref().is_some_and(|wanted| wanted.names(path));
            if self.attached.has_cgroup(path, *id) || self.is_late(refusals, named) {
                continue;
            }
            self.let_go(path);
            let opened = self.plan.cgroups.as_ref().map(|wanted| wanted.open(path));
            let attached = self.room().and_then(|()| match opened {
                Some(Ok(cgroup)) => self.attached.attach_cgroup(&cgroup),
                Some(Err(error)) => Err(error),
                None => Ok(()),
            });
            let words = format!("cgroup {}", path.display());
            match attached {
                Ok(()) => self.shared.lock().came(Key::Cgroup(path.clone()), words),
                Err(error) => {
                    self.refuse(refusals, words, named, error);
                }
            }
        }
        // Not merely left out of a look that was cut short.
        let wanted = self.plan.cgroups.as_ref();
        let gone = |path: &Path| {
            !path.is_dir()
                || path.ancestors().skip(1).any(|outer| there.contains_key(outer))
                || wanted.is_some_and(|wanted| !wanted.wants(path))
        };
        let gone: Vec<PathBuf> = self
            .attached
            .cgroups()
            .filter(|path| !there.contains_key(*path) && gone(path))
            .map(Path::to_owned)
            .collect();
        gone.iter().for_each(|path| self.let_go(path));
    }

    fn let_go(&mut self, path: &Path) {
        if self.attached.detach_cgroup(path) {
            self.shared.lock().went(&Key::Cgroup(path.to_owned()), format!("cgroup {}", path.display()));
        }
    }

    /// Whether a look has taken its time, so that what a pattern takes in is left for the next one.
    fn is_late(&mut self, refusals: &Refusals, named: bool) -> bool {
        let late = !named && Instant::now() > refusals.until;
        self.unfinished |= late;
        late
    }

    fn room(&self) -> Result<(), LiveError> {
        if self.attached.len() < self.plan.limit {
            return Ok(());
        }
        Err(LiveError::Setting {
            what: "interfaces and cgroups",
            value: (self.attached.len() + 1).to_string(),
            allowed: "the limit of attachments",
        })
    }

    /// Filters on clsact that somebody else removed are put back.
    fn look_after_filters(&mut self) {
        self.filters_seen = Instant::now();
        for index in self.attached.stripped() {
            let name = self.attached.detach_interface(index).unwrap_or_default();
            let mut state = self.shared.lock();
            state.stats.stripped += 1;
            state.names.remove(&Key::Interface(index));
            state.stats.now = state.names.len() as u64;
            tracing::warn!("somebody removed the filters from interface {name}: attaching again");
        }
    }

    /// Until the next look, unless something is told before; `told`: of interfaces. Nobody tells of filters that are removed.
    fn pause(&self, told: bool) -> Duration {
        let cgroups = self.folders.as_ref().map_or(self.plan.cgroups.is_none(), Folders::sees_all);
        match cgroups {
            false if self.plan.pods.is_some() => LOOK_FOR_PODS,
            true if told && self.attached.hook() != TcHook::Clsact => LOOK_TOLD,
            _ => LOOK,
        }
    }

    /// Until `wakes`' other end is closed; woken by what comes through.
    fn run(mut self, mut events: Option<Socket>, mut wakes: &UnixStream) {
        let mut next = Instant::now();
        if !self.unfinished {
            next += self.pause(events.is_some());
        }
        loop {
            self.wait(next, events.as_ref(), wakes);
            let woken = match wakes.read(&mut [0; 64]) {
                Ok(0) => return,
                read => read.is_ok(),
            };
            let told = events.as_mut().is_some_and(Socket::drain);
            let told = self.folders.as_ref().is_some_and(Folders::drain) || told || woken;
            if !told && Instant::now() < next {
                continue;
            }
            if self.filters_seen.elapsed() >= LOOK {
                self.look_after_filters();
            }
            self.look();
            next = Instant::now();
            if !self.unfinished {
                next += self.pause(events.is_some());
                std::thread::sleep(BREATH);
            }
        }
    }

    /// Until that time at most.
    fn wait(&self, until: Instant, events: Option<&Socket>, wakes: &UnixStream) {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let timeout = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
        let mut fds = vec![PollFd::new(wakes.as_fd(), PollFlags::POLLIN)];
        fds.extend(events.map(|events| PollFd::new(events.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.folders.as_ref().map(|folders| PollFd::new(folders.as_fd(), PollFlags::POLLIN)));
        if let Err(error) = nix::poll::poll(&mut fds, timeout)
            && error != nix::Error::EINTR
        {
            tracing::warn!(%error, "waiting for changes to interfaces and cgroups");
            std::thread::sleep(BREATH);
        }
    }
}

/// The thread that watches. Dropping it detaches everything.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    /// Closed to end the thread.
    waker: Option<Arc<UnixStream>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Attaches to what is there, in the calling thread's network namespace, and goes on watching there. `identity` is
    /// called once that has worked: what it gives follows the cgroups from then on.
    ///
    /// # Errors
    /// When a target that was named cannot be attached to, or nothing may be. What a pattern takes in may be of kinds
    /// that cannot be captured from, and may be too much.
    pub(super) fn start(
        plan: Plan,
        attached: Attached,
        identity: impl FnOnce() -> Option<Follower>,
    ) -> Result<Self, LiveError> {
        let fail = |e: io::Error| LiveError::kernel("starting to watch interfaces", &e);
        let events =
            if plan.notifications { Socket::of_links() } else { Err(io::ErrorKind::Unsupported.into()) };
        if let Err(error) = &events {
            tracing::warn!(%error, "no notifications of interfaces: looking twice a second");
        }
        let folders = if plan.notifications { Folders::new() } else { None };
        let shared = Arc::new(Shared::default());
        let mut watch = Watch {
            plan,
            attached,
            identity: None,
            folders,
            filters_seen: Instant::now(),
            refused: BTreeSet::new(),
            shared: Arc::clone(&shared),
            unfinished: false,
        };
        if let Some(error) = watch.look() {
            return Err(error);
        }
        watch.identity = identity();
        // What is attached from the start is no change.
        shared.lock().changes.retain(|change| !matches!(change, Change::Came(_)));
        let (waker, wakes) = UnixStream::pair().map_err(fail)?;
        for stream in [&waker, &wakes] {
            stream.set_nonblocking(true).map_err(fail)?;
        }
        let waker = Arc::new(waker);
        if let Some(pods) = &watch.plan.pods {
            let waker = Arc::downgrade(&waker);
            pods.on_change(Box::new(move || {
                // Err: it is full of wakes, or capture has ended.
                let _ = waker.upgrade().map(|waker| (&*waker).write(&[1]));
            }));
        }
        let thread = std::thread::Builder::new()
            .name(String::from("attachments"))
            .spawn(move || watch.run(events.ok(), &wakes))
            .map_err(fail)?;
        Ok(Self { shared, waker: Some(waker), thread: Some(thread) })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.shared.lock().names.values().cloned().collect()
    }

    pub(super) fn changes(&self) -> Vec<Change> {
        self.shared.lock().changes.drain(..).collect()
    }

    pub(super) fn stats(&self) -> AttachStats {
        self.shared.lock().stats
    }

    pub(super) fn hook(&self) -> TcHook {
        self.shared.lock().hook
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.waker.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches interfaces has panicked: please report it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_nobody_asks_for_are_counted_and_not_kept() {
        let mut state = State::default();
        for index in 0..2 * MAX_CHANGES as u32 {
            state.came(Key::Interface(index), format!("veth{index}"));
        }
        assert_eq!((state.changes.len(), state.stats.untold), (MAX_CHANGES, MAX_CHANGES as u64));
        state.went(&Key::Interface(3), String::from("interface veth3"));
        let AttachStats { now, came, went, untold, .. } = state.stats;
        let many = MAX_CHANGES as u64;
        assert_eq!((now, came, went, untold), (2 * many - 1, 2 * many, 1, many + 1));
    }
}
