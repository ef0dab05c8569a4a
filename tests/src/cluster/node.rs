//! A node: a network, cgroups, files of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::cgroups::{Driver, Runtime};
use super::net::{NodeNet, Rack};

/// What a node is like.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// How its kubelet names cgroups.
    pub driver: Driver,
    /// What makes its containers.
    pub runtime: Runtime,
}

impl NodeConfig {
    /// One by containerd.
    #[must_use]
    pub fn new(name: &str, driver: Driver) -> Self {
        Self { name: name.to_owned(), driver, runtime: Runtime::Containerd }
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// How its kubelet names cgroups.
    pub driver: Driver,
    /// What makes its containers.
    pub runtime: Runtime,
    /// Its network.
    pub net: NodeNet,
    /// The root of its cgroups, as this machine sees it.
    pub cgroup: PathBuf,
    /// `root` is the root of its file system, as far as it has files of its own; the rest is the test's.
    pub files: PathBuf,
}

impl Node {
    pub(super) fn new(
        config: &NodeConfig,
        number: u8,
        nodes: u8,
        rack: &Rack,
        tree: &Path,
        files: &Path,
    ) -> Result<Self> {
        let (cgroup, files) = (tree.join(&config.name), files.join(&config.name));
        fs::create_dir(&cgroup).with_context(|| cgroup.display().to_string())?;
        // What kubelets make at their start, whether there are such pods or not; and a service beside it.
        let folders = match config.driver {
            Driver::Systemd => [
                "kubepods.slice/kubepods-burstable.slice",
                "kubepods.slice/kubepods-besteffort.slice",
                "system.slice/containerd.service",
            ],
            Driver::Cgroupfs => ["kubepods/burstable", "kubepods/besteffort", "system.slice/kubelet.service"],
        };
        for folder in folders {
            fs::create_dir_all(cgroup.join(folder))?;
        }
        fs::create_dir_all(files.join("root"))?;
        Ok(Self {
            name: config.name.clone(),
            driver: config.driver,
            runtime: config.runtime,
            net: NodeNet::new(rack, number, nodes)?,
            cgroup,
            files,
        })
    }

    /// A path of the node's, as this machine sees it.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.files.join("root").join(path.trim_start_matches('/'))
    }
}
