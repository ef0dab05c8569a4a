//! A container by crun: made, started, ended, removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid as ProcessId;
use serde_json::Value;

use super::oci::{self, Parts};
use super::spec::PodSpec;
use super::{Account, Image, Places, Pod, Profile, env, volumes};
use crate::cluster::cgroups;
use crate::cluster::node::Node;
use crate::cluster::{Objects, hex_id};
use crate::netns::NetNs;

/// What is to be run.
pub struct Wish<'a> {
    /// Who it is.
    pub pod: Pod,
    /// The template's `spec`.
    pub spec: &'a Value,
    /// ConfigMaps and Secrets.
    pub objects: &'a dyn Objects,
    /// What it runs.
    pub image: &'a Image,
    /// The pod's network; the node's, where the pod wants that.
    pub network: &'a NetNs,
    /// What `RuntimeDefault` means.
    pub profile: Profile,
    /// What its service account has.
    pub account: Option<&'a Account>,
    /// Where the API server is, as pods are told.
    pub api: Option<(String, u16)>,
}

/// A container that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Container {
    /// Whose it is.
    pub pod: Pod,
    /// 64 hexadecimal digits.
    pub id: String,
    /// How its template was understood.
    pub spec: PodSpec,
    dir: PathBuf,
    node_files: PathBuf,
    cgroup: PathBuf,
    launcher: Launcher,
    pid: ProcessId,
    code: Option<i32>,
}

/// Runs crun as a node's runtime would: in the node's cgroup namespace, with the node's cgroups where they are on nodes.
#[derive(Clone, Debug)]
struct Launcher {
    /// The node's cgroup, as this machine sees it.
    node: PathBuf,
    /// The container's below it.
    leaf: PathBuf,
    state: PathBuf,
    bundle: PathBuf,
}

/// `$1` the node's cgroup, `$2` the container's below it, `$3` the bundle or "".
const LAUNCH: &str = r#"
echo $$ > "$1/cgroup.procs" || exit 1
exec unshare --mount --cgroup sh -c '
set -e
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
if [ -n "$3" ]; then
  mount -t overlay overlay -o "lowerdir=$(readlink -f "$3/image"),upperdir=$3/upper,workdir=$3/work" "$3/rootfs"
fi
echo $$ > "/sys/fs/cgroup/$2/cgroup.procs"
shift 3
exec "$@"
' sh "$@"
"#;

impl Launcher {
    fn crun(&self, with_rootfs: bool, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let bundle = if with_rootfs { self.bundle.as_path() } else { Path::new("") };
        command.args(["-c", LAUNCH, "sh"]).arg(&self.node).arg(&self.leaf).arg(bundle);
        command.arg("crun").arg("--root").arg(&self.state).arg("--cgroup-manager=disabled");
        command.args(args).stdin(Stdio::null());
        command
    }
}

