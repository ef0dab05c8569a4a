//! A pod's container as an OCI runtime's configuration: what containerd's CRI plugin makes of the same pod.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::seccomp::{self, Profile};
use super::spec::{Capabilities, PodSpec};
use super::{Image, Pod};

/// What a container has unless it says otherwise.
const USUAL: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What `config.json` is made of.
pub(super) struct Parts<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a PodSpec,
    pub(super) image: &'a Image,
    pub(super) env: Vec<String>,
    pub(super) mounts: Vec<Value>,
    /// The network namespace.
    pub(super) network: &'a Path,
    pub(super) profile: Profile,
}

/// `config.json`.
///
/// # Errors
/// When the pod asks for what is not to be had here.
pub(super) fn config(parts: Parts<'_>) -> Result<Value> {
    let Parts { pod, spec, image, env, mounts, network, profile } = parts;
    let container = spec.container();
    let security = &container.security_context;
    ensure!(security.read_only_root_filesystem, "readOnlyRootFilesystem: only true is to be had here");
    let user = security.run_as_user.unwrap_or(image.user.0);
    ensure!(!(security.run_as_non_root && user == 0), "runAsNonRoot, and the user is root");
    let capabilities = capabilities(&security.capabilities);
    let args: Vec<_> = container.command.iter().flatten().chain(&container.args).collect();
    let entry = if container.command.is_some() { &[][..] } else { &image.entrypoint };
    let mut linux = json!({
        "namespaces": namespaces(spec, network),
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
    });
    if spec.is_confined() {
        linux["seccomp"] = seccomp::rules(profile, &capabilities).context("seccompProfile")?;
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": user, "gid": security.run_as_group.unwrap_or(image.user.1)},
            "args": entry.iter().chain(args).collect::<Vec<_>>(),
            "env": env,
            "cwd": "/",
            // As Kubernetes gives them: neither inheritable nor ambient.
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": security.allow_privilege_escalation == Some(false),
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": pod.name,
        "mounts": all_mounts(mounts),
        "linux": linux,
    }))
}

fn namespaces(spec: &PodSpec, network: &Path) -> Vec<Value> {
    let mut kinds = vec!["ipc", "uts", "mount", "cgroup"];
    if !spec.host_pid {
        kinds.push("pid");
    }
    let own = kinds.into_iter().map(|kind| json!({"type": kind}));
    own.chain([json!({"type": "network", "path": network})]).collect()
}

/// The usual ones, but for those in whose place the pod has its own.
fn all_mounts(own: Vec<Value>) -> Vec<Value> {
    let usual = [
        ("/proc", "proc", "proc", json!(["nosuid", "noexec", "nodev"])),
        ("/dev", "tmpfs", "tmpfs", json!(["nosuid", "strictatime", "mode=755", "size=65536k"])),
        ("/dev/shm", "tmpfs", "shm", json!(["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])),
        ("/sys", "sysfs", "sysfs", json!(["nosuid", "noexec", "nodev", "ro"])),
        ("/sys/fs/cgroup", "cgroup", "cgroup", json!(["nosuid", "noexec", "nodev", "ro"])),
    ];
    let taken = |at: &str| own.iter().any(|mount| mount["destination"] == at);
    let usual = usual.into_iter().filter(|(at, ..)| !taken(at));
    let usual = usual.map(|(at, kind, source, options)| {
        json!({"destination": at, "type": kind, "source": source, "options": options})
    });
    let usual: Vec<_> = usual.collect();
    usual.into_iter().chain(own).collect()
}

/// With `CAP_`, sorted.
fn capabilities(wanted: &Capabilities) -> Vec<String> {
    let bare = |cap: &String| cap.to_uppercase().trim_start_matches("CAP_").to_owned();
    let (add, drop): (Vec<_>, Vec<_>) =
        (wanted.add.iter().map(bare).collect(), wanted.drop.iter().map(bare).collect());
    let all_dropped = drop.iter().any(|cap| cap == "ALL");
    let usual = USUAL.iter().map(|&cap| cap.to_owned());
    let kept = usual.filter(|cap| !all_dropped && !drop.contains(cap));
    let mut all: Vec<_> = kept.chain(add).map(|cap| format!("CAP_{cap}")).collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_dropped_before_others_are_added() {
        let set = |add: &[&str], drop: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|&cap| cap.to_owned()).collect();
            capabilities(&Capabilities { add: own(add), drop: own(drop) })
        };
        assert_eq!(set(&["BPF", "NET_ADMIN"], &["ALL"]), ["CAP_BPF", "CAP_NET_ADMIN"]);
        assert_eq!(set(&[], &[]).len(), USUAL.len());
        assert_eq!(set(&["BPF"], &["KILL"]).len(), USUAL.len());
        assert_eq!(set(&[], &["ALL"]), [""; 0]);
    }

    #[test]
    fn what_a_pod_mounts_stands_for_the_usual() {
        let own = json!({"destination": "/sys/fs/cgroup", "type": "bind"});
        let all = all_mounts(vec![own]);
        let of: Vec<_> = all.iter().filter(|mount| mount["destination"] == "/sys/fs/cgroup").collect();
        assert_eq!(of.len(), 1);
        assert_eq!(of[0]["type"], "bind");
    }
}
