//! What scripts publish and are told beside items: `prometheus`, packets, pods, queried items, names, YAML.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use agent::hooks::{Backpressure, PacketInfo, PodEvent};
use agent_core::Timestamp;

use crate::rig::{PATIENCE, Rig, item};

#[test]
fn metrics_are_published_with_their_scripts_name_and_its_counters() {
    let rig = Rig::new();
    let text = "var n = 0;\nfunction onItemCaptured(data) { n++;\n\
                prometheus.metric('items_total', 'Items', 1, n, { path: data.request.path, code: data.index });\n\
                prometheus.metric('load', '', 2, -0.5); prometheus.metric('other', 'x', 3, 7) }";
    let (scripts, failures) = rig.load(&[rig.script("a.js", text), rig.script("b.js", text)]);
    assert_eq!(failures, []);
    for n in 0..2 {
        scripts.deliver(&item(n));
    }
    assert!(scripts.drain(PATIENCE));
    let published = scripts.prometheus();
    for line in [
        "# HELP items_total Items",
        "# TYPE items_total counter",
        "items_total{script=\"a.js\",code=\"0\",path=\"/pay\"} 1",
        "items_total{script=\"a.js\",code=\"1\",path=\"/pay\"} 2",
        "items_total{script=\"b.js\",code=\"1\",path=\"/pay\"} 2",
        "# TYPE load gauge",
        "load{script=\"b.js\"} -0.5",
        "# TYPE other untyped",
        "# TYPE remora_script_calls_total counter",
        "remora_script_calls_total{script=\"a.js\"} 2",
        "remora_script_paused{script=\"b.js\"} 0",
        "remora_script_jobs_passed_total{script=\"a.js\"} 0",
        "remora_script_filtered_total{script=\"a.js\"} 0",
    ] {
        assert!(published.lines().any(|found| found == line), "{line}\n{published}");
    }
    assert_eq!(scripts.stats()[0].series, 4);
}

#[test]
fn errors_of_metric_name_argument_and_cause() {
    let mut rig = Rig::new();
    rig.limits.series = 3;
    for (call, message) in [
        ("prometheus.metric()", "TypeError: prometheus.metric: argument 1 (name) is missing"),
        ("prometheus.metric('a', '')", "TypeError: prometheus.metric: argument 3 (type) is missing"),
        ("prometheus.metric('a', '', 1)", "TypeError: prometheus.metric: argument 4 (value) is missing"),
        (
            "prometheus.metric('a', '', 4, 1)",
            "Error: prometheus.metric: type: 4 is none of 1 (counter), 2 (gauge), 3 (untyped)",
        ),
        (
            "prometheus.metric('a b', '', 1, 1)",
            "Error: prometheus.metric: name: \"a b\" is no metric's name: letters, digits, '_' and ':' are allowed, and no digit first",
        ),
        (
            "prometheus.metric('remora_x', '', 1, 1)",
            "Error: prometheus.metric: name: names that begin with remora_ are the agent's own",
        ),
        (
            "prometheus.metric('a', 'h'.repeat(2000), 1, 1)",
            "Error: prometheus.metric: help: is longer than 1000 bytes",
        ),
        (
            "prometheus.metric('a', '', 1, 1, { 'x-y': 1 })",
            "Error: prometheus.metric: labels: \"x-y\" is no label's name",
        ),
        (
            "prometheus.metric('a', '', 1, 1, { script: 1 })",
            "Error: prometheus.metric: labels: the label script is set by the agent: the script's name",
        ),
        (
            "prometheus.metric('a', '', 1, 1, { x: 'y'.repeat(600) })",
            "Error: prometheus.metric: labels: x: is longer than 500 bytes",
        ),
        (
            "prometheus.metric('a', '', 1, 1); prometheus.metric('a', '', 2, 1)",
            "Error: prometheus.metric: type: a is a counter already",
        ),
        (
            "for (var i = 0; i < 9; i++) prometheus.metric('a', '', 1, 1, { i })",
            "Error: prometheus.metric: labels: the script has 3 series already, the most it may have",
        ),
    ] {
        assert_eq!(rig.thrown(call), message, "{call}");
    }
    let said = rig.thrown("prometheus.metric('a', '', 1, '5')");
    assert_eq!(
        said,
        "TypeError: prometheus.metric: argument 4 (value) must be a number, not a value of another type"
    );
}

fn packets(count: u32) -> Arc<[PacketInfo]> {
    let packet = |n| PacketInfo {
        time: Timestamp(1_700_000_000_123_456_789),
        capture_length: 96,
        length: 96 + n,
        fragmented: n == 1,
    };
    (0..count).map(packet).collect::<Vec<_>>().into()
}

