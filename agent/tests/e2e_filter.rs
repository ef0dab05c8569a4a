//! `--filter`: what is shown, given to scripts and exported, and what is said of a filter that is none.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{remora, script};
use testkit::synth::Capture;

/// Four connections with two exchanges each: `/N/0` answered by 200, `/N/1` by 500 where N is odd, else by 204.
fn write_capture(path: &Path) {
    let mut capture = Capture::create(path).unwrap();
    for n in 0..4u16 {
        let mut connection = capture.open(10_000 + n).unwrap();
        for (at, status) in [200, if n % 2 == 1 { 500 } else { 204 }].into_iter().enumerate() {
            let request =
                format!("GET /{n}/{at}?q=é HTTP/1.1\r\nHost: shop\r\nAuthorization: hushhush\r\n\r\n");
            let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            capture.exchange(&mut connection, request.as_bytes(), response.as_bytes()).unwrap();
        }
        capture.close(connection).unwrap();
    }
}

fn paths(stdout: &str) -> Vec<String> {
    let path = |line: &str| -> String {
        let item: serde_json::Value = serde_json::from_str(line).unwrap();
        item["request"]["path"].as_str().unwrap().to_owned()
    };
    stdout.lines().map(path).collect()
}

#[test]
fn only_what_matches_is_shown_and_given_to_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("shop.pcap");
    write_capture(&capture);
    let capture = capture.to_str().unwrap();
    let ran = remora(["replay", capture, "--json", "--stats", "--filter", "http && response.status >= 500"])
        .exits(0);
    assert_eq!(paths(&ran.stdout), ["/1/1", "/3/1"]);
    assert_eq!((&ran.stats()["items"]["http"], &ran.stats()["items_filtered"]), (&8.into(), &6.into()));

    let ran = remora(["replay", capture, "--filter", "status_code == 204"]).exits(0);
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
    let seen =
        remora(["replay", capture, "--json", "--filter", "request.headers.authorization == 'hushhush'"])
            .exits(0);
    assert_eq!(seen.stdout, "", "filters see what is shown");
    let shown = ["--no-redact", "--filter", "request.headers.authorization == 'hushhush'"];
    assert_eq!(remora(["replay", capture, "--json"].into_iter().chain(shown)).exits(0).items().len(), 8);

    let script = script(
        dir.path(),
        "count.js",
        "var n = 0; function onItemCaptured(d) { console.log('plain', d.request.path) }\n\
         hooks.on('itemCaptured', { filter: \"path == '/3/1'\" }, d => console.log('registered', d.request.path));",
    );
    let script = script.to_str().unwrap();
    let ran =
        remora(["replay", capture, "-q", "--stats", "--script", script, "--filter", "status_code >= 500"])
            .exits(0);
    for wanted in ["plain /1/1", "plain /3/1", "registered /3/1"] {
        assert!(ran.stderr.contains(wanted), "{}", ran.stderr);
    }
    assert_eq!(ran.stats()["scripts"]["count.js"]["calls"], 3);
    assert_eq!(ran.stats()["scripts"]["count.js"]["filtered"], 1);
}

#[test]
fn a_filter_that_is_none_is_refused_at_the_start_with_its_place() {
    for args in [
        &["replay", "nowhere.pcap", "--filter", "http && statuscode > 1"][..],
        &["tap", "--interface", "lo", "--filter", "http && statuscode > 1"],
        &["export", "--pcap-dir", "nowhere", "-o", "x", "--filter", "http && statuscode > 1"],
    ] {
        let ran = remora(args).exits(2);
        for wanted in [
            "--filter",
            "column 9: there is no name \"statuscode\"; did you mean status_code?",
            "\n  http && statuscode > 1\n          ^",
        ] {
            assert!(ran.stderr.contains(wanted), "{args:?}: {}", ran.stderr);
        }
    }
    assert!(
        remora(["replay", "x.pcap", "--filter", "http and tls"]).exits(2).stderr.contains("syntax error")
    );
}

#[test]
fn exported_are_the_streams_that_have_a_matching_item() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (capture, store, out) = (at("shop.pcap"), at("store"), at("out.pcapng"));
    write_capture(Path::new(&capture));
    remora(["replay", &capture, "-q", "--pcap-dir", &store]).exits(0);
    remora(["export", "--pcap-dir", &store, "--filter", "response.status == 500", "-o", &out]).exits(0);
    let ran = remora(["replay", &out, "--json"]).exits(0);
    let found: BTreeSet<String> = paths(&ran.stdout).into_iter().collect();
    let wanted = ["/1/0", "/1/1", "/3/0", "/3/1"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(wanted), "whole streams");

    let none = at("none.pcapng");
    remora(["export", "--pcap-dir", &store, "--filter", "status_code == 418", "-o", &none]).exits(0);
    assert_eq!(remora(["replay", &none, "--json"]).exits(0).stdout, "");
    let all = at("all.pcapng");
    remora(["export", "--pcap-dir", &store, "--filter", "", "-o", &all]).exits(0);
    assert_eq!(remora(["replay", &all, "--json"]).exits(0).items().len(), 8);
}
