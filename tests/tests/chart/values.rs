//! What single values do: scripts arrive byte for byte, secrets stay in Secrets, and only what needs new pods makes them.

use base64::Engine as _;
use serde_json::{Value, json};
use testkit::helm::{Helm, object};

use super::{agent, render};

#[test]
fn scripts_arrive_as_they_are() {
    let Some(helm) = Helm::find("scripts_arrive_as_they_are").unwrap() else { return };
    let file = Helm::chart().join("../../scripts/alert-on-error.js");
    let set = format!("scripts.files.alert\\.js={}", file.display());
    let objects = helm.template("", &["--set-file", &set]).unwrap().unwrap();
    let scripts = object(&objects, "ConfigMap", "-scripts").unwrap();
    assert_eq!(scripts["data"]["alert.js"], json!(std::fs::read_to_string(file).unwrap()));
    let config = object(&objects, "ConfigMap", "remora").unwrap()["data"]["agent.yaml"].as_str().unwrap();
    assert!(
        config.contains("paths:\n  - /etc/remora/scripts\n"),
        "the folder: they may come and go: {config}"
    );
}

#[test]
fn an_own_config_map_runs_whole_or_by_key() {
    let Some(helm) = Helm::find("an_own_config_map_runs_whole_or_by_key").unwrap() else { return };
    for (run, paths) in [("", "- /etc/remora/scripts\n"), (", run: [z.js]", "- /etc/remora/scripts/z.js\n")] {
        let objects = render(&helm, &format!("scripts: {{existingConfigMap: {{name: own{run}}}}}"));
        let config = object(&objects, "ConfigMap", "remora").unwrap()["data"]["agent.yaml"].as_str().unwrap();
        assert!(config.contains(&format!("paths:\n  {paths}")), "{config}");
    }
}

