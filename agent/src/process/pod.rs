//! The pod in a cgroup path, as the kubelet writes it: with either cgroup driver (cgroupfs, systemd), in cgroup v1 and v2,
//! below another cgroup root, and in nodes that are containers themselves (kind, k3d).

use std::fmt;

/// Hexadecimal digits of a UID.
const DIGITS: usize = 32;
/// Where a UID has its dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// What the kubelet calls a pod: the UID of its object, or for a static pod the hash of its manifest (which the object in the
/// API has as annotation `kubernetes.io/config.hash`, for its own UID is another one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid {
    bytes: [u8; DIGITS / 2],
    /// As Kubernetes writes UIDs; hashes have no dashes.
    dashed: bool,
}

impl PodUid {
    /// A UID as Kubernetes writes it, or as cgroups have it: 32 hexadecimal digits with four dashes (or underscores), or without.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let dashed = match text.len() {
            DIGITS => false,
            length if length == DIGITS + DASHES.len() => true,
            _ => return None,
        };
        let mut uid = Self { bytes: [0; DIGITS / 2], dashed };
        let mut digit = 0;
        for (at, byte) in text.iter().enumerate() {
            if dashed && DASHES.contains(&at) {
                if !matches!(byte, b'-' | b'_') {
                    return None;
                }
                continue;
            }
            let value = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            uid.bytes[digit / 2] |= value << if digit % 2 == 0 { 4 } else { 0 };
            digit += 1;
        }
        Some(uid)
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.bytes.iter().enumerate() {
            if self.dashed && matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The innermost pod of a cgroup path, if there is one.
#[must_use]
pub fn pod_uid(path: &str) -> Option<PodUid> {
    path.rsplit('/').find_map(|folder| {
        // systemd's name for a container, made a folder by the cgroupfs driver: `<slice>:<runtime>:<id>`.
        in_folder(folder.split(':').next().unwrap_or(folder))
    })
}

/// The pod whose own cgroup a folder of that name is: `pod<uid>`, or `…-pod<uid>.slice` (systemd).
#[must_use]
pub fn in_folder(folder: &str) -> Option<PodUid> {
    let slice = folder.strip_suffix(".slice");
    let name = slice.unwrap_or(folder);
    let at = name.rfind("pod")?;
    let (before, uid) = (&name[..at], &name[at + 3..]);
    let named = if slice.is_some() { before.ends_with('-') } else { before.is_empty() };
    if named { PodUid::parse(uid) } else { None }
}

/// Of the lines of `/proc/PID/cgroup` (`hierarchy:controllers:path`), the first with a pod.
#[must_use]
pub fn pod_of_process(lines: &str) -> Option<PodUid> {
    lines.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(pod_uid)
}

#[cfg(test)]
mod tests {
    use super::super::{container_id, container_of_process};
    use super::*;

    const UID: &str = "6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f";
    const HASH: &str = "a3c1d5e79b8f6042a3c1d5e79b8f6042";
    const ID: &str = "3f4b8c1d2e9a7065f1c0b3d4e5a69788796a5b4c3d2e1f0a9b8c7d6e5f4a3b2c";
    const OTHER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Paths as nodes have them: `U` the UID, `V` the same with underscores, `H` a manifest's hash, `A` and `B` containers.
    #[test]
    fn drivers_runtimes_and_nodes_in_containers() {
        let (u, h) = (Some(UID), Some(HASH));
        let (a, b) = (Some(ID), Some(OTHER));
        let table = [
            // cgroupfs: docker and containerd, CRI-O, each quality of service
            ("/kubepods/burstable/podU/A", u, a),
            ("/kubepods/besteffort/podU/A", u, a),
            ("/kubepods/podU/A", u, a),
            ("/kubepods/podU/crio-A", u, a),
            ("/kubepods/podU", u, None),
            // systemd: containerd, docker (cri-dockerd), CRI-O with a cgroup inside
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podV.slice/cri-containerd-A.scope",
                u,
                a,
            ),
            ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podV.slice/docker-A.scope", u, a),
            ("/kubepods.slice/kubepods-podV.slice/crio-A.scope", u, a),
            ("/kubepods.slice/kubepods-podV.slice/crio-A.scope/container", u, a),
            ("/kubepods.slice/kubepods-podV.slice/crio-conmon-A.scope", u, None),
            ("/kubepods.slice/kubepods-podV.slice", u, None),
            // a service manager within the container
            ("/kubepods.slice/kubepods-podV.slice/cri-containerd-A.scope/system.slice/sshd.service", u, a),
            // the kubelet's driver is systemd, the runtime's is not
            ("/system.slice/containerd.service/kubepods-burstable-podV.slice:cri-containerd:A", u, a),
            ("/system.slice/kubepods-podV.slice:docker:A", u, a),
            // static pods: the hash of their manifest
            ("/kubepods/burstable/podH/A", h, a),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podH.slice/cri-containerd-A.scope",
                h,
                a,
            ),
            // kind: systemd, and cgroupfs of older ones; below the container that is the node; k3d
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podV.slice/cri-containerd-A.scope",
                u,
                a,
            ),
            ("/kubelet/kubepods/besteffort/podU/A", u, a),
            (
                "/system.slice/docker-B.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podV.slice/cri-containerd-A.scope",
                u,
                a,
            ),
            ("/docker/B/kubelet/kubepods/burstable/podU/A", u, a),
            ("/docker/B/kubepods/podU/A", u, a),
            // another cgroup root
            ("/custom.slice/custom-kubepods.slice/custom-kubepods-podV.slice/crio-A.scope", u, a),
            // a pod's kubelet within a pod: the innermost
            ("/kubepods/podH/B/kubepods/burstable/podU/A", u, a),
            // from inside a cgroup namespace
            ("/../podU/A", u, a),
            ("/../../../kubepods-podV.slice/cri-containerd-A.scope", u, a),
            // no pods
            ("/", None, None),
            ("", None, None),
            ("/docker/A", None, a),
            ("/system.slice/docker-A.scope", None, a),
            ("/kubepods.slice/kubepods-burstable.slice", None, None),
            ("/machine.slice/machine-libpod_pod_A.slice/libpod-B.scope", None, b),
            ("/libpod_parent/libpod-A", None, a),
            ("/system.slice/podman.service", None, None),
            ("/user.slice/tripodU.slice", None, None),
            ("/kubepods/podU0/x", None, None),
            ("/kubepods/pod6f1b5c3e/A", None, a),
            ("/kubepods/podÄ6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5", None, None),
        ];
        for (form, pod, container) in table {
            let path = form
                .replace('U', UID)
                .replace('V', &UID.replace('-', "_"))
                .replace('H', HASH)
                .replace('A', ID)
                .replace('B', OTHER);
            assert_eq!(pod_uid(&path).map(|uid| uid.to_string()).as_deref(), pod, "{form}");
            assert_eq!(container_id(&path), container, "{form}");
        }
    }

    #[test]
    fn of_a_process_in_either_version() {
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        let v2 = format!("0::/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{ID}.scope\n");
        let v1 = format!(
            "12:cpuset:/kubepods/burstable/pod{UID}/{ID}\n11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{ID}\n\
             1:name=systemd:/kubepods/burstable/pod{UID}/{ID}\n0::/system.slice/containerd.service\n"
        );
        let hybrid = format!("4:memory:/system.slice/containerd.service/{slice}:cri-containerd:{ID}\n0::/\n");
        for lines in [v2, v1, hybrid] {
            assert_eq!(pod_of_process(&lines).map(|uid| uid.to_string()).as_deref(), Some(UID), "{lines}");
            assert_eq!(container_of_process(&lines), Some(ID), "{lines}");
        }
        assert_eq!(pod_of_process("0::/\n"), None);
        assert_eq!(pod_of_process(""), None);
    }

    #[test]
    fn uids_are_as_they_were_written() {
        assert_eq!(PodUid::parse(UID), PodUid::parse(&UID.replace('-', "_")));
        assert_ne!(PodUid::parse(UID), PodUid::parse(&UID.replace('-', "")), "a hash is no UID");
        assert_eq!(PodUid::parse(&UID.to_uppercase()), None);
        assert_eq!(size_of::<Option<PodUid>>(), 17);
    }
}
