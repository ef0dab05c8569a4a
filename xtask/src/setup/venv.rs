//! Python environments of the project's own: the official clients that judge our fakes and our API with a server of S3, and what
//! compiles for other processors.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Missing, State};
use crate::sys::{project, run};

const PINS: [&str; 8] = [
    "slack_sdk==3.47.0",
    "elasticsearch==9.5.1",
    "opensearch-py==3.2.0",
    "influxdb-client==1.50.0",
    "moto[server]==5.2.5",
    "kubernetes==36.0.3",
    "prometheus-client==0.26.0",
    "websockets==17.4",
];

/// What builds for another processor: clang with musl's headers and libraries, and the way from cargo to it.
const CROSS: [&str; 2] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.0"];

/// An environment.
struct Venv {
    folder: &'static str,
    pins: &'static [&'static str],
    /// What it is good for.
    what: &'static str,
    part: &'static str,
    without: &'static str,
}

const JUDGE: Venv = Venv {
    folder: "judge-venv",
    pins: &PINS,
    what: "which judge the fakes",
    part: "judge",
    without: "the fakes are not judged by the official clients",
};

const ZIG: Venv = Venv {
    folder: "cross-venv",
    pins: &CROSS,
    what: "which compile for other processors",
    part: "cross",
    without: "`cargo xtask image --arch` makes none for other processors than this one",
};

/// The Python that has the judges, if it is there.
pub(crate) fn python() -> Option<PathBuf> {
    JUDGE.python()
}

/// A program that serves S3, in the same environment.
pub(crate) fn s3_server() -> Option<PathBuf> {
    python().map(|python| python.with_file_name("moto_server")).filter(|program| program.exists())
}

/// The folder of `cargo-zigbuild`, if it is there.
pub(crate) fn cross() -> Option<PathBuf> {
    ZIG.python().and_then(|python| python.parent().map(Path::to_path_buf))
}

pub(super) fn judge(check: bool) -> Result<State> {
    JUDGE.install(check)
}

pub(super) fn zig(check: bool) -> Result<State> {
    ZIG.install(check)
}

impl Venv {
    fn path(&self) -> PathBuf {
        project::target().join(self.folder)
    }

    fn pins(&self) -> String {
        self.pins.join(" ")
    }

    fn python(&self) -> Option<PathBuf> {
        let stamp = std::fs::read_to_string(self.path().join("remora-pin"));
        Some(self.path().join("bin/python")).filter(|p| p.exists() && stamp.is_ok_and(|s| s == self.pins()))
    }

    fn install(&self, check: bool) -> Result<State> {
        let what = format!("{}, {}", self.pins(), self.what);
        if self.python().is_some() {
            return Ok(State::Present(what));
        }
        let folder = self.path();
        let mut venv = run::command("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        let mut pip = run::command(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(self.pins);
        let mut why = String::new();
        if !check {
            match run::output(&mut venv).and_then(|_| run::output(&mut pip)) {
                Ok(_) => {
                    std::fs::write(folder.join("remora-pin"), self.pins())?;
                    return Ok(State::Installed(what));
                }
                Err(error) => why = format!(": {error:#}"),
            }
        }
        Ok(State::Missing(Missing {
            what: format!("{}{why}", self.pins()),
            commands: vec![format!("cargo xtask setup --only {}", self.part)],
            without: self.without.to_owned(),
            optional: true,
        }))
    }
}
