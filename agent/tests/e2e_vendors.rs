//! A script's data on its way to Elasticsearch, Splunk, InfluxDB and S3, from the command line; proxies; and the dashboards
//! that are made for it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use common::{REMORA, remora, root, script};
use serde_json::Value;
use testkit::fakes::Fake;
use testkit::fakes::elastic::Elastic;
use testkit::fakes::influx::Influx;
use testkit::fakes::objects::{Account, Objects};
use testkit::fakes::splunk::Splunk;
use testkit::synth::{CLIENT, Capture};

const SECRETS: [&str; 4] = ["elastic-hushhush-1", "splunk-hushhush-2", "influx-hushhush-3", "s3-hushhush-4"];

/// Two requests, one of them failed, and one without a response.
fn capture(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("shop.pcap");
    let mut capture = Capture::create(&path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    for (ask, answer) in [
        (
            "GET /a?x=1 HTTP/1.1\r\nHost: shop\r\nCookie: a=1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "POST /pay HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\n\r\n1",
            "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
        ),
    ] {
        capture.exchange(&mut connection, ask.as_bytes(), answer.as_bytes()).unwrap();
    }
    capture.close(connection).unwrap();
    let mut silent = capture.open(40_001).unwrap();
    capture.send(&mut silent, CLIENT, b"GET /silent HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
    capture.close(silent).unwrap();
    path
}

fn replay(dir: &Path, text: &str, variables: &[(&str, &str)], env: &[(&str, String)]) -> Output {
    let mut command = Command::new(REMORA);
    for proxy in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(proxy);
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.arg("replay").arg(capture(dir)).args(["--json", "--stats", "--drain-timeout", "10"]);
    command.arg("--script").arg(script(dir, "send.js", text));
    for (name, value) in variables {
        command.args(["--env", &format!("{name}={value}")]);
    }
    command.output().unwrap()
}

#[test]
fn a_scripts_data_arrives_everywhere() {
    let [elastic_key, splunk_token, influx_token, access_key] = SECRETS;
    let elastic = Elastic { users: [format!("Bearer {elastic_key}")].into(), ..Elastic::default() };
    let elastic = Fake::start(elastic).unwrap();
    let splunk = Splunk { tokens: [(splunk_token.to_owned(), true)].into(), ..Splunk::default() };
    let splunk = Fake::start(splunk).unwrap();
    let place = ("org".to_owned(), "bucket".to_owned());
    let influx = Fake::start(Influx { token: influx_token.to_owned(), place, ..Influx::default() }).unwrap();
    let s3 = Objects::new(Account::Signed("AKIA".into(), "us-east-1".into()), "captures");
    let s3 = Fake::start(s3).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = "function onItemCaptured(data) {
        console.log('id ' + vendor.elastic(ELASTIC, 'remora', data, '', '', '', '', ELASTIC_TOKEN));
        vendor.splunk(SPLUNK, SPLUNK_TOKEN, data, {index: 'main'});
        vendor.influxdb(INFLUX, INFLUX_TOKEN, 'org', 'bucket', 'http', {ms: data.elapsedTime || 0, startTime: data.startTime},
          {path: data.request.path});
        file.write('item.json', JSON.stringify(data));
        console.log('url ' + vendor.s3.put('captures/items/' + data.index, 'item.json', 'us-east-1', 'AKIA', S3_KEY));
        file.delete('item.json');
        console.log('url ' + vendor.s3.put('captures', pcap.path(data.stream), 'us-east-1', 'AKIA', S3_KEY));
      }";
    let (e, s, i) = (elastic.url(), splunk.url(), influx.url());
    let variables = [
        ("ELASTIC", e.as_str()),
        ("ELASTIC_TOKEN", elastic_key),
        ("SPLUNK", &s),
        ("SPLUNK_TOKEN", splunk_token),
        ("INFLUX", &i),
        ("INFLUX_TOKEN", influx_token),
        ("S3_KEY", access_key),
    ];
    let env = [("REMORA_S3_ENDPOINT", s3.url()), ("REMORA_LOG", "trace".to_owned())];
    let output = replay(dir.path(), text, &variables, &env);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let items: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(items.len(), 3);
    let said = |word: &str| -> BTreeSet<String> {
        let after =
            |line: &str| Some(line.split_once(word)?.1.split(['"', ' ', '\u{1b}']).next()?.to_owned());
        err.lines().filter(|line| line.contains("send.js")).filter_map(after).collect()
    };

    let documents = elastic.with(|fake| fake.documents["remora"].clone());
    assert_eq!(documents.keys().cloned().collect::<BTreeSet<_>>(), said("id "), "the ids that were told");
    for mut document in documents.into_values() {
        assert_eq!(document["@timestamp"], document["startTime"]);
        document.as_object_mut().unwrap().remove("@timestamp");
        assert!(items.contains(&document), "{document}");
    }
    let events: Vec<Value> =
        splunk.with(|fake| fake.events.iter().map(|event| event["event"].clone()).collect());
    assert_eq!(events, items, "in order");
    let paths: BTreeSet<String> =
        influx.with(|fake| fake.points.iter().map(|point| point.tags["path"].clone()).collect());
    assert_eq!(paths, ["/a", "/pay", "/silent"].map(str::to_owned).into());
    let objects = s3.with(|fake| fake.objects.clone());
    let urls: BTreeSet<String> = objects.keys().map(|key| format!("{}/captures/{key}", s3.url())).collect();
    assert_eq!(urls, said("url "), "the URLs that were told");
    let node = items[0]["node"]["name"].as_str().unwrap();
    let pcap = objects.iter().find(|(key, _)| key.starts_with(node)).unwrap();
    assert!(pcap.1.len() > 100 && objects.contains_key("items/0/item.json"), "{:?}", objects.keys());
    for secret in SECRETS {
        let line = err.lines().chain(out.lines()).find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in {line:?}");
    }
}

/// Answers one request and gives it.
fn proxy() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; 4096];
        let n = stream.read(&mut asked).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nvia").unwrap();
        String::from_utf8_lossy(&asked[..n]).into_owned()
    };
    (url, std::thread::spawn(serve))
}

