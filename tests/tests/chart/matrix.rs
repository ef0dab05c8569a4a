//! Every combination of what changes the objects: each is understood by Kubernetes, refers to nothing that is not there,
//! and gives the agent no more than it asks for.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::fakes::kube::strict;
use testkit::helm::{Helm, object};

use super::{agent, render};

/// One value of each is taken for each combination: its name in a failure, and YAML.
const CHOICES: [&[(&str, &str)]; 6] = [
    &[
        ("cgroups", ""),
        ("interfaces, auto", "config: {capture: {cgroups: [], interfaces: [eth0]}}"),
        ("af-packet", "config: {capture: {mode: af-packet, cgroups: [], interfaces: ['veth*']}}"),
        ("both, ebpf", "config: {capture: {mode: ebpf, interfaces: [eth0], ports: [80], nets: [10.0.0.0/8]}}"),
    ],
    &[
        ("no scripts", ""),
        ("files", "scripts: {files: {a.js: \"// é\\n{{ x }}\\n\", b.js: x}, modules: {lib.js: z}}"),
        ("own ConfigMap", "scripts: {existingConfigMap: {name: mine, run: [z.js]}}"),
    ],
    &[
        ("no variables", ""),
        ("values", "env: {values: {SLACK_AUTH_TOKEN: \"x'\\\"\\n1\", CHANNEL: '0123'}}"),
        ("both Secrets", "env: {values: {A: b}, existingSecret: own}"),
    ],
    &[
        ("hostPath", ""),
        ("emptyDir", "data: {type: emptyDir, sizeLimit: 8Gi}\nprocesses: {gone: true, older: true}"),
    ],
    &[
        ("no extras", ""),
        (
            "all extras",
            "networkPolicy: {enabled: true}
kubernetesApi: {enabled: true}
priorityClassName: system-node-critical
imagePullSecrets: [{name: pull}]
serviceAccount: {create: true, annotations: {a: b}}
securityContext: {seccompProfile: {type: Localhost, localhostProfile: p.json}, extraCapabilities: [SYS_RESOURCE]}
nodeSelector: {kubernetes.io/os: linux}
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
podAnnotations: {a: b}
podLabels: {team: x}
extraEnv: [{name: HTTPS_PROXY, value: 'http://p:1'}]
ca: {existingConfigMap: authorities, key: own.pem}
image: {digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}",
        ),
    ],
    &[("name", ""), ("long name", "fullnameOverride: a-name-that-is-quite-a-bit-longer-than-names-may-ever-get-to-be")],
];

/// All of them, by name and values. YAML has a key once, so the first choice to name a section keeps it: none share one.
fn combinations() -> Vec<(String, String)> {
    CHOICES.iter().fold(vec![(String::new(), String::new())], |all, choices| {
        let with = |(name, values): &(String, String)| {
            let (name, values) = (name.clone(), values.clone());
            choices.iter().map(move |(n, v)| (format!("{name} · {n}"), format!("{values}{v}\n")))
        };
        all.iter().flat_map(with).collect()
    })
}

#[test]
fn every_combination_is_whole() {
    let Some(helm) = Helm::find("every_combination_is_whole").unwrap() else { return };
    let all = combinations();
    assert_eq!(all.len(), 288);
    for (name, values) in all {
        let objects = render(&helm, &values);
        for object in &objects {
            strict::check(object).unwrap_or_else(|error| panic!("{name}: {error}"));
            names(&name, object);
        }
        references(&name, &values, &objects);
        least_privilege(&name, &values, &objects);
    }
}

/// RFC 1123 names; labels as Kubernetes takes them.
fn names(case: &str, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!(name.len() <= 63 && name.chars().all(good) && !name.ends_with('-'), "{case}: {name}");
    for labels in [&object["metadata"]["labels"], &object["spec"]["template"]["metadata"]["labels"]] {
        for (key, value) in labels.as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
            assert!(value.len() <= 63, "{case}: {key}: {value}");
            assert!(ends(value.chars().next()) && ends(value.chars().last()), "{case}: {key}: {value}");
        }
    }
}

