//! Server-side apply: what a manager applies becomes so, what it applied before and no longer does is taken out, and what
//! others manage with another value is a conflict.

use serde_json::{Map, Value};

use super::fields::{self, Managers, Path, Set, Step, key, keys};
use super::status::Refusal;

/// Fields that belong to the server, or say which object it is: nobody manages them.
const NOBODYS: [&[&str]; 10] = [
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "uid"],
    &["metadata", "resourceVersion"],
    &["metadata", "creationTimestamp"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "selfLink"],
];

fn managed(object: &Value) -> Set {
    let is = |path: &Path, names: &[&str]| {
        path.len() >= names.len()
            && path.iter().zip(names).all(|(step, name)| matches!(step, Step::Field(field) if field == name))
    };
    let mut all = fields::leaves(object);
    all.retain(|path| !NOBODYS.iter().any(|names| is(path, names)));
    all
}

/// The object after `manager` has applied `applied` to it.
pub(super) fn apply(
    live: &Value,
    managers: &mut Managers,
    manager: &str,
    applied: &Value,
    force: bool,
) -> Result<Value, Refusal> {
    let new = managed(applied);
    let own = (manager.to_owned(), true);
    let mut causes = Vec::new();
    for ((other, applies), set) in managers.iter().filter(|(who, _)| **who != own) {
        for path in set.intersection(&new) {
            let element = matches!(path.last(), Some(Step::Key(_)));
            if !element && fields::find(live, path) != fields::find(applied, path) {
                let who = if *applies { other.clone() } else { format!("{other} using update") };
                causes.push((fields::dotted(path), who, path.clone(), (other.clone(), *applies)));
            }
        }
    }
    if !causes.is_empty() && !force {
        let shown: Vec<_> = causes.into_iter().map(|(field, who, ..)| (field, who)).collect();
        return Err(Refusal::apply_conflict(&shown));
    }
    for (_, _, path, who) in causes {
        if let Some(set) = managers.get_mut(&who) {
            set.remove(&path);
        }
    }
    let mut result = live.clone();
    let before = managers.insert(own.clone(), new.clone()).unwrap_or_default();
    // Elements before what is in them: longer paths come later.
    for path in before.difference(&new) {
        let others = managers.iter().filter(|(who, _)| **who != own);
        if !others
            .into_iter()
            .any(|(_, set)| set.range(path.clone()..).next().is_some_and(|p| p.starts_with(path)))
        {
            fields::remove(&mut result, path);
        }
    }
    merge(&mut Vec::new(), &mut result, applied);
    managers.retain(|_, set| !set.is_empty());
    Ok(result)
}

/// Notes what an update changed: it is `manager`'s from now on, and no longer the others'.
pub(super) fn updated(before: &Value, after: &Value, managers: &mut Managers, manager: &str) {
    let (old, new) = (managed(before), managed(after));
    let differs = |path: &&Path| fields::find(before, path) != fields::find(after, path);
    let changed: Set = new.iter().filter(|path| !old.contains(*path) || differs(path)).cloned().collect();
    let gone: Set = old.difference(&new).cloned().collect();
    for set in managers.values_mut() {
        set.retain(|path| !gone.contains(path) && !changed.contains(path));
    }
    managers.entry((manager.to_owned(), false)).or_default().extend(changed);
    managers.retain(|_, set| !set.is_empty());
}

/// Lays `patch` over `live`; lists that are merged by keys element by element.
fn merge(at: &mut Path, live: &mut Value, patch: &Value) {
    match (live, patch) {
        (Value::Object(live), Value::Object(patch)) => {
            for (name, value) in patch {
                at.push(Step::Field(name.clone()));
                merge(at, live.entry(name.clone()).or_insert(Value::Null), value);
                at.pop();
            }
        }
        (live @ Value::Null, Value::Object(patch)) => {
            *live = Value::Object(Map::new());
            merge(at, live, &Value::Object(patch.clone()));
        }
        (Value::Array(live), Value::Array(patch)) => {
            match keys(at, patch).filter(|k| keys(at, live) == Some(*k)) {
                Some(names) => {
                    for element in patch {
                        let wanted = key(element, names);
                        let found = live.iter_mut().find(|known| key(known, names) == wanted);
                        at.push(Step::Key(wanted));
                        match found {
                            Some(known) => merge(at, known, element),
                            None => live.push(element.clone()),
                        }
                        at.pop();
                    }
                }
                None => live.clone_from(patch),
            }
        }
        (live, patch) => *live = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_longer_applied_goes_unless_another_manages_it() {
        let mut managers = Managers::new();
        let first = json!({"data": {"a": "1", "b": "1"}, "spec": {"containers": [{"name": "x", "image": "i"}, {"name": "y", "image": "j"}]}});
        let live = apply(&json!({}), &mut managers, "helm", &first, false).unwrap();
        assert_eq!(live, first);
        let live =
            apply(&live, &mut managers, "other", &json!({"data": {"b": "1", "c": "1"}}), false).unwrap();
        let second = json!({"data": {"a": "2"}, "spec": {"containers": [{"name": "y", "image": "k"}]}});
        let live = apply(&live, &mut managers, "helm", &second, false).unwrap();
        let expected = json!({"data": {"a": "2", "b": "1", "c": "1"}, "spec": {"containers": [{"name": "y", "image": "k"}]}});
        assert_eq!(live, expected);
    }

    #[test]
    fn another_managers_field_is_a_conflict_until_forced() {
        let mut managers = Managers::new();
        let live = apply(&json!({}), &mut managers, "helm", &json!({"data": {"a": "1"}}), false).unwrap();
        let edited = json!({"data": {"a": "2"}});
        updated(&live, &edited, &mut managers, "kubectl-edit");
        let again = json!({"data": {"a": "3"}});
        let refused = apply(&edited, &mut managers.clone(), "helm", &again, false).unwrap_err();
        let said = refused.status().to_string();
        assert!(said.contains(".data.a") && said.contains("kubectl-edit using update"), "{said}");
        assert_eq!(apply(&edited, &mut managers, "helm", &again, true).unwrap(), again);
        assert_eq!(managers.len(), 1, "{managers:?}");
        let same = apply(&again, &mut managers, "another", &again, false);
        assert_eq!(same.unwrap(), again, "the same value is nobody's conflict");
    }

    #[test]
    fn ports_are_merged_by_number_and_protocol() {
        let mut managers = Managers::new();
        let ports = |ports: Value| json!({"spec": {"ports": ports}});
        let live = apply(
            &json!({}),
            &mut managers,
            "m",
            &ports(json!([{"port": 80}, {"port": 53, "protocol": "UDP"}])),
            false,
        )
        .unwrap();
        let later = ports(json!([{"port": 80, "protocol": "TCP", "name": "web"}]));
        let live = apply(&live, &mut managers, "m", &later, false).unwrap();
        assert_eq!(live, later);
    }
}
