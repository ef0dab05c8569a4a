//! The chart as a security reviewer reads it: Kubernetes' own Pod Security Standards tell in which points the agents go beyond
//! them, and each of those points is explained in the chart's README.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::helm::{Helm, object};

use super::{agent, render};

/// Capabilities that the standard `baseline` lets containers add.
const BASELINE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Volumes that `restricted` allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Where a pod goes beyond `baseline`.
fn beyond_baseline(pod: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[field] == true {
            found.insert(field.to_owned());
        }
    }
    for path in each(&pod["volumes"]).filter_map(|volume| volume["hostPath"]["path"].as_str()) {
        found.insert(format!("hostPath {path}"));
    }
    for container in each(&pod["containers"]).chain(each(&pod["initContainers"])) {
        let security = &container["securityContext"];
        if security["privileged"] == true {
            found.insert("privileged".to_owned());
        }
        for capability in each(&security["capabilities"]["add"]).filter_map(Value::as_str) {
            if !BASELINE.contains(&capability) {
                found.insert(format!("CAP_{capability}"));
            }
        }
        if each(&container["ports"]).any(|port| !port["hostPort"].is_null()) {
            found.insert("hostPort".to_owned());
        }
        for context in [security, &pod["securityContext"]] {
            if context["seccompProfile"]["type"] == "Unconfined" {
                found.insert("seccomp Unconfined".to_owned());
            }
            for field in ["procMount", "sysctls", "seLinuxOptions", "appArmorProfile"] {
                if !context[field].is_null() {
                    found.insert(field.to_owned());
                }
            }
        }
    }
    found
}

/// Where it goes beyond `restricted`, besides.
fn beyond_restricted(pod: &Value) -> BTreeSet<String> {
    let mut found = beyond_baseline(pod);
    for volume in each(&pod["volumes"]) {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        found.extend(kinds.filter(|kind| !VOLUMES.contains(&kind.as_str()) && *kind != "hostPath").cloned());
    }
    for container in each(&pod["containers"]) {
        let (own, of_pod) = (&container["securityContext"], &pod["securityContext"]);
        let setting =
            |field: &str| if own[field].is_null() { of_pod[field].clone() } else { own[field].clone() };
        if own["allowPrivilegeEscalation"] != false {
            found.insert("allowPrivilegeEscalation".to_owned());
        }
        if setting("runAsNonRoot") != true {
            found.insert("may run as root".to_owned());
        }
        if setting("runAsUser") == 0 {
            found.insert("runAsUser: 0".to_owned());
        }
        if setting("seccompProfile").is_null() {
            found.insert("no seccomp profile".to_owned());
        }
        if own["capabilities"]["drop"] != json!(["ALL"]) {
            found.insert("does not drop all".to_owned());
        }
    }
    found
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn the_defaults_go_beyond_the_standards_where_they_must_and_nowhere_else() {
    let Some(helm) = Helm::find("the_defaults_go_beyond_the_standards").unwrap() else { return };
    let objects = render(&helm, "");
    let pod = &agent(&objects).0["spec"];
    let baseline = ["CAP_BPF", "CAP_NET_ADMIN", "hostPath /sys/fs/cgroup", "hostPath /var/lib/remora"];
    assert_eq!(beyond_baseline(pod), set(&baseline));
    let restricted = [&baseline[..], &["may run as root", "runAsUser: 0"]].concat();
    assert_eq!(beyond_restricted(pod), set(&restricted));
    // Without folders of the node but the one that eBPF is attached by.
    let less = render(&helm, "data: {type: emptyDir}");
    let less = beyond_baseline(&agent(&less).0["spec"]);
    assert_eq!(less, set(&["CAP_BPF", "CAP_NET_ADMIN", "hostPath /sys/fs/cgroup"]));
    // The test's pod runs in a namespace of any standard.
    let test = &object(&objects, "Pod", "-check").unwrap()["spec"];
    assert_eq!(beyond_restricted(test), set(&[]));
}

/// The table of the chart's README.
fn explained() -> String {
    let readme = std::fs::read_to_string(Helm::chart().join("README.md")).unwrap();
    let table = readme.split_once("## What each permission is for").unwrap().1;
    table.split_once("\n## ").unwrap().0.to_owned()
}

#[test]
fn every_permission_is_explained() {
    let Some(helm) = Helm::find("every_permission_is_explained").unwrap() else { return };
    let explained = explained();
    let everything = "processes: {gone: true, older: true}\nconfig: {capture: {interfaces: [eth0]}}";
    let alone = "config: {capture: {mode: af-packet, cgroups: [], interfaces: [eth0]}}";
    for values in ["", everything, alone] {
        let objects = render(&helm, values);
        for point in beyond_restricted(&agent(&objects).0["spec"]) {
            let name = point.trim_start_matches("hostPath ").replace("may run as root", "runAsUser: 0");
            assert!(
                explained.contains(&format!("`{name}`")) || explained.contains(&format!("`{name}`,")),
                "{name}"
            );
        }
        for role in objects.iter().filter(|object| object["kind"] == "ClusterRole") {
            for rule in each(&role["rules"]) {
                for word in each(&rule["resources"]).chain(each(&rule["verbs"])).filter_map(Value::as_str) {
                    assert!(explained.contains(&format!("`{word}`")), "{word}");
                }
            }
        }
    }
}

/// Sections of Helm's `values` in which only names of secrets, or variables, may stand.
#[test]
fn a_token_that_is_written_down_is_in_no_config_map() {
    let Some(helm) = Helm::find("a_token_that_is_written_down").unwrap() else { return };
    for values in [
        "config: {api: {token: xoxb-hush}}",
        "config: {sinks: [{kind: elasticsearch, url: 'https://e', apiKey: xoxb-hush}]}",
        "config: {sinks: [{kind: splunk, url: 'https://e', token: {env: A, value: xoxb-hush}}]}",
        "config: {scripts: {env: {TOKEN: xoxb-hush}}}",
    ] {
        let said = helm.template(values, &[]).unwrap().expect_err(values);
        assert!(!said.contains("xoxb-hush"), "and it is not repeated: {said}");
    }
}

#[test]
fn a_node_is_not_starved_and_an_agent_is_not_let_loose() {
    let Some(helm) = Helm::find("a_node_is_not_starved").unwrap() else { return };
    let objects = render(&helm, "");
    let test = object(&objects, "Pod", "-check").unwrap();
    for pod in [&agent(&objects).0["spec"], &test["spec"]] {
        let container = &pod["containers"][0];
        let resources = &container["resources"];
        assert!(resources["limits"]["memory"].is_string() && resources["requests"]["cpu"].is_string());
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["enableServiceLinks"], false, "no addresses of other services in the environment");
        assert!(!container["image"].as_str().unwrap().ends_with(":latest"));
        for mount in each(&container["volumeMounts"]) {
            assert!(mount["mountPropagation"].is_null() && mount["subPath"].is_null(), "{mount}");
        }
        for volume in each(&pod["volumes"]).filter(|volume| !volume["emptyDir"].is_null()) {
            assert!(volume["emptyDir"]["sizeLimit"].is_string(), "fills the node's disk: {volume}");
        }
        for variable in each(&container["env"]) {
            assert!(variable["valueFrom"]["secretKeyRef"].is_null(), "secrets are files: {variable}");
        }
    }
    // Whoever adds a capability by hand cannot take the whole.
    let said = helm.template("securityContext: {extraCapabilities: [SYS_ADMIN]}", &[]).unwrap();
    assert!(said.is_err(), "SYS_ADMIN is privileged in all but name");
}