#[test]
fn packets_reach_the_scripts_that_want_them() {
    let rig = Rig::new();
    let paths = [
        rig.script("a.js", "function onPacketCaptured(info) { console.log(info) }"),
        rig.script("b.js", "function onItemCaptured() {}"),
    ];
    let (scripts, _) = rig.load(&paths);
    assert!(scripts.wants_packets());
    scripts.packets_captured(&packets(2));
    assert!(scripts.drain(PATIENCE));
    let info = r#"{"timestamp":1700000000123,"captureLength":96,"length":"#;
    assert_eq!(
        rig.log.console(),
        [
            format!(r#"{info}96,"truncated":false,"fragmented":false}}"#),
            format!(r#"{info}97,"truncated":true,"fragmented":true}}"#),
        ]
    );
    assert_eq!(scripts.stats()[1].calls, 0);
    assert!(!rig.load(&paths[1..]).0.wants_packets());
}

#[test]
fn a_flood_of_packets_is_bounded_counted_and_leaves_items_alone() {
    let mut rig = Rig::new();
    rig.backpressure = Backpressure::DropNewest;
    rig.limits.packets = 100;
    rig.limits.call_time = Duration::from_secs(20);
    let text = "var n = 0; function onPacketCaptured() { if (!n++) while (Date.now() < START + 1500); }\n\
                function onItemCaptured() { console.log(n) } var START = Date.now();";
    let (scripts, _) = rig.load(&[rig.script("a.js", text)]);
    for _ in 0..50 {
        scripts.packets_captured(&packets(10));
    }
    for n in 0..20 {
        scripts.deliver(&item(n));
    }
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE).remove(0);
    // The batch at work counts as waiting, too.
    assert_eq!((stats.packets_dropped, stats.dropped, stats.calls), (400, 0, 120));
    assert_eq!(rig.log.console(), vec!["100"; 20]);
    // A replay waits instead.
    rig.backpressure = Backpressure::Wait;
    let (scripts, _) = rig.load(&[rig.script(
        "a.js",
        "var n = 0; function onPacketCaptured() { n++ }\nfunction onItemCaptured() { console.log(n) }",
    )]);
    for _ in 0..50 {
        scripts.packets_captured(&packets(100));
    }
    scripts.deliver(&item(0));
    assert!(scripts.drain(PATIENCE));
    assert_eq!((rig.log.console().pop().unwrap().as_str(), scripts.stats()[0].packets_dropped), ("5000", 0));
}

#[test]
fn pods_reach_on_pod_event() {
    let rig = Rig::new();
    let (scripts, _) = rig.load(&[
        rig.script("a.js", "function onPodEvent(event, pod) { console.log(event, pod.metadata.name) }")
    ]);
    let pod = Arc::new(serde_json::json!({ "metadata": { "name": "shop-1" } }));
    for event in [PodEvent::Added, PodEvent::Modified, PodEvent::Deleted] {
        scripts.pod_event(event, &pod);
    }
    assert!(scripts.drain(PATIENCE));
    assert_eq!(rig.log.console(), ["ADDED shop-1", "MODIFIED shop-1", "DELETED shop-1"]);
}

#[test]
fn what_on_item_queried_returns_is_shown() {
    let rig = Rig::new();
    let asked = |texts: &[&str]| {
        let paths: Vec<_> =
            texts.iter().enumerate().map(|(n, text)| rig.script(&format!("{n}.js"), text)).collect();
        let (scripts, failures) = rig.load(&paths);
        assert_eq!(failures, []);
        let shown = scripts.item_queried(&item(0), PATIENCE)?;
        Some(serde_json::from_str::<serde_json::Value>(&shown).unwrap())
    };
    assert_eq!(asked(&["function onItemCaptured() {}"]), None);
    for nothing in ["", "return 5", "return null", "throw 1", "return new Promise(() => {})", "data.x = 1"] {
        assert_eq!(asked(&[&format!("function onItemQueried(data) {{ {nothing} }}")]), None, "{nothing}");
    }
    let shown = asked(&[
        "function onItemQueried(data) { data.note = 'one'; return data }",
        "function onItemQueried(data) { throw new Error('passed over') }",
        "async function onItemQueried(data) { await null; return { note: data.note + ' two', path: data.request.path } }",
    ]);
    assert_eq!(shown, Some(serde_json::json!({ "note": "one two", "path": "/pay" })));
    let (scripts, _) = rig.load(&[rig.script("slow.js", "function onItemQueried(data) { for (;;); }")]);
    assert_eq!(
        scripts.item_queried(&item(0), Duration::from_millis(20)),
        None,
        "who asks does not wait for ever"
    );
}

#[test]
fn names_known_so_far_are_told_by_second() {
    let rig = Rig::new();
    rig.names.record(UNIX_EPOCH + Duration::from_secs(100), "10.0.0.1".parse().unwrap(), "shop");
    rig.names.record(UNIX_EPOCH + Duration::from_secs(100), "::1".parse().unwrap(), "self");
    rig.names.record(UNIX_EPOCH + Duration::from_secs(200), "10.0.0.1".parse().unwrap(), "bank");
    assert_eq!(
        rig.body("console.log(pcap.nameResolutionHistory())"),
        [r#"{"100":{"10.0.0.1":"shop","::1":"self"},"200":{"10.0.0.1":"bank"}}"#]
    );
}

#[test]
fn json_becomes_yaml() {
    let rig = Rig::new();
    let lines = rig.body(
        r#"console.log(utils.json2Yaml('{"b": [1, 2.5, null, true, {"c": "no"}], "a": "x: y", "l": "one\\ntwo"}'));
           console.log(utils.json2Yaml({ z: 1, a: [] }))"#,
    );
    assert_eq!(
        lines[0],
        "b:\\n- 1\\n- 2.5\\n- null\\n- true\\n- c: no\\na: 'x: y'\\nl: |-\\n  one\\n  two\\n"
    );
    assert_eq!(lines[1], "z: 1\\na: []\\n");
    for (call, message) in [
        ("utils.json2Yaml()", "TypeError: utils.json2Yaml: argument 1 (text) is missing"),
        (
            "utils.json2Yaml('{')",
            "Error: utils.json2Yaml: text: is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "utils.json2Yaml('[' + '1,'.repeat(1 << 19) + '1]')",
            "Error: utils.json2Yaml: text: is 1048579 bytes long, more than the 1 MiB that are allowed",
        ),
    ] {
        assert_eq!(rig.thrown(call), message);
    }
    assert!(
        rig.thrown("utils.json2Yaml('['.repeat(5000) + ']'.repeat(5000))")
            .contains("recursion limit exceeded")
    );
}
