//! What Kubernetes adds to an object that is written, and what it refuses in one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::resource::Resource;
use super::status::Refusal;
use super::store::Store;
use super::strict::{Misunderstood, check};

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// A name as RFC 1123 has it; roles may have colons, and most names dots.
fn is_name(resource: &Resource, name: &str) -> bool {
    let rbac = resource.group == "rbac.authorization.k8s.io";
    let dots = !matches!(resource.plural.as_str(), "namespaces" | "services");
    let inner = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.') || (rbac && c == ':')
    };
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let longest = if dots { 253 } else { 63 };
    name.len() <= longest && name.chars().all(inner) && end(name.chars().next()) && end(name.chars().last())
}

/// Holds an object against the type of its kind. `strict`: unknown fields are refused, too.
pub(super) fn understood(object: &Value, strict: bool) -> Result<(), Refusal> {
    match check(object) {
        Err(Misunderstood::Type(why)) => Err(Refusal::bad(format!("the object cannot be handled: {why}"))),
        Err(Misunderstood::Field(why)) if strict => {
            Err(Refusal::bad(format!("the object in its request is invalid: strict decoding error: {why}")))
        }
        _ => Ok(()),
    }
}

/// Before an object is first put down.
pub(super) fn created(store: &Store, resource: &Resource, object: &mut Value) -> Result<(), Refusal> {
    let name = name_of(object).to_owned();
    if name.is_empty() {
        return Err(Refusal::invalid(
            resource,
            "",
            "metadata.name",
            "Required value: name or generateName is required",
        ));
    }
    if !is_name(resource, &name) {
        let why = format!(
            "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
        );
        return Err(Refusal::invalid(resource, &name, "metadata.name", &why));
    }
    defaults(store, resource, object);
    checked(resource, object)
}

/// Before a changed object is put down.
pub(super) fn changed(resource: &Resource, before: &Value, object: &mut Value) -> Result<(), Refusal> {
    secret(resource, object);
    checked(resource, object)?;
    let fixed: &[&[&str]] = match resource.plural.as_str() {
        "daemonsets" | "deployments" | "replicasets" => &[&["spec", "selector"]],
        "statefulsets" => &[&["spec", "selector"], &["spec", "serviceName"]],
        "clusterrolebindings" | "rolebindings" => &[&["roleRef"]],
        "secrets" => &[&["type"]],
        "jobs" => &[&["spec", "template"], &["spec", "selector"]],
        "pods" => &[&["spec", "nodeName"], &["spec", "volumes"], &["spec", "serviceAccountName"]],
        "persistentvolumeclaims" => &[&["spec", "accessModes"], &["spec", "storageClassName"]],
        _ => &[],
    };
    let at = |object: &Value, path: &[&str]| path.iter().fold(object, |at, name| &at[*name]).clone();
    for path in fixed {
        let (old, new) = (at(before, path), at(object, path));
        // The scheduler may still choose a pod's node.
        if old != new && !(old.is_null() && resource.plural == "pods") {
            let why = format!("Invalid value: {new}: field is immutable");
            return Err(Refusal::invalid(resource, name_of(before), &path.join("."), &why));
        }
    }
    if before["immutable"] == true
        && (before["data"] != object["data"] || before["binaryData"] != object["binaryData"])
    {
        let why = "Forbidden: field is immutable when `immutable` is set";
        return Err(Refusal::invalid(resource, name_of(before), "data", why));
    }
    Ok(())
}

