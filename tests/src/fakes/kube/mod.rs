//! A strict fake of Kubernetes' API server: real enough for `helm install|upgrade|uninstall`, `kubectl` and watches.
//!
//! It holds objects of any kind in memory (the usual kinds, and what CustomResourceDefinitions define), under one revision;
//! lists by page and selector, watches with bookmarks and `410 Gone`, all forms of patch with server-side apply and its
//! conflicts, discovery in both forms. It refuses what the real one refuses: unknown fields under `fieldValidation=Strict`, wrong
//! types, names and labels that cannot be, immutable fields, namespaces that are not there, stale resource versions, and with
//! 403 what no role in the store allows the token's user. One port speaks HTTP and HTTPS.
//!
//! Not there: controllers and a scheduler (a test sets statuses by [`KubeApi::apply`], deletes pods itself), admission
//! webhooks, grace periods, tables, protobuf but for what Helm sends, schemas of custom resources, `exec` and the like.

mod access;
mod admit;
mod apply;
mod auth;
mod discovery;
mod fields;
mod list;
mod patch;
mod protobuf;
mod resource;
mod route;
mod select;
mod serve;
mod status;
mod store;
pub mod strict;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use serde_json::{Value, json};
use tokio::sync::broadcast;

pub use access::SERVICE_ACCOUNT;
pub use watch::Cut;

use super::tls::Authority;
use super::{MAX_BODY, Server};
use crate::slack::Injection;
use auth::User;
use fields::Managers;
use resource::Resource;
use store::{Key, Store, key_of};

/// What a server is like.
#[derive(Clone, Debug)]
pub struct KubeConfig {
    /// Where to listen; port 0: any free one.
    pub address: SocketAddr,
    /// Names and addresses besides that one that its certificate is for, such as the Service's.
    pub names: Vec<String>,
    /// Whether roles are asked. Without: everybody may do everything, with any token or none.
    pub rbac: bool,
    /// Changes of each kind that a watch can begin behind; older ones are `410 Gone`.
    pub history: usize,
    /// How often watches that take bookmarks get one.
    pub bookmark_every: Duration,
    /// Requests that [`KubeApi::requests`] remembers; counts go on.
    pub max_requests: usize,
}

impl Default for KubeConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            names: Vec::new(),
            rbac: true,
            history: 100_000,
            bookmark_every: Duration::from_secs(60),
            max_requests: 100_000,
        }
    }
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; of what is no object, `GET` and so on.
    pub verb: String,
    /// Plural, with a subresource (`pods/log`); of what is no object, the path.
    pub resource: String,
    /// If it was for one.
    pub namespace: Option<String>,
    /// If it was for one object.
    pub name: Option<String>,
    /// All of it.
    pub query: String,
    /// Who asked.
    pub user: String,
    /// With which program.
    pub agent: String,
    /// HTTP status; 0: a fault.
    pub status: u16,
}

/// How often something was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    /// Requests, those that were refused included.
    pub requests: u64,
    /// Bytes of answers; of watches, of all lines so far.
    pub bytes: u64,
}

/// A call: verb and resource.
type Call = (String, String);

struct Shared {
    config: KubeConfig,
    store: Mutex<Store>,
    tokens: Mutex<BTreeMap<String, User>>,
    faults: Mutex<Vec<Injection>>,
    requests: Mutex<Vec<Request>>,
    counts: Mutex<BTreeMap<Call, Count>>,
    open: Mutex<BTreeMap<String, Arc<AtomicUsize>>>,
    logs: Mutex<BTreeMap<Key, String>>,
    cuts: broadcast::Sender<(String, Cut)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    fn open_watches(&self, plural: &str) -> Arc<AtomicUsize> {
        Arc::clone(lock(&self.open).entry(plural.to_owned()).or_default())
    }

    fn count_bytes(&self, call: &Call, bytes: usize) {
        if let Some(count) = lock(&self.counts).get_mut(call) {
            count.bytes += bytes as u64;
        }
    }
}

