//! A Python environment of the project's own, with Slack's official client: the judge of our Slack fake.

use std::path::PathBuf;

use anyhow::Result;

use super::{Missing, State};
use crate::sys::{project, run};

const PIN: &str = "slack_sdk==3.47.0";

/// The environment's Python, if it is there.
pub(crate) fn python() -> Option<PathBuf> {
    Some(project::target().join("judge-venv/bin/python"))
        .filter(|p| p.exists() && stamp().is_ok_and(|s| s == PIN))
}

fn stamp() -> std::io::Result<String> {
    std::fs::read_to_string(project::target().join("judge-venv/remora-pin"))
}

pub(super) fn install(check: bool) -> Result<State> {
    if python().is_some() {
        return Ok(State::Present(format!("{PIN}, which judges the Slack fake")));
    }
    let folder = project::target().join("judge-venv");
    let mut venv = run::command("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    let mut pip = run::command(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PIN]);
    let mut why = String::new();
    if !check {
        match run::output(&mut venv).and_then(|_| run::output(&mut pip)) {
            Ok(_) => {
                std::fs::write(folder.join("remora-pin"), PIN)?;
                return Ok(State::Installed(format!("{PIN}, which judges the Slack fake")));
            }
            Err(error) => why = format!(": {error:#}"),
        }
    }
    Ok(State::Missing(Missing {
        what: format!("{PIN}{why}"),
        commands: vec!["cargo xtask setup --only judge".to_owned()],
        without: "the Slack fake is not judged by Slack's own client".to_owned(),
        optional: true,
    }))
}
