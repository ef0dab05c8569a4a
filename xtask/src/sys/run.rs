//! Processes: run to the end, or kept under a guard that ends them.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{interrupt, project};

/// A command in the workspace's folder.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(project::root());
    command
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let plain = !argument.is_empty()
            && argument.chars().all(|c| c.is_alphanumeric() || "-_./:=+,@%{}".contains(c));
        if plain {
            let _ = write!(text, " {argument}");
        } else {
            let _ = write!(text, " '{argument}'");
        }
    }
    text
}

/// Runs to the end with this process's own output.
pub(crate) fn ok(command: &mut Command) -> Result<()> {
    interrupt::check()?;
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    interrupt::check()?;
    verdict(command, status, "")
}

/// Runs to the end and returns standard output. On failure the error holds the end of standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    interrupt::check()?;
    let output = output_always(command);
    interrupt::check()?;
    output
}

/// The same for cleaning up, which an interruption must not keep from happening.
pub(crate) fn output_always(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    verdict(command, output.status, &String::from_utf8_lossy(&output.stderr))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Standard output where the command succeeds.
pub(crate) fn try_output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn verdict(command: &Command, status: ExitStatus, stderr: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let tail = telling(stderr).join("\n  ");
    let tail = if tail.is_empty() { tail } else { format!(":\n  {tail}") };
    bail!("{} ended with {status}{tail}", shown(command))
}

/// The lines that say what went wrong: those that say so themselves, else the last ones.
fn telling(stderr: &str) -> Vec<&str> {
    const LINES: usize = 6;
    let lines: Vec<_> = stderr.lines().filter(|l| !l.trim().is_empty()).collect();
    let mut errors: Vec<_> =
        lines.iter().copied().filter(|l| l.to_lowercase().trim_start().starts_with("error")).collect();
    errors.extend(lines.iter().copied().filter(|l| l.starts_with("E: ")));
    if errors.is_empty() {
        return lines[lines.len().saturating_sub(LINES)..].to_vec();
    }
    errors.truncate(LINES);
    errors
}

/// A process that ends, at the latest, with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
    /// It has workers of its own, which it ends when it is told to end.
    family: bool,
}

/// How long one with workers may take to end them.
const FAMILY_PATIENCE: Duration = Duration::from_secs(5);

impl Running {
    /// Starts it. It has no input, and dies with this process (util-linux' setpriv sees to that, where it is there).
    pub(crate) fn start(name: &str, command: &Command, stdout: Stdio, stderr: Stdio) -> Result<Self> {
        Self::begin(name, command, stdout, stderr, false)
    }

    /// The same for one that has workers of its own, like nginx: killed it would leave them behind, so it is told to end.
    pub(crate) fn start_family(name: &str, command: &Command, stdout: Stdio, stderr: Stdio) -> Result<Self> {
        Self::begin(name, command, stdout, stderr, true)
    }

    fn begin(name: &str, command: &Command, stdout: Stdio, stderr: Stdio, family: bool) -> Result<Self> {
        let mut tied = tied_to_us(command, if family { "TERM" } else { "KILL" });
        let child = tied
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", shown(command)))?;
        Ok(Self { child, name: name.to_owned(), family })
    }

    /// Its standard output, if that is a pipe; once.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, likewise.
    pub(crate) fn stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Its process id: nsenter, setpriv and the like become the command that they are given.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        interrupt::wait_for(limit, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.with_context(|| format!("{} did not end within {} s", self.name, limit.as_secs()))
    }

    /// Asks it to end (SIGINT) and waits; past `limit` it is killed, which is an error.
    pub(crate) fn interrupt(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        kill(self.pid()?, Signal::SIGINT).with_context(|| format!("signal to {}", self.name))?;
        self.wait(limit)
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.family && self.pid().is_ok_and(|pid| kill(pid, Signal::SIGTERM).is_ok()) {
            let until = Instant::now() + FAMILY_PATIENCE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tied_to_us(command: &Command, signal: &str) -> Command {
    let Some(setpriv) = project::program("setpriv") else {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        return with_surroundings(same, command);
    };
    let mut tied = Command::new(setpriv);
    tied.args(["--pdeathsig", signal, "--"]).arg(command.get_program()).args(command.get_args());
    with_surroundings(tied, command)
}

fn with_surroundings(mut new: Command, old: &Command) -> Command {
    if let Some(dir) = old.get_current_dir() {
        new.current_dir(dir);
    }
    for (key, value) in old.get_envs() {
        match value {
            Some(value) => new.env(key, value),
            None => new.env_remove(key),
        };
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_its_own_words() {
        let text = "info: syncing\nerror: could not download\n\nStack backtrace:\n 1: main\n";
        assert_eq!(telling(text), ["error: could not download"]);
        assert_eq!(telling("one\n\ntwo\n"), ["one", "two"]);
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut echo = command("echo");
        echo.args(["a=b", "two words"]);
        assert_eq!(shown(&echo), "echo a=b 'two words'");
    }

    #[test]
    fn a_process_ends_with_its_guard() {
        let mut sleep = command("sleep");
        sleep.arg("60");
        let mut running = Running::start("sleep", &sleep, Stdio::null(), Stdio::null()).unwrap();
        let process = std::path::PathBuf::from(format!("/proc/{}", running.child.id()));
        assert!(process.exists() && running.ended().unwrap().is_none());
        drop(running);
        assert!(!process.exists());
        let mut again = Running::start("sleep", &sleep, Stdio::null(), Stdio::null()).unwrap();
        assert!(!again.interrupt(Duration::from_secs(5)).unwrap().success());
    }
    #[test]
    fn workers_end_with_the_one_that_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("worker");
        // Killed, it would leave the worker behind.
        let script = "sleep 60 & worker=$!; trap 'kill $worker; exit 0' TERM; echo $worker > \"$1\"; wait";
        let mut shell = command("sh");
        shell.args(["-c", script, "sh"]).arg(&there);
        let running = Running::start_family("sh", &shell, Stdio::null(), Stdio::null()).unwrap();
        let pid = || Ok(std::fs::read_to_string(&there).is_ok_and(|text| text.ends_with('\n')));
        assert!(interrupt::wait_for(Duration::from_secs(10), pid).unwrap());
        let worker = std::fs::read_to_string(&there).unwrap();
        let process = std::path::PathBuf::from(format!("/proc/{}/exe", worker.trim()));
        assert!(process.read_link().is_ok());
        drop(running);
        let gone = || Ok(process.read_link().is_err());
        assert!(interrupt::wait_for(Duration::from_secs(5), gone).unwrap());
    }
}