/// Whatever is named is there: volumes, ConfigMaps, Secrets, the account, and the DaemonSet's own pods.
fn references(case: &str, values: &str, objects: &[Value]) {
    let is_there = |kind: &str, name: &str| {
        objects.iter().any(|o| o["kind"] == kind && o["metadata"]["name"] == name)
            || values.contains(&format!("name: {name}"))
            || values.contains(&format!("existingSecret: {name}"))
            || values.contains(&format!("existingConfigMap: {name}"))
    };
    let set = object(objects, "DaemonSet", "").unwrap();
    let test = object(objects, "Pod", "-check").unwrap();
    for pod in [&set["spec"]["template"]["spec"], &test["spec"]] {
        let volumes: BTreeSet<_> =
            pod["volumes"].as_array().unwrap().iter().map(|v| v["name"].as_str()).collect();
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let mounted: BTreeSet<_> = mounts.iter().map(|m| m["name"].as_str()).collect();
        assert_eq!(volumes, mounted, "{case}");
        let paths: Vec<_> = mounts.iter().map(|m| m["mountPath"].as_str().unwrap()).collect();
        for (at, path) in paths.iter().enumerate() {
            let inside = |other: &&str| path.starts_with(&format!("{other}/")) || path == other;
            assert!(!paths.iter().enumerate().any(|(o, other)| o != at && inside(other)), "{case}: {path}");
        }
        for volume in pod["volumes"].as_array().unwrap() {
            if let Some(name) = volume["configMap"]["name"].as_str() {
                assert!(is_there("ConfigMap", name), "{case}: {name}");
            }
            if let Some(name) = volume["secret"]["secretName"].as_str() {
                assert!(is_there("Secret", name), "{case}: {name}");
            }
        }
    }
    let account = set["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap();
    assert!(is_there("ServiceAccount", account), "{case}: {account}");
    let takes = |labels: &Value| {
        let wanted = set["spec"]["selector"]["matchLabels"].as_object().unwrap();
        wanted.iter().all(|(key, value)| labels[key] == *value)
    };
    assert!(takes(&set["spec"]["template"]["metadata"]["labels"]), "{case}");
    assert!(
        !takes(&test["metadata"]["labels"]),
        "{case}: the DaemonSet would take the test's pod for its own"
    );
}

fn least_privilege(case: &str, values: &str, objects: &[Value]) {
    let (pod, container) = agent(objects);
    let security = &container["securityContext"];
    assert_eq!(security["privileged"], false, "{case}");
    assert_eq!(security["allowPrivilegeEscalation"], false, "{case}");
    assert_eq!(security["readOnlyRootFilesystem"], true, "{case}");
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{case}");
    let mut expected = match case {
        _ if case.contains("af-packet") => vec!["NET_RAW"],
        _ if case.contains("interfaces, auto") => vec!["BPF", "NET_ADMIN", "NET_RAW"],
        _ => vec!["BPF", "NET_ADMIN"],
    };
    if case.contains("emptyDir") {
        expected.extend(["PERFMON", "SYS_PTRACE"]);
    }
    if case.contains("all extras") {
        expected.push("SYS_RESOURCE");
    }
    assert_eq!(security["capabilities"]["add"], json!(expected), "{case}");
    let spec = &pod["spec"];
    assert_eq!(spec["hostNetwork"] == true, values.contains("interfaces:"), "{case}");
    assert_eq!(spec["hostPID"] == true, values.contains("older: true"), "{case}");
    assert!(spec["hostIPC"].is_null(), "{case}");
    let uses_api = values.contains("kubernetesApi");
    assert_eq!(spec["automountServiceAccountToken"], uses_api, "{case}");
    assert_eq!(objects.iter().any(|o| o["kind"].as_str().unwrap().contains("Role")), uses_api, "{case}");
    host_folders(case, spec, container);
    for test in objects.iter().filter(|o| o["kind"] == "Pod") {
        assert_eq!(test["spec"]["securityContext"]["runAsNonRoot"], true, "{case}");
        assert_eq!(test["spec"]["automountServiceAccountToken"], false, "{case}");
    }
    for role in objects.iter().filter(|o| o["kind"] == "ClusterRole") {
        for rule in role["rules"].as_array().unwrap() {
            assert_eq!(rule["verbs"], json!(["list", "watch"]), "{case}");
            assert!(!rule["resources"].to_string().contains("secrets"), "{case}");
        }
    }
}

/// Folders of the node are mounted read-only, but for the data.
fn host_folders(case: &str, spec: &Value, container: &Value) {
    for volume in spec["volumes"].as_array().unwrap().iter().filter(|v| !v["hostPath"].is_null()) {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|m| m["name"] == volume["name"]).unwrap();
        assert_eq!(mount["readOnly"] == true, volume["name"] != "data", "{case}: {volume}");
    }
}
