//! The thread that watches, and what it knows.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::kube::runtime::watcher::Event;
use ::kube::{Api, Client};
use agent_core::Timestamp;
use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::book::{Book, Bounds, Key};
use super::lookup::{Asker, Limits, Near};
use super::pods::{Listener, NodePods, Wanted};
use super::status::{Counters, Standing, Status, Watched};
use super::{KubeConfig, Targets, client, lookup, objects, watch};
use crate::capture::WantedPods;
use crate::process::PodUid;
use crate::resolve::{Names, NamesStats};

/// How often names that are over are forgotten.
const EXPIRE: Duration = Duration::from_secs(1);
/// How often the rest is tidied up.
const TIDY: u32 = 30;

/// Why Kubernetes cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// There is no service account.
    #[error("no service account of a cluster: {0}")]
    NoAccount(String),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Certificates or token cannot be used.
    #[error("the way to the Kubernetes API: {0}")]
    Client(String),
    /// The thread could not be started.
    #[error("starting the thread that watches Kubernetes: {0}")]
    Thread(#[from] std::io::Error),
}

/// What there is, and what happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KubeStats {
    /// Requests to the API server, retries not counted.
    pub requests: u64,
    /// Lists that were begun, the first ones included.
    pub lists: u64,
    /// Objects that were listed, changed or went.
    pub events: u64,
    /// Answers that were errors, and lists that never ended.
    pub errors: u64,
    /// Connections that broke while something was watched.
    pub broken: u64,
    /// Pods that were looked up by their address.
    pub lookups: u64,
    /// Of those: found.
    pub lookups_found: u64,
    /// Of those: nobody's, as far as names go.
    pub lookups_nobody: u64,
    /// Of those: answered by an error, or not at all.
    pub lookups_failed: u64,
    /// Not asked, for the rate or the queue was full.
    pub lookups_refused: u64,
    /// Not asked, for the answer was known to be nobody.
    pub lookups_cached: u64,
    /// Pods of this node that are held.
    pub pods: u64,
    /// Pods of this node that are wanted.
    pub pods_wanted: u64,
    /// Services held.
    pub services: u64,
    /// Slices of endpoints held.
    pub slices: u64,
    /// Pods, services and slices that there was no room for.
    pub refused: u64,
    /// The names.
    pub names: NamesStats,
}

/// What watches Kubernetes. Dropping it ends that; names stay as they are.
pub struct Kube {
    shared: Arc<Shared>,
    /// Dropped to end the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    names: Arc<Names>,
    state: Mutex<State>,
    status: Arc<Status>,
    wanted: ArcSwap<Wanted>,
    near: Arc<Near>,
    /// Who is told when that has changed.
    listener: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

struct State {
    book: Book,
    pods: NodePods,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("wanted", &self.wanted.load().uids.len()).finish_non_exhaustive()
    }
}

impl WantedPods for Shared {
    fn wants(&self, uid: &PodUid) -> bool {
        self.wanted.load().uids.contains(uid)
    }

    fn on_change(&self, call: Box<dyn Fn() + Send + Sync>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
    }
}

impl Kube {
    /// Begins to watch. That the API server cannot be reached, or refuses, is no error: it is tried again, and said.
    ///
    /// # Errors
    /// When there is no service account or kubeconfig, or it cannot be used.
    pub fn start(config: KubeConfig) -> Result<Self, KubeError> {
        let names = Arc::new(Names::default());
        let pods = NodePods::new(config.targets.clone());
        let shared = Arc::new(Shared {
            names: Arc::clone(&names),
            state: Mutex::new(State { book: Book::new(names, Bounds::default()), pods }),
            status: Arc::new(Status::new()),
            wanted: ArcSwap::default(),
            near: Arc::default(),
            listener: Mutex::default(),
        });
        let (end, ended) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(String::from("kubernetes")).spawn(move || {
            run(&config, of_thread, ended, &ready);
        })?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { shared, end: Some(end), thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(KubeError::Client(String::from("its thread has ended"))),
        }
    }

