//! Rules about crates: who may depend on whom, and that every crate takes the workspace's lints.
//!
//! ```text
//! agent-ebpf → agent-common ← agent → agent-core        testkit: of none        xtask: of none
//! ```

use anyhow::Result;
use serde_json::Value;

use super::{File, Finding};
use crate::sys::{project, run};

/// For each crate of ours, those of ours that it may depend on.
const OURS: &[(&str, &[&str])] = &[
    ("agent-common", &[]),
    ("agent-ebpf", &["agent-common"]),
    ("agent-core", &[]),
    ("agent", &["agent-common", "agent-core", "agent-ebpf", "testkit"]),
    ("testkit", &["agent-core"]),
    ("xtask", &[]),
];

/// What would bring IO, a clock or threads into the core.
const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "socket2",
    "nix",
    "libc",
    "rustix",
    "aya",
    "rquickjs",
    "reqwest",
    "hyper",
    "tracing",
];

/// What `cargo metadata` says about this workspace.
pub(super) fn metadata() -> Result<Value> {
    let mut cargo = project::cargo(None);
    Ok(serde_json::from_str(&run::output(cargo.args(["metadata", "--no-deps", "--format-version", "1"]))?)?)
}

/// Checks the direction of dependencies.
pub(super) fn check(metadata: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let path = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        let mut found = |message: String| findings.push(Finding::new("direction", path, 0, message));
        let Some((_, allowed)) = OURS.iter().find(|(ours, _)| *ours == name) else {
            found(format!(
                "the crate {name} is not in xtask/src/tidy/crates.rs: say there what it may depend on"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let ours = dependency["path"].is_string();
            let development = dependency["kind"] == "dev";
            if ours && !allowed.contains(&on) {
                found(format!("{name} must not depend on {on}"));
            }
            if on == "testkit" && !development {
                found(format!("{name} may depend on testkit for tests only"));
            }
            if name == "agent-core" && !development && NOT_IN_CORE.contains(&on) {
                found(format!("agent-core is sans-IO: no {on}"));
            }
        }
    }
    findings
}

/// A crate's manifest takes the workspace's lints.
pub(super) fn lints(manifest: &File) -> Option<Finding> {
    let mut lines = manifest.text.lines().map(str::trim).skip_while(|l| *l != "[lints]").skip(1);
    let takes = lines.find(|l| !l.is_empty()) == Some("workspace = true");
    (!takes).then(|| Finding::new("lints", &manifest.path, 0, "lacks `[lints] workspace = true`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(name: &str, dependencies: &Value) -> Vec<String> {
        let package = json!({"name": name, "manifest_path": "/p/x/Cargo.toml", "dependencies": dependencies});
        let findings = check(&json!({"workspace_root": "/p", "packages": [package]}));
        assert!(findings.iter().all(|f| f.path == "x/Cargo.toml" && f.rule == "direction"));
        findings.into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn dependencies_go_one_way() {
        let on = |name: &str, kind: Option<&str>| json!([{"name": name, "kind": kind, "path": "/p/y"}]);
        assert_eq!(messages("agent", &on("agent-core", None)), [""; 0]);
        assert_eq!(messages("agent", &on("testkit", Some("dev"))), [""; 0]);
        assert_eq!(messages("agent", &on("testkit", None)), ["agent may depend on testkit for tests only"]);
        assert_eq!(
            messages("agent-core", &on("agent-common", None)),
            ["agent-core must not depend on agent-common"]
        );
        assert_eq!(
            messages("agent-common", &on("agent", Some("dev"))),
            ["agent-common must not depend on agent"]
        );
        assert!(messages("newcomer", &json!([]))[0].contains("say there what it may depend on"));
    }

    #[test]
    fn the_core_stays_without_io() {
        let tokio = |kind: Option<&str>| json!([{"name": "tokio", "kind": kind, "path": null}]);
        assert_eq!(messages("agent-core", &tokio(None)), ["agent-core is sans-IO: no tokio"]);
        assert_eq!(messages("agent-core", &tokio(Some("dev"))), [""; 0]);
        assert_eq!(messages("agent", &tokio(None)), [""; 0]);
    }

    #[test]
    fn every_crate_takes_the_lints() {
        let manifest = |text: &str| File { path: "x/Cargo.toml".to_owned(), text: text.to_owned() };
        assert_eq!(lints(&manifest("[package]\n\n[lints]\nworkspace = true\n")), None);
        assert!(lints(&manifest("[package]\n[lints]\nworkspace = false\n")).is_some());
        assert!(lints(&manifest("[package]\n")).is_some());
    }
}