#[test]
fn proxies_are_those_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let send = "var done = false; function onItemCaptured() { if (done) return; done = true;
        try { console.log('got ' + vendor.webhook('POST', 'http://hooks.invalid/x', 'hi', {'X-A': '1'})) }
        catch (e) { console.log('none: ' + e.message) } }";
    let (url, asked) = proxy();
    let output = replay(dir.path(), send, &[], &[("http_proxy", url)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("got via"), "{output:?}");
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("POST http://hooks.invalid/x HTTP/1.1") && asked.contains("x-a: 1"), "{asked}");

    let (url, _) = proxy();
    let env = [("http_proxy", url), ("no_proxy", "hooks.invalid".to_owned())];
    let output = replay(dir.path(), send, &[], &env);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("none: vendor.webhook: url: no answer"),
        "{output:?}"
    );
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    for (arguments, part) in [
        (
            ["--s3-endpoint", "minio:9000"],
            "--s3-endpoint: expected an http or https URL such as http://minio:9000",
        ),
        (["--ca-file", "/nonexistent/ca.pem"], "--ca-file: /nonexistent/ca.pem: No such file"),
        (["--ca-file", "/dev/null"], "--ca-file: /dev/null: no certificate in it"),
    ] {
        let ran = remora(["replay", "-", arguments[0], arguments[1]]).exits(2);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

/// All paths of the items, and those that only live capture, Kubernetes or a script knows.
fn known_fields() -> BTreeSet<String> {
    fn paths(at: &str, value: &Value, to: &mut BTreeSet<String>) {
        to.insert(at.to_owned());
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                    paths(&path, value, to);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| paths(at, value, to)),
            _ => {}
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path());
    let mut known: BTreeSet<String> = [
        "@timestamp",
        "alert.severity",
        "alert.title",
        "anomalies.type",
        "anomalies.msg",
        "src.processName",
        "dst.processName",
        "response.content.encoding",
    ]
    .map(str::to_owned)
    .into();
    for item in remora(["replay", path.to_str().unwrap(), "--json"]).exits(0).items() {
        paths("", &item, &mut known);
    }
    known
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join("deploy").join(path)).unwrap()
}

