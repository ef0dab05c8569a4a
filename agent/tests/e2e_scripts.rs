//! Scripts that misbehave: capture and the other scripts go on, and the log names script, line and limit.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{Ran, remora, script};
use testkit::synth::Capture;

const REQUESTS: usize = 200;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const WITNESS: &str =
    "// Witness\nfunction onItemCaptured(data) { file.append('seen.txt', data.request.path + '\\n'); }\n";

/// Runs the script beside a witness, and asserts that neither the witness nor the items missed anything.
fn beside_a_witness(name: &str, text: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("shop.pcap");
    write_capture(&capture);
    let data = dir.path().join("data");
    let (bad, witness) = (script(dir.path(), name, text), script(dir.path(), "witness.js", WITNESS));
    let ran = remora([
        "replay".as_ref(),
        capture.as_os_str(),
        "--json".as_ref(),
        "--stats".as_ref(),
        "--data-dir".as_ref(),
        data.as_os_str(),
        "--script".as_ref(),
        bad.as_os_str(),
        "--script".as_ref(),
        witness.as_os_str(),
    ]);
    let paths: Vec<_> =
        ran.items().iter().map(|item| item["request"]["path"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..REQUESTS).map(|id| format!("/{id}")).collect();
    assert_eq!(paths, expected, "{}", ran.stderr);
    let seen = find(&data, "seen.txt").expect("the witness wrote its file");
    assert_eq!(seen.lines().map(str::to_owned).collect::<Vec<_>>(), expected, "{}", ran.stderr);
    ran.never_panicked()
}

fn write_capture(path: &Path) {
    let mut capture = Capture::create(path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    for id in 0..REQUESTS {
        capture
            .exchange(&mut connection, format!("GET /{id} HTTP/1.1\r\nHost: shop\r\n\r\n").as_bytes(), OK)
            .unwrap();
    }
    capture.close(connection).unwrap();
}

fn find(dir: &Path, name: &str) -> Option<String> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if entry.file_name() == name {
            return std::fs::read_to_string(path).ok();
        }
    }
    None
}

/// The counters of one script.
fn stats_of(ran: &Ran, name: &str) -> serde_json::Value {
    let stats = ran.stats();
    let scripts = stats["scripts"].as_object().expect("scripts in --stats").clone();
    scripts.get(name).cloned().unwrap_or_else(|| panic!("{name} in {scripts:?}"))
}

#[test]
fn a_loop_without_end() {
    let ran = beside_a_witness("loop.js", "// Loop\nfunction onItemCaptured(data) {\n  while (true) {}\n}\n");
    assert!(ran.stderr.contains("loop.js") && ran.stderr.contains("time limit"), "{}", ran.stderr);
    assert!(ran.stderr.contains("loop.js:3"), "names the line: {}", ran.stderr);
    assert!(stats_of(&ran, "loop.js")["timeouts"].as_u64().unwrap() >= 1);
}

#[test]
fn a_loop_that_catches_everything() {
    let text =
        "function onItemCaptured() {\n  for (;;) { try { while (true) {} } catch (e) {} finally {} }\n}\n";
    let ran = beside_a_witness("stubborn.js", text);
    assert!(ran.stderr.contains("time limit"), "{}", ran.stderr);
}

#[test]
fn allocation_without_end() {
    let text = "var hoard = [];\nfunction onItemCaptured() {\n  while (true) hoard.push(new Array(1000).fill('x'));\n}\n";
    let ran = beside_a_witness("hoard.js", text);
    assert!(ran.stderr.contains("hoard.js") && ran.stderr.contains("memory limit"), "{}", ran.stderr);
}

#[test]
fn recursion_without_end() {
    let ran = beside_a_witness("deep.js", "function onItemCaptured(data) {\n  onItemCaptured(data);\n}\n");
    assert!(ran.stderr.contains("deep.js") && ran.stderr.contains("stack"), "{}", ran.stderr);
}

#[test]
fn a_throw_for_every_item_is_said_once_and_pauses_nothing() {
    let text = "function onItemCaptured(data) {\n  data.response.nothing.here;\n}\n";
    let ran = beside_a_witness("throw.js", text);
    let stats = stats_of(&ran, "throw.js");
    assert_eq!((stats["calls"].as_u64(), stats["errors"].as_u64()), (Some(200), Some(200)), "{stats}");
    let said = ran.stderr.lines().filter(|line| line.contains("throw.js:2")).count();
    assert!((1..=3).contains(&said), "said {said} times:\n{}", ran.stderr);
}

#[test]
fn a_script_that_does_not_compile() {
    let ran = beside_a_witness("broken.js", "function onItemCaptured(data) {\n  let = = 1;\n}\n");
    assert!(ran.stderr.contains("broken.js:2:"), "{}", ran.stderr);
}

#[test]
fn a_folder_of_scripts_counts_packets_publishes_and_is_in_the_stats() {
    let dir = tempfile::tempdir().unwrap();
    let (capture, data, scripts) =
        (dir.path().join("a.pcap"), dir.path().join("data"), dir.path().join("scripts"));
    write_capture(&capture);
    std::fs::create_dir(&scripts).unwrap();
    script(&scripts, "lib.mjs", "export const name = 'packets';");
    script(
        &scripts,
        "count.js",
        "import { name } from './lib.mjs';\nlet packets = 0, bytes = 0;\n\
         export function onPacketCaptured(info) { packets++; bytes += info.length; prometheus.metric(name, '', 1, packets) }\n\
         export function onStreamClosed() { file.write('sum.txt', packets + ' ' + bytes) }\n\
         jobs.schedule('never', '0 0 0 29 2 *', () => 1); jobs.run('never');",
    );
    let flags = ["replay", "--quiet", "--stats", "--script", scripts.to_str().unwrap(), "--data-dir"];
    let ran = remora(flags.into_iter().chain([data.to_str().unwrap(), capture.to_str().unwrap()])).exits(0);
    let stats = ran.stats();
    let sum = find(&data, "sum.txt").expect("the script wrote its file");
    assert_eq!(sum, format!("{} {}", stats["packets"], stats["bytes"]), "every packet once");
    let of = &stats["scripts"]["count.js"];
    assert_eq!(of["jobs"], serde_json::json!({ "passed": 1, "failed": 0 }));
    assert_eq!((&of["series"]["now"], &of["packets_dropped"]), (&1.into(), &0.into()), "{of}");
    assert!(of["busy_ms"].is_u64() && of["heap_bytes"].as_u64().unwrap() > 0, "{of}");

    std::fs::remove_file(scripts.join("count.js")).unwrap();
    let ran = remora(["replay", "--script", scripts.to_str().unwrap(), capture.to_str().unwrap()]).exits(1);
    assert!(ran.stderr.contains("no script to run: no *.js in "), "{}", ran.stderr);
}
