//! cgroups as the kubelet and container runtimes lay them out, below a folder of the test's own.
//!
//! A [`Tree`] is removed with all that runs in it when it is dropped. Should this process be killed, its guardian, a shell that
//! waits for the other end of a pipe, does the same.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::netns;

/// How the kubelet names cgroups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// `kubepods.slice/kubepods-burstable.slice/…`
    Systemd,
    /// `kubepods/burstable/…`
    Cgroupfs,
}

/// What makes containers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runtime {
    /// containerd
    Containerd,
    /// CRI-O
    Crio,
}

/// A pod's class of service, which decides where its cgroup is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qos {
    /// Requests are limits.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None.
    BestEffort,
}

impl Qos {
    /// As in a pod's status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    const fn folder(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }
}

impl Runtime {
    /// The id as in a pod's status.
    #[must_use]
    pub fn url(self, id: &str) -> String {
        match self {
            Self::Containerd => format!("containerd://{id}"),
            Self::Crio => format!("cri-o://{id}"),
        }
    }
}

/// A container's cgroup below the node's root.
#[must_use]
pub fn container(driver: Driver, runtime: Runtime, qos: Qos, uid: &str, id: &str) -> PathBuf {
    let mut path = PathBuf::new();
    match driver {
        Driver::Systemd => {
            // A slice's folder is within those that its name tells, and a dash parts them.
            let mut slice = String::from("kubepods");
            path.push("kubepods.slice");
            if let Some(folder) = qos.folder() {
                slice = format!("{slice}-{folder}");
                path.push(format!("{slice}.slice"));
            }
            path.push(format!("{slice}-pod{}.slice", uid.replace('-', "_")));
            path.push(match runtime {
                Runtime::Containerd => format!("cri-containerd-{id}.scope"),
                Runtime::Crio => format!("crio-{id}.scope"),
            });
        }
        Driver::Cgroupfs => {
            path.push("kubepods");
            path.extend(qos.folder());
            path.push(format!("pod{uid}"));
            path.push(match runtime {
                Runtime::Containerd => id.to_owned(),
                Runtime::Crio => format!("crio-{id}"),
            });
        }
    }
    path
}

/// A cgroup v2 folder of our own with everything in it.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    guardian: Option<(Child, ChildStdin)>,
}

/// Ends everything in a tree and removes it and a folder of files. It is read by `sh` and told both.
const GUARD: &str = r#"
trap '' INT TERM HUP
read -r _
if [ -d "$1" ]; then
  echo 1 > "$1/cgroup.kill"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$1" ] || break
    sleep 0.2
  done
fi
rm -rf "$2"
"#;

impl Tree {
    /// Makes one right below the mount of cgroup v2. `files` is a folder that must not outlive it.
    ///
    /// # Errors
    /// When cgroup v2 is not mounted, or the folder cannot be made.
    pub fn new(tag: &str, files: &Path) -> Result<Self> {
        let mount = netns::cgroup2_mount().context("cgroup v2 is not mounted")?;
        let path = mount.join(format!("remora-{tag}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let mut guardian = Command::new("sh");
        guardian.args(["-c", GUARD, "guardian"]).arg(&path).arg(files);
        // A group of its own: Ctrl-C at the terminal is not for it.
        guardian.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut tree = Self { path, guardian: None };
        let mut guardian = guardian.spawn().context("starting a shell")?;
        tree.guardian = guardian.stdin.take().map(|stdin| (guardian, stdin));
        Ok(tree)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        remove(&self.path);
        if let Some((mut guardian, stdin)) = self.guardian.take() {
            drop(stdin);
            let _ = guardian.wait();
        }
    }
}

/// Kills what runs in a cgroup and below, and removes it. What was not there is no matter.
pub fn remove(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let deadline = Instant::now() + Duration::from_secs(5);
    while remove_folders(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
        if Instant::now() > deadline {
            eprintln!("the cgroup {} cannot be removed", path.display());
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove_folders(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_folders(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_real_nodes() {
        let uid = "6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f";
        let table = [
            (
                (Driver::Systemd, Runtime::Containerd, Qos::Burstable),
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6f1b5c3e_2d4a_4c8e_9b57_0a1b2c3d4e5f.slice/cri-containerd-ID.scope",
            ),
            (
                (Driver::Systemd, Runtime::Crio, Qos::Guaranteed),
                "kubepods.slice/kubepods-pod6f1b5c3e_2d4a_4c8e_9b57_0a1b2c3d4e5f.slice/crio-ID.scope",
            ),
            (
                (Driver::Cgroupfs, Runtime::Containerd, Qos::BestEffort),
                "kubepods/besteffort/pod6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f/ID",
            ),
            (
                (Driver::Cgroupfs, Runtime::Crio, Qos::Guaranteed),
                "kubepods/pod6f1b5c3e-2d4a-4c8e-9b57-0a1b2c3d4e5f/crio-ID",
            ),
        ];
        for ((driver, runtime, qos), path) in table {
            assert_eq!(container(driver, runtime, qos, uid, "ID"), Path::new(path));
        }
    }

    #[test]
    fn a_tree_goes_with_all_that_runs_in_it() {
        if !netns::is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let files = tempfile::tempdir().unwrap();
        let tree = Tree::new("tree", files.path()).unwrap();
        let inside = tree.path().join("a/b");
        fs::create_dir_all(&inside).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\"; exec sleep 60"]).arg(&inside);
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(inside.join("cgroup.procs")).unwrap().is_empty() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
        let path = tree.path().to_owned();
        drop(tree);
        assert!(!path.exists() && !files.path().exists());
        assert!(!child.wait().unwrap().success());
    }
}
