//! The container's id in a cgroup path, as container runtimes write it: docker, containerd, CRI-O, podman, with either
//! cgroup driver (cgroupfs, systemd), in cgroup v1 and v2.

/// Hexadecimal digits of a container id.
const ID: usize = 64;

/// The id of the innermost container in a cgroup path, if there is one.
#[must_use]
pub fn container_id(path: &str) -> Option<&str> {
    let ecs = path.starts_with("/ecs/");
    path.rsplit('/').find_map(|folder| in_folder(folder).or_else(|| ecs.then(|| fargate(folder)).flatten()))
}

/// `<id>`, `<runtime>-<id>.scope` (systemd), or `<slice>:<runtime>:<id>` (systemd's name, made by the cgroupfs driver).
fn in_folder(folder: &str) -> Option<&str> {
    let name = folder.strip_suffix(".scope").unwrap_or(folder);
    let name = name.rsplit(':').next().unwrap_or(name);
    let at = name.len().checked_sub(ID)?;
    let (runtime, id) = name.split_at_checked(at)?;
    let named = runtime.is_empty() || runtime.ends_with('-');
    // The monitor of a container is outside of it.
    let monitor = runtime.ends_with("conmon-");
    (named && !monitor && is_hex(id)).then_some(id)
}

/// ECS on Fargate: the task's id, and a number.
fn fargate(folder: &str) -> Option<&str> {
    let (task, number) = folder.split_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (task.len() == 32 && is_hex(task) && is_number).then_some(folder)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Of the lines of `/proc/PID/cgroup` (`hierarchy:controllers:path`), the first with a container.
#[must_use]
pub fn container_of_process(lines: &str) -> Option<&str> {
    lines.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(container_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3f4b8c1d2e9a7065f1c0b3d4e5a69788796a5b4c3d2e1f0a9b8c7d6e5f4a3b2c";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Paths as nodes have them, `A` and `B` standing for ids.
    #[test]
    fn runtimes_and_drivers() {
        let table = [
            // docker: cgroupfs, systemd, rootless
            ("/docker/A", Some(A)),
            ("/system.slice/docker-A.scope", Some(A)),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/docker-A.scope", Some(A)),
            ("/actions_job/A", Some(A)),
            // Kubernetes with docker or containerd, cgroupfs
            ("/kubepods/burstable/pod6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f/A", Some(A)),
            ("/kubepods/pod6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f/A", Some(A)),
            ("/kubepods/besteffort/pod6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f", None),
            // containerd, systemd
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6f1b5c3e_2d4a_4c8e_9b57_0a1b2c3d4e5f.slice/cri-containerd-A.scope",
                Some(A),
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-pod6f1b5c3e_2d4a_4c8e_9b57_0a1b2c3d4e5f.slice:cri-containerd:A",
                Some(A),
            ),
            ("/system.slice/nerdctl-A.scope", Some(A)),
            ("/default/A", Some(A)),
            // CRI-O: systemd, cgroupfs, with a cgroup inside; its monitor
            ("/kubepods.slice/kubepods-pod6f1b5c3e_2d4a_4c8e_9b57_0a1b2c3d4e5f.slice/crio-A.scope", Some(A)),
            ("/kubepods/burstable/pod6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f/crio-A", Some(A)),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6f1b5c3e.slice/crio-A.scope/container",
                Some(A),
            ),
            ("/kubepods.slice/kubepods-pod6f1b5c3e.slice/crio-conmon-A.scope", None),
            // podman
            ("/machine.slice/libpod-A.scope/container", Some(A)),
            ("/machine.slice/libpod-conmon-A.scope", None),
            ("/libpod_parent/libpod-A", Some(A)),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-A.scope", Some(A)),
            // ECS, on machines and on Fargate
            ("/ecs/55091c13c8cf4c219b549618fce3bc3e/A", Some(A)),
            (
                "/ecs/55091c13c8cf4c219b549618fce3bc3e/55091c13c8cf4c219b549618fce3bc3e-2531612879",
                Some("55091c13c8cf4c219b549618fce3bc3e-2531612879"),
            ),
            // containers in containers: the innermost; a service within one
            ("/docker/A/kubelet/kubepods/burstable/pod6f1b5c3e/B", Some(B)),
            (
                "/system.slice/docker-A.scope/kubelet.slice/kubelet-kubepods.slice/cri-containerd-B.scope",
                Some(B),
            ),
            ("/docker/A/system.slice/nginx.service", Some(A)),
            // from inside a cgroup namespace
            ("/../../pod6f1b5c3e/A", Some(A)),
            // none
            ("/", None),
            ("", None),
            ("/init.scope", None),
            ("/system.slice/nginx.service", None),
            ("/user.slice/user-1000.slice/session-2.scope", None),
            ("/system.slice/docker.service", None),
            ("/lxc/web", None),
            ("/kubepods/burstable/pod6f1b5c3e/xA", None),
            ("/docker/ÄA", None),
        ];
        for (form, expected) in table {
            let path = form.replace('A', A).replace('B', B);
            assert_eq!(container_id(&path), expected, "{form}");
        }
        assert_eq!(container_id(&format!("/docker/{}", A.to_uppercase())), None, "runtimes write lower case");
        assert_eq!(container_id(&format!("/docker/{}", &A[1..])), None);
    }

    #[test]
    fn version_one_has_a_line_for_each_hierarchy() {
        let v1 = format!(
            "12:pids:/docker/{A}\n11:cpu,cpuacct:/docker/{A}\n1:name=systemd:/docker/{A}\n0::/system.slice/containerd.service\n"
        );
        assert_eq!(container_of_process(&v1), Some(A));
        let hybrid = format!("4:memory:/kubepods/burstable/podx:y/{B}\n0::/\n");
        assert_eq!(container_of_process(&hybrid), Some(B));
        let v2 = format!("0::/system.slice/docker-{A}.scope\n");
        assert_eq!(container_of_process(&v2), Some(A));
        assert_eq!(container_of_process("0::/user.slice\n"), None);
        assert_eq!(container_of_process(""), None);
    }
}
