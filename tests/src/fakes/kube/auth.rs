//! Who asks, by bearer token, and what they may do, by the roles and bindings that are in the store.

use serde_json::{Value, json};

use super::route::Asked;
use super::status::Refusal;
use super::store::Store;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct User {
    pub(super) name: String,
    groups: Vec<String>,
}

impl User {
    /// May do everything.
    pub(super) fn admin() -> Self {
        let groups = ["system:masters", "system:authenticated"].map(str::to_owned).to_vec();
        Self { name: "kubernetes-admin".to_owned(), groups }
    }

    pub(super) fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    /// By name, as an administrator that impersonates names it.
    pub(super) fn named(name: &str) -> Self {
        let mut groups = vec!["system:authenticated".to_owned()];
        if let Some((namespace, _)) =
            name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':'))
        {
            groups
                .extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
        }
        Self { name: name.to_owned(), groups }
    }

    pub(super) fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }
}

/// What is to be done, as roles name it.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub(super) verb: String,
    pub(super) group: String,
    /// With its subresource.
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

impl Deed {
    pub(super) fn of(asked: &Asked) -> Self {
        Self {
            verb: asked.verb.to_owned(),
            group: asked.resource.group.clone(),
            resource: asked.what(),
            namespace: asked.namespace.clone(),
            name: asked.name.clone(),
        }
    }

    /// Of a SelfSubjectAccessReview.
    pub(super) fn reviewed(review: &Value) -> Self {
        let about = &review["spec"]["resourceAttributes"];
        let text = |name: &str| about[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (resource, sub) = (text("resource").unwrap_or_default(), text("subresource"));
        Self {
            verb: text("verb").unwrap_or_default(),
            group: text("group").unwrap_or_default(),
            resource: sub.map_or_else(|| resource.clone(), |sub| format!("{resource}/{sub}")),
            namespace: text("namespace"),
            name: text("name"),
        }
    }

    fn fits(&self, rule: &Value) -> bool {
        let has = |list: &str, wanted: &str| {
            rule[list].as_array().into_iter().flatten().any(|value| value == "*" || value == wanted)
        };
        let names = rule["resourceNames"].as_array().map_or(&[][..], Vec::as_slice);
        let named = names.is_empty()
            || self.name.as_ref().is_some_and(|name| names.iter().any(|known| known == name.as_str()));
        has("verbs", &self.verb) && has("apiGroups", &self.group) && has("resources", &self.resource) && named
    }
}

/// Refuses what no role allows.
pub(super) fn allow(store: &Store, user: &User, deed: &Deed) -> Result<(), Refusal> {
    if user.is_admin() || is_allowed(store, user, deed) {
        return Ok(());
    }
    let (name, group) = (&user.name, &deed.group);
    let place = match &deed.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let (verb, resource) = (&deed.verb, &deed.resource);
    let of = deed.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
    let dotted = resource.split_once('/').map_or(resource.as_str(), |(plural, _)| plural);
    let dotted = if group.is_empty() { dotted.to_owned() } else { format!("{dotted}.{group}") };
    Err(Refusal::forbidden(format!(
        "{dotted}{of} is forbidden: User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}"
    )))
}

pub(super) fn is_allowed(store: &Store, user: &User, deed: &Deed) -> bool {
    let granted = |bindings: &str, namespace: Option<&str>| {
        let Some(resource) = store.resource(RBAC, "v1", bindings) else { return false };
        store.all(resource, namespace).iter().any(|binding| {
            let binding = &binding.value;
            let mut subjects = binding["subjects"].as_array().into_iter().flatten();
            subjects.any(|subject| is_subject(user, subject))
                && rules(store, &binding["roleRef"], namespace).iter().any(|rule| deed.fits(rule))
        })
    };
    granted("clusterrolebindings", None)
        || deed.namespace.as_deref().is_some_and(|namespace| granted("rolebindings", Some(namespace)))
}

fn is_subject(user: &User, subject: &Value) -> bool {
    let text = |name: &str| subject[name].as_str().unwrap_or_default();
    match text("kind") {
        "ServiceAccount" => {
            user.name == format!("system:serviceaccount:{}:{}", text("namespace"), text("name"))
        }
        "User" => user.name == text("name"),
        "Group" => user.groups.iter().any(|group| group == text("name")),
        _ => false,
    }
}

fn rules(store: &Store, role: &Value, namespace: Option<&str>) -> Vec<Value> {
    let name = role["name"].as_str().unwrap_or_default().to_owned();
    let (plural, namespace) = match role["kind"].as_str() {
        Some("ClusterRole") => ("clusterroles", ""),
        _ => ("roles", namespace.unwrap_or_default()),
    };
    let resource = store.resource(RBAC, "v1", plural);
    let found = resource.and_then(|resource| store.get(resource, &(namespace.to_owned(), name)));
    found.and_then(|role| role.value["rules"].as_array().cloned()).unwrap_or_default()
}

/// The answer to a SelfSubjectAccessReview.
pub(super) fn review(store: &Store, user: &User, review: &Value) -> Value {
    let allowed = user.is_admin() || is_allowed(store, user, &Deed::reviewed(review));
    let mut answer = review.clone();
    answer["status"] = json!({ "allowed": allowed });
    answer
}
