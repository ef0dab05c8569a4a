//! The chart, by the real Helm: what it renders over a matrix of values, what it refuses, and whether Kubernetes would
//! understand it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod install;
mod matrix;
mod monitoring;
mod refused;
mod security;
mod strict;
mod values;

use serde_json::Value;
use testkit::helm::Helm;

/// Renders, or fails with what Helm says.
#[track_caller]
fn render(helm: &Helm, values: &str) -> Vec<Value> {
    helm.template(values, &[]).unwrap().unwrap_or_else(|said| panic!("{values}\n{said}"))
}

/// The agent's pod and its container.
#[track_caller]
fn agent(objects: &[Value]) -> (&Value, &Value) {
    let pod = &testkit::helm::object(objects, "DaemonSet", "").unwrap()["spec"]["template"];
    (pod, &pod["spec"]["containers"][0])
}

#[test]
fn helm_lints_it() {
    let Some(helm) = Helm::find("helm_lints_it").unwrap() else { return };
    let output = helm.run(&["lint", "--strict", &Helm::chart().to_string_lossy()]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("0 chart(s) failed"), "{said}");
}