    /// The names, which are kept up to date.
    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        &self.shared.names
    }

    /// Tells capture which pods are wanted.
    #[must_use]
    pub fn wanted_pods(&self) -> Arc<dyn WantedPods> {
        Arc::clone(&self.shared) as Arc<dyn WantedPods>
    }

    /// Which pods are wanted now.
    #[must_use]
    pub fn wanted(&self) -> Arc<Wanted> {
        self.shared.wanted.load_full()
    }

    /// Wants other pods from now on.
    pub fn retarget(&self, targets: Targets) {
        let mut state = self.shared.state();
        let State { book, pods } = &mut *state;
        pods.retarget(targets, book);
        self.shared.publish(&mut state);
    }

    /// Has somebody hear of pods that are wanted: first of all that are there.
    pub fn listen(&self, listener: Arc<Listener>) {
        self.shared.state().pods.listen(listener);
    }

    /// Has nobody hear of pods any more.
    pub fn silence(&self) {
        self.shared.state().pods.silence();
    }

    /// Waits until everything was listed once. False if that takes longer.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if self.shared.status.is_all_known() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it stands: for readiness.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.shared.status.standing()
    }

    /// What there is, and what happened.
    #[must_use]
    pub fn stats(&self) -> KubeStats {
        let state = self.shared.state();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.status.counters;
        let [services, slices, _] = state.book.sizes();
        let (pods, pods_refused) = state.pods.sizes();
        KubeStats {
            requests: of(&counters.requests),
            lists: of(&counters.lists),
            events: of(&counters.events),
            errors: of(&counters.errors),
            broken: of(&counters.broken),
            lookups: of(&counters.lookups),
            lookups_found: of(&counters.lookups_found),
            lookups_nobody: of(&counters.lookups_nobody),
            lookups_failed: of(&counters.lookups_failed),
            lookups_refused: of(&counters.lookups_refused),
            lookups_cached: of(&counters.lookups_cached),
            pods: pods as u64,
            pods_wanted: self.shared.wanted.load().uids.len() as u64,
            services: services as u64,
            slices: slices as u64,
            refused: state.book.refused() + pods_refused,
            names: self.shared.names.stats(),
        }
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches Kubernetes has panicked: please report it");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells workers and capture what has changed.
    fn publish(&self, state: &mut State) {
        state.book.flush(now());
        let wanted = NodePods::wanted(&state.book);
        if **self.wanted.load() != wanted {
            self.wanted.store(Arc::new(wanted));
            self.listener.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|call| call());
        }
    }

    fn tidy(&self) {
        let mut state = self.state();
        state.book.tidy();
        self.near.replace(state.book.pod_addresses());
    }
}

type Started = std::sync::mpsc::SyncSender<Result<(), KubeError>>;

/// The thread.
fn run(config: &KubeConfig, shared: Arc<Shared>, ended: oneshot::Receiver<()>, ready: &Started) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Err: nobody waits.
            let _ = ready.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async {
        let made = async {
            let api = client::config(config.kubeconfig.as_ref()).await?;
            let url = api.cluster_url.to_string();
            client::client(api, &shared.status).map(|client| (client, url))
        };
        let (client, url) = match made.await {
            Ok(made) => made,
            Err(error) => {
                // As above.
                let _ = ready.send(Err(error));
                return;
            }
        };
        tracing::info!(
            "Kubernetes: asking {url} for the pods of node {:?}, services and their endpoints",
            config.node
        );
        // As above.
        let _ = ready.send(Ok(()));
        tokio::select! {
            // Err: its other end was dropped.
            _ = ended => {}
            () = follow_all(client, config, shared) => {}
        }
    });
    // Look-ups of host names may still be running in threads of the runtime.
    runtime.shutdown_background();
}

