//! The fake API server by itself: what its judges do not ask for. Watches on bad days, faults, counters, limits.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Response;
use serde_json::{Value, json};
use testkit::fakes::kube::{Cut, KubeApi, KubeConfig};
use testkit::slack::{Fault, Injection};

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": "a"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Running", "podIP": "10.0.0.1"}})
}

fn start(config: KubeConfig) -> KubeApi {
    // Another test has installed it already: as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    KubeApi::start(KubeConfig { rbac: false, ..config }).unwrap()
}

async fn get(api: &KubeApi, path: &str) -> Response {
    reqwest::get(format!("{}{path}", api.url())).await.unwrap()
}

async fn json_of(api: &KubeApi, path: &str) -> Value {
    serde_json::from_str(&get(api, path).await.text().await.unwrap()).unwrap()
}

/// The lines of a watch, as they come; the last may be broken off.
struct Lines {
    stream: futures_util::stream::BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    rest: Vec<u8>,
}

impl Lines {
    async fn open(api: &KubeApi, query: &str) -> Self {
        let response = get(api, &format!("/api/v1/pods?watch=true&{query}")).await;
        assert_eq!(response.status(), 200);
        Self { stream: response.bytes_stream().boxed(), rest: Vec::new() }
    }

    /// The next event; `Err`: what was left when the stream ended, and whether it broke.
    async fn next(&mut self) -> Result<Value, (String, bool)> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line).unwrap());
            }
            let more = tokio::time::timeout(Duration::from_secs(10), self.stream.next()).await.unwrap();
            match more {
                Some(Ok(bytes)) => self.rest.extend_from_slice(&bytes),
                other => return Err((String::from_utf8(self.rest.clone()).unwrap(), other.is_some())),
            }
        }
    }

    async fn told(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_begins_anywhere_and_misses_nothing() {
    let api = start(KubeConfig::default());
    api.apply(&pod("a", "n1")).unwrap();
    let list = json_of(&api, "/api/v1/pods").await;
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("PodList"), &Value::Null));
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    api.apply(&pod("b", "n2")).unwrap();
    let mut since = Lines::open(&api, &format!("resourceVersion={revision}")).await;
    assert_eq!(since.told().await, event("ADDED", "b"));
    let mut all = Lines::open(&api, "resourceVersion=0&fieldSelector=spec.nodeName%3Dn1").await;
    assert_eq!(all.told().await, event("ADDED", "a"));
    assert_eq!(api.watching("pods"), 2);
    api.delete(&pod("b", "")).unwrap();
    api.delete(&pod("a", "")).unwrap();
    assert_eq!(since.told().await, event("DELETED", "b"));
    assert_eq!(since.told().await, event("DELETED", "a"));
    assert_eq!(all.told().await, event("DELETED", "a"), "nothing of other nodes");
    let count = api.count("watch", "pods");
    assert!(count.requests == 2 && count.bytes > 1_000, "{count:?}");
    drop((since, all));
    for _ in 0..500 {
        if api.watching("pods") == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("watches that nobody reads stay open");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let api = start(KubeConfig { bookmark_every: Duration::from_millis(50), ..KubeConfig::default() });
    api.apply(&pod("a", "n1")).unwrap();
    let refused = get(&api, "/api/v1/pods?watch=1&sendInitialEvents=true").await;
    assert_eq!(refused.status(), 400, "needs resourceVersionMatch");
    let query =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let mut lines = Lines::open(&api, query).await;
    assert_eq!(lines.told().await, event("ADDED", "a"));
    let end = lines.next().await.unwrap();
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    api.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}})).unwrap();
    let newest = json!(api.revision().to_string());
    let mut last = end;
    while last["object"]["metadata"]["resourceVersion"] != newest {
        last = lines.next().await.unwrap();
        assert_eq!((&last["type"], &last["object"]["kind"]), (&json!("BOOKMARK"), &json!("Pod")));
    }
    let ended = loop {
        if let Err(ended) = lines.next().await {
            break ended;
        }
    };
    assert_eq!(ended, (String::new(), false), "after its time, between two lines");
}

