//! Items to Elasticsearch, Splunk, a webhook and a file by `--sinks`, without a script.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::{REMORA, Ran};
use serde_json::Value;
use testkit::fakes::Fake;
use testkit::fakes::elastic::Elastic;
use testkit::fakes::splunk::Splunk;
use testkit::synth::Capture;

const ITEMS: usize = 1_234;
const SECRETS: [&str; 4] =
    ["elastic-hushhush-1", "splunk-hushhush-2", "hook-hushhush-3", "c00kie-hushhush-4"];

fn capture(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("shop.pcap");
    let mut capture = Capture::create(&path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    for n in 0..ITEMS {
        let status = if n % 10 == 0 { "500 No" } else { "200 OK" };
        let ask = format!("GET /a/{n} HTTP/1.1\r\nHost: shop\r\nCookie: sid={}\r\n\r\n", SECRETS[3]);
        let answer =
            format!("HTTP/1.1 {status}\r\nSet-Cookie: t={}\r\nContent-Length: 2\r\n\r\nok", SECRETS[3]);
        capture.exchange(&mut connection, ask.as_bytes(), answer.as_bytes()).unwrap();
    }
    capture.close(connection).unwrap();
    path
}

type Asked = Arc<Mutex<Vec<(BTreeMap<String, String>, String)>>>;

/// A server that answers 503 first, and takes all that comes after.
fn hook() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/items?key={}", listener.local_addr().unwrap(), SECRETS[2]);
    let asked = Asked::default();
    let all = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), &all);
        }
    });
    (url, asked)
}

fn serve(mut stream: TcpStream, asked: &Asked) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        let (name, value) = line.split_once(": ").unwrap_or(("request", &line));
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        line.clear();
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let mut asked = asked.lock().unwrap();
    let status = if asked.is_empty() { "503 Busy" } else { "204 Fine" };
    asked.push((headers, String::from_utf8(body).unwrap()));
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
}

fn replay(dir: &Path, sinks: &str, env: &[(&str, &str)]) -> Ran {
    let file = dir.join("sinks.yaml");
    std::fs::write(&file, sinks).unwrap();
    let mut command = Command::new(REMORA);
    command
        .arg("replay")
        .arg(capture(dir))
        .args(["--json", "--stats", "--drain-timeout", "20", "--sinks"])
        .arg(file);
    command.envs(env.iter().copied()).env("REMORA_LOG", "trace").output().unwrap().into()
}

#[test]
fn every_item_arrives_everywhere_in_batches() {
    let elastic = Elastic { users: [format!("ApiKey {}", SECRETS[0])].into(), ..Elastic::default() };
    let elastic = Fake::start(elastic).unwrap();
    // Every other of so many documents is to be sent again.
    elastic.with(|fake| fake.busy = 40);
    let splunk = Splunk { tokens: [(SECRETS[1].to_owned(), true)].into(), ..Splunk::default() };
    let splunk = Fake::start(splunk).unwrap();
    let (hook, asked) = hook();
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("splunk-token");
    std::fs::write(&secret, SECRETS[1]).unwrap();
    let sinks = format!(
        "- {{kind: elasticsearch, url: '{}', index: remora, apiKey: {{env: ELASTIC_KEY}}}}
- {{kind: splunk, url: '{}', token: {{file: '{}'}}, index: main, filter: 'response.status == 500'}}
- {{kind: webhook, urlFrom: {{env: HOOK}}, headers: {{X-Team: shop}}, secretHeaders: {{X-Key: {{env: HOOK_KEY}}}}}}
- {{kind: jsonFile, path: '{}', maxBytes: 1000000, keep: 50, compress: true}}
",
        elastic.url(),
        splunk.url(),
        secret.display(),
        dir.path().join("items.jsonl").display()
    );
    let env = [("ELASTIC_KEY", SECRETS[0]), ("HOOK", hook.as_str()), ("HOOK_KEY", SECRETS[2])];
    let ran = replay(dir.path(), &sinks, &env).exits(0);
    let items = ran.items();
    assert_eq!(items.len(), ITEMS);

    let documents = elastic.with(|fake| fake.documents["remora"].clone());
    assert_eq!(documents.len(), ITEMS, "each once, under its own id");
    let events: Vec<Value> =
        splunk.with(|fake| fake.events.iter().map(|event| event["event"].clone()).collect());
    let failed: Vec<&Value> = items.iter().filter(|item| item["response"]["status"] == 500).collect();
    assert_eq!(events.iter().collect::<Vec<_>>(), failed, "in order, those that match");
    let lines =
        |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    let asked = asked.lock().unwrap();
    let hooked: Vec<Value> = asked.iter().skip(1).flat_map(|(_, body)| lines(body)).collect();
    assert_eq!(hooked, items);
    let (headers, _) = &asked[1];
    assert_eq!((headers["x-team"].as_str(), headers["x-key"].as_str()), ("shop", SECRETS[2]));
    assert_eq!(headers["content-type"], "application/x-ndjson");
    assert_eq!(headers["idempotency-key"], asked[0].0["idempotency-key"], "the same delivery again");
    assert_eq!(file_items(dir.path()), items);

    let stats = ran.stats();
    for (name, count) in
        [("1-elasticsearch", ITEMS), ("2-splunk", failed.len()), ("3-webhook", ITEMS), ("4-jsonFile", ITEMS)]
    {
        let sink = &stats["sinks"][name];
        assert_eq!(
            (sink["items"].as_u64(), sink["dropped"].as_u64()),
            (Some(count as u64), Some(0)),
            "{name}: {sink}"
        );
        assert!(sink["batches"].as_u64().unwrap() <= 8, "{name}: {sink}");
    }
    for secret in SECRETS {
        let line = ran.stderr.lines().chain(ran.stdout.lines()).find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in {line:?}");
        assert!(!format!("{documents:?}{events:?}{hooked:?}").contains(secret), "{secret} is in an item");
    }
}

/// The items of all files that were put aside, and of the one at hand.
fn file_items(dir: &Path) -> Vec<Value> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    names.retain(|path| path.to_str().unwrap().ends_with(".jsonl.gz"));
    names.sort();
    assert!(names.len() > 1, "{names:?}");
    let mut text = String::new();
    for name in names {
        flate2::read::GzDecoder::new(std::fs::File::open(name).unwrap()).read_to_string(&mut text).unwrap();
    }
    text += &std::fs::read_to_string(dir.join("items.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_cannot_be_a_sink_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    for (sinks, code, part) in [
        ("- {kind: carrierPigeon}", 2, "unknown variant `carrierPigeon`"),
        ("", 2, "--sinks: "),
        (
            "- {kind: splunk, url: 'https://s', token: {env: REMORA_NOT_SET}}",
            1,
            "sink 1-splunk: the variable REMORA_NOT_SET is not set",
        ),
        ("- {kind: jsonFile, path: /nonexistent/items.jsonl}", 1, "/nonexistent/items.jsonl: No such file"),
    ] {
        let ran = replay(dir.path(), sinks, &[]).exits(code);
        assert!(ran.stderr.contains(part), "{sinks}: {}", ran.stderr);
    }
}