/// Runs a container.
///
/// # Errors
/// When the pod is not understood, something that it needs is not there, or crun refuses it.
pub fn start(node: &Node, wish: &Wish<'_>) -> Result<Container> {
    let spec = PodSpec::read(wish.spec)?;
    let (pod, id) = (wish.pod.clone(), hex_id());
    let dir = node.files.join("pods").join(&pod.uid);
    fs::create_dir_all(&dir)?;
    let places = Places { pod: &dir, node: &node.files.join("root"), account: wish.account };
    let network = wish.network.path();
    let config = oci::config(Parts {
        pod: &pod,
        spec: &spec,
        image: wish.image,
        env: env::resolve(&pod, &spec, wish.objects, wish.api.clone())?,
        mounts: volumes::mounts(&pod, &spec, wish.objects, &places)?,
        network: &network,
        profile: wish.profile,
    })?;
    let leaf = cgroups::container(node.driver, node.runtime, spec.qos(), &pod.uid, &id);
    let cgroup = node.cgroup.join(&leaf);
    fs::create_dir_all(&cgroup).with_context(|| cgroup.display().to_string())?;
    let bundle = bundle(&dir.join(&id), &config, wish.image)?;
    let launcher = Launcher { node: node.cgroup.clone(), leaf, state: node.files.join("crun"), bundle };
    let pid = create(&launcher, &id, &dir)?;
    let container = Container {
        pod,
        id,
        spec,
        node_files: node.files.join("root"),
        dir,
        cgroup,
        launcher,
        pid,
        code: None,
    };
    let mut started = container.launcher.crun(false, &["start", &container.id]);
    let output = started.output().context("starting crun")?;
    ensure!(output.status.success(), "crun start: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(container)
}

fn bundle(folder: &Path, config: &Value, image: &Image) -> Result<PathBuf> {
    for part in ["upper", "work", "rootfs"] {
        fs::create_dir_all(folder.join(part))?;
    }
    // A folder's name may hold what means something to overlayfs.
    std::os::unix::fs::symlink(fs::canonicalize(&image.root)?, folder.join("image"))?;
    fs::write(folder.join("config.json"), serde_json::to_vec_pretty(config)?)?;
    Ok(folder.to_owned())
}

/// Makes it, and gives the process that waits to become it.
fn create(launcher: &Launcher, id: &str, dir: &Path) -> Result<ProcessId> {
    // Who is started here is nobody's child once crun has ended: then it is ours.
    nix::sys::prctl::set_child_subreaper(true).context("becoming the parent of containers")?;
    fs::create_dir_all(&launcher.state)?;
    let (said, pid_file) = (dir.join("runtime.log"), dir.join("pid"));
    let bundle = launcher.bundle.to_string_lossy();
    let (said_at, pid_at) = (said.to_string_lossy(), pid_file.to_string_lossy());
    let args = ["--log", &said_at, "create", "--bundle", &bundle, "--pid-file", &pid_at, id];
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let mut command = launcher.crun(true, &args);
    command.stdout(log.try_clone()?).stderr(log);
    let status = command.status().context("starting sh")?;
    if !status.success() {
        let told = fs::read_to_string(&said).unwrap_or_default();
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        bail!("the container was not made ({status}): {} {}", told.trim(), log.trim());
    }
    let pid = fs::read_to_string(&pid_file)?;
    Ok(ProcessId::from_raw(pid.trim().parse().context("a process id")?))
}

impl Container {
    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Its process, as this machine numbers it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// The exit code, if it has ended; 128 and the number of a signal that killed it.
    ///
    /// # Errors
    /// When the process is not ours.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        if self.code.is_none() {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).context("waiting for a container")? {
                WaitStatus::Exited(_, code) => self.code = Some(code),
                WaitStatus::Signaled(_, signal, _) => self.code = Some(128 + signal as i32),
                _ => {}
            }
        }
        Ok(self.code)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub fn wait(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(code) = self.ended()? {
                return Ok(code);
            }
            ensure!(Instant::now() < deadline, "{} does not end: {}", self.pod.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends its first process a signal.
    ///
    /// # Errors
    /// When that is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("a signal to {}", self.pod.name))
    }

    /// Ends it as a pod that is deleted: SIGTERM, and past its grace period SIGKILL. Gives the exit code, and whether it took
    /// SIGKILL.
    ///
    /// # Errors
    /// When it is not ours to wait for.
    pub fn stop(&mut self) -> Result<(i32, bool)> {
        if let Some(code) = self.ended()? {
            return Ok((code, false));
        }
        self.signal(Signal::SIGTERM)?;
        let grace = Duration::from_secs(self.spec.termination_grace_period_seconds);
        match self.wait(grace) {
            Ok(code) => Ok((code, false)),
            Err(_) => {
                self.signal(Signal::SIGKILL)?;
                Ok((self.wait(Duration::from_secs(10))?, true))
            }
        }
    }

    /// Runs a program in it, to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exec(&self, command: &[String]) -> Result<std::process::Output> {
        let mut args = vec!["exec", self.id.as_str()];
        args.extend(command.iter().map(String::as_str));
        self.launcher.crun(false, &args).output().context("starting crun exec")
    }

    /// Brings it what its ConfigMaps and Secrets hold now.
    ///
    /// # Errors
    /// When one is gone.
    pub fn refresh(&self, objects: &dyn Objects) -> Result<()> {
        let places = Places { pod: &self.dir, node: &self.node_files, account: None };
        volumes::refresh(&self.pod, &self.spec, objects, &places)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Ok(None) = self.ended() {
            let _ = self.signal(Signal::SIGKILL);
            let _ = self.wait(Duration::from_secs(10));
        }
        let _ = self.launcher.crun(false, &["delete", "--force", &self.id]).output();
        cgroups::remove(&self.cgroup);
        if let Some(pod) = self.cgroup.parent() {
            // Its sandbox's cgroup may still be there.
            let _ = fs::remove_dir(pod);
        }
    }
}
