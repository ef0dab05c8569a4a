//! Kubernetes' objects for what the cluster has: pods with their statuses, Services, EndpointSlices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::cgroups::{Qos, Runtime};
use super::kubelet::Pod;
use super::net::Forwarded;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// Labels from pairs.
#[must_use]
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What a pod's object is made of, beside who it is.
#[derive(Clone, Debug)]
pub struct Running<'a> {
    /// `app`, and whatever.
    pub labels: &'a Labels,
    /// Its class of service.
    pub qos: Qos,
    /// What runs it.
    pub runtime: Runtime,
    /// Its container's id.
    pub container: &'a str,
    /// Whether it may be sent connections.
    pub ready: bool,
}

/// A pod that runs.
#[must_use]
pub fn pod(pod: &Pod, running: &Running<'_>) -> Value {
    let Running { labels, qos, runtime, container, ready } = running;
    let is = |yes: bool| if yes { "True" } else { "False" };
    let condition = |kind: &str, yes| json!({"type": kind, "status": is(yes)});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "labels": labels},
        "spec": {"nodeName": pod.node, "containers": [{"name": "main", "image": "registry.test/main:1"}]},
        "status": {
            "phase": "Running",
            "hostIP": pod.host_ip,
            "hostIPs": [{"ip": pod.host_ip}],
            "podIP": pod.ip,
            "podIPs": [{"ip": pod.ip}],
            "qosClass": qos.as_str(),
            "conditions": [condition("Initialized", true), condition("Ready", *ready)],
            "containerStatuses": [{
                "name": "main",
                "image": "registry.test/main:1",
                "imageID": "registry.test/main@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "containerID": runtime.url(container),
                "ready": ready,
                "started": true,
                "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    })
}

/// A Service of one TCP port with an address of its own.
#[must_use]
pub fn service(namespace: &str, name: &str, ip: IpAddr, ports: (u16, u16), selector: &Labels) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "selector": selector,
            "ports": [{"name": "http", "protocol": "TCP", "port": ports.0, "targetPort": ports.1}],
        },
    })
}

/// The EndpointSlice of a Service that selects pods, and where its node proxies send connections; of those that have an address
/// and select any.
#[must_use]
pub fn endpoints(service: &Value, pods: &[Value]) -> Option<(Value, Vec<Forwarded>)> {
    let (metadata, spec) = (&service["metadata"], &service["spec"]);
    let selector = spec["selector"].as_object().filter(|selector| !selector.is_empty())?;
    let ip: IpAddr = spec["clusterIP"].as_str()?.parse().ok()?;
    let (namespace, name) = (metadata["namespace"].as_str()?, metadata["name"].as_str()?);
    let selected = |pod: &&Value| {
        let labels = &pod["metadata"]["labels"];
        pod["metadata"]["namespace"] == namespace && selector.iter().all(|(key, value)| labels[key] == *value)
    };
    let pods: Vec<_> = pods.iter().filter(selected).collect();
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let endpoint = |pod: &&Value| {
        let (ready, own) = (ready(pod), &pod["metadata"]);
        json!({
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": ready, "serving": ready, "terminating": false},
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": {"kind": "Pod", "namespace": own["namespace"], "name": own["name"], "uid": own["uid"]},
        })
    };
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let ports = spec["ports"].as_array()?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-slice"),
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": ports.iter().map(|p| json!({"name": p["name"], "protocol": "TCP", "port": p["targetPort"]})).collect::<Vec<_>>(),
    });
    let to = |port: u16| -> Vec<(IpAddr, u16)> {
        let ready = pods.iter().filter(|pod| ready(pod));
        ready.filter_map(|pod| Some((pod["status"]["podIP"].as_str()?.parse().ok()?, port))).collect()
    };
    let forwarded = ports.iter().filter_map(|port| {
        Some(Forwarded { from: (ip, number(&port["port"])?), to: to(number(&port["targetPort"])?) })
    });
    Some((slice, forwarded.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(name: &str, ip: &str, app: &str, ready: bool) -> Value {
        let who = Pod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: super::super::uid(),
            node: "node-a".to_owned(),
            host_ip: "172.31.0.11".parse().unwrap(),
            ip: ip.parse().unwrap(),
        };
        let labels = labels(&[("app", app)]);
        let running = Running {
            labels: &labels,
            qos: Qos::Burstable,
            runtime: Runtime::Containerd,
            container: "c",
            ready,
        };
        pod(&who, &running)
    }

    #[test]
    fn a_service_has_the_pods_that_it_selects_and_sends_to_those_that_are_ready() {
        let pods = [
            some("a", "10.244.1.10", "checkout", true),
            some("b", "10.244.1.11", "checkout", false),
            some("c", "10.244.1.12", "other", true),
        ];
        let ip = "10.96.0.7".parse().unwrap();
        let service = service("shop", "checkout", ip, (80, 8080), &labels(&[("app", "checkout")]));
        let (slice, forwarded) = endpoints(&service, &pods).unwrap();
        let names: Vec<_> =
            slice["endpoints"].as_array().unwrap().iter().map(|e| &e["targetRef"]["name"]).collect();
        assert_eq!(names, ["a", "b"]);
        let to = ("10.244.1.10".parse().unwrap(), 8080);
        assert_eq!(forwarded, [Forwarded { from: (ip, 80), to: vec![to] }]);
        for object in pods.iter().chain([&service, &slice]) {
            crate::fakes::kube::strict::check(object).unwrap();
        }
    }
}
