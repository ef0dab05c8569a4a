//! A Kubernetes cluster on one machine, as far as an agent on its nodes can tell.
//!
//! Nodes are network namespaces with cgroups laid out as the kubelet does it; their pods are namespaces behind a bridge, reached
//! by their own addresses and by Services. DaemonSets' pods run in containers, by [`kubelet`], as their template says.
//!
//! All of it is below one cgroup and one folder of our own, and gone with the [`Cluster`], however the process ends. It needs root,
//! cgroup v2 (beside version 1 is enough), `ip`, `nft`, `nsenter`, and `crun` for containers.

pub mod cgroups;
pub mod daemonset;
pub mod kubelet;
pub mod net;
pub mod node;
mod workload;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

pub use cgroups::{Driver, Qos, Runtime};
pub use node::{Node, NodeConfig};
pub use workload::Workload;

use cgroups::Tree;
use net::Rack;

/// Nodes, and what joins them.
#[derive(Debug)]
pub struct Cluster {
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
        let nodes = (1..).zip(nodes).map(|(number, config)| {
            Node::new(config, number, count, &rack, tree.path(), files.path())
                .with_context(|| format!("node {}", config.name))
        });
        Ok(Self { nodes: nodes.collect::<Result<_>>()?, rack, _tree: tree, files })
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
