//! Hot reload: follows the files of the scripts, and has what is edited, added or removed take effect.
//!
//! ```text
//! look (4 times a second) ─► changed and then unchanged for a look ─► new version starts beside the old one
//!      └► gone for a second ─► script ends                                ├─ does not run: logged, the old one goes on
//!                                                                         └─ runs: gets what comes, then what waits
//! ```
//!
//! Invariants:
//! - No event is lost by an edit: the queue stays, the new version takes over what waits in it.
//! - At no time do two versions of a script serve its queue. The old one has [`FINISH`] to finish its call; then the call
//!   is interrupted.
//! - A script whose files did not change is not touched.
//! - Files are looked at rather than watched: that sees through every swap of links, on any file system.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::Shared;
use super::log::Level;
use super::running::{Ready, Running, Starting};
use super::source::{self, ScriptFailure, Source};
use super::stamp::{Loaded, Stamp};
use super::stats::Counters;
use super::watch::{Look, look};

/// How often starts and ends are looked at while there are such under way.
const TICK: Duration = Duration::from_millis(25);
/// Looks in a row in which a file has to be missing until its script ends: some editors replace a file by removing it.
const MISSING: u32 = 4;
/// How long an old version may take for the call that it is in.
const FINISH: Duration = Duration::from_secs(1);
/// How long it may then take to end; after that it is left behind.
const END: Duration = Duration::from_millis(500);
/// Scripts that may run at once.
const MOST: usize = 256;

/// Follows the scripts' files.
pub(super) struct Reloader {
    shared: Arc<Shared>,
    roots: Vec<PathBuf>,
    files: BTreeMap<PathBuf, File>,
    /// Which name each file has, once and for all: its data folder hangs on it.
    names: HashMap<PathBuf, String>,
    taken: HashSet<String>,
    starting: Vec<Starting>,
    ending: Vec<Ending>,
    waiting: Vec<Waiting>,
    unreadable: HashSet<PathBuf>,
    version: u64,
}

/// What is known of a script's file.
struct File {
    /// As it was when the newest version was read, and its modules.
    stamp: Stamp,
    modules: Loaded,
    /// A change that was seen once.
    changed: Option<BTreeMap<PathBuf, Stamp>>,
    missing: u32,
}

/// An old version on its way out.
struct Ending {
    old: Arc<Running>,
    since: Instant,
    interrupted: bool,
}

/// A version that serves once those before it have ended.
struct Waiting {
    name: String,
    version: u64,
    turn: u64,
    go: SyncSender<u64>,
}

impl Reloader {
    pub(super) fn new(shared: Arc<Shared>, roots: &[PathBuf]) -> Self {
        Self {
            shared,
            roots: roots.to_vec(),
            files: BTreeMap::new(),
            names: HashMap::new(),
            taken: HashSet::new(),
            starting: Vec::new(),
            ending: Vec::new(),
            waiting: Vec::new(),
            unreadable: HashSet::new(),
            version: 0,
        }
    }

    /// Starts all that is there, and waits until every top level is through.
    pub(super) fn load(&mut self) -> Vec<ScriptFailure> {
        let mut failures = Vec::new();
        let (mut paths, mut seen) = (Vec::new(), HashSet::new());
        for root in self.roots.clone() {
            match look(&root) {
                Look::Scripts(scripts) => {
                    paths.extend(scripts.into_iter().filter(|path| seen.insert(path.clone())));
                }
                Look::Unreadable(why) => failures.push(failure(&root, &format!("cannot be read: {why}"))),
            }
        }
        let mut starting = Vec::new();
        for path in paths {
            match self.begin(&path) {
                Ok(start) => starting.push(start),
                Err(failure) => failures.push(failure),
            }
        }
        for start in starting {
            match start.finish(&self.shared.common) {
                Ok(ready) => self.put(ready),
                Err(failure) => failures.push(failure),
            }
        }
        failures.iter().for_each(|failure| self.shared.failed(&failure.path, Some(failure)));
        failures
    }

