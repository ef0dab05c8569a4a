//! Network namespaces of our own, by iproute2: made, entered, and gone with their guard.
//!
//! Every one is called `remora-NAME-PID` after the process that made it, so that what a killed process left can be
//! told from what is in use. Nothing outside these namespaces is ever touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{project, run};

const PREFIX: &str = "remora-";

/// A namespace that is deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with loopback up.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let netns = Self { name: format!("{PREFIX}{name}-{}", std::process::id()) };
        ip(&["netns", "add", &netns.name])?;
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// `ip` inside.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments);
        ip(&all)
    }

    /// The command, inside. By nsenter: `ip netns exec` would hide the cgroup mount.
    pub(crate) fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let nsenter = project::program("nsenter").unwrap_or_else(|| "nsenter".into());
        let mut command = run::command(nsenter);
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// Runs `task` on a thread of its own inside.
    pub(crate) fn inside<T: Send>(&self, task: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let file = fs::File::open(&path).context(path)?;
        let enter = move || -> Result<T> {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).context("setns")?;
            Ok(task())
        };
        let joined = std::thread::scope(|scope| scope.spawn(enter).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Joins two namespaces by a veth pair. Each end: namespace, interface, address with prefix length.
    pub(crate) fn join(a: (&Self, &str, &str), b: (&Self, &str, &str)) -> Result<()> {
        a.0.ip(&["link", "add", a.1, "type", "veth", "peer", "name", b.1, "netns", &b.0.name])?;
        for (netns, interface, address) in [a, b] {
            netns.ip(&["address", "add", address, "dev", interface])?;
            netns.ip(&["link", "set", interface, "up"])?;
        }
        Ok(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.name) {
            eprintln!("{error:#}");
        }
    }
}

/// Whether namespaces can be made here; else why not.
pub(crate) fn possible() -> Result<()> {
    if !super::is_root() {
        bail!("network namespaces need root");
    }
    Netns::create("probe").map(drop).context("network namespaces cannot be made here")
}

/// Deletes namespaces whose maker is gone. Returns their names.
pub(crate) fn sweep() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let orphans: Vec<_> = names.filter(|name| maker(name).is_some_and(|pid| !alive(pid))).collect();
    orphans.into_iter().filter(|name| delete(name).is_ok()).collect()
}

/// The process that made the namespace, if its name is one of ours.
fn maker(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-').rev();
    parts.find_map(|part| part.parse().ok())
}

fn alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn ip(arguments: &[&str]) -> Result<()> {
    run::output(run::command(iproute2()).args(arguments)).map(drop)
}

fn delete(name: &str) -> Result<()> {
    run::output_always(run::command(iproute2()).args(["netns", "delete", name])).map(drop)
}

fn iproute2() -> PathBuf {
    project::program("ip").unwrap_or_else(|| PathBuf::from("ip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_a_maker() {
        assert_eq!(maker("remora-shop-1234"), Some(1234));
        assert_eq!(maker("remora-live-77-b"), Some(77));
        assert_eq!(maker("remora-blue"), None);
        assert_eq!(maker("cni-1234"), None);
        assert!(alive(std::process::id()));
    }

    #[test]
    fn a_namespace_of_a_dead_process_is_swept_and_one_of_ours_is_not() {
        if possible().is_err() {
            return;
        }
        let ours = Netns::create("kept").unwrap();
        // Process ids end at 4,194,304, so this one is never alive.
        let dead = format!("{PREFIX}test{}-9999999", std::process::id());
        ip(&["netns", "add", &dead]).unwrap();
        assert!(sweep().contains(&dead) || !Path::new("/run/netns").join(&dead).exists());
        let path = Path::new("/run/netns").join(&ours.name);
        assert!(path.exists());
        drop(ours);
        assert!(!path.exists());
    }
}