/// A running server; it stops, and breaks every connection, when dropped.
pub struct KubeApi {
    shared: Arc<Shared>,
    server: Server,
    authority: String,
    admin: String,
}

impl KubeApi {
    /// Listens in the network namespace of the calling thread, and serves on a thread of its own: callers need no runtime.
    /// Namespaces `default` and `kube-system` are there, and nothing else.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn start(config: KubeConfig) -> Result<Self> {
        let mut names = vec![config.address.ip().to_string(), "127.0.0.1".to_owned()];
        names.extend(
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned),
        );
        names.extend(config.names.iter().cloned());
        let authority = Authority::new(names)?;
        let admin = "admin-token".to_owned();
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::new(config.history)),
            config,
            tokens: Mutex::new([(admin.clone(), User::admin())].into()),
            faults: Mutex::default(),
            requests: Mutex::default(),
            counts: Mutex::default(),
            open: Mutex::default(),
            logs: Mutex::default(),
            cuts: broadcast::Sender::new(16),
        });
        let router = Router::new()
            .fallback(serve::take)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&shared));
        let address = shared.config.address;
        let server = Server::start_tls("kube-fake", address, router, authority.server)?;
        let api = Self { shared, server, authority: authority.pem, admin };
        for name in ["default", "kube-system"] {
            api.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
        }
        Ok(api)
    }

    /// On the loopback, any free port.
    ///
    /// # Errors
    /// As [`KubeApi::start`].
    pub fn local() -> Result<Self> {
        Self::start(KubeConfig::default())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Without TLS and without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// With TLS; [`KubeApi::authority`] says whom to trust.
    #[must_use]
    pub fn https_url(&self) -> String {
        format!("https://{}", self.server.address)
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A token that may do everything.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin
    }

    /// A token of a service account, which need not be there. It may do what roles allow at the time of a request.
    #[must_use]
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let token = format!("token-of-{namespace}-{account}");
        lock(&self.shared.tokens).insert(token.clone(), User::named(&user));
        token
    }

    /// Makes a token unknown: what comes with it is 401.
    pub fn revoke(&self, token: &str) {
        lock(&self.shared.tokens).remove(token);
    }

    /// A kubeconfig by HTTPS, with this token.
    #[must_use]
    pub fn kubeconfig(&self, token: &str) -> String {
        access::kubeconfig(&self.https_url(), Some(&self.authority), token, "default")
    }

    /// A kubeconfig by plain HTTP, with this token.
    #[must_use]
    pub fn plain_kubeconfig(&self, token: &str) -> String {
        access::kubeconfig(&self.url(), None, token, "default")
    }

    /// Writes what a pod finds in [`SERVICE_ACCOUNT`]: with `KUBERNETES_SERVICE_HOST` and `_PORT`
    /// ([`KubeApi::address`]) it is what in-cluster configurations read.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_service_account(&self, folder: &Path, namespace: &str, token: &str) -> Result<()> {
        access::service_account(folder, &self.authority, token, namespace)
    }

    /// Creates an object, or replaces it whole, its status included; its namespace is made where it is missing. What the real
    /// server would not understand is refused.
    ///
    /// # Errors
    /// When the kind is unknown, or the object wrong.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let mut object = object.clone();
        let mut store = self.shared.store();
        let resource = known(&store, &object)?;
        if let Err(refusal) = admit::understood(&object, true) {
            bail!("{}", refusal.status()["message"]);
        }
        if resource.namespaced && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!("default");
        }
        let key = key_of(&object);
        if resource.namespaced {
            make_namespace(&mut store, &key.0)?;
        }
        let before = store.get(&resource, &key).map(|object| object.value["metadata"].clone());
        let metadata = &mut object["metadata"];
        match before {
            Some(before) => {
                for field in ["uid", "creationTimestamp"] {
                    metadata[field] = before[field].clone();
                }
            }
            None => {
                if metadata["uid"].is_null() {
                    metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", store.revision + 1));
                }
                if metadata["creationTimestamp"].is_null() {
                    metadata["creationTimestamp"] = json!(serve::now());
                }
                if let Err(refusal) = admit::created(&store, &resource, &mut object) {
                    bail!("{}", refusal.status()["message"]);
                }
            }
        }
        if resource.plural == "customresourcedefinitions" {
            store.define(&object, true);
        }
        Ok(store.put(&resource, object, Managers::new()).value.clone())
    }

    /// Deletes the object of this kind, namespace and name, at once, with what it holds or owns; says whether it was there.
    ///
    /// # Errors
    /// When the kind is unknown.
    pub fn delete(&self, object: &Value) -> Result<bool> {
        let mut store = self.shared.store();
        let resource = known(&store, object)?;
        let key = place(&resource, key_of(object));
        let there = store.get(&resource, &key).is_some();
        write::remove(&mut store, &resource, &key);
        Ok(there)
    }

    /// The object of this kind, namespace (empty: `default`, or none) and name.
    #[must_use]
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let store = self.shared.store();
        let resource = store.of_kind(api_version, kind)?;
        let key = place(resource, (namespace.to_owned(), name.to_owned()));
        store.get(resource, &key).map(|object| object.value.clone())
    }

    /// All objects of a kind.
    #[must_use]
    pub fn list(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let store = self.shared.store();
        let resource = store.of_kind(api_version, kind).cloned();
        let all = resource.map(|resource| store.all(&resource, None)).unwrap_or_default();
        all.iter().map(|object| object.value.clone()).collect()
    }

    /// What `pods/log` answers.
    pub fn set_log(&self, namespace: &str, pod: &str, text: &str) {
        lock(&self.shared.logs).insert((namespace.to_owned(), pod.to_owned()), text.to_owned());
    }

    /// Makes the next calls fail. [`Injection::method`] is verb and resource (`list pods`), or `*` for all.
    pub fn fail(&self, injection: Injection) {
        lock(&self.shared.faults).push(injection);
    }

    /// Ends the open watches of a resource (`*`: of all).
    pub fn cut_watches(&self, plural: &str, how: Cut) {
        // Nobody watches: nothing to cut.
        let _ = self.shared.cuts.send((plural.to_owned(), how));
    }

    /// Forgets what happened so far: watches from an old revision, and lists under way, get `410 Gone`.
    pub fn forget(&self) {
        self.shared.store().forget();
    }

    /// Every request, in order, up to [`KubeConfig::max_requests`].
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// How often each resource was asked for by each verb.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(String, String), Count> {
        lock(&self.shared.counts).clone()
    }

    /// How often this was asked for.
    #[must_use]
    pub fn count(&self, verb: &str, resource: &str) -> Count {
        let call = (verb.to_owned(), resource.to_owned());
        lock(&self.shared.counts).get(&call).copied().unwrap_or_default()
    }

    /// Watches of a resource that are open.
    #[must_use]
    pub fn watching(&self, plural: &str) -> usize {
        self.shared.open_watches(plural).load(Ordering::Relaxed)
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.store().revision
    }

    /// Its IP address, as the Service of the API would have it.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.server.address.ip()
    }
}

fn known(store: &Store, object: &Value) -> Result<Resource> {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    store.of_kind(version, kind).cloned().with_context(|| format!("no kind {kind:?} in {version:?}"))
}

fn place(resource: &Resource, (namespace, name): Key) -> Key {
    match (resource.namespaced, namespace.as_str()) {
        (false, _) => (String::new(), name),
        (true, "") => ("default".to_owned(), name),
        (true, _) => (namespace, name),
    }
}

fn make_namespace(store: &mut Store, name: &str) -> Result<()> {
    let resource = store.resource("", "v1", "namespaces").cloned().context("no namespaces")?;
    if store.get(&resource, &(String::new(), name.to_owned())).is_none() {
        let metadata = json!({"name": name, "uid": format!("00000000-0000-4000-8000-{:012x}", store.revision + 1), "creationTimestamp": serve::now()});
        let mut namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        if let Err(refusal) = admit::created(store, &resource, &mut namespace) {
            bail!("{}", refusal.status()["message"]);
        }
        store.put(&resource, namespace, Managers::new());
    }
    Ok(())
}
