//! The real Helm and kubectl on the project's chart: no settings of the machine's own, and no cluster but one that a test names.

use std::io::{Seek as _, Write as _};
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

    /// Runs it to its end, without a cluster.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.command(&self.program, Path::new("/dev/null"))
            .args(args)
            .output()
            .with_context(|| format!("starting {}", self.program.display()))
    }

    /// Helm and kubectl on the cluster of this kubeconfig.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn cluster(&self, kubeconfig: &str) -> Result<Cluster<'_>> {
        let config = tempfile::NamedTempFile::new_in(self.home.path())?;
        std::fs::write(config.path(), kubeconfig)?;
        Ok(Cluster { helm: self, config })
    }

    fn command(&self, program: &Path, kubeconfig: &Path) -> Command {
        let mut command = Command::new(program);
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("HELM_") || name.starts_with("KUBE") {
                command.env_remove(&key);
            }
        }
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
            command.env(home, self.home.path());
        }
        command.env("KUBECONFIG", kubeconfig);
        command
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

/// A cluster, for Helm and kubectl.
pub struct Cluster<'a> {
    helm: &'a Helm,
    config: tempfile::NamedTempFile,
}

impl Cluster<'_> {
    /// Runs Helm to its end: what it says, or what it says against it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn helm(&self, args: &[&str]) -> Result<Result<String, String>> {
        said(self.helm.command(&self.helm.program, self.config.path()).args(args), "")
    }

    /// The kubectl that lies beside Helm, or the one on `PATH`; without either, says so.
    #[must_use]
    pub fn kubectl(&self, test: &str) -> Option<Kubectl<'_>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside = std::iter::once(self.helm.program.with_file_name("kubectl"));
        let found =
            beside.chain(std::env::split_paths(&path).map(|dir| dir.join("kubectl"))).find(|p| p.is_file());
        if found.is_none() {
            eprintln!("{test}: skipped, needs kubectl: `cargo xtask setup --only helm`");
        }
        found.map(|program| Kubectl { cluster: self, program })
    }
}

/// kubectl on a cluster.
pub struct Kubectl<'a> {
    cluster: &'a Cluster<'a>,
    program: PathBuf,
}

impl Kubectl<'_> {
    /// Runs it to its end: what it says, or what it says against it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, args: &[&str], input: &str) -> Result<Result<String, String>> {
        said(self.cluster.helm.command(&self.program, self.cluster.config.path()).args(args), input)
    }
}

fn said(command: &mut Command, input: &str) -> Result<Result<String, String>> {
    // A file: it can be of any length, and is at its end where it ends.
    let mut file = tempfile::tempfile()?;
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    let output = command.stdin(file).output().with_context(|| format!("starting {command:?}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr) + &text(output.stdout))
    })
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
