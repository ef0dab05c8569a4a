//! The real Helm installs, upgrades, tests, rolls back and uninstalls the chart in a cluster's API server (`testkit`'s strict
//! fake): by the very lines that README.md gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use testkit::fakes::kube::KubeApi;
use testkit::helm::{Cluster, Helm};

/// The first command in a document that begins so, its lines joined and parted into words as a shell does it.
fn command(document: &str, begins: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Helm::root().join(document)).unwrap();
    let at = text.find(&format!("{begins} ")).unwrap_or_else(|| panic!("{document} has no {begins:?}"));
    let text = text[at..].replace("\\\n", " ");
    // A comment after two blanks, or the end of the line or of a code span.
    let line =
        text.lines().next().unwrap().split("  #").next().unwrap().split('`').next().unwrap().to_owned();
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

#[track_caller]
fn helm(cluster: &Cluster<'_>, args: &[&str]) -> String {
    cluster.helm(args).unwrap().unwrap_or_else(|said| panic!("helm {args:?}: {said}"))
}

/// By README.md's own line.
#[track_caller]
fn install(cluster: &Cluster<'_>) -> String {
    let line = command("README.md", "helm install");
    let args: Vec<&str> = line[1..].iter().map(String::as_str).collect();
    helm(cluster, &args)
}

fn daemon_set(api: &KubeApi) -> Value {
    api.get("apps/v1", "DaemonSet", "remora", "remora").unwrap()
}

