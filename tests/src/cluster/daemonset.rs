//! A DaemonSet's pods: one a node, replaced one node after the other.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::kubelet::{self, Account, Container, Image, Pod, Profile, Wish};
use super::node::Node;
use super::{Objects, random, uid};
use crate::netns::NetNs;

/// What its pods are given beside what their template says.
pub struct Surroundings<'a> {
    /// ConfigMaps and Secrets.
    pub objects: &'a dyn Objects,
    /// What every image is here.
    pub image: &'a Image,
    /// What `RuntimeDefault` means.
    pub profile: Profile,
    /// What a service account of that namespace and name has.
    pub account: &'a dyn Fn(&str, &str) -> Option<Account>,
    /// Where the API server is, as pods are told.
    pub api: Option<(String, u16)>,
}

/// A pod of a DaemonSet.
#[derive(Debug)]
pub struct DaemonPod {
    /// What runs in it.
    pub container: Container,
    // After the container that is in it.
    _network: NetNs,
}

/// Starts a DaemonSet's pod on a node.
///
/// # Errors
/// When its template is not understood, or it cannot be run.
pub fn start(node: &mut Node, daemon_set: &Value, with: &Surroundings<'_>) -> Result<DaemonPod> {
    let metadata = &daemon_set["metadata"];
    let text = |key: &str| metadata[key].as_str().with_context(|| format!("a DaemonSet without {key}"));
    let (namespace, name) = (text("namespace")?, text("name")?);
    let spec = &daemon_set["spec"]["template"]["spec"];
    let (own, ip) = node.net.pod()?;
    let in_the_node = spec["hostNetwork"] == true;
    let pod = Pod {
        namespace: namespace.to_owned(),
        name: format!("{name}-{}", suffix()),
        uid: uid(),
        node: node.name.clone(),
        host_ip: node.net.ip,
        ip: if in_the_node { node.net.ip } else { ip },
    };
    let account = spec["serviceAccountName"].as_str().and_then(|account| (with.account)(namespace, account));
    let wish = Wish {
        pod,
        spec,
        objects: with.objects,
        image: with.image,
        network: if in_the_node { &node.net.host } else { &own },
        profile: with.profile,
        account: account.as_ref(),
        api: with.api.clone(),
    };
    let container = kubelet::start(node, &wish)?;
    Ok(DaemonPod { container, _network: own })
}

/// Five characters, as controllers put them behind names.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    random::<5>().iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Pods by their nodes' names.
pub type DaemonPods = BTreeMap<String, DaemonPod>;
