//! Monitors for Prometheus' operator, and the dashboard: they ask for what there is.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use testkit::fakes::kube::strict::{self, Misunderstood};
use testkit::helm::{Helm, object};

use super::{agent, render};

/// What of `monitoring.coreos.com/v1` a chart like this may use, as the operator's API reference has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for their types")]
struct Monitor {
    job_label: Option<String>,
    selector: Selector,
    #[serde(alias = "podMetricsEndpoints")]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for their types")]
struct Selector {
    match_labels: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for their types")]
struct Endpoint {
    port: String,
    path: String,
    interval: Option<String>,
    scrape_timeout: Option<String>,
    relabelings: Vec<Relabeling>,
    #[serde(default)]
    metric_relabelings: Vec<Relabeling>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for their types")]
struct Relabeling {
    source_labels: Option<Vec<String>>,
    separator: Option<String>,
    target_label: Option<String>,
    regex: Option<String>,
    replacement: Option<String>,
    action: Option<String>,
}

/// Kubernetes' own kinds and the operator's.
pub(crate) fn check(object: &Value) -> Result<(), Misunderstood> {
    if object["apiVersion"] != "monitoring.coreos.com/v1" {
        return strict::check(object);
    }
    let monitor = Monitor::deserialize(&object["spec"]);
    monitor.map(drop).map_err(|error| Misunderstood::Type(format!("{}: {error}", object["kind"])))
}

fn takes(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().filter(|wanted| !wanted.is_empty()).unwrap();
    wanted.iter().all(|(key, value)| labels[key] == *value)
}

const MONITOR: &str = "enabled: true, labels: {release: prometheus}, interval: 15s, scrapeTimeout: 5s,
    relabelings: [{sourceLabels: [__meta_kubernetes_pod_ip], targetLabel: ip}],
    metricRelabelings: [{sourceLabels: [__name__], regex: 'process_.*', action: drop}]";

#[test]
fn a_pod_monitor_finds_the_agents() {
    let Some(helm) = Helm::find("a_pod_monitor_finds_the_agents").unwrap() else { return };
    let objects = render(&helm, &format!("monitoring: {{podMonitor: {{{MONITOR}}}}}"));
    let monitor = object(&objects, "PodMonitor", "").unwrap();
    check(monitor).unwrap();
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let (pod, container) = agent(&objects);
    assert!(takes(&monitor["spec"]["selector"]["matchLabels"], &pod["metadata"]["labels"]));
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["port"], container["ports"][0]["name"]);
    assert_eq!((&endpoint["interval"], &endpoint["scrapeTimeout"]), (&json!("15s"), &json!("5s")));
    assert_eq!(endpoint["relabelings"].as_array().unwrap().len(), 2, "the node's name, and the user's");
    assert_eq!(endpoint["metricRelabelings"][0]["action"], "drop");
    // Nor does it find the pod of `helm test`.
    let test = object(&objects, "Pod", "-check").unwrap();
    assert!(!takes(&monitor["spec"]["selector"]["matchLabels"], &test["metadata"]["labels"]));
}

#[test]
fn a_service_monitor_finds_them_through_a_service() {
    let Some(helm) = Helm::find("a_service_monitor_finds_them").unwrap() else { return };
    let objects = render(&helm, &format!("monitoring: {{serviceMonitor: {{{MONITOR}}}}}"));
    objects.iter().for_each(|object| check(object).unwrap());
    let (monitor, service) =
        (object(&objects, "ServiceMonitor", "").unwrap(), object(&objects, "Service", "-metrics").unwrap());
    assert!(takes(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]));
    let (pod, container) = agent(&objects);
    assert!(takes(&service["spec"]["selector"], &pod["metadata"]["labels"]));
    let port = &service["spec"]["ports"][0];
    assert_eq!(port["name"], monitor["spec"]["endpoints"][0]["port"]);
    assert_eq!(
        (&port["targetPort"], &port["port"]),
        (&json!("metrics"), &container["ports"][0]["containerPort"])
    );
    assert_eq!(service["spec"]["clusterIP"], "None", "each agent is asked, not one of them");
}

/// Every metric that docs/api.md names.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(Helm::root().join("docs/api.md")).unwrap();
    names(&text).collect()
}

fn names(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("remora_") || word.starts_with("process_")).map(str::to_owned)
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    dashboard["panels"].as_array().unwrap().iter().filter_map(Value::as_object)
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let Some(helm) = Helm::find("the_dashboard_asks_for_metrics").unwrap() else { return };
    let objects = render(&helm, "monitoring: {dashboard: {enabled: true}}");
    let map = object(&objects, "ConfigMap", "-dashboard").unwrap();
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let dashboard: Value = serde_json::from_str(map["data"]["remora.json"].as_str().unwrap()).unwrap();
    let documented = documented();
    assert!(documented.len() > 50, "docs/api.md lists them: {documented:?}");
    let mut asked = 0;
    for target in
        panels(&dashboard).flat_map(|panel| panel.get("targets").and_then(Value::as_array)).flatten()
    {
        let query = target["expr"].as_str().unwrap();
        for name in names(query) {
            assert!(documented.contains(&name), "{name} in {query}");
            asked += 1;
        }
        // A counter is never shown as it is, and a gauge has no rate.
        for (at, _) in query.match_indices("_total{") {
            let begin = query[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
            let function = query[..begin].trim_end_matches('(');
            assert!(function.ends_with("rate") || function.ends_with("increase"), "{query}");
        }
        assert_eq!(query.matches('(').count(), query.matches(')').count(), "{query}");
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn the_dashboard_has_its_place() {
    let text = std::fs::read_to_string(Helm::chart().join("dashboards/remora.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let ids: BTreeSet<_> = panels(&dashboard).map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels(&dashboard).count(), "ids are there once");
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
    }
    let variables: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    for variable in ["datasource", "node"] {
        assert!(
            variables.contains(&variable) && text.contains(&format!("${variable}"))
                || text.contains(&format!("${{{variable}}}"))
        );
    }
}
