//! How clients find the server: a kubeconfig, or what a pod finds in its folder of the service account.

use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// Folder of a pod's service account, in the pod.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A kubeconfig (YAML, of which JSON is a part).
pub(super) fn kubeconfig(server: &str, authority: Option<&str>, token: &str, namespace: &str) -> String {
    let mut cluster = json!({ "server": server });
    if let Some(pem) = authority {
        cluster["certificate-authority-data"] = json!(STANDARD.encode(pem));
    }
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": cluster}],
        "users": [{"name": "fake", "user": {"token": token}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": namespace}}],
    });
    config.to_string()
}

/// Writes `token`, `ca.crt` and `namespace`.
pub(super) fn service_account(folder: &Path, authority: &str, token: &str, namespace: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in [("token", token), ("ca.crt", authority), ("namespace", namespace)] {
        std::fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}
