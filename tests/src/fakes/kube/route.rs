//! What a request asks for, by its method, path and query.

use axum::http::{Method, Uri};

use super::resource::Resource;
use super::status::Refusal;
use super::store::Store;

/// A request for objects.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) verb: &'static str,
    pub(super) resource: Resource,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    /// Only metadata are wanted.
    pub(super) metadata_only: bool,
    query: Vec<(String, String)>,
}

impl Asked {
    /// A member of the query; empty ones do not count.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.query(name).is_some_and(is_true)
    }

    /// `pods`, `pods/log`.
    pub(super) fn what(&self) -> String {
        let plural = &self.resource.plural;
        self.subresource.as_ref().map_or_else(|| plural.clone(), |sub| format!("{plural}/{sub}"))
    }

    pub(super) fn dry_run(&self) -> bool {
        self.query("dryRun").is_some()
    }

    /// Namespace (empty: none) and name.
    pub(super) fn key(&self) -> (String, String) {
        (self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }
}

pub(super) fn query(uri: &Uri) -> Vec<(String, String)> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

/// Reads `/api/v1/…` and `/apis/GROUP/VERSION/…`.
pub(super) fn read(store: &Store, method: &Method, uri: &Uri) -> Result<Asked, Refusal> {
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(Refusal::no_such_page()),
    };
    // A namespace's own status is the namespace's, not that of something in it.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, inner @ ..] if !matches!(inner, [] | ["status"] | ["finalize"]) => {
            (Some((*namespace).to_owned()), inner)
        }
        rest => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some((*name).to_owned()), None),
        [plural, name, sub] => (*plural, Some((*name).to_owned()), Some((*sub).to_owned())),
        _ => return Err(Refusal::no_such_page()),
    };
    let resource = store.resource(group, version, plural).ok_or_else(Refusal::no_such_page)?.clone();
    if namespace.is_some() && !resource.namespaced {
        return Err(Refusal::no_such_page());
    }
    let query = query(uri);
    let watches = query.iter().any(|(name, value)| name == "watch" && is_true(value));
    let verb = match (method.as_str(), &name) {
        ("GET", _) if watches => "watch",
        ("GET", Some(_)) => "get",
        ("GET", None) => "list",
        ("POST", None) => "create",
        ("POST", Some(_)) if subresource.is_some() => "create",
        ("PUT", Some(_)) => "update",
        ("PATCH", Some(_)) => "patch",
        ("DELETE", Some(_)) => "delete",
        ("DELETE", None) => "deletecollection",
        _ => return Err(Refusal::method()),
    };
    let one_namespace = !matches!(verb, "list" | "watch" | "deletecollection");
    if resource.namespaced && namespace.is_none() && (one_namespace || verb == "deletecollection") {
        return Err(Refusal::no_such_page());
    }
    Ok(Asked { verb, resource, namespace, name, subresource, metadata_only: false, query })
}

/// As Go's `strconv.ParseBool` has it, by which API servers read flags: older Python clients say `True`.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
