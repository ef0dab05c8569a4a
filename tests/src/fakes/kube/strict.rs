//! Whether Kubernetes would understand an object as it is meant: each goes through the type that its kind has in
//! Kubernetes' own API, and whatever does not come out again was not understood.

use k8s_openapi::api::{apps, batch, coordination, core, discovery, networking, policy, rbac, scheduling};
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::Value;

type Round = fn(&Value) -> serde_json::Result<Value>;

fn round<T: Serialize + DeserializeOwned>(object: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(T::deserialize(object)?)
}

/// The types of the kinds that are known.
fn typed(api_version: &str, kind: &str) -> Option<Round> {
    Some(match (api_version, kind) {
        ("v1", "Namespace") => round::<core::v1::Namespace>,
        ("v1", "Node") => round::<core::v1::Node>,
        ("v1", "Pod") => round::<core::v1::Pod>,
        ("v1", "Service") => round::<core::v1::Service>,
        ("v1", "Endpoints") => round::<core::v1::Endpoints>,
        ("v1", "ConfigMap") => round::<core::v1::ConfigMap>,
        ("v1", "Secret") => round::<core::v1::Secret>,
        ("v1", "ServiceAccount") => round::<core::v1::ServiceAccount>,
        ("v1", "Event") => round::<core::v1::Event>,
        ("v1", "PersistentVolumeClaim") => round::<core::v1::PersistentVolumeClaim>,
        ("apps/v1", "DaemonSet") => round::<apps::v1::DaemonSet>,
        ("apps/v1", "Deployment") => round::<apps::v1::Deployment>,
        ("apps/v1", "ReplicaSet") => round::<apps::v1::ReplicaSet>,
        ("apps/v1", "StatefulSet") => round::<apps::v1::StatefulSet>,
        ("batch/v1", "Job") => round::<batch::v1::Job>,
        ("batch/v1", "CronJob") => round::<batch::v1::CronJob>,
        ("coordination.k8s.io/v1", "Lease") => round::<coordination::v1::Lease>,
        ("discovery.k8s.io/v1", "EndpointSlice") => round::<discovery::v1::EndpointSlice>,
        ("networking.k8s.io/v1", "NetworkPolicy") => round::<networking::v1::NetworkPolicy>,
        ("networking.k8s.io/v1", "Ingress") => round::<networking::v1::Ingress>,
        ("policy/v1", "PodDisruptionBudget") => round::<policy::v1::PodDisruptionBudget>,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => round::<rbac::v1::ClusterRole>,
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => round::<rbac::v1::ClusterRoleBinding>,
        ("rbac.authorization.k8s.io/v1", "Role") => round::<rbac::v1::Role>,
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => round::<rbac::v1::RoleBinding>,
        ("scheduling.k8s.io/v1", "PriorityClass") => round::<scheduling::v1::PriorityClass>,
        _ => return None,
    })
}

/// What is wrong with an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Misunderstood {
    /// Its kind is not among those that are checked.
    Kind(String),
    /// A field is missing or has another type: nothing would be understood.
    Type(String),
    /// A field is unknown, or comes out with another value.
    Field(String),
}

impl std::fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a kind that is not checked: {kind}"),
            Self::Type(what) | Self::Field(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Misunderstood {}

/// Holds an object against the type of its kind.
///
/// # Errors
/// At the first field that is unknown, of another type, or missing.
pub fn check(object: &Value) -> Result<(), Misunderstood> {
    let (version, kind) =
        (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    let Some(round) = typed(version, kind) else {
        return Err(Misunderstood::Kind(format!("{version} {kind:?}")));
    };
    let understood = round(object).map_err(|error| Misunderstood::Type(format!("{kind}: {error}")))?;
    same(kind, object, &understood).map_err(Misunderstood::Field)
}

fn same(at: &str, given: &Value, understood: &Value) -> Result<(), String> {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            for (key, value) in given {
                let at = format!("{at}.{key}");
                match understood.get(key) {
                    Some(understood) => same(&at, value, understood)?,
                    // Kubernetes takes null for left out.
                    None if value.is_null() => {}
                    None => return Err(format!("{at}: unknown field")),
                }
            }
            Ok(())
        }
        (Value::Array(given), Value::Array(understood)) if given.len() == understood.len() => {
            let mut pairs = given.iter().zip(understood).enumerate();
            pairs.try_for_each(|(n, (given, understood))| same(&format!("{at}[{n}]"), given, understood))
        }
        _ if given == understood => Ok(()),
        _ => Err(format!("{at}: {given} is understood as {understood}")),
    }
}
