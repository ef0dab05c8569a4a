//! Running the built `remora` and reading what it says.
#![expect(dead_code, reason = "each test binary uses its share of these")]

pub(crate) mod alert;
pub(crate) mod guide;
pub(crate) mod http;
pub(crate) mod live;
pub(crate) mod rehearsal;
pub(crate) mod taken;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The binary under test.
pub(crate) const REMORA: &str = env!("CARGO_BIN_EXE_remora");

/// What a run left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        record(true, &output.stdout, &output.stderr);
        Self::unrecorded(&output)
    }
}

/// Whether what a run with these arguments prints may be searched for secrets: it is not told to show them, nor raw packets.
pub(crate) fn hides<'a>(args: impl IntoIterator<Item = &'a OsStr>) -> bool {
    !args.into_iter().any(|arg| arg == "--no-redact" || arg == "-")
}

/// Keeps what was printed for the search of all records (see `testkit::canary`).
pub(crate) fn record(hidden: bool, stdout: &[u8], stderr: &[u8]) {
    if hidden {
        testkit::canary::record("stdout", stdout);
    }
    testkit::canary::record("stderr", stderr);
}

impl Ran {
    fn unrecorded(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code, showing what was said otherwise.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let printed: String = self.stdout.chars().take(2000).collect();
        assert_eq!(self.code, code, "stderr:\n{}\nstdout:\n{printed}", self.stderr);
        self.never_panicked()
    }

    /// Asserts that nothing panicked.
    #[track_caller]
    pub(crate) fn never_panicked(self) -> Self {
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        self
    }

    /// The items printed with `--json`.
    #[track_caller]
    pub(crate) fn items(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON item")).collect()
    }

    /// The counters printed with `--stats`: the last JSON object on standard error.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        let line = self.stderr.lines().rev().find(|line| line.starts_with('{'));
        serde_json::from_str(line.expect("a line of --stats")).expect("JSON")
    }
}

/// Nothing was lost in the kernel, and its books balance with what the engine took (`--stats` of a live run).
#[track_caller]
pub(crate) fn check_kernel_books(stats: &Value) {
    let number = |path: &str| {
        stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {stats}"))
    };
    let kernel = |name: &str| number(&format!("/kernel/{name}/packets"));
    let filtered: u64 = ["disabled", "other_protocol", "malformed", "excluded", "port", "net"]
        .iter()
        .map(|reason| kernel(&format!("filtered/{reason}")))
        .sum();
    let dropped: u64 = ["ring_full", "no_ring", "load_failed"]
        .iter()
        .map(|reason| kernel(&format!("dropped/{reason}")))
        .sum();
    assert_eq!((dropped, number("/lost/kernel_ring")), (0, 0), "{stats}");
    assert_eq!(kernel("captured"), number("/packets"), "what the kernel gave is what the engine took");
    assert_eq!(kernel("offered"), kernel("captured") + filtered + dropped, "{stats}");
}

/// Runs `remora` to its end.
pub(crate) fn remora<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    let mut command = Command::new(REMORA);
    command.args(args).env_remove("REMORA_LOG").env_remove("REMORA_SLACK_API_URL").env("NO_COLOR", "1");
    let output = command.output().expect("remora runs");
    record(hides(command.get_args()), &output.stdout, &output.stderr);
    Ran::unrecorded(&output)
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("agent has a parent").to_owned()
}

/// The scripts that alert on a 500: ours, and the users' own where the checkout has it beside it.
pub(crate) fn alert_scripts() -> Vec<PathBuf> {
    let users = root().join("../shared/acceptance/alert-on-500.js");
    let ours = root().join("scripts/alert-on-error.js");
    assert!(ours.exists(), "{} is part of the project", ours.display());
    [ours, users].into_iter().filter(|path| path.exists()).collect()
}

/// Writes a script into the folder.
pub(crate) fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a script is written");
    path
}
