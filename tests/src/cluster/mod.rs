//! A Kubernetes cluster on one machine, as far as an agent on its nodes can tell.
//!
//! Nodes are network namespaces with cgroups laid out as the kubelet does it; their pods are namespaces behind a bridge, reached
//! by their own addresses and by Services. DaemonSets' pods run in containers, by [`kubelet`], as their template says. The API
//! server is the fake one: pods are told to it as they come and go, and [`Cluster::sync`] does a controller's work for Services.
//!
//! All of it is below one cgroup and one folder of our own, and gone with the [`Cluster`], however the process ends. It needs root,
//! cgroup v2 (beside version 1 is enough), `ip`, `nft`, `nsenter`, and `crun` for containers.

pub mod cgroups;
pub mod daemonset;
pub mod kubelet;
pub mod net;
pub mod node;
pub mod objects;
mod workload;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use cgroups::{Driver, Qos, Runtime};
pub use node::{Node, NodeConfig};
pub use workload::Workload;

use crate::fakes::kube::{KubeApi, KubeConfig};
use cgroups::Tree;
use daemonset::DaemonPod;
use kubelet::Account;
use net::{Forwarded, Rack};
use objects::{Labels, Running};

/// The API server's Service.
const API_SERVICE: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 443);
/// Number of its address outside, and its port.
const API: (u8, u16) = (3, 6443);

/// Nodes, and what joins them.
pub struct Cluster {
    /// The API server, at 172.31.0.3:6443, and for pods by its Service.
    pub api: KubeApi,
    /// In the order in which they were asked for.
    pub nodes: Vec<Node>,
    /// What is outside.
    pub rack: Rack,
    // Dropped last, in this order: what runs, and then its files.
    _tree: Tree,
    files: TempDir,
}

impl Cluster {
    /// Makes one of these nodes.
    ///
    /// # Errors
    /// When not root, or something that it needs is not installed.
    pub fn new(nodes: &[NodeConfig]) -> Result<Self> {
        let count = u8::try_from(nodes.len()).ok().filter(|count| (1..=200).contains(count));
        let count = count.with_context(|| format!("{} nodes: 1 to 200 can be had", nodes.len()))?;
        let files = tempfile::Builder::new().prefix("remora-cluster-").tempdir()?;
        let tree = Tree::new("cluster", files.path())?;
        let rack = Rack::new()?;
        let address = SocketAddr::new(rack.address(API.0)?, API.1);
        let names = vec![API_SERVICE.0.to_string()];
        let config = KubeConfig { address, names, ..KubeConfig::default() };
        let api = rack.outside.run(|| KubeApi::start(config))?;
        let nodes = (1..).zip(nodes).map(|(number, config)| {
            Node::new(config, number, count, &rack, tree.path(), files.path())
                .with_context(|| format!("node {}", config.name))
        });
        let cluster = Self { api, nodes: nodes.collect::<Result<_>>()?, rack, _tree: tree, files };
        for node in &cluster.nodes {
            let address = json!({"type": "InternalIP", "address": node.net.ip});
            cluster.api.apply(&json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name},
                "status": {"addresses": [address]},
            }))?;
        }
        cluster.sync()?;
        Ok(cluster)
    }

    /// A pod on a node, for programs of the test's, running and ready.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn pod(
        &mut self,
        node: usize,
        namespace: &str,
        name: &str,
        qos: Qos,
        labels: &Labels,
    ) -> Result<Workload> {
        let node = self.nodes.get_mut(node).context("there is no such node")?;
        let workload = Workload::new(node, namespace, name, qos)?;
        let running =
            Running { labels, qos, runtime: node.runtime, container: &workload.container, ready: true };
        self.api.apply(&objects::pod(&workload.pod, &running))?;
        Ok(workload)
    }

    /// Tells the API server of a DaemonSet's pod.
    ///
    /// # Errors
    /// When it refuses that.
    pub fn publish(&self, pod: &DaemonPod, daemon_set: &Value, ready: bool) -> Result<()> {
        let container = &pod.container;
        let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
        let labels: Labels = serde_json::from_value(labels.clone())?;
        let node = self.nodes.iter().find(|node| node.name == container.pod.node);
        let runtime = node.context("a pod of no node")?.runtime;
        let qos = container.spec.qos();
        let running = Running { labels: &labels, qos, runtime, container: &container.id, ready };
        let mut object = objects::pod(&container.pod, &running);
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true,
            "name": daemon_set["metadata"]["name"], "uid": daemon_set["metadata"]["uid"],
        }]);
        self.api.apply(&object).map(drop)
    }

    /// Tells the API server that a pod is gone.
    ///
    /// # Errors
    /// When it does not know what pods are.
    pub fn delete(&self, pod: &kubelet::Pod) -> Result<()> {
        let metadata = json!({"name": pod.name, "namespace": pod.namespace});
        self.api.delete(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})).map(drop)
    }

    /// Makes the EndpointSlices of all Services, and puts the Services in force on all nodes.
    ///
    /// # Errors
    /// When `nft` refuses them.
    pub fn sync(&self) -> Result<()> {
        let pods = self.api.list("v1", "Pod");
        let mut all = vec![Forwarded {
            from: API_SERVICE,
            to: vec![(self.api.address().ip(), self.api.address().port())],
        }];
        for service in self.api.list("v1", "Service") {
            if let Some((slice, forwarded)) = objects::endpoints(&service, &pods) {
                self.api.apply(&slice)?;
                all.extend(forwarded);
            }
        }
        self.nodes.iter().try_for_each(|node| node.net.services(&all))
    }

    /// What a pod with that service account finds.
    #[must_use]
    pub fn account(&self, namespace: &str, name: &str) -> Account {
        Account { token: self.api.token(namespace, name), ca: self.api.authority().to_owned() }
    }

    /// Where pods find the API server.
    #[must_use]
    pub fn api_service(&self) -> (String, u16) {
        (API_SERVICE.0.to_string(), API_SERVICE.1)
    }

    /// A folder for the test's own files, gone with the cluster.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.files.path()
    }
}

/// Where ConfigMaps, Secrets and the like are found.
pub trait Objects {
    /// The object of that kind and name, if there is one.
    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value>;
}

impl Objects for KubeApi {
    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.get("v1", kind, namespace, name)
    }
}

/// What Helm rendered.
impl Objects for Vec<Value> {
    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let fits = |object: &&Value| {
            let metadata = &object["metadata"];
            object["kind"] == kind && metadata["name"] == name && metadata["namespace"] == namespace
        };
        self.iter().find(fits).cloned()
    }
}

/// What containers are run by.
///
/// # Errors
/// When something is missing, saying what to install.
pub fn check() -> Result<()> {
    ensure!(crate::netns::is_root(), "a cluster of namespaces takes root");
    ensure!(crate::netns::cgroup2_mount().is_some(), "cgroup v2 is not mounted");
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in ["ip", "nft", "nsenter", "unshare", "crun"] {
        let there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        ensure!(there, "{program} is not installed (`cargo xtask setup` does that)");
    }
    ensure!(kubelet::seccomp::is_there(), "there is no seccomp profile (`cargo xtask setup` brings it)");
    Ok(())
}

/// 64 hexadecimal digits, as runtimes call containers.
#[must_use]
pub fn hex_id() -> String {
    random::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A pod's uid.
#[must_use]
pub fn uid() -> String {
    let hex = &hex_id()[..32];
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn random<const N: usize>() -> [u8; N] {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(8) {
        let number = RandomState::new().build_hasher().finish().to_le_bytes();
        chunk.copy_from_slice(&number[..chunk.len()]);
    }
    bytes
}
