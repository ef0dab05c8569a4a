//! Kubernetes' official Python client and the real kubectl, as independent judges of the fake API server.
//!
//! `REMORA_JUDGE_PYTHON` as for Slack's; kubectl lies beside the Helm that `REMORA_HELM` names.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::fakes::kube::KubeApi;
use testkit::helm::Helm;

mod judge;

/// With an account that may list and watch pods.
fn with_an_account() -> (KubeApi, String) {
    let api = KubeApi::local().unwrap();
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]});
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    for object in [
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "agent"}, "rules": [rule]}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "agent"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "agent"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "judge", "name": "agent"}]}),
    ] {
        api.apply(&object).unwrap();
    }
    let token = api.token("judge", "agent");
    (api, token)
}

#[test]
fn the_official_client_agrees() {
    let (api, token) = with_an_account();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::write(&config, api.kubeconfig(api.admin_token())).unwrap();
    let arguments = [&config.to_string_lossy(), token.as_str()];
    let Some(said) = judge::hear("kube_check.py", "kubernetes", &arguments) else { return };
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 20, "{said}");
    assert_eq!(api.count("watch", "pods").requests, 1);
    assert!(api.requests().iter().any(|r| r.user == "system:serviceaccount:judge:agent" && r.status == 403));
}

const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: {app: a}}
data: {one: '1', two: '2'}
";

#[test]
fn kubectl_agrees() {
    let Some(helm) = Helm::find("kubectl_agrees").unwrap() else { return };
    let (api, _) = with_an_account();
    let cluster = helm.cluster(&api.kubeconfig(api.admin_token())).unwrap();
    let Some(kubectl) = cluster.kubectl("kubectl_agrees") else { return };
    let said = |args: &[&str], input: &str| kubectl.run(args, input).unwrap();
    let ok = |args: &[&str], input: &str| {
        said(args, input).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
    };
    let refused = |args: &[&str], input: &str| said(args, input).expect_err(&format!("kubectl {args:?}"));

    assert!(ok(&["version"], "").contains("Server Version: v1.34.0"));
    assert!(ok(&["api-resources", "--namespaced=false"], "").contains("clusterroles"));
    ok(&["create", "namespace", "shop"], "");
    assert!(ok(&["-n", "shop", "apply", "-f", "-"], CONFIG).contains("created"));
    assert!(ok(&["-n", "shop", "apply", "-f", "-"], CONFIG).contains("unchanged"));
    let less = CONFIG.replace("one: '1', ", "");
    assert!(ok(&["-n", "shop", "apply", "-f", "-"], &less).contains("configured"));
    let data = |path: &str| ok(&["-n", "shop", "get", "cm", "c", "-o", &format!("jsonpath={{{path}}}")], "");
    assert_eq!(data(".data"), r#"{"two":"2"}"#, "what is no longer applied is gone");
    let unknown = refused(&["-n", "shop", "apply", "-f", "-"], &format!("{CONFIG}datta: {{}}\n"));
    assert!(unknown.contains("datta") && unknown.contains("unknown field"), "{unknown}");
    let conflict = refused(
        &["-n", "shop", "apply", "--server-side", "--field-manager", "other", "-f", "-"],
        &less.replace("'2'", "'3'"),
    );
    assert!(conflict.contains("conflict with \"kubectl-client-side-apply"), "{conflict}");
    ok(
        &["-n", "shop", "apply", "--server-side", "--force-conflicts", "--field-manager", "other", "-f", "-"],
        &less.replace("'2'", "'3'"),
    );
    assert_eq!(data(".data.two"), "3");
    ok(&["-n", "shop", "label", "cm", "c", "tier=web"], "");
    ok(
        &[
            "-n",
            "shop",
            "patch",
            "cm",
            "c",
            "--type",
            "json",
            "-p",
            r#"[{"op":"remove","path":"/data/two"}]"#,
        ],
        "",
    );
    assert_eq!(data(".data.two"), "");
    assert!(ok(&["-n", "shop", "get", "cm", "-l", "app=a,tier=web", "--chunk-size", "1"], "").contains("c "));
    assert!(
        refused(&["-n", "shop", "get", "cm", "--field-selector", "data.x=1"], "").contains("not supported")
    );

    ok(&["-n", "shop", "run", "p", "--image", "i", "--restart", "Never"], "");
    api.set_log("shop", "p", "hello\n");
    assert_eq!(ok(&["-n", "shop", "logs", "p"], ""), "hello\n");
    let watched = std::thread::scope(|scope| {
        let watch = scope
            .spawn(|| ok(&["-n", "shop", "get", "cm", "-w", "--request-timeout", "2s", "-o", "name"], ""));
        let until = Instant::now() + Duration::from_secs(10);
        while api.watching("configmaps") == 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        ok(&["-n", "shop", "create", "cm", "later"], "");
        watch.join().unwrap()
    });
    assert!(watched.contains("configmap/c") && watched.contains("configmap/later"), "{watched}");

    let account = ["--as", "system:serviceaccount:judge:agent"];
    assert_eq!(ok(&[&["auth", "can-i", "watch", "pods", "-A"], &account[..]].concat(), ""), "yes\n");
    refused(&[&["auth", "can-i", "get", "pods", "-A"], &account[..]].concat(), "");
    let forbidden = refused(&[&["get", "secrets", "-A"], &account[..]].concat(), "");
    assert!(
        forbidden.contains("cannot list resource \"secrets\" in API group \"\" at the cluster scope"),
        "{forbidden}"
    );
    assert!(ok(&["-n", "shop", "create", "token", "a"], "").starts_with("token-of-shop-a"));

    ok(&["-n", "shop", "delete", "pod", "p"], "");
    ok(&["delete", "namespace", "shop"], "");
    assert!(refused(&["-n", "shop", "get", "cm", "c"], "").contains("NotFound"));
}
