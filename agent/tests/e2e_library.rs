//! The scripts in `scripts/`, each on a capture made for it, by `remora scripts test`: what they would send, and nothing else.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};

use common::rehearsal::Played;
use common::{remora, root};
use testkit::synth::{CLIENT, Capture};

const SLACK: [(&str, &str); 2] =
    [("SLACK_AUTH_TOKEN", "xoxb-hushhush-1"), ("SLACK_CHANNEL_ID", "C0123456789")];

fn ours() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "js")).collect();
    scripts.sort();
    scripts
}

/// A request without a body.
fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{headers}\r\n")
}

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Requests and responses, on a connection each.
fn capture(dir: &Path, exchanges: &[(String, String)]) -> PathBuf {
    let path = dir.join("shop.pcap");
    let mut capture = Capture::create(&path).unwrap();
    for (port, (request, response)) in (40_000..).zip(exchanges) {
        let mut connection = capture.open(port).unwrap();
        if response.is_empty() {
            capture.send(&mut connection, CLIENT, request.as_bytes()).unwrap();
        } else {
            capture.exchange(&mut connection, request.as_bytes(), response.as_bytes()).unwrap();
        }
        capture.close(connection).unwrap();
    }
    path
}

/// Runs one of ours over these; with Slack's variables and more.
#[track_caller]
fn play(name: &str, exchanges: &[(String, String)], env: &[(&str, &str)]) -> Played {
    let dir = tempfile::tempdir().unwrap();
    let capture = capture(dir.path(), exchanges);
    let env: Vec<_> = SLACK.iter().chain(env).copied().collect();
    let played = Played::new(&root().join("scripts").join(name), &capture, &env, &[]);
    assert_eq!(played.failures(), Vec::<String>::new());
    assert!(!played.stdout.contains("hushhush"), "no secret of a destination is shown: {}", played.stdout);
    played
}

#[test]
fn every_script_is_documented_and_without_mistakes() {
    let scripts = ours();
    assert!(scripts.len() >= 12, "{scripts:?}");
    let readme = std::fs::read_to_string(root().join("scripts/README.md")).unwrap();
    for script in scripts {
        let ran = remora(["scripts", "check", "--strict", "--json", script.to_str().unwrap()]).exits(0);
        let outline: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(outline["title"].is_string() && outline["findings"] == serde_json::json!([]), "{outline}");
        let name = script.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("({name})")), "{name} is in the README");
        let text = std::fs::read_to_string(&script).unwrap();
        let (header, code) = text.split_once("\n\n").unwrap();
        assert!(
            header.lines().all(|line| line.starts_with("//")) && header.contains("// What it does"),
            "{name}"
        );
        for variable in outline["variables"].as_array().unwrap() {
            let variable = variable.as_str().unwrap();
            assert!(header.contains(variable), "{name}: the header tells of {variable}");
            assert!(code.contains(variable));
        }
    }
}

#[test]
fn error_burst_tells_of_a_burst_once() {
    let of = |status| (get("/pay", ""), answer(status, "x"));
    let mut calm: Vec<_> = (0..300).map(|_| of(200)).collect();
    calm.extend((0..9).map(|_| of(503)));
    assert_eq!(play("error-burst.js", &calm, &[]).alerts(), Vec::<String>::new(), "too few");
    calm.extend((0..3).map(|_| of(503)));
    assert_eq!(play("error-burst.js", &calm, &[]).alerts(), Vec::<String>::new(), "too small a share");
    let storm: Vec<_> = (0..20).map(|_| of(200)).chain((0..25).map(|_| of(503))).collect();
    let played = play("error-burst.js", &storm, &[("BURST_QUIET", "60")]);
    assert_eq!(played.alerts(), ["Many errors from 10.9.0.2", "Many errors from 10.9.0.2"]);
    let folded: Vec<_> = played.deliveries().iter().map(|of| of["folded"].as_bool().unwrap()).collect();
    assert_eq!(folded, [false, true], "the second within a minute is held back");
    assert_eq!(played.deliveries()[0]["options"]["window"], 60.0);
    let text = played.deliveries()[0]["content"]["alert"]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("10 of 30 responses within 60 s were 5xx; the last one to GET /pay"), "{text}");
}

#[test]
fn slow_requests_looks_at_the_99th_percentile() {
    let all: Vec<_> = (0..45).map(|_| (get("/", ""), answer(200, "x"))).collect();
    let slow = play("slow-requests.js", &all, &[("SLOW_MS", "0.01"), ("SLOW_REQUESTS", "20")]);
    assert_eq!(slow.alerts(), ["10.9.0.2 is slow", "10.9.0.2 is slow"]);
    let fast = play("slow-requests.js", &all, &[("SLOW_REQUESTS", "20")]);
    assert_eq!(fast.alerts(), Vec::<String>::new());
}

