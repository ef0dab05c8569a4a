//! The real Helm on the project's chart: no cluster, no network, no settings of the machine's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;

/// Helm, with a home of its own that vanishes with this value.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

impl Helm {
    /// The one that `REMORA_HELM` names, as `cargo xtask test` sets it, or the one on `PATH`; without either, says so.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn find(test: &str) -> Result<Option<Self>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|dir| dir.join("helm")).find(|helm| helm.is_file());
        let Some(program) = std::env::var_os("REMORA_HELM").map(PathBuf::from).or(on_path) else {
            eprintln!(
                "{test}: skipped, needs Helm: `cargo xtask setup --only helm`, REMORA_HELM=target/helm/helm"
            );
            return Ok(None);
        };
        Ok(Some(Self { program, home: tempfile::tempdir()? }))
    }

    /// The chart's folder.
    #[must_use]
    pub fn chart() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/remora")
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("HELM_") || name.starts_with("KUBE") {
                command.env_remove(&key);
            }
        }
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
            command.env(home, self.home.path());
        }
        command.env("KUBECONFIG", "/dev/null").args(args);
        command.output().with_context(|| format!("starting {}", self.program.display()))
    }

    /// What the chart renders as release `shop` in namespace `observed` with these values (YAML): the objects, hooks
    /// included; or what Helm says against it.
    ///
    /// # Errors
    /// When Helm cannot be run, or renders no YAML.
    pub fn template(&self, values: &str, more: &[&str]) -> Result<Result<Vec<Value>, String>> {
        let file = self.home.path().join("values.yaml");
        std::fs::write(&file, values)?;
        let (chart, file) = (Self::chart(), file.to_string_lossy().into_owned());
        let chart = chart.to_string_lossy();
        let mut args = vec!["template", "shop", &chart, "--namespace", "observed", "--values", &file];
        args.extend(more);
        let output = self.run(&args)?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let text = String::from_utf8(output.stdout)?;
        let documents = serde_norway::Deserializer::from_str(&text).map(Value::deserialize);
        let objects = documents.collect::<Result<Vec<_>, _>>().context("what Helm rendered is no YAML")?;
        Ok(Ok(objects.into_iter().filter(|object| !object.is_null()).collect()))
    }
}

/// The one object of a kind whose name ends so.
///
/// # Errors
/// When there is none, or there are several.
pub fn object<'a>(objects: &'a [Value], kind: &str, name_end: &str) -> Result<&'a Value> {
    let fits = |object: &&Value| {
        object["kind"] == kind && object["metadata"]["name"].as_str().is_some_and(|n| n.ends_with(name_end))
    };
    let found: Vec<_> = objects.iter().filter(fits).collect();
    anyhow::ensure!(found.len() == 1, "{} objects of kind {kind} called …{name_end}", found.len());
    Ok(found[0])
}
