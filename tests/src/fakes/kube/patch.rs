//! Patches that are not applied: JSON patch, merge patch, strategic merge patch.

use serde_json::{Map, Value};

use super::fields::{Path, Step, key, keys};
use super::status::Refusal;

/// The object after the patch of this media type.
pub(super) fn patched(live: &Value, media: &str, patch: &Value) -> Result<Value, Refusal> {
    let mut result = live.clone();
    match media {
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| Refusal::bad(format!("json patch: {error}")))?;
            json_patch::patch(&mut result, &patch).map_err(|error| Refusal::bad(error.to_string()))?;
        }
        "application/merge-patch+json" => json_patch::merge(&mut result, patch),
        "application/strategic-merge-patch+json" => strategic(&mut Vec::new(), &mut result, patch),
        other => return Err(Refusal::media_type(other)),
    }
    Ok(result)
}

/// Lists that are merged by keys, `$patch: delete` and `replace`, `$deleteFromPrimitiveList`. Orders are not kept.
fn strategic(at: &mut Path, live: &mut Value, patch: &Value) {
    let (Value::Object(known), Value::Object(members)) = (&mut *live, patch) else {
        *live = without_directives(patch);
        return;
    };
    if members.get("$patch").is_some_and(|directive| directive == "replace") {
        *live = without_directives(patch);
        return;
    }
    for (name, value) in members {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(list) = known.get_mut(list).and_then(Value::as_array_mut) {
                list.retain(|element| !gone.contains(element));
            }
        } else if name.starts_with('$') {
            // $setElementOrder, $retainKeys: order and unions.
        } else if value.is_null() {
            known.shift_remove(name);
        } else {
            at.push(Step::Field(name.clone()));
            let below = known.entry(name.clone()).or_insert(Value::Null);
            match (&mut *below, value) {
                (Value::Array(list), Value::Array(patches)) => elements(at, list, patches),
                (Value::Null, _) => *below = without_directives(value),
                _ => strategic(at, below, value),
            }
            at.pop();
        }
    }
}

fn elements(at: &mut Path, list: &mut Vec<Value>, patches: &[Value]) {
    let Some(names) = keys(at, patches).or_else(|| keys(at, list)) else {
        *list = patches.iter().map(without_directives).collect();
        return;
    };
    for patch in patches {
        let wanted = key(patch, names);
        if patch["$patch"] == "delete" {
            list.retain(|element| key(element, names) != wanted);
        } else if let Some(element) = list.iter_mut().find(|element| key(element, names) == wanted) {
            at.push(Step::Key(wanted));
            strategic(at, element, patch);
            at.pop();
        } else {
            list.push(without_directives(patch));
        }
    }
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_directives(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(elements) => {
            let kept = elements.iter().filter(|element| element["$patch"] != "delete");
            kept.map(without_directives).collect()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strategic_merge_knows_keys_and_directives() {
        let live = json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}], "nodeName": "n"}, "metadata": {"finalizers": ["f", "g"]}});
        let patch = json!({
            "spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "nodeName": null,
                "containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}, {"name": "c"}]},
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["f"]},
        });
        let after = patched(&live, "application/strategic-merge-patch+json", &patch).unwrap();
        let expected = json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["x"]}, {"name": "c"}]}, "metadata": {"finalizers": ["g"]}});
        assert_eq!(after, expected);
    }

    #[test]
    fn other_patches_are_as_their_rfcs_say() {
        let live = json!({"a": {"b": 1, "c": 2}});
        let merged = patched(&live, "application/merge-patch+json", &json!({"a": {"b": null}})).unwrap();
        assert_eq!(merged, json!({"a": {"c": 2}}));
        let patch = json!([{"op": "test", "path": "/a/b", "value": 2}]);
        assert_eq!(patched(&live, "application/json-patch+json", &patch).unwrap_err().code, 400);
        assert_eq!(patched(&live, "application/yaml", &json!({})).unwrap_err().code, 415);
    }
}
