//! A container's fields, and volumes', as [`super::spec`] understands them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::spec::SeccompProfile;

/// A container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The image's name: what is run is the folder that the kubelet was given for it.
    pub image: String,
    /// In place of the image's entry point.
    pub command: Option<Vec<String>>,
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Permissions.
    #[serde(default)]
    pub security_context: Security,
    /// Requests and limits.
    #[serde(default)]
    pub resources: Resources,
    /// Until it succeeds the others wait.
    pub startup_probe: Option<Probe>,
    /// Whether it is ready.
    pub readiness_probe: Option<Probe>,
    /// Whether it lives. It is asked as readiness is; nothing is restarted here.
    pub liveness_probe: Option<Probe>,
    /// Where volumes go.
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    /// Ports by their names.
    #[serde(default)]
    pub ports: Vec<Port>,
    #[serde(default, rename = "imagePullPolicy")]
    _image_pull_policy: Value,
}

/// A port that a probe may name.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its number.
    pub container_port: u16,
    #[serde(default, rename = "protocol")]
    _protocol: Value,
}

/// A variable.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// Or where that is from.
    pub value_from: Option<ValueFrom>,
}

/// Where a variable's value is from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ValueFrom {
    /// The pod itself.
    FieldRef(FieldRef),
    /// Its limits.
    ResourceFieldRef(ResourceFieldRef),
    /// A Secret's key.
    SecretKeyRef(KeyRef),
    /// A ConfigMap's key.
    ConfigMapKeyRef(KeyRef),
}

/// A field of the pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldRef {
    /// Such as `spec.nodeName`.
    pub field_path: String,
    #[serde(default, rename = "apiVersion")]
    _api_version: Value,
}

/// A resource of the container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceFieldRef {
    /// Such as `limits.memory`.
    pub resource: String,
    #[serde(default, rename = "containerName")]
    _container_name: Value,
}

/// A key of an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRef {
    /// The object.
    pub name: String,
    /// The key.
    pub key: String,
    /// Whether it may be missing.
    #[serde(default)]
    pub optional: bool,
}

/// `securityContext` of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// By default the image's.
    pub run_as_user: Option<u32>,
    /// By default the image's.
    pub run_as_group: Option<u32>,
    /// Refuses root.
    #[serde(default)]
    pub run_as_non_root: bool,
    /// Unless false, set-user-id programs work.
    pub allow_privilege_escalation: Option<bool>,
    /// Not to be had here.
    #[serde(default)]
    pub privileged: bool,
    /// Whether the image may be written to.
    #[serde(default)]
    pub read_only_root_filesystem: bool,
    /// What root may do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// In place of the pod's.
    pub seccomp_profile: Option<SeccompProfile>,
}

/// Capabilities, without `CAP_`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capabilities {
    /// More than the usual ones.
    #[serde(default)]
    pub add: Vec<String>,
    /// Fewer, or `ALL`.
    #[serde(default)]
    pub drop: Vec<String>,
}

/// Requests and limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// What is set aside.
    #[serde(default)]
    pub requests: BTreeMap<String, String>,
    /// What is the most.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
}

/// A question about a container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// By a program within it.
    pub exec: Option<Exec>,
    /// By HTTP.
    pub http_get: Option<HttpGet>,
    /// Seconds between two.
    #[serde(default = "ten")]
    pub period_seconds: u64,
    /// Seconds for an answer.
    #[serde(default = "one")]
    pub timeout_seconds: u64,
    /// How many have to fail.
    #[serde(default = "three")]
    pub failure_threshold: u64,
    /// Seconds before the first.
    #[serde(default)]
    pub initial_delay_seconds: u64,
    #[serde(default, rename = "successThreshold")]
    _success_threshold: Value,
}

const fn ten() -> u64 {
    10
}

const fn one() -> u64 {
    1
}

const fn three() -> u64 {
    3
}

/// A program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// With its arguments.
    pub command: Vec<String>,
}

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGet {
    /// Such as `/healthz`.
    pub path: String,
    /// A number, or a port's name.
    pub port: Value,
    #[serde(default, rename = "scheme")]
    _scheme: Value,
}

/// Where a volume goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMount {
    /// Which volume.
    pub name: String,
    /// Where.
    pub mount_path: String,
    /// Whether it may not be written to.
    #[serde(default)]
    pub read_only: bool,
}

/// A volume: one of its members says what it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// An object's keys as files.
    pub config_map: Option<ConfigMapSource>,
    /// The same of a Secret.
    pub secret: Option<SecretSource>,
    /// A folder that goes with the pod.
    pub empty_dir: Option<EmptyDir>,
    /// The node's own.
    pub host_path: Option<HostPath>,
}

/// A ConfigMap as a volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapSource {
    /// Which.
    pub name: String,
    /// Bits of the files.
    #[serde(default = "readable")]
    pub default_mode: u32,
}

/// A Secret as a volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSource {
    /// Which.
    pub secret_name: String,
    /// Bits of the files.
    #[serde(default = "readable")]
    pub default_mode: u32,
}

const fn readable() -> u32 {
    0o644
}

/// A folder of the pod's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmptyDir {
    /// `Memory`, or on the disk.
    #[serde(default)]
    pub medium: String,
    /// Held to in memory only.
    pub size_limit: Option<String>,
}

/// A folder of the node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPath {
    /// Where.
    pub path: String,
    /// `Directory`: it has to be there. `DirectoryOrCreate`.
    #[serde(rename = "type", default)]
    pub kind: String,
}