#[test]
fn leaked_secrets_are_told_and_not_repeated() {
    let key = format!("AKIA{}", "IOSFODNN7EXAMPLE");
    let bodies = [
        format!("{{\"key\":\"{key}\"}}"),
        "card 4111 1111 1111 1111 of jo".to_owned(),
        "order 4111 1111 1111 1112, no card".to_owned(),
        "0000000000000000".to_owned(),
        "nothing".to_owned(),
    ];
    let all: Vec<_> = bodies.iter().map(|body| (get("/me?q=1", ""), answer(200, body))).collect();
    let played = play("leaked-secrets.js", &all, &[]);
    assert_eq!(played.alerts(), ["A response holds a AWS access key", "A response holds a card number"]);
    assert!(!played.stdout.contains(&key) && !played.stdout.contains("4111"), "{}", played.stdout);
    assert!(played.stdout.contains("ends in 1111") && played.stdout.contains("begins with AKIA"));
    let ignored = play("leaked-secrets.js", &all, &[("LEAK_IGNORE_PATHS", "/other, /me")]);
    assert_eq!(ignored.alerts(), Vec::<String>::new());
}

#[test]
fn open_admin_is_told_only_without_credentials() {
    let all = [
        (get("/admin/users?x=1", ""), answer(200, "x")),
        (get("/admin/users", "Authorization: Basic eDp5\r\n"), answer(200, "x")),
        (get("/admin/users", "Cookie: session=1\r\n"), answer(200, "x")),
        (get("/admin", ""), answer(401, "x")),
        (get("/administrator", ""), answer(200, "x")),
        (get("/secret/", ""), answer(204, "")),
    ];
    let played = play("open-admin.js", &all, &[]);
    assert_eq!(played.alerts(), ["Administration without credentials"]);
    assert!(played.stdout.contains("GET /admin/users on 10.9.0.2 was answered with 200"));
    let other = play("open-admin.js", &all, &[("ADMIN_PATHS", "/secret/")]);
    assert_eq!(other.alerts().len(), 1, "{}", other.stdout);
}

#[test]
fn new_hosts_are_told_once_it_has_learned() {
    let to = |host: &str| (format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), answer(200, "x"));
    let all = [to("a.example.org"), to("b.example.com"), to("A.example.org"), to("c.test")];
    let alerts = |env: &[(&str, &str)]| play("new-hosts.js", &all, env).alerts();
    let everywhere = ("HOSTS_PRIVATE", "true");
    assert_eq!(
        alerts(&[everywhere, ("HOSTS_LEARN", "0"), ("HOSTS_KNOWN", ".example.com")]),
        ["A new host is called: a.example.org", "A new host is called: c.test"]
    );
    assert_eq!(alerts(&[everywhere]), Vec::<String>::new(), "it still learns");
    assert_eq!(alerts(&[("HOSTS_LEARN", "0")]), Vec::<String>::new(), "10.9.0.2 is a private address");
}

#[test]
fn large_responses_are_told_by_their_size() {
    let all = [(get("/small", ""), answer(200, "x")), (get("/big", ""), answer(200, &"x".repeat(2 << 20)))];
    let played = play("large-responses.js", &all, &[("LARGE_BYTES", "1000000")]);
    assert_eq!(played.alerts(), ["A large response from 10.9.0.2"]);
    assert!(played.stdout.contains("GET /big was answered with 2.00 MiB"), "{}", played.stdout);
    assert_eq!(play("large-responses.js", &all, &[]).alerts(), Vec::<String>::new());
}

