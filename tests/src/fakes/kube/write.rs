//! Create, update, patch, delete.

use serde_json::{Value, json};

use super::admit;
use super::apply;
use super::fields::{self, Managers};
use super::patch;
use super::resource::Resource;
use super::route::Asked;
use super::status::Refusal;
use super::store::{Key, Store, key_of};

/// A request that changes something.
pub(super) struct Write<'a> {
    pub(super) store: &'a mut Store,
    pub(super) asked: &'a Asked,
    /// Whose fields are written.
    pub(super) manager: String,
    /// The patch's.
    pub(super) media: &'a str,
    /// RFC 3339.
    pub(super) now: String,
}

/// Kinds whose deletion is answered with the object.
const ANSWERED_WHOLE: [&str; 7] = [
    "pods",
    "services",
    "serviceaccounts",
    "resourcequotas",
    "persistentvolumes",
    "persistentvolumeclaims",
    "storageclasses",
];

/// Status code and what is answered.
type Written = Result<(u16, Value), Refusal>;

impl Write<'_> {
    pub(super) fn run(&mut self, body: Value) -> Written {
        match self.asked.verb {
            "create" => self.create(body),
            "update" => self.update(body),
            "patch" => self.patch(&body),
            "delete" => self.delete(&self.asked.key(), &body),
            _ => Err(Refusal::method()),
        }
    }

    fn resource(&self) -> &Resource {
        &self.asked.resource
    }

    fn is_status(&self) -> bool {
        self.asked.subresource.as_deref() == Some("status")
    }

    /// Kind, version, namespace and name must be those of the address.
    fn addressed(&self, object: &mut Value) -> Result<(), Refusal> {
        let resource = &self.asked.resource;
        if !object.is_object() {
            return Err(Refusal::bad("the body of the request is no object"));
        }
        for (field, expected) in [("kind", resource.kind.clone()), ("apiVersion", resource.api_version())] {
            if object[field].is_null() {
                object[field] = json!(expected);
            } else if object[field] != expected.as_str() {
                let why = format!(
                    "the {field} of the object ({}) does not match the expected {field} ({expected})",
                    object[field]
                );
                return Err(Refusal::bad(why));
            }
        }
        for (field, expected) in [("namespace", &self.asked.namespace), ("name", &self.asked.name)] {
            let Some(expected) = expected else { continue };
            let given = &mut object["metadata"][field];
            if given.is_null() {
                *given = json!(expected);
            } else if *given != expected.as_str() {
                let why = format!(
                    "the {field} of the object ({given}) does not match the {field} on the URL ({expected})"
                );
                return Err(Refusal::bad(why));
            }
        }
        admit::understood(object, self.asked.query("fieldValidation") == Some("Strict"))
    }

    fn create(&mut self, mut object: Value) -> Written {
        self.addressed(&mut object)?;
        self.put_new(object, Managers::new(), false)
    }

    fn put_new(&mut self, mut object: Value, mut managers: Managers, applied: bool) -> Written {
        let resource = self.asked.resource.clone();
        if let (true, Some(prefix)) =
            (object["metadata"]["name"].is_null(), object["metadata"]["generateName"].as_str())
        {
            object["metadata"]["name"] = json!(format!("{prefix}{:05x}", self.store.revision));
        }
        let (namespace, name) = key_of(&object);
        if self.store.get(&resource, &(namespace.clone(), name.clone())).is_some() {
            return Err(Refusal::exists(&resource, &name));
        }
        if resource.namespaced {
            namespace_is_there(self.store, &namespace)?;
        }
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", self.store.revision + 1));
        metadata["creationTimestamp"] = json!(self.now);
        metadata["generation"] = json!(1);
        if resource.has_status
            && let Some(members) = object.as_object_mut()
        {
            members.shift_remove("status");
        }
        admit::created(self.store, &resource, &mut object)?;
        if !applied {
            apply::updated(&json!({}), &object, &mut managers, &self.manager);
        }
        Ok((201, self.keep(object, managers)))
    }

    /// Puts an object down, unless nothing is to be done in earnest.
    fn keep(&mut self, mut object: Value, managers: Managers) -> Value {
        let resource = self.asked.resource.clone();
        object["metadata"]["managedFields"] = fields::shown(&managers, &resource.api_version(), &self.now);
        if self.asked.dry_run() {
            return object;
        }
        if resource.plural == "customresourcedefinitions" {
            self.store.define(&object, true);
        }
        self.store.put(&resource, object, managers).value.clone()
    }

    fn update(&mut self, mut object: Value) -> Written {
        self.addressed(&mut object)?;
        let live = self.live()?;
        let mut managers = live.1;
        let after = self.replaced(&live.0, object)?;
        if without_managers(&after) == without_managers(&live.0) {
            return Ok((200, live.0));
        }
        apply::updated(&live.0, &after, &mut managers, &self.manager);
        self.put_changed(after, managers)
    }

    fn live(&self) -> Result<(Value, Managers), Refusal> {
        let key = self.asked.key();
        let object = self
            .store
            .get(self.resource(), &key)
            .ok_or_else(|| Refusal::not_found(self.resource(), &key.1))?;
        Ok((object.value.clone(), object.managers.clone()))
    }

    /// What comes of `object` in place of `live`: what belongs to the server stays; a status and the rest are written apart.
    fn replaced(&self, live: &Value, mut object: Value) -> Result<Value, Refusal> {
        let resource = self.resource();
        let name = live["metadata"]["name"].as_str().unwrap_or_default();
        for (field, why) in [
            (
                "resourceVersion",
                "the object has been modified; please apply your changes to the latest version and try again",
            ),
            ("uid", "Precondition failed: UID in precondition does not match UID in object meta"),
        ] {
            let given = &object["metadata"][field];
            if given.as_str().is_some_and(|given| !given.is_empty()) && *given != live["metadata"][field] {
                return Err(Refusal::conflict(resource, name, why));
            }
        }
        for field in ["uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp"] {
            if live["metadata"][field].is_null() {
                continue;
            }
            object["metadata"][field] = live["metadata"][field].clone();
        }
        if self.is_status() {
            let mut whole = live.clone();
            whole["status"] = object["status"].take();
            return Ok(whole);
        }
        if resource.has_status {
            match live.get("status") {
                Some(status) => object["status"] = status.clone(),
                None => drop(object.as_object_mut().and_then(|members| members.shift_remove("status"))),
            }
        }
        admit::changed(resource, live, &mut object)?;
        if object.get("spec") != live.get("spec") {
            let generation = live["metadata"]["generation"].as_u64().unwrap_or_default() + 1;
            object["metadata"]["generation"] = json!(generation);
        }
        Ok(object)
    }

    fn put_changed(&mut self, after: Value, managers: Managers) -> Written {
        let going = !after["metadata"]["deletionTimestamp"].is_null();
        let held = after["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        let after = self.keep(after, managers);
        if going && !held && !self.asked.dry_run() {
            remove(self.store, &self.asked.resource.clone(), &self.asked.key());
        }
        Ok((200, after))
    }

    fn patch(&mut self, body: &Value) -> Written {
        if self.media == "application/apply-patch+yaml" {
            return self.apply(body.clone());
        }
        let (live, mut managers) = self.live()?;
        let mut patched = patch::patched(&live, self.media, body)?;
        self.addressed(&mut patched)?;
        let forgets = patched["metadata"]["managedFields"].as_array().is_some_and(|all| all.len() <= 1)
            && live["metadata"]["managedFields"] != patched["metadata"]["managedFields"];
        let after = self.replaced(&live, patched)?;
        if forgets {
            managers.clear();
        } else if without_managers(&after) == without_managers(&live) {
            return Ok((200, live));
        }
        apply::updated(&live, &after, &mut managers, &self.manager);
        self.put_changed(after, managers)
    }

    fn apply(&mut self, mut object: Value) -> Written {
        if self.asked.query("fieldManager").is_none() {
            return Err(Refusal::bad(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        self.addressed(&mut object)?;
        if !object["metadata"]["managedFields"].is_null() {
            return Err(Refusal::bad("metadata.managedFields must be nil"));
        }
        let force = self.asked.is("force");
        let Ok((live, mut managers)) = self.live() else {
            let mut managers = Managers::new();
            let object = apply::apply(&json!({}), &mut managers, &self.manager, &object, force)?;
            return self.put_new(object, managers, true);
        };
        let before = managers.clone();
        let merged = apply::apply(&live, &mut managers, &self.manager, &object, force)?;
        let after = self.replaced(&live, merged)?;
        if before == managers && without_managers(&after) == without_managers(&live) {
            return Ok((200, live));
        }
        self.put_changed(after, managers)
    }

    pub(super) fn delete(&mut self, key: &Key, options: &Value) -> Written {
        let resource = self.asked.resource.clone();
        let object = self.store.get(&resource, key).ok_or_else(|| Refusal::not_found(&resource, &key.1))?;
        let (value, managers) = (object.value.clone(), object.managers.clone());
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != value["metadata"][field] {
                return Err(Refusal::conflict(&resource, &key.1, &format!("Precondition failed: {field}")));
            }
        }
        let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": key.1, "group": resource.group, "kind": resource.plural, "uid": value["metadata"]["uid"]}});
        if self.asked.dry_run() || options["dryRun"].as_array().is_some_and(|dry| !dry.is_empty()) {
            return Ok((200, done));
        }
        if value["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty()) {
            let mut held = value;
            held["metadata"]["deletionTimestamp"] = json!(self.now);
            return Ok((200, self.store.put(&resource, held, managers).value.clone()));
        }
        remove(self.store, &resource, key);
        Ok((200, if ANSWERED_WHOLE.contains(&resource.plural.as_str()) { value } else { done }))
    }
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    object
}

fn namespace_is_there(store: &Store, name: &str) -> Result<(), Refusal> {
    let Some(namespaces) = store.resource("", "v1", "namespaces") else { return Ok(()) };
    match store.get(namespaces, &(String::new(), name.to_owned())) {
        Some(_) => Ok(()),
        None => Err(Refusal::not_found(namespaces, name)),
    }
}

/// Takes an object away, with what is in it (a namespace) and what it owns (workloads).
pub(super) fn remove(store: &mut Store, resource: &Resource, key: &Key) {
    let Some(gone) = store.remove(resource, key) else { return };
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => {
            for inner in store.resources.clone().iter().filter(|inner| inner.namespaced) {
                for object in store.all(inner, Some(&key.1)) {
                    store.remove(inner, &key_of(&object.value));
                }
            }
        }
        ("apiextensions.k8s.io", _) => store.define(&gone.value, false),
        ("apps" | "batch", _) => {
            let owner = &gone.value["metadata"]["uid"];
            for inner in store.resources.clone().iter().filter(|inner| inner.namespaced) {
                for object in store.all(inner, Some(&key.0)) {
                    let mut owners =
                        object.value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
                    if owners.any(|known| known["uid"] == *owner) {
                        remove(store, inner, &key_of(&object.value));
                    }
                }
            }
        }
        _ => {}
    }
}
