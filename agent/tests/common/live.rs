//! `remora tap` and tcpdump as background processes that end with their guards.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::netns::NetNs;

use super::{REMORA, Ran};

/// How long anything here may take: machines are slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the privileged tests run; without root they say that they do not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = testkit::netns::is_root();
    if !root {
        eprintln!("{test}: skipped, needs root");
    }
    root
}

/// A process whose output goes to files.
pub(crate) struct Background {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Whether secrets are hidden in what it prints.
    hides: bool,
}

impl Background {
    /// Starts it inside the namespace, and waits until it has said `ready` on standard error.
    #[track_caller]
    pub(crate) fn start(inside: &NetNs, given: &Command, dir: &Path, name: &str, ready: &str) -> Self {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        // Not from a thread inside: what is tied to the life of its parent is tied to the thread's.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", inside.path().display()));
        command.arg(given.get_program()).args(given.get_args()).env("NO_COLOR", "1");
        command.env_remove("REMORA_LOG").env_remove("REMORA_SLACK_API_URL");
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        // A test that is killed takes it along.
        // SAFETY: prctl(2) is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let hides = super::hides(given.get_args());
        let mut background = Self { child, stdout, stderr, hides };
        let deadline = Instant::now() + PATIENCE;
        while !background.said().contains(ready) {
            assert!(background.child.try_wait().unwrap().is_none(), "{name} ended: {}", background.said());
            assert!(Instant::now() < deadline, "{name} is not ready: {}", background.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        background
    }

    /// `remora tap` with these arguments, capturing when it returns.
    #[track_caller]
    pub(crate) fn tap(inside: &NetNs, dir: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(REMORA);
        command.arg("tap").args(args);
        Self::start(inside, &command, dir, "tap", "capturing on")
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as the kernel's OOM killer would, and gives what it left.
    #[track_caller]
    pub(crate) fn kill(self) -> Ran {
        self.signal(Signal::SIGKILL);
        self.ended()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Lines on standard output so far.
    pub(crate) fn lines(&self) -> usize {
        fs::read_to_string(&self.stdout).unwrap_or_default().lines().count()
    }

    /// Waits until so many lines were printed, or for as long as patience lasts.
    pub(crate) fn wait_for_lines(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.lines() < count && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has said so on standard error.
    #[track_caller]
    pub(crate) fn wait_for_words(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(words) {
            assert!(Instant::now() < deadline, "{words:?} was never said: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to end as Ctrl-C would, and gives what it left.
    #[track_caller]
    pub(crate) fn end(self) -> Ran {
        self.signal(Signal::SIGINT);
        self.ended()
    }

    /// Waits until it has ended, and gives what it left.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ran {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ran { code, stdout: fs::read_to_string(&self.stdout).unwrap(), stderr: self.said() }
    }

    /// Stops it for a while, as a busy machine would: nothing is read meanwhile.
    pub(crate) fn pause(&self, time: Duration) {
        self.signal(Signal::SIGSTOP);
        std::thread::sleep(time);
        self.signal(Signal::SIGCONT);
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
        let printed = |path: &Path| fs::read(path).unwrap_or_default();
        super::record(self.hides, &printed(&self.stdout), &printed(&self.stderr));
    }
}

/// tcpdump reads its ring in blocks, and drops unseen what is there when it is told to end.
pub(crate) fn wait_until_quiet(file: &Path) {
    let size = || fs::metadata(file).map_or(0, |metadata| metadata.len());
    let (mut known, mut since) = (size(), Instant::now());
    while since.elapsed() < Duration::from_millis(1500) {
        std::thread::sleep(Duration::from_millis(50));
        if size() != known {
            (known, since) = (size(), Instant::now());
        }
    }
}
