//! What each route answers.

use std::sync::Arc;
use std::time::Duration;

use agent::api::{FeedConfig, ScriptState, Services};
use agent::outbox::{Alert, Delivery, DurableOutbox, Outbox as _, OutboxConfig};
use agent::secret::Secret;
use serde_json::{Value, json};

use crate::rig::{PATIENCE, Rig, TOKEN, again, ask, items};

#[test]
fn the_latest_items_are_listed_by_pages_and_filters() {
    let rig = Rig::new(Some(TOKEN));
    let all = items();
    rig.feed.deliver(&all);
    let mut found: Vec<Value> = Vec::new();
    let mut path = "/api/items?limit=7".to_owned();
    loop {
        let page = rig.get(&path).is(200).json();
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        assert_eq!(page["kept"]["items"], 40);
        let Some(next) = page["next"].as_u64() else { break };
        assert_eq!(page["items"].as_array().unwrap().len(), 7);
        path = format!("/api/items?limit=7&before={next}");
    }
    let ids = |items: &[Value]| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
    let mut expected: Vec<Value> =
        all.iter().map(|of| json!(format!("{}-{}", of.item.stream, of.item.index))).collect();
    expected.reverse();
    assert_eq!(ids(&found), expected);

    let failed = rig.get("/api/items?limit=1000&filter=status_code%3E%3D500").is(200).json();
    let of_all: Vec<Value> =
        found.iter().filter(|item| item["response"]["status"].as_u64() >= Some(500)).cloned().collect();
    assert!(!of_all.is_empty() && of_all.len() < 40);
    assert_eq!(failed["items"], json!(of_all));
    for item in &found {
        let authorization = item["request"]["headers"]["authorization"].as_str();
        assert!(authorization.is_none_or(|value| value == "[REDACTED]"), "{item}");
    }
    for (path, words) in [
        ("/api/items?limit=0", "limit: allowed is 1 to 1000"),
        ("/api/items?limit=many", "limit"),
        ("/api/items?filtre=x", "filtre"),
        ("/api/items?filter=status_code%20%3E", "filter: "),
        ("/api/items?filter=nonsense.field", "nonsense"),
    ] {
        rig.get(path).says(400, words);
    }
}

#[test]
fn an_item_is_shown_as_scripts_would_have_it() {
    let asked = Services {
        ask_scripts: Some(Arc::new(|item, patience| {
            assert!(patience > Duration::from_secs(1));
            (item.item.index == 3).then(|| "{\"instead\":true}".to_owned())
        })),
        ..Services::default()
    };
    let rig = Rig::with(None, FeedConfig::default(), asked);
    let all = items();
    rig.feed.deliver(&all);
    for captured in &all[..5] {
        let id = format!("{}-{}", captured.item.stream, captured.item.index);
        let shown = rig.get(&format!("/api/items/{id}")).is(200).json();
        match captured.item.index {
            3 => assert_eq!(shown, json!({ "instead": true })),
            _ => assert_eq!(shown["id"], json!(id)),
        }
    }
    rig.get("/api/items/000000000001-4711").says(404, "not among the latest");
    for wrong in ["1", "a-b", "1-", "-1", "+1-1"] {
        rig.get(&format!("/api/items/{wrong}")).says(400, "no item's id");
    }
}

#[test]
fn health_is_told_in_words_and_as_json() {
    let rig = Rig::new(None);
    assert_eq!(rig.get("/healthz").is(200).text(), "ok\n");
    rig.registry.add_ready("store", || vec!["the disk is full".to_owned()]);
    assert_eq!(rig.get("/readyz").is(503).text(), "not ready\nstore: the disk is full\n");
    let head = "GET /readyz HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n";
    let json = ask(rig.metrics, head).is(503).json();
    assert_eq!(json, json!({ "ok": false, "reasons": [{ "check": "store", "reason": "the disk is full" }] }));
    rig.get("/healthz").is(200);
    let status = rig.get("/api/status").is(200).json();
    assert_eq!((&status["alive"]["ok"], &status["ready"]["ok"]), (&json!(true), &json!(false)));
    rig.registry.add_alive("workers", || vec!["worker 1 hangs".to_owned()]);
    assert_eq!(rig.get("/healthz").is(503).text(), "not alive\nworkers: worker 1 hangs\n");
}

#[test]
fn what_panics_fails_its_own_request_only() {
    let rig = Rig::new(None);
    rig.registry.add_ready("broken", || panic!("on purpose"));
    rig.get("/readyz").says(500, "defect");
    rig.get("/healthz").is(200);
}

