//! That the check of objects against Kubernetes' own types finds what is wrong.

use serde_json::{Value, json};
use testkit::fakes::kube::strict::check;

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
        let error = check(&object).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(
        check(&json!({"apiVersion": "v1", "kind": "Gadget"})).unwrap_err().to_string().contains("Gadget")
    );
}