#[test]
fn the_api_is_asked_only_where_it_may_be() {
    let Some(helm) = Helm::find("the_api_is_asked_only_where_it_may_be").unwrap() else { return };
    let values =
        |rest: &str| format!("config: {{kubernetes: {{lookupsPerMinute: 5}}, targets: {{{rest}}}}}\n");
    let config = |objects: &[Value]| {
        let config = object(objects, "ConfigMap", "remora").unwrap()["data"]["agent.yaml"].as_str().unwrap();
        serde_norway::from_str::<Value>(config).unwrap()
    };
    let with = render(&helm, &values("namespaces: [shop], podRegex: '^web-', labels: {app: shop}"));
    assert_eq!(config(&with)["kubernetes"], json!({"enabled": true, "lookupsPerMinute": 5}));
    let targets = json!({"namespaces": ["shop"], "excludedNamespaces": [], "podRegex": "^web-", "labels": {"app": "shop"}});
    assert_eq!(config(&with)["targets"], targets);
    let environment = agent(&with).1["env"].as_array().unwrap();
    let node = json!({"name": "REMORA_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}});
    assert!(environment.contains(&node), "whose pods it asks for");
    let without = render(&helm, &format!("kubernetesApi: {{enabled: false}}\n{}", values("")));
    assert_eq!(config(&without)["kubernetes"]["enabled"], false);
    let own =
        render(&helm, "kubernetesApi: {createRole: false}\nserviceAccount: {create: false, name: mine}");
    assert!(own.iter().all(|o| o["kind"] != "ClusterRole" && o["kind"] != "ServiceAccount"));
    assert_eq!(agent(&own).0["spec"]["automountServiceAccountToken"], true);
    assert_eq!(agent(&own).0["spec"]["serviceAccountName"], "mine");
}

#[test]
fn variables_are_in_a_secret_and_nowhere_else() {
    let Some(helm) = Helm::find("variables_are_in_a_secret").unwrap() else { return };
    let objects =
        render(&helm, "env: {values: {TOKEN: \"xoxb-hushhush\\n'\\\"\"}}\nscripts: {files: {a.js: x}}\n");
    let secret = object(&objects, "Secret", "-env").unwrap();
    let value = secret["data"]["TOKEN"].as_str().unwrap();
    let value = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
    assert_eq!(value, b"xoxb-hushhush\n'\"");
    for other in objects.iter().filter(|o| o["kind"] != "Secret") {
        assert!(!other.to_string().contains("hushhush"), "{other}");
    }
}

#[test]
fn probes_ask_where_the_agent_listens() {
    let Some(helm) = Helm::find("probes_ask_where_the_agent_listens").unwrap() else { return };
    let objects = render(&helm, "config: {metrics: {listen: '[::]:1234'}}\nnetworkPolicy: {enabled: true}");
    assert_eq!(agent(&objects).1["ports"][0]["containerPort"], 1234);
    let config = object(&objects, "ConfigMap", "remora").unwrap()["data"]["agent.yaml"].as_str().unwrap();
    assert!(config.contains("listen: '[::]:1234'") && config.contains("listen: 127.0.0.1:8899"), "{config}");
    let policy = object(&objects, "NetworkPolicy", "").unwrap();
    let ingress = &policy["spec"]["ingress"];
    assert_eq!(ingress[0]["ports"], json!([{ "protocol": "TCP", "port": 1234 }]));
    let prometheus =
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    assert_eq!((&ingress[0]["from"], ingress.as_array().unwrap().len()), (&prometheus, 1));
    let nobody =
        render(&helm, "networkPolicy: {enabled: true, metricsFrom: []}\nkubernetesApi: {enabled: false}");
    let policy = &object(&nobody, "NetworkPolicy", "").unwrap()["spec"];
    assert_eq!(policy["ingress"], json!([]));
    assert!(!policy["egress"].to_string().contains("6443"), "no way to an API that is not asked");
}

fn checksums(objects: &[Value]) -> Value {
    let mut annotations = agent(objects).0["metadata"]["annotations"].clone();
    annotations.as_object_mut().unwrap().retain(|key, _| key.starts_with("checksum/"));
    annotations
}

#[test]
fn only_what_needs_new_pods_makes_them() {
    let Some(helm) = Helm::find("only_what_needs_new_pods").unwrap() else { return };
    let usual = checksums(&render(&helm, ""));
    assert_eq!(usual.as_object().unwrap().len(), 2);
    // The running agent takes these over by itself.
    for values in [
        "config: {capture: {ports: [80]}}",
        "config: {redaction: {headers: [x-a]}}",
        "config: {targets: {namespaces: []}}",
    ] {
        assert_eq!(checksums(&render(&helm, values)), usual, "{values}");
    }
    for values in [
        "config: {capture: {trim: true}}",
        "config: {capture: {direction: in}}",
        "config: {store: {maxBytes: 8G}}",
        // Some pods for all.
        "config: {targets: {namespaces: [shop]}}",
        // No script before: a volume more.
        "scripts: {files: {a.js: x}}",
        "env: {values: {A: b}}",
    ] {
        assert_ne!(checksums(&render(&helm, values)), usual, "{values}");
    }
    let some = |values: &str| checksums(&render(&helm, values));
    assert_eq!(
        some("config: {targets: {namespaces: [shop]}}"),
        some("config: {targets: {labels: {app: cart}}}"),
        "other targets are taken over"
    );
    let one = checksums(&render(&helm, "scripts: {files: {a.js: x}}"));
    for values in
        ["scripts: {files: {a.js: edited}}", "scripts: {files: {a.js: x, b.js: z}, modules: {c.mjs: z}}"]
    {
        assert_eq!(
            checksums(&render(&helm, values)),
            one,
            "scripts are taken over by the running agent: {values}"
        );
    }
}

#[test]
fn the_defaults_suit_every_node() {
    let Some(helm) = Helm::find("the_defaults_suit_every_node").unwrap() else { return };
    let objects = render(&helm, "");
    let (pod, container) = agent(&objects);
    assert_eq!(pod["spec"]["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(container["image"], "remora:0.1.0");
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "metrics" }));
    }
    assert_eq!(container["ports"], json!([{ "name": "metrics", "containerPort": 9899, "protocol": "TCP" }]));
    let kinds: Vec<_> = objects.iter().map(|o| o["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "DaemonSet", "Pod"]
    );
}

#[test]
fn the_notes_say_what_to_do_next() {
    let Some(helm) = Helm::find("the_notes_say_what_to_do_next").unwrap() else { return };
    let notes = |more: &[&str]| {
        let chart = Helm::chart();
        let chart = chart.to_string_lossy();
        let mut args = vec!["install", "shop", &chart, "--dry-run=client", "--namespace", "observed"];
        args.extend(more);
        let output = helm.run(&args).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        said.split_once("NOTES:").unwrap().1.to_owned()
    };
    let usual = notes(&[]);
    for words in ["rollout status daemonset/shop-remora", "helm -n observed test shop", "No script runs yet"]
    {
        assert!(usual.contains(words), "{words:?} is not in {usual}");
    }
    let with = notes(&["--set", "scripts.files.a\\.js=x,data.type=emptyDir,env.values.A=b"]);
    assert!(!with.contains("No script runs yet") && with.contains("data.type is emptyDir"), "{with}");
    assert!(with.contains("part of the Helm release"), "{with}");
    let more = "env.existingSecret=own,kubernetesApi.enabled=false,monitoring.dashboard.enabled=true,config.api.listen=off";
    let more = notes(&[
        "--set-string",
        more.split_once(",k").unwrap().0,
        "--set",
        more.split_once("own,").unwrap().1,
    ]);
    for words in ["create secret generic own", "kubernetesApi.enabled is off", "needs Prometheus"] {
        assert!(more.contains(words), "{words:?} is not in {more}");
    }
    assert!(usual.contains("curl -N http://localhost:8899/") && !more.contains("curl"), "{more}");
    let shared = "reads\nitems at 127.0.0.1:8899. Set config.api.token";
    let on_node = "config.capture.interfaces={eth0}";
    assert!(!usual.contains(shared) && notes(&["--set", on_node]).contains(shared), "{usual}");
    for safe in ["config.api.token=${REMORA_API_TOKEN}", "config.api.listen=off"] {
        assert!(!notes(&["--set", on_node, "--set-string", safe]).contains(shared), "{safe}");
    }
}
