//! Objects by kind, namespace and name, with one revision for all, and what happened to them since: as etcd and the server's
//! watch cache hold them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokio::sync::watch;

use super::fields::Managers;
use super::resource::Resource;

/// Lists under way that a `continue` token can go on with; the oldest goes for a new one.
const MAX_SNAPSHOTS: usize = 64;

/// One version of an object.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) value: Value,
    pub(super) managers: Managers,
    text: OnceLock<String>,
}

impl Object {
    fn new(value: Value, managers: Managers) -> Arc<Self> {
        Arc::new(Self { value, managers, text: OnceLock::new() })
    }

    /// As an element of a list, which says kind and version itself; written once.
    pub(super) fn element(&self) -> &str {
        self.text.get_or_init(|| {
            let members = self.value.as_object().into_iter().flatten();
            let members = members.filter(|(name, _)| *name != "kind" && *name != "apiVersion");
            let members: Vec<_> =
                members.map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
            format!("{{{}}}", members.join(","))
        })
    }

    /// As JSON.
    pub(super) fn text(&self) -> String {
        let (kind, version) = (&self.value["kind"], &self.value["apiVersion"]);
        format!("{{\"kind\":{kind},\"apiVersion\":{version},{}", &self.element()[1..])
    }

    /// With metadata alone.
    pub(super) fn metadata(&self) -> String {
        let metadata = &self.value["metadata"];
        format!(
            "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata}}}"
        )
    }

    /// The same under another revision.
    pub(super) fn at(&self, revision: u64) -> Arc<Self> {
        let mut value = self.value.clone();
        value["metadata"]["resourceVersion"] = Value::String(revision.to_string());
        Self::new(value, Managers::new())
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) revision: u64,
    pub(super) change: Change,
    pub(super) object: Arc<Object>,
    /// The version before it; none for what is new.
    pub(super) before: Option<Arc<Object>>,
}

/// Namespace (empty: none) and name.
pub(super) type Key = (String, String);

/// All objects of one kind.
#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<Key, Arc<Object>>,
    history: VecDeque<Arc<Event>>,
    /// Changes up to this revision may have been forgotten.
    forgotten: u64,
}

/// The rest of a list that is read in pages.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) id: u64,
    pub(super) revision: u64,
    pub(super) rest: VecDeque<Arc<Object>>,
}

/// All objects.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) resources: Vec<Resource>,
    /// By group and plural: versions of one kind are the same objects.
    tables: BTreeMap<(String, String), Table>,
    pub(super) revision: u64,
    max_history: usize,
    snapshots: VecDeque<Snapshot>,
    last_snapshot: u64,
    changed: watch::Sender<u64>,
}

fn table_key(resource: &Resource) -> (String, String) {
    (resource.group.clone(), resource.plural.clone())
}

/// Where an object is.
pub(super) fn key_of(object: &Value) -> Key {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

impl Store {
    /// `max_history`: changes of each kind that a watch can begin behind.
    pub(super) fn new(max_history: usize) -> Self {
        Self {
            resources: Resource::usual(),
            tables: BTreeMap::new(),
            revision: 1,
            max_history,
            snapshots: VecDeque::new(),
            last_snapshot: 0,
            changed: watch::Sender::new(1),
        }
    }

    /// Tells of every new revision.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }

    /// Adds what a CustomResourceDefinition defines, or takes it away.
    pub(super) fn define(&mut self, definition: &Value, is_there: bool) {
        let custom = Resource::custom(definition);
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        self.resources.retain(|known| format!("{}.{}", known.plural, known.group) != name);
        if is_there {
            self.resources.extend(custom);
        }
    }

    pub(super) fn get(&self, resource: &Resource, key: &Key) -> Option<&Arc<Object>> {
        self.tables.get(&table_key(resource))?.objects.get(key)
    }

    /// In order of namespace and name.
    pub(super) fn all(&self, resource: &Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(table) = self.tables.get(&table_key(resource)) else { return Vec::new() };
        match namespace {
            None => table.objects.values().map(Arc::clone).collect(),
            Some(wanted) => {
                let from = (wanted.to_owned(), String::new());
                let within =
                    table.objects.range(from..).take_while(|((namespace, _), _)| namespace == wanted);
                within.map(|(_, object)| Arc::clone(object)).collect()
            }
        }
    }

    /// Puts down a new version, under a new revision, which it gets.
    pub(super) fn put(&mut self, resource: &Resource, mut value: Value, managers: Managers) -> Arc<Object> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        let object = Object::new(value, managers);
        let key = key_of(&object.value);
        let table = self.tables.entry(table_key(resource)).or_default();
        let before = table.objects.insert(key, Arc::clone(&object));
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        self.note(resource, change, Arc::clone(&object), before);
        object
    }

    /// Takes an object away; what is told of it bears a revision of its own, as Kubernetes does it.
    pub(super) fn remove(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
        let before = self.tables.get_mut(&table_key(resource))?.objects.remove(key)?;
        self.revision += 1;
        let object = before.at(self.revision);
        self.note(resource, Change::Deleted, Arc::clone(&object), Some(before));
        Some(object)
    }

    fn note(
        &mut self,
        resource: &Resource,
        change: Change,
        object: Arc<Object>,
        before: Option<Arc<Object>>,
    ) {
        let revision = self.revision;
        if let Some(table) = self.tables.get_mut(&table_key(resource)) {
            table.history.push_back(Arc::new(Event { revision, change, object, before }));
            while table.history.len() > self.max_history {
                table.forgotten = table.history.pop_front().map_or(table.forgotten, |event| event.revision);
            }
        }
        self.changed.send_replace(revision);
    }

    /// Changes after a revision; `None`: some of them were forgotten.
    pub(super) fn since(&self, resource: &Resource, revision: u64) -> Option<Vec<Arc<Event>>> {
        let Some(table) = self.tables.get(&table_key(resource)) else { return Some(Vec::new()) };
        if revision < table.forgotten {
            return None;
        }
        let from = table.history.partition_point(|event| event.revision <= revision);
        Some(table.history.range(from..).map(Arc::clone).collect())
    }

    /// Forgets every change and every list under way, as compaction does.
    pub(super) fn forget(&mut self) {
        for table in self.tables.values_mut() {
            table.history.clear();
            table.forgotten = self.revision;
        }
        self.snapshots.clear();
    }

    /// Keeps the rest of a list; gives what its `continue` token says.
    pub(super) fn keep(&mut self, mut snapshot: Snapshot) -> u64 {
        self.last_snapshot += 1;
        snapshot.id = self.last_snapshot;
        self.snapshots.push_back(snapshot);
        if self.snapshots.len() > MAX_SNAPSHOTS {
            self.snapshots.pop_front();
        }
        self.last_snapshot
    }

    pub(super) fn kept(&self, id: u64) -> Option<Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id).cloned()
    }
}