fn defaults(store: &Store, resource: &Resource, object: &mut Value) {
    secret(resource, object);
    match resource.plural.as_str() {
        "namespaces" => {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = object["metadata"]["name"].clone();
            object["status"] = json!({"phase": "Active"});
        }
        "pods" if object["status"]["phase"].is_null() => {
            object["status"]["phase"] = json!("Pending");
            object["status"]["qosClass"] = json!("BestEffort");
        }
        "services" => {
            let kind = object["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
            object["spec"]["type"] = json!(kind);
            if object["spec"]["clusterIP"].is_null() && kind != "ExternalName" {
                let [.., high, low] = store.revision.to_be_bytes();
                object["spec"]["clusterIP"] = json!(format!("10.96.{high}.{low}"));
                object["spec"]["clusterIPs"] = json!([object["spec"]["clusterIP"]]);
            }
        }
        "customresourcedefinitions" => {
            let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Fake", "message": "", "lastTransitionTime": object["metadata"]["creationTimestamp"]});
            let conditions = json!([condition("NamesAccepted"), condition("Established")]);
            object["status"] = json!({"conditions": conditions, "acceptedNames": object["spec"]["names"], "storedVersions": []});
        }
        _ => {}
    }
}

fn secret(resource: &Resource, object: &mut Value) {
    if resource.plural != "secrets" {
        return;
    }
    if object["type"].is_null() {
        object["type"] = json!("Opaque");
    }
    let Some(texts) = object.as_object_mut().and_then(|members| members.shift_remove("stringData")) else {
        return;
    };
    for (name, text) in texts.as_object().into_iter().flatten() {
        object["data"][name] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
}

fn checked(resource: &Resource, object: &Value) -> Result<(), Refusal> {
    let name = name_of(object);
    let refuse = |field: &str, why: &str| Err(Refusal::invalid(resource, name, field, why));
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
        let Some(value) = value.as_str() else {
            return refuse("metadata.labels", "Invalid value: not a string");
        };
        if value.len() > 63
            || !value.chars().all(good)
            || !ends(value.chars().next())
            || !ends(value.chars().last())
        {
            return refuse(
                "metadata.labels",
                &format!(
                    "Invalid value: {value:?} of {key}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
                ),
            );
        }
    }
    if matches!(resource.plural.as_str(), "daemonsets" | "deployments" | "replicasets" | "statefulsets") {
        let wanted = object["spec"]["selector"]["matchLabels"].as_object();
        let given = &object["spec"]["template"]["metadata"]["labels"];
        if wanted
            .is_none_or(|wanted| wanted.is_empty() || wanted.iter().any(|(key, value)| given[key] != *value))
        {
            return refuse(
                "spec.template.metadata.labels",
                "Invalid value: `selector` does not match template `labels`",
            );
        }
        return pod(resource, name, &object["spec"]["template"]["spec"], "spec.template.spec");
    }
    if resource.plural == "pods" {
        return pod(resource, name, &object["spec"], "spec");
    }
    Ok(())
}

/// Names within a pod that have to be there, or there once only.
fn pod(resource: &Resource, name: &str, spec: &Value, at: &str) -> Result<(), Refusal> {
    let refuse =
        |field: String, why: &str| Err(Refusal::invalid(resource, name, &format!("{at}.{field}"), why));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let volumes = list(&spec["volumes"]);
    for (n, volume) in volumes.iter().enumerate() {
        if volumes[..n].iter().any(|other| other["name"] == volume["name"]) {
            return refuse(format!("volumes[{n}].name"), &format!("Duplicate value: {}", volume["name"]));
        }
    }
    let containers = list(&spec["containers"]);
    if containers.is_empty() {
        return refuse("containers".to_owned(), "Required value");
    }
    for (n, container) in containers.iter().enumerate() {
        let mounts = list(&container["volumeMounts"]);
        for (m, mount) in mounts.iter().enumerate() {
            let field = format!("containers[{n}].volumeMounts[{m}]");
            if !volumes.iter().any(|volume| volume["name"] == mount["name"]) {
                return refuse(format!("{field}.name"), &format!("Not found: {}", mount["name"]));
            }
            if mounts[..m].iter().any(|other| other["mountPath"] == mount["mountPath"]) {
                return refuse(
                    format!("{field}.mountPath"),
                    &format!("Invalid value: {}: must be unique", mount["mountPath"]),
                );
            }
        }
        for (m, port) in list(&container["ports"]).iter().enumerate() {
            if spec["hostNetwork"] == true
                && !port["hostPort"].is_null()
                && port["hostPort"] != port["containerPort"]
            {
                return refuse(
                    format!("containers[{n}].ports[{m}].hostPort"),
                    "Invalid value: must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
    Ok(())
}