#[tokio::test]
async fn what_was_forgotten_is_gone() {
    let api = start(KubeConfig { history: 3, ..KubeConfig::default() });
    for name in ["a", "b", "c", "d", "e"] {
        api.apply(&pod(name, "n")).unwrap();
    }
    // The first pod's namespace came before it; two of the five changes are no longer known.
    let newest = api.revision();
    let mut known = Lines::open(&api, &format!("resourceVersion={}", newest - 3)).await;
    assert_eq!(known.told().await, event("ADDED", "c"));
    let mut lost = Lines::open(&api, &format!("resourceVersion={}", newest - 4)).await;
    let gone = lost.next().await.unwrap();
    assert_eq!((&gone["type"], &gone["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(lost.next().await, Err((String::new(), false)));
    let page = json_of(&api, "/api/v1/pods?limit=2").await;
    api.forget();
    let next = format!("/api/v1/pods?limit=2&continue={}", page["metadata"]["continue"].as_str().unwrap());
    assert_eq!(get(&api, &next).await.status(), 410);
    let future = get(&api, &format!("/api/v1/pods?resourceVersion={}", newest + 100)).await;
    assert_eq!(future.status(), 504);
}

#[tokio::test]
async fn lists_under_way_are_limited() {
    let api = start(KubeConfig::default());
    for name in ["a", "b"] {
        api.apply(&pod(name, "n")).unwrap();
    }
    let first = json_of(&api, "/api/v1/pods?limit=1").await;
    let next = format!("/api/v1/pods?limit=1&continue={}", first["metadata"]["continue"].as_str().unwrap());
    assert_eq!(get(&api, &next).await.status(), 200, "and again");
    for _ in 0..63 {
        get(&api, "/api/v1/pods?limit=1").await;
    }
    assert_eq!(json_of(&api, &next).await["items"][0]["metadata"]["name"], "b");
    get(&api, "/api/v1/pods?limit=1").await;
    assert_eq!(get(&api, &next).await.status(), 410, "the 65th list drives out the first");
}

#[tokio::test]
async fn watches_are_cut_in_every_way() {
    let api = start(KubeConfig::default());
    api.apply(&pod("a", "n")).unwrap();
    for (cut, left, broke) in
        [(Cut::Close, "", false), (Cut::HalfLine, "{\"type\":\"MODIFIED\"", false), (Cut::Break, "", true)]
    {
        let mut lines = Lines::open(&api, "").await;
        assert_eq!(lines.told().await, event("ADDED", "a"));
        api.cut_watches("services", cut);
        api.cut_watches("pods", cut);
        let (rest, broken) = lines.next().await.unwrap_err();
        assert!(
            rest.starts_with(left) && rest.is_empty() == left.is_empty() && broken == broke,
            "{cut:?}: {rest:?}"
        );
    }
    let mut lines = Lines::open(&api, "").await;
    lines.told().await;
    api.cut_watches("*", Cut::Gone);
    assert_eq!(lines.next().await.unwrap()["object"]["code"], 410);
}

#[tokio::test]
async fn calls_fail_by_order() {
    let api = start(KubeConfig { max_requests: 3, ..KubeConfig::default() });
    let busy = Fault::Status { code: 429, retry_after: Some(7), body: String::new() };
    api.fail(Injection::new("list pods", 1, busy));
    api.fail(Injection::new("*", 1, Fault::Half));
    let first = get(&api, "/api/v1/pods").await;
    assert_eq!((first.status().as_u16(), first.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    let half = match reqwest::get(format!("{}/api/v1/services", api.url())).await {
        Ok(response) => response.text().await,
        Err(broken) => Err(broken),
    };
    assert!(half.is_err(), "half an answer, at most");
    for _ in 0..3 {
        assert_eq!(get(&api, "/api/v1/pods").await.status(), 200);
    }
    assert_eq!(api.requests().len(), 3, "no more are remembered");
    assert_eq!(api.requests()[0].status, 0, "a fault");
    assert_eq!(api.count("list", "pods").requests, 4, "and all are counted");
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let api = start(KubeConfig::default());
    api.apply(&pod("a", "n")).unwrap();
    let ask = reqwest::Client::new().get(format!("{}/api/v1/pods", api.url()));
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list: Value =
        serde_json::from_str(&ask.header("accept", accept).send().await.unwrap().text().await.unwrap())
            .unwrap();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    let item = list["items"][0].as_object().unwrap();
    assert!(item["metadata"]["labels"]["app"] == "a" && !item.contains_key("spec"), "{item:?}");
}

#[test]
fn a_test_cannot_put_down_what_kubernetes_would_not_understand() {
    let api = KubeApi::local().unwrap();
    let mut wrong = pod("a", "n");
    wrong["spec"]["nodename"] = json!("n");
    let said = api.apply(&wrong).unwrap_err().to_string();
    assert!(said.contains("Pod.spec.nodename: unknown field"), "{said}");
    assert!(api.apply(&json!({"apiVersion": "v9", "kind": "Pod"})).is_err());
    assert!(api.apply(&pod("A", "n")).is_err());
    assert!(!api.delete(&pod("a", "n")).unwrap());
    let uid = api.apply(&pod("a", "n")).unwrap()["metadata"]["uid"].clone();
    assert_eq!(api.apply(&pod("a", "n2")).unwrap()["metadata"]["uid"], uid, "replaced, not new");
    assert_eq!(api.list("v1", "Pod").len(), 1);
}

#[tokio::test]
async fn custom_resources_are_there_once_defined() {
    let api = start(KubeConfig::default());
    let path = "/apis/monitoring.coreos.com/v1/namespaces/default/podmonitors";
    assert_eq!(get(&api, path).await.status(), 404);
    api.apply(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "podmonitors.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"plural": "podmonitors", "singular": "podmonitor", "kind": "PodMonitor"},
            "versions": [{"name": "v1", "served": true, "storage": true}]}}))
        .unwrap();
    let monitor = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "m"}, "spec": {}});
    api.apply(&monitor).unwrap();
    assert_eq!(json_of(&api, path).await["items"][0]["metadata"]["name"], "m");
    assert_eq!(json_of(&api, "/apis/monitoring.coreos.com/v1").await["resources"][0]["kind"], "PodMonitor");
}
