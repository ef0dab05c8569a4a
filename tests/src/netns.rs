//! Network namespaces and cgroups for tests, which vanish with their guards, and with the process at the latest.
//!
//! A [`NetNs`] has no name and no mount: it lives as long as a descriptor or an interface's end holds it, so that even
//! a killed test leaves nothing behind. A [`Cgroup`] is a folder, which its guard removes; what a killed test left of
//! them is empty and named after its process. All of it needs root.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// Whether this process may make namespaces and load eBPF programs.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A network namespace of its own, with loopback up.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

impl NetNs {
    /// Makes one.
    ///
    /// # Errors
    /// When not root, or `ip` is not installed.
    pub fn new() -> Result<Self> {
        // A namespace belongs to a thread; one that is thrown away leaves the caller where it is.
        let made = thread::scope(|scope| {
            let thread = scope.spawn(|| -> io::Result<File> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let namespace = Self { file: made.context("making a network namespace")? };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Runs `f` in a thread inside the namespace and gives its result; a panic goes on here.
    ///
    /// # Panics
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.file);
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside the namespace.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
        let file = self.file.try_clone()?;
        Ok(thread::spawn(move || {
            enter(&file);
            f()
        }))
    }

    /// Runs a command inside and gives what it wrote.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message has its standard error.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run(|| Command::new(program).args(arguments).output());
        let output = output.with_context(|| format!("starting {program}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `ip` inside, with arguments separated by spaces.
    ///
    /// # Errors
    /// As for [`NetNs::command`].
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.command("ip", &arguments.split(' ').collect::<Vec<_>>())
    }

    /// A path by which `ip` (`netns PATH`) and nsenter find the namespace while this guard lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

/// Moves the calling thread, which is ours to move, into a namespace.
#[expect(
    clippy::expect_used,
    reason = "a test that ran in the wrong namespace would touch the machine's own interfaces"
)]
fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering a network namespace that this process made");
}

/// Two namespaces joined by a veth pair: `veth0` in `client` (10.77.0.1, fd77::1), `veth1` in `server` (10.77.0.2,
/// fd77::2). Offloads are as the kernel has them: super-packets of 64 KiB pass.
#[derive(Debug)]
pub struct VethPair {
    /// One end: 10.77.0.1, fd77::1.
    pub client: NetNs,
    /// The other: 10.77.0.2, fd77::2.
    pub server: NetNs,
}

impl VethPair {
    /// The interface in [`VethPair::client`].
    pub const CLIENT: &'static str = "veth0";
    /// The interface in [`VethPair::server`].
    pub const SERVER: &'static str = "veth1";

    /// Makes both.
    ///
    /// # Errors
    /// As for [`NetNs::new`].
    pub fn new() -> Result<Self> {
        let (client, server) = (NetNs::new()?, NetNs::new()?);
        let other = server.path();
        client.ip(&format!("link add veth0 type veth peer name veth1 netns {}", other.display()))?;
        for (namespace, interface, number) in [(&client, Self::CLIENT, 1), (&server, Self::SERVER, 2)] {
            namespace.ip(&format!("addr add 10.77.0.{number}/24 dev {interface}"))?;
            namespace.ip(&format!("addr add fd77::{number}/64 dev {interface} nodad"))?;
            namespace.ip(&format!("link set {interface} up"))?;
        }
        Ok(Self { client, server })
    }
}

/// Where cgroup v2 is mounted.
#[must_use]
pub fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let at = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(at))
    })
}

/// A cgroup v2 folder right below the mount, removed when dropped. Its processes must have ended by then.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one; `tag` is part of its name, beside the process id.
    ///
    /// # Errors
    /// When cgroup v2 is not mounted or the folder cannot be made.
    pub fn new(tag: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mount = cgroup2_mount().context("cgroup v2 is not mounted")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = mount.join(format!("remora-test-{}-{number}-{tag}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    /// Makes one inside this one. Drop it before its parent.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn child(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id by which the kernel calls it.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn id(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        Ok(fs::metadata(&self.path)?.ino())
    }

    /// Starts a program in the cgroup: it is there before its first instruction. What it prints goes nowhere, but for
    /// its errors.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Child> {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]);
        command.arg(&self.path).arg(program).args(arguments).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().with_context(|| format!("starting {}", program.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process may take a moment to be gone.
        for _ in 0..100 {
            let busy = fs::remove_dir(&self.path).is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY));
            if !busy {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_joined_and_apart_from_the_machine() {
        if !is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let pair = VethPair::new().unwrap();
        let links = pair.client.ip("-o link").unwrap();
        assert_eq!(links.lines().count(), 2, "lo and veth0 only: {links}");
        let listener = pair.server.run(|| std::net::TcpListener::bind("10.77.0.2:0")).unwrap();
        let address = listener.local_addr().unwrap();
        pair.client.run(|| std::net::TcpStream::connect(address)).unwrap();
    }

    #[test]
    fn a_panic_inside_comes_out_and_leaves_the_thread_where_it_was() {
        if !is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let before = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let namespace = NetNs::new().unwrap();
        let result = std::panic::catch_unwind(|| namespace.run(|| panic!("inside")));
        assert!(result.is_err());
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
    }

    #[test]
    fn a_cgroup_holds_its_process_and_goes_with_its_guard() {
        if !is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let cgroup = Cgroup::new("guard").unwrap();
        let path = cgroup.path().to_owned();
        let mut child = cgroup.spawn(Path::new("/bin/sleep"), &["0.2"], &[]).unwrap();
        thread::sleep(Duration::from_millis(100));
        let inside = fs::read_to_string(path.join("cgroup.procs")).unwrap();
        assert_eq!(inside.trim(), child.id().to_string());
        child.wait().unwrap();
        drop(cgroup);
        assert!(!path.exists());
    }
}
