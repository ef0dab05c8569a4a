//! The part of a pod's template that this kubelet understands. What it does not, it refuses: a test that ran a pod without
//! some of its wishes would be about another pod.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

pub use super::fields::*;
use crate::cluster::Qos;

/// `spec` of a pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// The account whose token is mounted.
    #[serde(default = "default_account")]
    pub service_account_name: String,
    /// Whether it is.
    #[serde(default = "yes")]
    pub automount_service_account_token: bool,
    /// Variables for other services: not made here, so it has to be off.
    #[serde(default = "yes")]
    pub enable_service_links: bool,
    /// The node's network namespace.
    #[serde(default)]
    pub host_network: bool,
    /// The machine's pid namespace.
    #[serde(default, rename = "hostPID")]
    pub host_pid: bool,
    /// Seconds between SIGTERM and SIGKILL.
    #[serde(default = "grace")]
    pub termination_grace_period_seconds: u64,
    /// For all containers.
    #[serde(default)]
    pub security_context: PodSecurity,
    /// One only.
    pub containers: Vec<Container>,
    /// By name.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    #[serde(default, rename = "dnsPolicy")]
    _dns_policy: Value,
    #[serde(default, rename = "imagePullSecrets")]
    _image_pull_secrets: Value,
    #[serde(default, rename = "priorityClassName")]
    _priority_class_name: Value,
    #[serde(default, rename = "nodeSelector")]
    _node_selector: Value,
    #[serde(default, rename = "affinity")]
    _affinity: Value,
    #[serde(default, rename = "tolerations")]
    _tolerations: Value,
}

fn default_account() -> String {
    "default".to_owned()
}

const fn yes() -> bool {
    true
}

const fn grace() -> u64 {
    30
}

/// `securityContext` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSecurity {
    /// By default none.
    pub seccomp_profile: Option<SeccompProfile>,
}

/// Which system calls are let through.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeccompProfile {
    /// `RuntimeDefault`, `Unconfined`; `Localhost` is not to be had here.
    #[serde(rename = "type")]
    pub kind: String,
}

impl PodSpec {
    /// Reads one, and refuses what this kubelet cannot do.
    ///
    /// # Errors
    /// Naming what it does not understand.
    pub fn read(spec: &Value) -> Result<Self> {
        let spec = Self::deserialize(spec).context("the pod's spec is not understood")?;
        ensure!(spec.containers.len() == 1, "{} containers: one is understood", spec.containers.len());
        ensure!(!spec.enable_service_links, "enableServiceLinks: only false is understood");
        let container = spec.container();
        ensure!(!container.security_context.privileged, "privileged containers are not run here");
        let profiles = [&spec.security_context.seccomp_profile, &container.security_context.seccomp_profile];
        for profile in profiles.into_iter().flatten() {
            let known = ["RuntimeDefault", "Unconfined"].contains(&&*profile.kind);
            ensure!(known, "seccompProfile: {} is not to be had here", profile.kind);
        }
        Ok(spec)
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.containers[0]
    }

    /// Whether system calls are filtered.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        let own = self.container().security_context.seccomp_profile.as_ref();
        own.or(self.security_context.seccomp_profile.as_ref()).is_some_and(|p| p.kind == "RuntimeDefault")
    }

    /// The class that follows from the resources.
    #[must_use]
    pub fn qos(&self) -> Qos {
        let Resources { requests, limits } = &self.container().resources;
        let both = ["cpu", "memory"];
        let of = |which: &str| requests.get(which).or_else(|| limits.get(which));
        if requests.is_empty() && limits.is_empty() {
            Qos::BestEffort
        } else if both.iter().all(|w| limits.contains_key(*w) && of(w) == limits.get(*w)) {
            Qos::Guaranteed
        } else {
            Qos::Burstable
        }
    }
}

/// Bytes of a quantity such as `1Gi` or `500M`.
///
/// # Errors
/// When it is none.
pub fn bytes(quantity: &str) -> Result<u64> {
    let end = quantity.find(|c: char| !c.is_ascii_digit()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(end);
    let number: u64 = number.parse().with_context(|| format!("quantity {quantity:?}"))?;
    let unit = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => bail!("quantity {quantity:?}"),
    };
    number.checked_mul(unit).context("a quantity that is too large")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let pod = |container: Value| json!({"enableServiceLinks": false, "containers": [container]});
        let read = |container| PodSpec::read(&pod(container)).map_err(|error| format!("{error:#}"));
        assert!(read(json!({"name": "a", "image": "b"})).is_ok());
        let error = read(json!({"name": "a", "image": "b", "lifecycle": {}})).unwrap_err();
        assert!(error.contains("lifecycle"), "{error}");
        let error = read(json!({"name": "a", "image": "b", "securityContext": {"privileged": true}}));
        assert!(error.unwrap_err().contains("privileged"));
        let mut odd = pod(json!({"name": "a", "image": "b"}));
        odd["volumes"] = json!([{"name": "v", "nfs": {"server": "x"}}]);
        assert!(format!("{:#}", PodSpec::read(&odd).unwrap_err()).contains("nfs"));
    }

    #[test]
    fn the_class_of_service_follows_from_the_resources() {
        let qos = |resources: Value| {
            let container = json!({"name": "a", "image": "b", "resources": resources});
            let pod = json!({"enableServiceLinks": false, "containers": [container]});
            PodSpec::read(&pod).unwrap().qos()
        };
        assert_eq!(qos(json!({})), Qos::BestEffort);
        assert_eq!(qos(json!({"requests": {"cpu": "1"}})), Qos::Burstable);
        assert_eq!(qos(json!({"limits": {"memory": "1Gi"}})), Qos::Burstable);
        assert_eq!(qos(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), Qos::Guaranteed);
        let less =
            json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(qos(less), Qos::Burstable);
    }

    #[test]
    fn quantities() {
        assert_eq!(bytes("1Gi").unwrap(), 1 << 30);
        assert_eq!(bytes("500M").unwrap(), 500_000_000);
        assert!(bytes("1x").is_err() && bytes("").is_err());
    }
}