    /// Follows the files until `stop` says so or is dropped; then ends what is under way.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        let look = self.shared.common.limits.look;
        let mut looked = Instant::now();
        while matches!(stop.recv_timeout(self.nap(look)), Err(RecvTimeoutError::Timeout)) {
            if looked.elapsed() >= look {
                looked = Instant::now();
                self.look();
            }
            self.starts();
            self.ends();
        }
        self.starting.iter().for_each(Starting::abandon);
        self.ending.iter().for_each(|ending| ending.old.signal_stop());
        let until = Instant::now() + END;
        self.ending.iter().for_each(|ending| ending.old.join(until));
    }

    /// Until something may have changed.
    fn nap(&self, look: Duration) -> Duration {
        let calm = self.starting.is_empty() && self.ending.is_empty() && self.waiting.is_empty();
        if calm { look } else { TICK.min(look) }
    }

    /// Starts the script of a file; notes what the file looked like.
    fn begin(&mut self, path: &Path) -> Result<Starting, ScriptFailure> {
        let known = self.files.get(path).map(|file| file.modules.clone()).unwrap_or_default();
        // Before it is read: a change meanwhile is seen at the next look.
        let stamp = Stamp::of(path);
        let mut file = File { stamp, modules: known, changed: None, missing: 0 };
        if !self.files.contains_key(path) && self.files.len() >= MOST {
            return Err(failure(path, &format!("is not run: {MOST} scripts are there already")));
        }
        let read = Source::read(path, self.shared.common.limits.source);
        if let Ok(source) = &read {
            file.modules = source.modules.clone();
        }
        self.files.insert(path.to_owned(), file);
        let mut source = read?;
        // Most likely it is being written just now: many editors empty a file first.
        if source.text.trim().is_empty() && self.shared.find(path).is_some() {
            return Err(source.failure("is empty"));
        }
        source.name = self.name(path, &mut source);
        let lasting = self.shared.lasting(&source.name);
        self.version += 1;
        Starting::begin(source, lasting, self.version, &self.shared.common)
    }

    /// The name of a file's script, the same whenever the file comes back.
    fn name(&mut self, path: &Path, source: &mut Source) -> String {
        if let Some(name) = self.names.get(path) {
            return name.clone();
        }
        if self.names.len() >= 4 * MOST {
            let Self { names, files, .. } = self;
            names.retain(|path, _| files.contains_key(path));
            self.taken = names.values().map(|name| source::folder_name(name)).collect();
        }
        source::name_apart(source, &mut self.taken);
        self.names.insert(path.to_owned(), source.name.clone());
        source.name.clone()
    }

    /// Looks at all files.
    fn look(&mut self) {
        let (mut there, mut unsure) = (Vec::new(), Vec::new());
        for root in self.roots.clone() {
            match look(&root) {
                Look::Scripts(scripts) => {
                    self.unreadable.remove(&root);
                    there.extend(scripts);
                }
                Look::Unreadable(why) => {
                    if self.unreadable.insert(root.clone()) {
                        tracing::warn!(
                            "{} cannot be read, so its scripts go on as they are: {why}",
                            root.display()
                        );
                    }
                    unsure.push(root);
                }
            }
        }
        let known: Vec<PathBuf> = self.files.keys().cloned().collect();
        let unsure = |path: &PathBuf| unsure.iter().any(|root| path.parent() == Some(root));
        for path in known.iter().filter(|path| !unsure(path)) {
            let stamp = if there.contains(path) { Stamp::of(path) } else { Stamp::Absent };
            self.look_at(path, stamp);
        }
        for path in there {
            if !self.files.contains_key(&path) && matches!(Stamp::of(&path), Stamp::File(_)) {
                let new =
                    File { stamp: Stamp::Absent, modules: Loaded::default(), changed: None, missing: 0 };
                // Run once it is the same in the next look.
                if self.files.len() < MOST {
                    self.files.insert(path, new);
                }
            }
        }
    }

    fn look_at(&mut self, path: &Path, stamp: Stamp) {
        if self.starting.iter().any(|start| start.source.path == path) {
            return;
        }
        let Some(file) = self.files.get_mut(path) else { return };
        match stamp {
            Stamp::Unknown => return,
            Stamp::Absent => {
                file.missing += 1;
                if file.missing >= MISSING {
                    self.files.remove(path);
                    self.shared.failed(path, None);
                    self.remove(path);
                }
                return;
            }
            Stamp::File(_) => file.missing = 0,
        }
        let loaded = file.modules.all();
        let now: BTreeMap<PathBuf, Stamp> = loaded
            .keys()
            .map(|module| (module.clone(), Stamp::of(module)))
            .chain([(path.to_owned(), stamp)])
            .collect();
        if now.values().any(|stamp| *stamp == Stamp::Unknown) {
            return;
        }
        let same = stamp == file.stamp && loaded.iter().all(|(module, stamp)| now.get(module) == Some(stamp));
        if same {
            file.changed = None;
        } else if file.changed.as_ref() == Some(&now) {
            self.restart(path);
        } else {
            file.changed = Some(now);
        }
    }

    fn restart(&mut self, path: &Path) {
        match self.begin(path) {
            Ok(start) => self.starting.push(start),
            Err(failure) => self.tell_failure(path, &failure),
        }
    }

    /// Says that what is in a file now does not run.
    fn tell_failure(&self, path: &Path, failure: &ScriptFailure) {
        self.shared.failed(path, Some(failure));
        match self.shared.find(path) {
            Some(old) => {
                let text = format!("was edited, but does not run, so the version before goes on: {failure}");
                old.lasting.logger.about(Level::Error, &text);
            }
            None => {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let name = self.names.get(path).map_or(&*file, String::as_str);
                self.shared.lasting(name).logger.about(Level::Error, &format!("does not run: {failure}"));
            }
        }
    }

    /// Takes over those that have started.
    fn starts(&mut self) {
        for start in std::mem::take(&mut self.starting) {
            let path = start.source.path.clone();
            match start.poll(&self.shared.common) {
                Err(start) => self.starting.push(*start),
                Ok(Err(failure)) => self.tell_failure(&path, &failure),
                // Removed meanwhile.
                Ok(Ok(ready)) if !self.files.contains_key(&path) => ready.running.signal_stop(),
                Ok(Ok(ready)) => {
                    let was = if self.shared.find(&path).is_some() { "was edited" } else { "was added" };
                    let logger = Arc::clone(&ready.running.lasting.logger);
                    self.put(ready);
                    logger.about(Level::Info, &format!("{was}: what it says now runs"));
                }
            }
        }
    }

    /// Puts a version among those that run, in place of the one before if there is one.
    fn put(&mut self, ready: Ready) {
        let Ready { running, go } = ready;
        let (name, queue) = (running.lasting.name.clone(), Arc::clone(&running.lasting.queue));
        let version = running.version;
        self.shared.failed(&running.path, None);
        let old = self.shared.put(running);
        // What comes from here on waits for the new version; the old one gets nothing more.
        let turn = queue.take_over();
        if let Some(old) = old {
            Counters::add(&old.lasting.counters.reloads, 1);
            self.end(old);
        }
        self.waiting.retain(|waiting| waiting.name != name);
        self.waiting.push(Waiting { name, version, turn, go });
        self.turns();
    }

    fn remove(&mut self, path: &Path) {
        let Some(old) = self.shared.remove(path) else { return };
        old.lasting.logger.about(Level::Info, "its file is gone: it ends");
        Counters::add(&old.lasting.counters.dropped, old.lasting.queue.close() as u64);
        self.waiting.retain(|waiting| waiting.name != old.lasting.name);
        self.end(old);
    }

    fn end(&mut self, old: Arc<Running>) {
        self.ending.push(Ending { old, since: Instant::now(), interrupted: false });
    }

    /// Sees old versions out.
    fn ends(&mut self) {
        for mut ending in std::mem::take(&mut self.ending) {
            let patience = ending.since.elapsed();
            if ending.old.has_ended() || patience >= FINISH + END {
                ending.old.join(Instant::now());
                continue;
            }
            if patience >= FINISH && !ending.interrupted {
                ending.old.signal_stop();
                ending.interrupted = true;
            }
            self.ending.push(ending);
        }
        self.turns();
    }

    /// Lets versions serve whose predecessors are gone.
    fn turns(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if self.ending.iter().any(|ending| ending.old.lasting.name == waiting.name) {
                self.waiting.push(waiting);
                continue;
            }
            self.shared.common.metrics.forget(&waiting.name, Some(waiting.version));
            // Err: the version has ended by itself, and said why.
            let _ = waiting.go.send(waiting.turn);
        }
    }
}

fn failure(path: &Path, message: &str) -> ScriptFailure {
    ScriptFailure { path: path.to_owned(), line: None, column: None, message: message.to_owned() }
}