#[test]
fn pcaps_of_failing_streams_go_to_s3() {
    let all = [
        (get("/ok", ""), answer(200, "x")),
        (get("/failed", ""), answer(500, "x")),
        (get("/silent", ""), String::new()),
    ];
    let keys = [("S3_BUCKET", "evidence/shop"), ("S3_REGION", "eu-central-1")];
    let secret = [("S3_KEY_ID", "AKIA1"), ("S3_ACCESS_KEY", "hushhush-2")];
    let played = play("pcap-to-s3.js", &all, &[keys[0], keys[1], secret[0], secret[1]]);
    let objects: Vec<_> =
        played.deliveries().iter().map(|of| of["content"]["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(objects, ["shop/000000000002.pcap", "shop/000000000003.pcap"], "{}", played.stdout);
    assert!(played.deliveries()[0]["files"][0]["bytes"].as_u64().unwrap() > 500);
    let none = play("pcap-to-s3.js", &all, &[keys[0], keys[1], ("S3_MAX_BYTES", "100")]);
    assert!(none.deliveries().is_empty() && none.stdout.contains("is left out"), "{}", none.stdout);
}

#[test]
fn items_go_to_elasticsearch_and_splunk_without_bodies() {
    let all = [(get("/a", ""), answer(200, "the body")), (get("/b", ""), answer(404, "the body"))];
    let elastic = [("ELASTIC_URL", "https://elastic:9200"), ("ELASTIC_API_KEY", "hushhush:key")];
    let played = play("items-to-elastic.js", &all, &elastic);
    let sent = played.deliveries();
    assert_eq!(sent.len(), 2, "{}", played.stdout);
    assert_eq!(sent[0]["content"]["index"], "remora-items");
    let item: serde_json::Value = serde_json::from_str(sent[1]["content"]["json"].as_str().unwrap()).unwrap();
    assert_eq!((&item["request"]["path"], &item["response"]["status"]), (&"/b".into(), &404.into()));
    assert!(!played.stdout.contains("the body"));
    let more = [("ITEMS_BODIES", "true"), ("ITEMS_FILTER", "status_code == 404"), ("ELASTIC_INDEX", "i")];
    let more: Vec<_> = elastic.iter().chain(&more).copied().collect();
    let played = play("items-to-elastic.js", &all, &more);
    assert_eq!(played.deliveries().len(), 1);
    assert!(played.stdout.contains("the body") && played.deliveries()[0]["content"]["index"] == "i");

    let splunk =
        [("SPLUNK_URL", "https://splunk:8088"), ("SPLUNK_TOKEN", "hushhush-3"), ("SPLUNK_INDEX", "web")];
    let played = play("items-to-splunk.js", &all, &splunk);
    assert_eq!(played.deliveries().len(), 2);
    let event = played.deliveries()[0].to_string();
    assert!(event.contains("remora:item") && event.contains("web") && !event.contains("the body"), "{event}");
}

#[test]
fn route_metrics_count_by_route() {
    let user = |id: &str| (get(&format!("/users/{id}/orders"), ""), answer(200, "x"));
    let failed = (get("/pay", ""), answer(500, "x"));
    let silent = (get("/silent", ""), String::new());
    let all = [user("17"), user("18"), user("0b7a7d3e-6f0c-4f4e-9a43-4f3e2a1b0c9d"), failed, silent];
    let metrics = play("route-metrics.js", &all, &[]).metrics();
    let value = |parts: &[&str]| {
        let of = |line: &&String| {
            line.starts_with("http_requests_total{") && parts.iter().all(|part| line.contains(part))
        };
        metrics
            .iter()
            .find(of)
            .unwrap_or_else(|| panic!("{parts:?} in {metrics:#?}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(value(&["route=\"/users/:id/orders\"", "status=\"2xx\""]), "3");
    assert_eq!(value(&["route=\"/pay\"", "status=\"5xx\"", "method=\"GET\""]), "1");
    assert_eq!(value(&["route=\"/silent\"", "status=\"none\""]), "1");
    let few = play("route-metrics.js", &all, &[("ROUTES_MOST", "1")]).metrics();
    assert!(few.iter().any(|line| line.contains("route=\"other\"")), "{few:#?}");
}

#[test]
fn the_daily_report_has_a_line_for_each_service() {
    let all = [
        (get("/a", ""), answer(200, "x")),
        (get("/b", ""), answer(500, "x")),
        (get("/c", ""), String::new()),
    ];
    let played = play("daily-report.js", &all, &[]);
    let sent = played.deliveries();
    assert_eq!(sent.len(), 1, "{}", played.stdout);
    let text = sent[0]["content"]["alert"]["text"].as_str().unwrap();
    assert!(text.starts_with("10.9.0.2: 3 requests, 1 errors, 1 unanswered, "), "{text}");
    assert!(played.alerts()[0].starts_with("Traffic on "));
    assert_eq!(
        play("daily-report.js", &[], &[]).deliveries()[0]["content"]["alert"]["text"],
        "No requests were seen."
    );
}

#[test]
fn alert_on_error_on_a_recording() {
    let capture = root().join("tests/fixtures/shop/input.pcap");
    let played = Played::new(&root().join("scripts/alert-on-error.js"), &capture, &SLACK, &["--brief"]);
    assert_eq!(played.failures(), Vec::<String>::new());
    assert!(
        played.alerts().len() >= 2 && played.alerts()[0].starts_with("HTTP 500 from "),
        "{:?}",
        played.alerts()
    );
    let files = &played.deliveries()[0]["files"];
    assert!(files[0]["name"].as_str().unwrap().ends_with(".pcap") && files[0]["bytes"].as_u64() > Some(1000));
}
