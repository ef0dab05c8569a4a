//! What is kept of the API's objects while they are read: the rest is passed over by the parser and never held.

use std::borrow::Cow;
use std::net::IpAddr;

use ::kube::Resource;
use ::kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The label of an EndpointSlice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

macro_rules! resource {
    ($name:ident, $kind:literal, $group:literal, $plural:literal) => {
        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version(_: &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Slice, "EndpointSlice", "discovery.k8s.io", "endpointslices");
resource!(Service, "Service", "", "services");
resource!(Pod, "Pod", "", "pods");
resource!(PodOfNode, "Pod", "", "pods");

/// An EndpointSlice.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct Slice {
    #[serde(deserialize_with = "short")]
    pub(super) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) ports: Vec<Port>,
}

impl Slice {
    /// The service that it is of.
    pub(super) fn service(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
    }
}

#[derive(Clone, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) addresses: Vec<String>,
    #[serde(default)]
    pub(super) node_name: Option<String>,
    #[serde(default)]
    pub(super) target_ref: Option<TargetRef>,
}

#[derive(Clone, Deserialize, Debug)]
pub(super) struct TargetRef {
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
}

#[derive(Clone, Deserialize, Debug)]
pub(super) struct Port {
    #[serde(default)]
    pub(super) port: Option<u16>,
}

/// A Service.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct Service {
    #[serde(deserialize_with = "short")]
    pub(super) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) spec: ServiceSpec,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) status: ServiceStatus,
}

#[derive(Clone, Default, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceSpec {
    #[serde(rename = "clusterIP", deserialize_with = "or_default")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    external_ips: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) ports: Vec<Port>,
}

#[derive(Clone, Default, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceStatus {
    #[serde(deserialize_with = "or_default")]
    load_balancer: LoadBalancer,
}

#[derive(Clone, Default, Deserialize, Debug)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "or_default")]
    ingress: Vec<Ingress>,
}

#[derive(Clone, Default, Deserialize, Debug)]
#[serde(default)]
struct Ingress {
    #[serde(deserialize_with = "or_default")]
    ip: String,
}

impl Service {
    /// Addresses that are its own; a headless one has none.
    pub(super) fn cluster_ips(&self) -> Vec<IpAddr> {
        // The list begins with the single one, where there is a list.
        let all = match self.spec.cluster_ips.as_slice() {
            [] => std::slice::from_ref(&self.spec.cluster_ip),
            all => all,
        };
        addresses(all.iter())
    }

    /// Addresses at which it can be had from outside, which may be those of nodes.
    pub(super) fn outer_ips(&self) -> Vec<IpAddr> {
        let balanced = self.status.load_balancer.ingress.iter().map(|ingress| &ingress.ip);
        addresses(self.spec.external_ips.iter().chain(balanced))
    }
}

/// A pod of which only its name and address are wanted.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct Pod {
    #[serde(deserialize_with = "short")]
    pub(super) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) spec: PodSpec,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) status: PodStatus,
}

#[derive(Clone, Default, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    #[serde(deserialize_with = "or_default")]
    pub(super) host_network: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) node_name: String,
}

#[derive(Clone, Default, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    #[serde(deserialize_with = "or_default")]
    pub(super) phase: String,
    #[serde(rename = "podIP", deserialize_with = "or_default")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pod_ips: Vec<Ingress>,
    #[serde(rename = "hostIP", deserialize_with = "or_default")]
    host_ip: String,
    #[serde(rename = "hostIPs", deserialize_with = "or_default")]
    host_ips: Vec<Ingress>,
}

impl PodStatus {
    /// Whether its containers have ended for good: its address may then be another pod's, though it still bears it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    pub(super) fn ips(&self) -> Vec<IpAddr> {
        both(&self.pod_ip, &self.pod_ips)
    }

    pub(super) fn host_ips(&self) -> Vec<IpAddr> {
        both(&self.host_ip, &self.host_ips)
    }
}

fn both(one: &String, all: &[Ingress]) -> Vec<IpAddr> {
    let mut found = addresses(std::iter::once(one).chain(all.iter().map(|of| &of.ip)));
    found.sort();
    found.dedup();
    found
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical()).collect()
}

/// A pod of this node, as the API has it, but for what only tells who wrote which of its fields.
#[derive(Clone, Debug)]
pub(super) struct PodOfNode {
    pub(super) metadata: ObjectMeta,
    pub(super) short: Pod,
    /// The whole.
    pub(super) json: Value,
}

impl<'de> Deserialize<'de> for PodOfNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let mut json = Value::deserialize(deserializer)?;
        if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let short = Pod::deserialize(&json).map_err(D::Error::custom)?;
        if let Some(whole) = json.as_object_mut() {
            // Items of a list do not say it.
            whole.entry("apiVersion").or_insert_with(|| Value::from("v1"));
            whole.entry("kind").or_insert_with(|| Value::from("Pod"));
        }
        Ok(Self { metadata: short.metadata.clone(), short, json })
    }
}

/// Of an object's metadata what names and selects it.
fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Short {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<std::collections::BTreeMap<String, String>>,
    }
    let Short { name, namespace, uid, resource_version, labels } = Short::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, uid, resource_version, labels, ..ObjectMeta::default() })
}

/// What is null is as what is not there: Go writes empty lists so.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_go_writes_is_read() {
        let slice: Slice = serde_json::from_value(json!({
            "metadata": { "name": "s-x", "namespace": "prod", "labels": { SERVICE_NAME: "s" },
                "managedFields": [{ "fieldsV1": { "f:x": {} } }] },
            "addressType": "IPv4", "endpoints": null, "ports": null,
        }))
        .unwrap();
        assert_eq!((slice.service(), slice.endpoints.len()), (Some("s"), 0));
        assert_eq!(slice.metadata.managed_fields, None);
        let headless: Service =
            serde_json::from_value(json!({ "metadata": {}, "spec": { "clusterIP": "None" } })).unwrap();
        assert_eq!(headless.cluster_ips(), Vec::<IpAddr>::new());
        let dual: Service = serde_json::from_value(json!({
            "metadata": {}, "spec": { "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"] },
            "status": { "loadBalancer": { "ingress": [{ "hostname": "x" }, { "ip": "192.0.2.1" }] } },
        }))
        .unwrap();
        assert_eq!((dual.cluster_ips().len(), dual.outer_ips().len()), (2, 1));
        let pod: PodOfNode = serde_json::from_value(json!({
            "metadata": { "name": "p", "managedFields": [] },
            "spec": { "nodeName": "n" }, "status": { "podIP": "10.1.0.1", "podIPs": [{ "ip": "10.1.0.1" }] },
        }))
        .unwrap();
        assert_eq!((pod.json["kind"].as_str(), pod.short.status.ips().len()), (Some("Pod"), 1));
        assert_eq!(pod.json["metadata"].get("managedFields"), None);
    }
}
