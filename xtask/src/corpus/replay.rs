//! Runs `remora replay` on a capture and reads what it found.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::record::{self, Record};
use crate::sys::run::Running;
use crate::sys::{calm, project, run};

/// Longest time for one capture; they are small.
const LIMIT: Duration = Duration::from_secs(60);

/// Builds the program, without what only live capture needs.
pub(super) fn build() -> Result<()> {
    calm::cargo(project::cargo(None).args(["build", "--locked", "-p", "agent", "--bins"]))
}

/// Streams, then items, each in the order in which they began.
pub(super) fn replay(capture: &Path) -> Result<Vec<Record>> {
    let (streams, items, errors) = (NamedTempFile::new()?, NamedTempFile::new()?, NamedTempFile::new()?);
    let mut command = run::command(project::built("remora"));
    command
        .arg("replay")
        .arg(std::path::absolute(capture)?)
        .args(["--json", "--hash", "--streams"])
        .arg(streams.path());
    let mut remora = Running::start(
        "remora replay",
        &command,
        Stdio::from(items.reopen()?),
        Stdio::from(errors.reopen()?),
    )?;
    let status = remora.wait(LIMIT)?;
    if !status.success() {
        let said = fs::read_to_string(errors.path()).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        bail!(
            "remora replay ended with {status}: {}",
            last.into_iter().rev().collect::<Vec<_>>().join(" | ")
        );
    }
    let mut records: Vec<Record> =
        lines(streams.path(), "--streams")?.iter().map(record::found_stream).collect();
    records.extend(lines(items.path(), "--json")?.iter().filter_map(record::found_item));
    Ok(records)
}

/// JSON lines, by stream, then by number.
fn lines(path: &Path, what: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("{what} is not UTF-8"))?;
    let parse = |line: &str| -> Result<Value> {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("{what}: no JSON: {line:.80}"))?;
        ensure!(value["stream"].is_string(), "{what}: a line without a stream: {line:.80}");
        Ok(value)
    };
    let mut values = text.lines().map(parse).collect::<Result<Vec<_>>>()?;
    values.sort_by_key(|v| (v["stream"].as_str().map(str::to_owned), v["index"].as_u64()));
    Ok(values)
}
