//! Whether Kubernetes would understand an object as it is meant: each goes through the type that its kind has in
//! Kubernetes' own API, and whatever does not come out again was not understood.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Fails if a field is unknown, of another type, or missing; says where.
pub(crate) fn check(object: &Value) -> Result<(), String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let round = match kind {
        "DaemonSet" => round::<DaemonSet>,
        "Pod" => round::<Pod>,
        "ConfigMap" => round::<ConfigMap>,
        "Secret" => round::<Secret>,
        "ServiceAccount" => round::<ServiceAccount>,
        "ClusterRole" => round::<ClusterRole>,
        "ClusterRoleBinding" => round::<ClusterRoleBinding>,
        "NetworkPolicy" => round::<NetworkPolicy>,
        _ => return Err(format!("a kind that is not checked: {kind:?}")),
    };
    let understood = round(object).map_err(|error| format!("{kind}: {error}"))?;
    same(kind, object, &understood)
}

fn round<T: Serialize + DeserializeOwned>(object: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(T::deserialize(object)?)
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
            pairs.try_for_each(|(index, (given, understood))| {
                same(&format!("{at}[{index}]"), given, understood)
            })
        }
        _ if given == understood => Ok(()),
        _ => Err(format!("{at}: {given} is understood as {understood}")),
    }
}

fn daemon_set() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "x"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"spec": {"containers": [{"name": "c", "readinessProbe": {"periodSeconds": 3}}]}},
        },
    })
}

#[test]
fn what_kubernetes_does_not_know_is_found() {
    assert_eq!(check(&daemon_set()), Ok(()));
    let container = "/spec/template/spec/containers/0";
    for (at, value, said) in [
        ("", json!({"spek": 1}), "DaemonSet.spek: unknown field"),
        (container, json!({"volumeMount": []}), "containers[0].volumeMount: unknown field"),
        (container, json!({"imagePullPolicy": 5}), "invalid type: integer `5`"),
        (
            "/spec/template/spec/containers/0/readinessProbe",
            json!({"periodSeconds": "3"}),
            "invalid type: string",
        ),
        ("", json!({"apiVersion": "apps/v1beta1"}), "apps/v1beta1"),
    ] {
        let mut object = daemon_set();
        let target = object.pointer_mut(at).unwrap().as_object_mut().unwrap();
        target.extend(value.as_object().unwrap().clone());
        let error = check(&object).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert!(check(&json!({"apiVersion": "v1", "kind": "Gadget"})).unwrap_err().contains("Gadget"));
}
