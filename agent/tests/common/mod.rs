//! Running the built `remora` and reading what it says.
#![expect(dead_code, reason = "each test binary uses its share of these")]

pub(crate) mod alert;
pub(crate) mod guide;
pub(crate) mod http;
pub(crate) mod live;
pub(crate) mod rehearsal;

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
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
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

/// Runs `remora` to its end.
pub(crate) fn remora<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    let mut command = Command::new(REMORA);
    command.args(args).env_remove("REMORA_LOG").env_remove("REMORA_SLACK_API_URL").env("NO_COLOR", "1");
    command.output().expect("remora runs").into()
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
