//! What clients ask before they ask for anything: the version, and which resources there are, in both forms of discovery; and as
//! much OpenAPI as tells them that the server checks fields by itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::resource::{QUESTION, Resource};

/// Of the Kubernetes that is played.
pub(super) const MINOR: &str = "34";

/// `GET /version`.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR, "gitVersion": format!("v1.{MINOR}.0"), "gitCommit": "fake", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "none", "compiler": "none", "platform": "linux/amd64",
    })
}

/// Groups with their versions, each with its resources.
fn groups(resources: &[Resource]) -> BTreeMap<&str, BTreeMap<&str, Vec<&Resource>>> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<&Resource>>> = BTreeMap::new();
    for resource in resources {
        groups.entry(&resource.group).or_default().entry(&resource.version).or_default().push(resource);
    }
    groups
}

fn verbs_of_status() -> Value {
    json!(["get", "patch", "update"])
}

/// The answer to a path of discovery, or none. `aggregated`: the client takes the form that has all at once.
pub(super) fn answer(path: &str, aggregated: bool, resources: &[Resource]) -> Option<Value> {
    let groups = groups(resources);
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(version()),
        ["api"] if aggregated => Some(all_at_once(groups.iter().filter(|(group, _)| group.is_empty()))),
        ["apis"] if aggregated => Some(all_at_once(groups.iter().filter(|(group, _)| !group.is_empty()))),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let named = groups.iter().filter(|(group, _)| !group.is_empty());
            let all: Vec<_> = named.map(|(group, versions)| api_group(group, versions)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all}))
        }
        ["api", version] => groups.get("")?.get(version).map(|all| list("", version, all)),
        ["apis", group] => groups.get(group).map(|versions| api_group(group, versions)),
        ["apis", group, version] => groups.get(group)?.get(version).map(|all| list(group, version, all)),
        ["openapi", "v3"] => Some(openapi_paths(&groups)),
        ["openapi", "v3", "api", version] => {
            groups.get("")?.get(version).map(|all| openapi("", version, all))
        }
        ["openapi", "v3", "apis", group, version] => {
            groups.get(group)?.get(version).map(|all| openapi(group, version, all))
        }
        _ => None,
    }
}

fn api_group(group: &str, versions: &BTreeMap<&str, Vec<&Resource>>) -> Value {
    let one = |version: &str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<_> = versions.keys().rev().map(|version| one(version)).collect();
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": all, "preferredVersion": all[0]})
}

fn list(group: &str, version: &str, resources: &[&Resource]) -> Value {
    let mut all = Vec::new();
    for resource in resources {
        let entry = |name: &str, verbs: Value| json!({"name": name, "singularName": resource.singular(), "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs, "shortNames": resource.short});
        all.push(entry(&resource.plural, json!(resource.verbs())));
        if resource.has_status {
            all.push(entry(&format!("{}/status", resource.plural), verbs_of_status()));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": all})
}

fn all_at_once<'a>(
    groups: impl Iterator<Item = (&'a &'a str, &'a BTreeMap<&'a str, Vec<&'a Resource>>)>,
) -> Value {
    let resource = |resource: &&Resource| {
        let status =
            json!([{"subresource": "status", "responseKind": resource.gvk(), "verbs": verbs_of_status()}]);
        json!({
            "resource": resource.plural, "responseKind": resource.gvk(), "singularResource": resource.singular(),
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "verbs": resource.verbs(), "shortNames": resource.short,
            "subresources": if resource.has_status { status } else { json!([]) },
        })
    };
    let group = |(name, versions): (&&str, &BTreeMap<&str, Vec<&Resource>>)| {
        let versions: Vec<_> = versions
            .iter()
            .rev()
            .map(|(version, all)| json!({"version": version, "resources": all.iter().map(resource).collect::<Vec<_>>(), "freshness": "Current"}))
            .collect();
        json!({"metadata": {"name": name}, "versions": versions})
    };
    let items: Vec<_> = groups.map(group).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn openapi_paths(groups: &BTreeMap<&str, BTreeMap<&str, Vec<&Resource>>>) -> Value {
    let mut paths = serde_json::Map::new();
    for (group, versions) in groups {
        for version in versions.keys() {
            let at = prefix(group, version);
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{at}?hash=fake")});
            paths.insert(at, url);
        }
    }
    json!({ "paths": paths })
}

/// No schemas: only that every resource takes `fieldValidation` with a patch.
fn openapi(group: &str, version: &str, resources: &[&Resource]) -> Value {
    let mut paths = serde_json::Map::new();
    for resource in resources.iter().filter(|resource| resource.plural != QUESTION) {
        let within = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
        let parameters: Vec<_> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        let patch = json!({
            "operationId": format!("patch{}", resource.kind), "parameters": parameters, "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": resource.gvk(),
        });
        paths.insert(
            format!("/{}/{within}{}/{{name}}", prefix(group, version), resource.plural),
            json!({ "patch": patch }),
        );
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": format!("v1.{MINOR}.0")}, "paths": paths, "components": {"schemas": {}}})
}