/// For ever.
async fn follow_all(client: Client, config: &KubeConfig, shared: Arc<Shared>) {
    let (asker, questions) = Asker::new(Arc::clone(&shared.near), Arc::clone(&shared.status));
    if config.lookups_per_minute > 0 {
        shared.names.ask_by(Box::new(move |ip| asker.ask(ip)));
    }
    let limits = Limits { per_minute: config.lookups_per_minute, ..Limits::default() };
    let node = format!("spec.nodeName={}", config.node);
    let status = &shared.status;
    let answers = lookup::answer(
        Api::all(client.clone()),
        questions,
        &config.node,
        limits,
        Arc::clone(status),
        |ip, known| {
            let mut state = shared.state();
            state.book.looked_up(ip, known);
            state.book.flush(now());
        },
    );
    let pods = watch::follow(Api::all(client.clone()), Some(node), Watched::Pods, status, pods(&shared));
    let services = watch::follow(
        Api::all(client.clone()),
        None,
        Watched::Services,
        status,
        booked::<objects::Service>(&shared),
    );
    let slices =
        watch::follow(Api::all(client), None, Watched::Slices, status, booked::<objects::Slice>(&shared));
    let care = async {
        let mut known = status.known();
        for round in 1_u32.. {
            tokio::select! {
                () = tokio::time::sleep(EXPIRE) => {}
                // Where pods are is wanted as soon as it is known.
                Ok(()) = known.changed() => shared.tidy(),
            }
            let state = shared.state();
            shared.names.expire(now(), |uid| state.book.has_pod(uid));
            drop(state);
            if round.is_multiple_of(TIDY) {
                shared.tidy();
            }
        }
    };
    // None of them ends, but look-ups if there are none.
    tokio::join!(pods, services, slices, care, answers);
}

fn pods(shared: &Arc<Shared>) -> impl FnMut(Event<objects::PodOfNode>) {
    let shared = Arc::clone(shared);
    let mut seen: HashSet<Key> = HashSet::new();
    move |event| {
        Counters::add(&shared.status.counters.events);
        let mut state = shared.state();
        let State { book, pods } = &mut *state;
        match event {
            Event::Init => seen.clear(),
            Event::InitApply(pod) => {
                seen.insert(key(book, &pod.metadata));
                pods.apply(pod, book, now());
            }
            Event::Apply(pod) => pods.apply(pod, book, now()),
            Event::InitDone => {
                pods.keep(&seen, book, now());
                seen = HashSet::new();
            }
            Event::Delete(pod) => {
                let key = key(book, &pod.metadata);
                pods.remove(&key, Some(pod.json), book, now());
            }
        }
        shared.publish(&mut state);
    }
}

/// What the book takes as it is now, and lets go.
trait Booked: ::kube::Resource<DynamicType = ()> {
    fn put(&self, book: &mut Book, namespace: &str, name: &str);
    fn remove(book: &mut Book, namespace: &str, name: &str);
    fn keep(book: &mut Book, seen: &HashSet<Key>);
}

impl Booked for objects::Service {
    fn put(&self, book: &mut Book, namespace: &str, name: &str) {
        book.service(namespace, name, self);
    }

    fn remove(book: &mut Book, namespace: &str, name: &str) {
        book.no_service(namespace, name);
    }

    fn keep(book: &mut Book, seen: &HashSet<Key>) {
        book.keep_services(seen);
    }
}

impl Booked for objects::Slice {
    fn put(&self, book: &mut Book, namespace: &str, name: &str) {
        book.slice(namespace, name, self);
    }

    fn remove(book: &mut Book, namespace: &str, name: &str) {
        book.no_slice(namespace, name);
    }

    fn keep(book: &mut Book, seen: &HashSet<Key>) {
        book.keep_slices(seen);
    }
}

fn booked<K: Booked>(shared: &Arc<Shared>) -> impl FnMut(Event<K>) {
    let shared = Arc::clone(shared);
    let mut seen: HashSet<Key> = HashSet::new();
    move |event| {
        Counters::add(&shared.status.counters.events);
        let mut state = shared.state();
        let book = &mut state.book;
        match event {
            Event::Init => seen.clear(),
            Event::InitApply(object) => {
                let key = key(book, object.meta());
                object.put(book, &key.0, &key.1);
                seen.insert(key);
                // Thousands come at once, and are told once they are all there.
                return;
            }
            Event::Apply(object) => {
                let key = key(book, object.meta());
                object.put(book, &key.0, &key.1);
            }
            Event::InitDone => K::keep(book, &std::mem::take(&mut seen)),
            Event::Delete(object) => {
                let key = key(book, object.meta());
                K::remove(book, &key.0, &key.1);
            }
        }
        book.flush(now());
    }
}

fn key(book: &mut Book, metadata: &::kube::core::ObjectMeta) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (book.intern(&text(&metadata.namespace)), Arc::from(text(&metadata.name)))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Below `most`, by the standard library's seed.
pub(super) fn random(most: u64) -> u64 {
    RandomState::new().hash_one(Instant::now()) % most.max(1)
}
