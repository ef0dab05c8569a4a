//! Fields of an object as paths, and who manages them: what server-side apply is made of.
//!
//! Lists that Kubernetes merges by keys (containers by name, …) are known by their places; all others are one value, as are
//! scalars. (`x-kubernetes-list-map-keys` of Kubernetes' own schema.)

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// One step into an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Step {
    /// A member.
    Field(String),
    /// An element of a list, by its keys, as JSON.
    Key(String),
}

/// From the object's root.
pub(super) type Path = Vec<Step>;
/// Fields that somebody manages.
pub(super) type Set = BTreeSet<Path>;

/// Whoever manages fields, and by what: name and whether it applies (or updates).
pub(super) type Managers = BTreeMap<(String, bool), Set>;

const BY_NAME: &[&str] = &["name"];

/// The keys of the list at this place, if it is merged by keys.
pub(super) fn keys(list: &[Step], elements: &[Value]) -> Option<&'static [&'static str]> {
    let Some(Step::Field(name)) = list.last() else { return None };
    let keys: &'static [&'static str] = match name.as_str() {
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets" => {
            BY_NAME
        }
        "secrets" if list.len() == 1 => BY_NAME,
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "conditions" => &["type"],
        "hostAliases" => &["ip"],
        "ownerReferences" => &["uid"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "ports" if elements.iter().all(|port| port["containerPort"].is_number()) => {
            &["containerPort", "protocol"]
        }
        "ports" if list.len() == 2 && elements.iter().all(|port| port["port"].is_number()) => {
            &["port", "protocol"]
        }
        _ => return None,
    };
    // An element without its key cannot be merged by it; the protocol of a port is TCP unless it says so.
    let whole = |element: &Value| keys.iter().all(|key| *key == "protocol" || !element[*key].is_null());
    elements.iter().all(whole).then_some(keys)
}

/// The key of one element.
pub(super) fn key(element: &Value, keys: &[&str]) -> String {
    let one = |key: &&str| {
        let value =
            if *key == "protocol" && element[*key].is_null() { json!("TCP") } else { element[*key].clone() };
        ((*key).to_owned(), value)
    };
    Value::Object(keys.iter().map(one).collect::<Map<_, _>>()).to_string()
}

/// Every leaf of an object, and every element of lists that are merged.
pub(super) fn leaves(object: &Value) -> Set {
    let mut all = Set::new();
    walk(&mut Vec::new(), object, &mut all);
    all
}

fn walk(at: &mut Path, value: &Value, all: &mut Set) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                at.push(Step::Field(name.clone()));
                walk(at, member, all);
                at.pop();
            }
        }
        Value::Array(elements) => match keys(at, elements) {
            Some(keys) if !elements.is_empty() => {
                for element in elements {
                    at.push(Step::Key(key(element, keys)));
                    all.insert(at.clone());
                    walk(at, element, all);
                    at.pop();
                }
            }
            _ => drop(all.insert(at.clone())),
        },
        _ => drop(all.insert(at.clone())),
    }
}

/// What is at a path.
pub(super) fn find<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    let Some((step, rest)) = path.split_first() else { return Some(value) };
    match step {
        Step::Field(name) => find(value.get(name)?, rest),
        Step::Key(wanted) => {
            let wanted: Value = serde_json::from_str(wanted).ok()?;
            value.as_array()?.iter().find(|element| has(element, &wanted)).and_then(|found| find(found, rest))
        }
    }
}

fn has(element: &Value, wanted: &Value) -> bool {
    wanted.as_object().is_some_and(|keys| {
        keys.iter().all(|(key, value)| {
            element[key] == *value || (key == "protocol" && element[key].is_null() && value == "TCP")
        })
    })
}

/// Takes out what is at a path, and the maps that this leaves empty.
pub(super) fn remove(value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step, value) {
        (Step::Field(name), Value::Object(members)) => {
            if rest.is_empty() {
                members.shift_remove(name);
            } else if let Some(member) = members.get_mut(name) {
                remove(member, rest);
                if member.as_object().is_some_and(Map::is_empty)
                    || member.as_array().is_some_and(Vec::is_empty)
                {
                    members.shift_remove(name);
                }
            }
        }
        (Step::Key(wanted), Value::Array(elements)) => {
            let Ok(wanted) = serde_json::from_str::<Value>(wanted) else { return };
            if rest.is_empty() {
                elements.retain(|element| !has(element, &wanted));
            } else if let Some(element) = elements.iter_mut().find(|element| has(element, &wanted)) {
                remove(element, rest);
            }
        }
        _ => {}
    }
}

/// As `metadata.managedFields` shows it.
pub(super) fn shown(managers: &Managers, api_version: &str, time: &str) -> Value {
    let one = |((name, applies), set): (&(String, bool), &Set)| {
        let operation = if *applies { "Apply" } else { "Update" };
        json!({"manager": name, "operation": operation, "apiVersion": api_version, "time": time, "fieldsType": "FieldsV1", "fieldsV1": tree(set)})
    };
    managers.iter().filter(|(_, set)| !set.is_empty()).map(one).collect()
}

fn tree(set: &Set) -> Value {
    let mut root = json!({});
    for path in set {
        let mut at = &mut root;
        for step in path {
            let name = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Key(key) => format!("k:{key}"),
            };
            if at[&name].is_null() {
                at[&name] = json!({});
            }
            at = &mut at[&name];
        }
        if matches!(path.last(), Some(Step::Key(_))) {
            at["."] = json!({});
        }
    }
    root
}

/// As conflicts show it: `.spec.template.spec.containers[name="a"].image`.
pub(super) fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => text.extend([".", name]),
            Step::Key(key) => {
                let keys = serde_json::from_str::<Map<String, Value>>(key).unwrap_or_default();
                let all: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                text.push_str(&format!("[{}]", all.join(",")));
            }
        }
    }
    text
}
