//! The kinds that the server knows: the usual ones, and those of CustomResourceDefinitions.

use serde_json::{Value, json};

/// A kind and how it is addressed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) plural: String,
    pub(super) namespaced: bool,
    pub(super) short: Vec<String>,
    pub(super) has_status: bool,
}

/// Group, version, kind, plural, namespaced, short name, with a status of its own.
type Row = (&'static str, &'static str, &'static str, &'static str, bool, &'static str, bool);

const USUAL: [Row; 33] = [
    ("", "v1", "Namespace", "namespaces", false, "ns", true),
    ("", "v1", "Node", "nodes", false, "no", true),
    ("", "v1", "Pod", "pods", true, "po", true),
    ("", "v1", "Service", "services", true, "svc", true),
    ("", "v1", "Endpoints", "endpoints", true, "ep", false),
    ("", "v1", "ConfigMap", "configmaps", true, "cm", false),
    ("", "v1", "Secret", "secrets", true, "", false),
    ("", "v1", "ServiceAccount", "serviceaccounts", true, "sa", false),
    ("", "v1", "Event", "events", true, "ev", false),
    ("", "v1", "PersistentVolume", "persistentvolumes", false, "pv", true),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true, "pvc", true),
    ("", "v1", "ResourceQuota", "resourcequotas", true, "quota", true),
    ("", "v1", "LimitRange", "limitranges", true, "limits", false),
    ("apps", "v1", "DaemonSet", "daemonsets", true, "ds", true),
    ("apps", "v1", "Deployment", "deployments", true, "deploy", true),
    ("apps", "v1", "ReplicaSet", "replicasets", true, "rs", true),
    ("apps", "v1", "StatefulSet", "statefulsets", true, "sts", true),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", true, "", false),
    ("batch", "v1", "Job", "jobs", true, "", true),
    ("batch", "v1", "CronJob", "cronjobs", true, "cj", true),
    ("coordination.k8s.io", "v1", "Lease", "leases", true, "", false),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true, "", false),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true, "netpol", false),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", true, "ing", true),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true, "pdb", true),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", false, "", false),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", false, "", false),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", true, "", false),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true, "", false),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", false, "pc", false),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", false, "sc", false),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
        "crd",
        true,
    ),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", false, "", false),
];

/// Kinds that can only be created, for an answer.
pub(super) const QUESTION: &str = "selfsubjectaccessreviews";

impl Resource {
    /// Those of every cluster.
    pub(super) fn usual() -> Vec<Self> {
        let one = |(group, version, kind, plural, namespaced, short, has_status): Row| Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced,
            short: if short.is_empty() { Vec::new() } else { vec![short.to_owned()] },
            has_status,
        };
        USUAL.into_iter().map(one).collect()
    }

    /// What a CustomResourceDefinition defines, a resource for each version that is served.
    pub(super) fn custom(definition: &Value) -> Vec<Self> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let one = |version: &Value| Self {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            kind: text(&spec["names"]["kind"]),
            plural: text(&spec["names"]["plural"]),
            namespaced: spec["scope"] == "Namespaced",
            short: spec["names"]["shortNames"].as_array().into_iter().flatten().map(text).collect(),
            has_status: version["subresources"]["status"].is_object(),
        };
        versions.iter().filter(|version| version["served"] == true).map(one).collect()
    }

    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As messages name it: `daemonsets.apps`, `pods`.
    pub(super) fn dotted(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub(super) fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    pub(super) fn verbs(&self) -> &'static [&'static str] {
        if self.plural == QUESTION {
            return &["create"];
        }
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    }

    /// Group, version and kind, as in discovery.
    pub(super) fn gvk(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }
}