#[test]
fn scripts_and_their_failures_are_listed() {
    let state = |name: &str, state| ScriptState {
        name: name.to_owned(),
        title: None,
        state,
        counters: json!({ "calls": 3 }),
    };
    let services = Services {
        scripts: Some(Arc::new(move || vec![state("a.js", "running"), state("b.js", "paused")])),
        script_failures: Some(Arc::new(|| vec!["c.js:1:2: no".to_owned()])),
        ..Services::default()
    };
    let rig = Rig::with(None, FeedConfig::default(), services);
    let told = rig.get("/api/scripts").is(200).json();
    assert_eq!(
        (&told["scripts"][1]["state"], &told["failures"]),
        (&json!("paused"), &json!(["c.js:1:2: no"]))
    );
}

#[test]
fn letters_are_listed_sent_again_and_dropped() {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), tokio::runtime::Runtime::new().unwrap());
    let mut config =
        OutboxConfig { folder: folder.path().join("outbox"), disk_reserve: 0, ..OutboxConfig::default() };
    // Nobody listens there: what is sent is given up at once.
    config.retry.deadline = Duration::from_millis(1);
    config.retry.max_attempts = 1;
    let outbox = DurableOutbox::open(config, runtime.handle()).unwrap();
    for text in ["first", "second"] {
        let alert = Alert { text: text.to_owned(), ..Alert::default() };
        let url = Secret::new("http://127.0.0.1:9/services/T/B/hush");
        outbox.enqueue("a.js", Delivery::SlackWebhook { url, alert, fold: None }).unwrap();
    }
    let counters = Arc::clone(&outbox);
    let services = Services {
        outbox: Some(Arc::new(move || json!({ "queued": counters.stats().queued }))),
        outbox_folder: Some(folder.path().to_owned()),
        ..Services::default()
    };
    let rig = Rig::with(Some(TOKEN), FeedConfig::default(), services);
    let until = std::time::Instant::now() + PATIENCE;
    let dead = loop {
        let told = rig.get("/api/outbox?state=dead").is(200).json();
        if told["letters"].as_array().unwrap().len() == 2 {
            break told;
        }
        assert!(std::time::Instant::now() < until, "{told}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(dead["counters"]["queued"], 2);
    assert!(!dead.to_string().contains("hush"), "{dead}");
    let id = |at: usize| dead["letters"][at]["id"].as_u64().unwrap();
    let first = rig.get("/api/outbox?limit=1").is(200).json();
    assert_eq!((&first["letters"][0]["id"], &first["next"]), (&json!(id(0)), &json!(id(0))));
    let second = rig.get(&format!("/api/outbox?limit=1&after={}", id(0))).is(200).json();
    assert_eq!((&second["letters"][0]["id"], &second["next"]), (&json!(id(1)), &Value::Null));

    let change = |method: &str, path: String| {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
        ask(rig.api, &format!("{head}content-length: 0\r\n"))
    };
    assert_eq!(change("DELETE", format!("/api/outbox/{}", id(1))).is(200).json(), json!({ "changed": 1 }));
    change("DELETE", format!("/api/outbox/{}", id(1))).is(409);
    change("POST", "/api/outbox/4711/retry".to_owned()).says(409, "4711 is not a dead letter");
    assert_eq!(
        change("POST", format!("/api/outbox/{}/retry", id(0))).is(200).json(),
        json!({ "changed": 1 })
    );
    rig.get("/api/outbox?state=lost").says(400, "state");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let rig = Rig::new(None);
    rig.get("/api/item").says(404, "/api lists what there is");
    let wrong = ask(rig.api, "PUT /api/items HTTP/1.1\r\nhost: localhost\r\n");
    wrong.says(405, "docs/api.md");
    let paths = rig.get("/api").is(200).json();
    assert!(paths["paths"].as_array().unwrap().len() >= 10);
    rig.get("/api/streams").says(404, "store.mode");
    rig.get("/api/streams?limit=0").says(400, "limit");
    rig.get("/api/streams/abc/pcap?redact=true").says(400, "no stream's number");
    assert_eq!(rig.get("/api/outbox").is(200).json()["counters"], Value::Null);
    rig.feed.deliver(&[again(&items()[0], 1)]);
    let answer = rig.get("/api/items").is(200);
    let head = answer.head.to_lowercase();
    assert!(head.contains("nosniff") && head.contains("no-store"), "{head}");
}