#[test]
fn it_is_installed_by_the_line_of_the_readme() {
    let Some(program) = Helm::find("it_is_installed_by_the_line").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    let said = install(&cluster);
    assert!(said.contains("STATUS: deployed") && said.contains("rollout status daemonset/remora"), "{said}");

    let scripts = api.get("v1", "ConfigMap", "remora", "remora-scripts").unwrap();
    let script = std::fs::read_to_string(Helm::root().join("scripts/alert-on-error.js")).unwrap();
    assert_eq!(scripts["data"]["alert-on-error.js"], json!(script), "as it is in the project");
    let container = &daemon_set(&api)["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "REGISTRY/remora:0.1.0");
    assert!(api.list("v1", "Pod").is_empty(), "the test's pod is a hook");
    assert!(api.get("v1", "Secret", "remora", "slack").is_none(), "that is the user's to make…");
    if let Some(kubectl) = cluster.kubectl("it_is_installed_by_the_line") {
        // …by the line in the chart's README.
        let line = command("helm/remora/README.md", "kubectl -n remora create secret");
        let args: Vec<&str> = line[1..].iter().map(String::as_str).collect();
        kubectl.run(&args, "").unwrap().unwrap();
        let secret = api.get("v1", "Secret", "remora", "slack").unwrap();
        let keys: Vec<_> = secret["data"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["SLACK_AUTH_TOKEN", "SLACK_CHANNEL_ID"]);
    }
    // Nothing was asked for that a person with these rights would not be: no list of the cluster's Secrets, for one.
    assert!(api.requests().iter().all(|r| r.resource != "secrets" || r.namespace.is_some()));
}

/// What may be done by the account that the chart makes, out of everything that can be asked for.
#[test]
fn the_agents_account_may_list_and_watch_three_kinds() {
    let Some(program) = Helm::find("the_agents_account_may").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    install(&cluster);
    let Some(kubectl) = cluster.kubectl("the_agents_account_may") else { return };
    let may = |verb: &str, what: &str, scope: &[&str]| {
        let user = "system:serviceaccount:remora:remora";
        let args = [&["auth", "can-i", verb, what, "--as", user], scope].concat();
        kubectl.run(&args, "").unwrap().is_ok()
    };
    for what in ["pods", "services", "endpointslices.discovery.k8s.io"] {
        assert!(may("list", what, &["-A"]) && may("watch", what, &["-A"]), "{what}");
        for verb in ["get", "create", "update", "patch", "delete", "deletecollection"] {
            assert!(!may(verb, what, &["-A"]) && !may(verb, what, &["-n", "remora"]), "{verb} {what}");
        }
    }
    for what in ["secrets", "configmaps", "nodes", "namespaces", "clusterroles", "endpoints"] {
        assert!(!may("list", what, &["-A"]) && !may("get", what, &["-n", "remora"]), "{what}");
    }
    for part in ["--subresource=log", "--subresource=exec"] {
        assert!(!may("get", "pods", &["-A", part]) && !may("create", "pods", &["-A", part]), "{part}");
    }
    // A token that the server takes is enough to do so, as kube-rs does.
    let token = api.token("remora", "remora");
    let agent = program.cluster(&api.kubeconfig(&token)).unwrap();
    let agent = agent.kubectl("the_agents_account_may").unwrap();
    agent.run(&["get", "pods", "-A", "--field-selector", "spec.nodeName=n1"], "").unwrap().unwrap();
    let said = agent.run(&["-n", "remora", "get", "secrets"], "").unwrap().unwrap_err();
    assert!(said.contains("forbidden"), "{said}");
}

#[test]
fn an_upgrade_replaces_pods_only_where_it_must() {
    let Some(program) = Helm::find("an_upgrade_replaces_pods").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    install(&cluster);
    let before = daemon_set(&api);
    let upgrade = |set: &[&str]| {
        helm(
            &cluster,
            &[&["upgrade", "remora", "helm/remora", "-n", "remora", "--reuse-values"], set].concat(),
        )
    };
    upgrade(&["--set-file", "scripts.files.b\\.js=scripts/alert-on-error.js"]);
    upgrade(&["--set", "config.capture.ports={80}"]);
    let config = api.get("v1", "ConfigMap", "remora", "remora").unwrap();
    assert!(config["data"]["agent.yaml"].as_str().unwrap().contains("ports:\n  - 80\n"), "{config}");
    let scripts = api.get("v1", "ConfigMap", "remora", "remora-scripts").unwrap();
    assert_eq!(scripts["data"].as_object().unwrap().len(), 2);
    assert_eq!(daemon_set(&api)["spec"], before["spec"], "running agents take these over");

    upgrade(&["--set", "config.store.maxBytes=8G,kubernetesApi.enabled=false"]);
    let after = daemon_set(&api);
    assert_eq!(after["metadata"]["generation"], 2);
    assert_eq!(after["spec"]["selector"], before["spec"]["selector"], "cannot be changed");
    assert_eq!(after["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
    assert!(
        api.list("rbac.authorization.k8s.io/v1", "ClusterRoleBinding").is_empty(),
        "no right is left behind"
    );
    // The data are where they were: on the node.
    let volumes = &after["spec"]["template"]["spec"]["volumes"];
    assert_eq!(*volumes, before["spec"]["template"]["spec"]["volumes"]);

    helm(&cluster, &["rollback", "remora", "1", "-n", "remora"]);
    assert_eq!(daemon_set(&api)["spec"], before["spec"]);
    assert_eq!(api.list("rbac.authorization.k8s.io/v1", "ClusterRoleBinding").len(), 1);
}

#[test]
fn uninstalling_leaves_nothing_of_the_release() {
    let Some(program) = Helm::find("uninstalling_leaves_nothing").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let everything = || {
        let kinds = [
            "v1 ConfigMap",
            "v1 Secret",
            "v1 ServiceAccount",
            "v1 Service",
            "v1 Pod",
            "apps/v1 DaemonSet",
            "rbac.authorization.k8s.io/v1 ClusterRole",
            "rbac.authorization.k8s.io/v1 ClusterRoleBinding",
            "networking.k8s.io/v1 NetworkPolicy",
        ];
        let lists = kinds.iter().map(|kind| kind.split_once(' ').unwrap());
        lists
            .flat_map(|(version, kind)| api.list(version, kind))
            .map(|o| o["metadata"]["name"].clone())
            .collect::<Vec<_>>()
    };
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    install(&cluster);
    let all =
        "monitoring.dashboard.enabled=true,networkPolicy.enabled=true,env.values.A=b,env.existingSecret=";
    helm(&cluster, &["upgrade", "remora", "helm/remora", "-n", "remora", "--reuse-values", "--set", all]);
    assert!(everything().len() >= 10, "{:?}", everything());
    helm(&cluster, &["uninstall", "remora", "-n", "remora"]);
    assert_eq!(everything(), Vec::<Value>::new());
}

/// A kubelet, as far as `helm test` goes: gives the pod that appears this phase and log, until told to stop.
fn runs_pods(api: &KubeApi, phase: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for mut pod in api.list("v1", "Pod") {
            if pod["status"]["phase"] == "Pending" {
                let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
                api.set_log("remora", &name, "/etc/remora/config/agent.yaml is right\n");
                pod["status"] = json!({ "phase": phase });
                api.apply(&pod).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn helm_test_tells_whether_the_check_went_well() {
    let Some(program) = Helm::find("helm_test_tells").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    install(&cluster);
    let stop = AtomicBool::new(false);
    let test = |phase: &str| {
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| runs_pods(&api, phase, &stop));
            let said =
                cluster.helm(&["test", "remora", "-n", "remora", "--logs", "--timeout", "30s"]).unwrap();
            stop.store(true, Ordering::Relaxed);
            said
        })
    };
    // Twice: the pod of the test before is in nobody's way.
    for _ in 0..2 {
        let said = test("Succeeded").unwrap();
        assert!(said.contains("Phase:          Succeeded"), "{said}");
    }
    let said = test("Failed").unwrap_err();
    assert!(said.contains("Failed") && said.contains("agent.yaml is right"), "with the pod's log: {said}");
    assert_eq!(api.list("v1", "Pod").len(), 1, "what failed can be looked at");
}

#[test]
fn wait_waits_for_every_agent() {
    let Some(program) = Helm::find("wait_waits_for_every_agent").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    let args = ["install", "remora", "helm/remora", "-n", "remora", "--create-namespace", "--wait"];
    let ready = std::thread::scope(|scope| {
        let helm = scope.spawn(|| cluster.helm(&[&args[..], &["--timeout", "60s"]].concat()).unwrap());
        let set = || api.get("apps/v1", "DaemonSet", "remora", "remora");
        while set().is_none() || api.watching("daemonsets") == 0 {
            assert!(!helm.is_finished(), "it has not waited: {:?}", helm.join());
            std::thread::sleep(Duration::from_millis(20));
        }
        for ready in 0..=3 {
            let mut set = set().unwrap();
            set["status"] = json!({"observedGeneration": 1, "currentNumberScheduled": 3, "desiredNumberScheduled": 3,
                "numberMisscheduled": 0, "numberReady": ready, "numberAvailable": ready, "updatedNumberScheduled": 3});
            api.apply(&set).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            assert!(ready == 3 || !helm.is_finished(), "{ready} of 3 are ready");
        }
        helm.join().unwrap()
    });
    assert!(ready.unwrap().contains("STATUS: deployed"));
}

/// Somebody who has a namespace and nothing of the cluster.
#[test]
fn the_owner_of_a_namespace_can_install_it_without_the_api() {
    let Some(program) = Helm::find("the_owner_of_a_namespace").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let rule = json!({"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["*"]});
    for object in [
        json!({"apiVersion": version, "kind": "Role", "metadata": {"name": "owner", "namespace": "team"}, "rules": [rule]}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": "owner", "namespace": "team"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "owner"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "team", "name": "owner"}]}),
    ] {
        api.apply(&object).unwrap();
    }
    let cluster = program.cluster(&api.kubeconfig(&api.token("team", "owner"))).unwrap();
    let args = ["install", "remora", "helm/remora", "-n", "team"];
    let said = cluster.helm(&args).unwrap().unwrap_err();
    assert!(said.contains("clusterroles") && said.contains("forbidden"), "{said}");
    let without = [&args[..], &["--set", "kubernetesApi.enabled=false"]].concat();
    let _ = cluster.helm(&["uninstall", "remora", "-n", "team"]).unwrap();
    helm(&cluster, &without);
    assert!(api.get("apps/v1", "DaemonSet", "team", "remora").is_some());
}

#[test]
fn a_monitor_needs_the_operator_and_says_so() {
    let Some(program) = Helm::find("a_monitor_needs_the_operator").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    let args = [
        "upgrade",
        "--install",
        "remora",
        "helm/remora",
        "-n",
        "remora",
        "--create-namespace",
        "--set",
        "monitoring.podMonitor.enabled=true",
    ];
    let said = cluster.helm(&args).unwrap().unwrap_err();
    assert!(said.contains("PodMonitor") && said.contains("monitoring.coreos.com/v1"), "{said}");
    api.apply(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "podmonitors.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"plural": "podmonitors", "kind": "PodMonitor"},
            "versions": [{"name": "v1", "served": true, "storage": true}]}}))
        .unwrap();
    helm(&cluster, &args);
    assert_eq!(api.list("monitoring.coreos.com/v1", "PodMonitor").len(), 1);
}

#[test]
fn secrets_reach_the_cluster_as_they_are() {
    let Some(program) = Helm::find("secrets_reach_the_cluster").unwrap() else { return };
    let api = KubeApi::local().unwrap();
    let cluster = program.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    let args = [
        "install",
        "remora",
        "helm/remora",
        "-n",
        "remora",
        "--create-namespace",
        "--set-string",
        "env.values.TOKEN=xoxb-1,env.values.NUMBER=0123",
    ];
    helm(&cluster, &args);
    let secret = api.get("v1", "Secret", "remora", "remora-env").unwrap();
    let value = |key: &str| {
        base64::engine::general_purpose::STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()
    };
    assert_eq!((value("TOKEN"), value("NUMBER")), (b"xoxb-1".to_vec(), b"0123".to_vec()));
}
