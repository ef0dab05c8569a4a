//! A Python environment of the project's own, with the official clients that judge our fakes, and a server of S3.

use std::path::PathBuf;

use anyhow::Result;

use super::{Missing, State};
use crate::sys::{project, run};

const PINS: [&str; 6] = [
    "slack_sdk==3.47.0",
    "elasticsearch==9.5.1",
    "opensearch-py==3.2.0",
    "influxdb-client==1.50.0",
    "moto[server]==5.2.5",
    "kubernetes==37.0.2",
];

/// The environment's Python, if it is there.
pub(crate) fn python() -> Option<PathBuf> {
    Some(project::target().join("judge-venv/bin/python"))
        .filter(|p| p.exists() && stamp().is_ok_and(|s| s == pins()))
}

/// A program that serves S3, in the same environment.
pub(crate) fn s3_server() -> Option<PathBuf> {
    python().map(|python| python.with_file_name("moto_server")).filter(|program| program.exists())
}

fn pins() -> String {
    PINS.join(" ")
}

fn stamp() -> std::io::Result<String> {
    std::fs::read_to_string(project::target().join("judge-venv/remora-pin"))
}

pub(super) fn install(check: bool) -> Result<State> {
    if python().is_some() {
        return Ok(State::Present(format!("{}, which judge the fakes", pins())));
    }
    let folder = project::target().join("judge-venv");
    let mut venv = run::command("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    let mut pip = run::command(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PINS);
    let mut why = String::new();
    if !check {
        match run::output(&mut venv).and_then(|_| run::output(&mut pip)) {
            Ok(_) => {
                std::fs::write(folder.join("remora-pin"), pins())?;
                return Ok(State::Installed(format!("{}, which judge the fakes", pins())));
            }
            Err(error) => why = format!(": {error:#}"),
        }
    }
    Ok(State::Missing(Missing {
        what: format!("{}{why}", pins()),
        commands: vec!["cargo xtask setup --only judge".to_owned()],
        without: "the fakes are not judged by the official clients".to_owned(),
        optional: true,
    }))
}