#[test]
fn the_index_template_names_fields_of_items() {
    fn leaves(at: &str, properties: &Value, to: &mut Vec<String>) {
        for (name, field) in properties.as_object().unwrap() {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            match field.get("properties") {
                Some(inner) => leaves(&path, inner, to),
                None => to.push(path),
            }
        }
    }
    let template: Value = serde_json::from_str(&read("elastic/index-template.json")).unwrap();
    let mappings = &template["template"]["mappings"];
    assert_eq!(mappings["properties"]["@timestamp"]["type"], "date_nanos");
    let mut fields = Vec::new();
    leaves("", &mappings["properties"], &mut fields);
    assert!(fields.len() > 40);
    let known = known_fields();
    let unknown: Vec<&String> = fields.iter().filter(|field| !known.contains(*field)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn kibanas_objects_refer_to_each_other_and_to_fields_of_items() {
    let objects: Vec<Value> =
        read("elastic/kibana.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: BTreeSet<(&str, &str)> = objects
        .iter()
        .map(|object| (object["type"].as_str().unwrap(), object["id"].as_str().unwrap()))
        .collect();
    let known = known_fields();
    let (mut fields, mut panels) = (0, 0);
    for object in &objects {
        let references = object["references"].as_array().unwrap();
        for reference in references {
            let to = (reference["type"].as_str().unwrap(), reference["id"].as_str().unwrap());
            assert!(ids.contains(&to), "{to:?}");
        }
        let state = &object["attributes"]["state"];
        let layers = state["datasourceStates"]["formBased"]["layers"].as_object();
        for (_, layer) in layers.into_iter().flatten() {
            let order: BTreeSet<&str> =
                layer["columnOrder"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
            let columns = layer["columns"].as_object().unwrap();
            assert_eq!(order, columns.keys().map(String::as_str).collect());
            for column in columns.values() {
                let field = column["sourceField"].as_str().unwrap();
                assert!(field == "___records___" || known.contains(field), "{field}");
                queried(column["filter"]["query"].as_str().unwrap_or_default(), &known);
                fields += 1;
            }
            queried(state["query"]["query"].as_str().unwrap(), &known);
        }
        if object["type"] == "dashboard" {
            let shown: Value =
                serde_json::from_str(object["attributes"]["panelsJSON"].as_str().unwrap()).unwrap();
            for panel in shown.as_array().unwrap() {
                let name = format!(
                    "{}:{}",
                    panel["panelIndex"].as_str().unwrap(),
                    panel["panelRefName"].as_str().unwrap()
                );
                assert!(references.iter().any(|reference| reference["name"] == name.as_str()), "{name}");
                panels += 1;
            }
        }
    }
    assert!(fields >= 10 && panels == 4, "{fields} fields, {panels} panels");
}

/// The fields of a query in KQL: the words before a colon or a comparison.
fn queried(query: &str, known: &BTreeSet<String>) {
    let words: Vec<&str> = query.split_whitespace().collect();
    for pair in words.windows(2).filter(|pair| matches!(pair[1], ":" | ">=" | "<=")) {
        assert!(known.contains(pair[0]), "{query}: {}", pair[0]);
    }
}

#[test]
fn splunks_dashboard_is_xml_and_names_fields_of_items() {
    let text = read("splunk/remora.xml");
    let mut reader = quick_xml::Reader::from_str(&text);
    let (mut open, mut searches, mut query) = (Vec::new(), Vec::new(), String::new());
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Start(tag) => {
                open.push(tag.name().as_ref().to_vec());
                query.clear();
            }
            quick_xml::events::Event::Text(part) => query.push_str(&part.decode().unwrap()),
            quick_xml::events::Event::GeneralRef(part) => {
                query.push_str(if part.decode().unwrap() == "gt" { ">" } else { "?" });
            }
            quick_xml::events::Event::End(tag) => {
                assert_eq!(open.pop().unwrap(), tag.name().as_ref());
                if tag.name().as_ref() == b"query" {
                    searches.push(std::mem::take(&mut query));
                }
            }
            quick_xml::events::Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty() && searches.len() == 4, "{searches:?}");
    let known = known_fields();
    let mut named = 0;
    for search in searches {
        assert!(search.starts_with("index=\"$index$\" source=\"remora\""), "{search}");
        // Fields stand between quotation marks; in eval between single ones.
        for field in
            search.split(['"', '\'']).skip(1).step_by(2).filter(|text| !matches!(*text, "$index$" | "remora"))
        {
            assert!(known.contains(field), "{search}: {field}");
            named += 1;
        }
    }
    assert!(named >= 9, "{named}");
}
