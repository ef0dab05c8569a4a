//! An API server, an agent's watcher, and objects to put in.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent::captured::Known;
use agent::kube::{Kube, KubeConfig, Targets};
use agent_core::Timestamp;
use serde_json::{Value, json};
use testkit::fakes::kube::{self, KubeApi};

pub(crate) const NODE: &str = "node-1";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) api: KubeApi,
    pub(crate) folder: tempfile::TempDir,
}

impl Rig {
    /// With the permissions that the chart gives.
    pub(crate) fn new() -> Self {
        Self::with(kube::KubeConfig::default())
    }

    pub(crate) fn with(config: kube::KubeConfig) -> Self {
        let api = KubeApi::start(config).unwrap();
        let rules = json!([
            { "apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ]);
        api.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": "remora" }, "rules": rules,
        }))
        .unwrap();
        api.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "remora" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "remora" },
            "subjects": [{ "kind": "ServiceAccount", "name": "remora", "namespace": "remora" }],
        }))
        .unwrap();
        Self { api, folder: tempfile::tempdir().unwrap() }
    }

    /// The agent's configuration, by HTTPS with its own account's token.
    pub(crate) fn config(&self) -> KubeConfig {
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, self.api.kubeconfig(&self.api.token("remora", "remora"))).unwrap();
        KubeConfig {
            kubeconfig: Some(path),
            node: NODE.to_owned(),
            targets: Targets::default(),
            lookups_per_minute: 60,
        }
    }

    /// A watcher that has seen everything once.
    pub(crate) fn kube(&self) -> Kube {
        self.kube_with(self.config())
    }

    pub(crate) fn kube_with(&self, config: KubeConfig) -> Kube {
        let kube = Kube::start(config).unwrap();
        assert!(kube.wait(PATIENCE), "{}", kube.standing());
        kube
    }

    pub(crate) fn put(&self, object: &Value) {
        self.api.apply(object).unwrap();
    }

    pub(crate) fn remove(&self, object: &Value) {
        assert!(self.api.delete(object).unwrap(), "{object} was not there");
    }
}

/// The UID of a number.
pub(crate) fn uid(number: u32) -> String {
    format!("6f1b5c3e-2d4a-4c8e-9b57-{number:012x}")
}

/// A running pod of this node.
pub(crate) fn pod(name: &str, ip: &str, number: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "prod", "uid": uid(number), "labels": { "app": "shop" } },
        "spec": { "nodeName": NODE, "containers": [{ "name": "c", "image": "i" }] },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": "192.0.2.1",
            "hostIPs": [{ "ip": "192.0.2.1" }],
        },
    })
}

pub(crate) fn service(name: &str, ip: &str) -> Value {
    let ips = if ip == "None" { json!(["None"]) } else { json!([ip]) };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "prod" },
        "spec": { "clusterIP": ip, "clusterIPs": ips, "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

/// A slice of these endpoints: pod's name, address, UID's number, node.
pub(crate) fn slice(name: &str, service: &str, endpoints: &[(&str, &str, u32, &str)]) -> Value {
    let endpoint = |(pod, ip, number, node): &(&str, &str, u32, &str)| {
        json!({
            "addresses": [ip], "nodeName": node, "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": pod, "namespace": "prod", "uid": uid(*number) },
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": name, "namespace": "prod", "labels": { "kubernetes.io/service-name": service },
        },
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    })
}

pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64)
}

/// What the address is called now.
pub(crate) fn known(kube: &Kube, ip: &str) -> Option<Arc<Known>> {
    kube.names().of_address(ip.parse::<IpAddr>().unwrap(), 1, now())
}

/// Pod, service and namespace of an address, now.
pub(crate) fn called(kube: &Kube, ip: &str) -> Option<String> {
    let known = known(kube, ip)?;
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    Some(format!("{} {} {}", text(&known.pod), text(&known.service), known.namespace))
}

#[track_caller]
pub(crate) fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the address is called so.
#[track_caller]
pub(crate) fn becomes(kube: &Kube, ip: &str, wanted: Option<&str>) {
    wait(&format!("{ip} is {:?}, not {wanted:?}", called(kube, ip)), || {
        called(kube, ip).as_deref() == wanted
    });
}
