//! Pods whose programs a test starts itself: a network namespace and a cgroup, and nothing else of a container.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::kubelet::Pod;
use super::node::Node;
use super::{Qos, cgroups, hex_id, uid};
use crate::netns::NetNs;

/// A pod with a container in which programs can be started.
#[derive(Debug)]
pub struct Workload {
    /// Who it is.
    pub pod: Pod,
    /// Its container's id, 64 hexadecimal digits.
    pub container: String,
    /// Its network.
    pub net: NetNs,
    /// Its class of service.
    pub qos: Qos,
    cgroup: PathBuf,
    sandbox: PathBuf,
}

impl Workload {
    /// Makes one on a node.
    ///
    /// # Errors
    /// When its network or cgroup cannot be made.
    pub fn new(node: &mut Node, namespace: &str, name: &str, qos: Qos) -> Result<Self> {
        let (net, ip) = node.net.pod()?;
        let pod = Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid(),
            node: node.name.clone(),
            host_ip: node.net.ip,
            ip,
        };
        let make = |id: &str| {
            let path = node.cgroup.join(cgroups::container(node.driver, node.runtime, qos, &pod.uid, id));
            fs::create_dir_all(&path).with_context(|| path.display().to_string()).map(|()| path)
        };
        let container = hex_id();
        // The sandbox (pause) has a container of its own in the same pod.
        let (sandbox, cgroup) = (make(&hex_id())?, make(&container)?);
        Ok(Self { pod, container, net, qos, cgroup, sandbox })
    }

    /// A program in the container: in its cgroup before the first instruction, and in its network. It has no input; its
    /// output is the caller's to direct.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]).arg(&self.cgroup);
        command.arg("nsenter").arg(format!("--net={}", self.net.path().display())).arg("--").arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// The same for a command that was put together already.
    #[must_use]
    pub fn inside(&self, given: &Command) -> Command {
        let mut command = self.command(given.get_program());
        command.args(given.get_args());
        for (key, value) in given.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        for path in [&self.cgroup, &self.sandbox] {
            cgroups::remove(path);
        }
        if let Some(pod) = self.cgroup.parent() {
            cgroups::remove(pod);
        }
    }
}
