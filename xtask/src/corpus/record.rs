//! One record, from the oracle or from Remora, as a key and facts that can be compared.
//!
//! The expected side is the JSON lines beside the captures (one oracle's), the found side the items of `remora replay --json` and the
//! lines of `--streams --hash`. Facts carry the oracle's names. What the oracle does not state is not compared.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Kinds that are compared, in the oracle's words.
pub(super) const KINDS: [&str; 2] = ["tcp", "http1"];

/// Longest text that the oracle keeps of a request-target, in characters.
const ORACLE_TEXT: usize = 400;

/// A record.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) kind: &'static str,
    pub(super) client: String,
    pub(super) server: String,
    /// `A`, `B` or `C`; found ones have none.
    pub(super) grade: String,
    /// Whether who is client is known for certain (the handshake was seen).
    pub(super) roles_known: bool,
    /// Whether Remora itself says that the record is not whole.
    pub(super) error: Option<String>,
    /// Name and value.
    pub(super) facts: Vec<(&'static str, Value)>,
}

impl Record {
    fn fact(&mut self, name: &'static str, value: Value) {
        self.facts.push((name, value));
    }

    /// The value of a fact.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.facts.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A record of the oracle, if its kind is one of [`KINDS`].
pub(super) fn expected(line: &Value) -> Option<Record> {
    let kind = *KINDS.iter().find(|k| line["kind"] == **k)?;
    let mut record = Record {
        kind,
        client: text(&line["client"]),
        server: text(&line["server"]),
        grade: text(&line["grade"]),
        roles_known: line["roles"] == "syn",
        ..Record::default()
    };
    if kind == "tcp" {
        for (side, bytes, sha256, chunks) in SIDES {
            direction(&mut record, &line[side], bytes, sha256, chunks);
        }
    } else {
        expected_http(&mut record, line);
    }
    Some(record)
}

const SIDES: [(&str, &str, &str, &str); 2] =
    [("c2s", "c2s.bytes", "c2s.sha256", "c2s.chunks"), ("s2c", "s2c.bytes", "s2c.sha256", "s2c.chunks")];

/// One direction of a stream, in either side's words.
fn direction(
    record: &mut Record,
    from: &Value,
    bytes: &'static str,
    sha256: &'static str,
    chunks: &'static str,
) {
    record.fact(bytes, from["bytes"].clone());
    if from["sha256"].is_string() {
        record.fact(sha256, from["sha256"].clone());
    }
    if let Some(list) = from["chunks"].as_array() {
        let either = |c: &Value, short: &str, long: &str| {
            c.get(short).or_else(|| c.get(long)).cloned().unwrap_or_default()
        };
        let normal =
            list.iter().map(|c| json!([either(c, "off", "offset"), either(c, "len", "length"), c["sha256"]]));
        record.fact(chunks, normal.collect());
    }
}

fn expected_http(record: &mut Record, line: &Value) {
    let has_request = line["method"].is_string();
    if has_request {
        for (name, field) in [("method", "method"), ("host", "host"), ("path", "path")] {
            record.fact(name, line[field].clone());
        }
        record.fact("req_version", line["req_version"].clone());
        record.fact("req_headers", line["req_headers"].clone());
        if line["req_complete"] == true {
            record.fact("req_body_len", line["req_body_len"].clone());
        }
        if line["req_body_sha256"].is_string() && line["req_complete"] == true {
            record.fact("req_body_sha256", line["req_body_sha256"].clone());
        }
    } else {
        record.fact("method", Value::Null);
    }
    // Null where no response was seen.
    record.fact("status", line["status"].clone());
    if !line["status"].is_number() {
        return;
    }
    record.fact("resp_headers", line["resp_headers"].clone());
    let missing = line["resp_body_missing"].as_u64();
    if line["resp_complete"] == true {
        let length = line["resp_body_len"].as_u64().map(|n| n + missing.unwrap_or(0));
        record.fact("resp_body_len", json!(length));
        if missing.is_none() && line["resp_body_sha256"].is_string() {
            record.fact("resp_body_sha256", line["resp_body_sha256"].clone());
        }
    }
    // Of codings that it does not undo (br, zstd) the oracle gives the name only.
    if line["resp_decoded"]["len"].is_number() && missing.is_none() {
        record.fact("resp_decoded_len", line["resp_decoded"]["len"].clone());
        record.fact("resp_decoded_sha256", line["resp_decoded"]["sha256"].clone());
    }
    if line["interim"].is_array() {
        record.fact("interim", line["interim"].clone());
    }
}

/// A line of `--streams`.
pub(super) fn found_stream(line: &Value) -> Record {
    let mut record = Record {
        kind: "tcp",
        client: text(&line["client"]),
        server: text(&line["server"]),
        ..Record::default()
    };
    for (side, bytes, sha256, chunks) in SIDES {
        direction(&mut record, &line[side], bytes, sha256, chunks);
    }
    record
}

/// The same stream with client and server changed over.
pub(super) fn swapped(record: &Record) -> Record {
    let other = |name: &'static str| match name {
        "c2s.bytes" => "s2c.bytes",
        "c2s.sha256" => "s2c.sha256",
        "c2s.chunks" => "s2c.chunks",
        "s2c.bytes" => "c2s.bytes",
        "s2c.sha256" => "c2s.sha256",
        "s2c.chunks" => "c2s.chunks",
        same => same,
    };
    let facts = record.facts.iter().map(|(n, v)| (other(n), v.clone())).collect();
    Record { client: record.server.clone(), server: record.client.clone(), facts, ..record.clone() }
}

/// An item of `--json`, if it is of a kind in [`KINDS`].
pub(super) fn found_item(item: &Value) -> Option<Record> {
    let protocol = &item["protocol"];
    if protocol["name"] != "http" || !text(&protocol["version"]).starts_with('1') {
        return None;
    }
    let mut record = Record {
        kind: "http1",
        client: endpoint(&item["src"]),
        server: endpoint(&item["dst"]),
        ..Record::default()
    };
    record.error = item["error"]["type"].as_str().map(str::to_owned);
    found_request(&mut record, &item["request"]);
    found_response(&mut record, &item["response"]);
    Some(record)
}

fn endpoint(end: &Value) -> String {
    let (ip, port) = (text(&end["ip"]), text(&end["port"]));
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn found_request(record: &mut Record, request: &Value) {
    if request.is_null() {
        record.fact("method", Value::Null);
        return;
    }
    record.fact("method", request["method"].clone());
    record.fact("host", header(request, "host"));
    record.fact("path", json!(text(&request["target"]).chars().take(ORACLE_TEXT).collect::<String>()));
    let version = text(&request["httpVersion"]);
    record.fact("req_version", json!(format!("HTTP/{}", version.trim_start_matches("HTTP/"))));
    record.fact("req_headers", count(request));
    record.fact("req_body_len", request["bodySize"].clone());
    record.fact("req_body_sha256", request["bodySha256"].clone());
}

fn found_response(record: &mut Record, response: &Value) {
    record.fact("status", response["status"].clone());
    if response.is_null() {
        return;
    }
    record.fact("resp_headers", count(response));
    record.fact("resp_body_len", response["bodySize"].clone());
    record.fact("resp_body_sha256", response["bodySha256"].clone());
    let content = &response["content"];
    record.fact("resp_decoded_len", content["size"].clone());
    if content["truncated"] != true {
        record.fact("resp_decoded_sha256", json!(content_hash(content)));
    }
    let interim = response["interim"].as_array().into_iter().flatten();
    record.fact("interim", interim.map(|r| r["status"].clone()).collect());
}

fn content_hash(content: &Value) -> Option<String> {
    let text = content["text"].as_str().unwrap_or_default();
    let bytes =
        if content["encoding"] == "base64" { STANDARD.decode(text).ok()? } else { text.as_bytes().to_vec() };
    Some(Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect())
}

/// Entries of `headersList`: `{name, value}` each, or `[name, value]`.
fn fields(message: &Value) -> impl Iterator<Item = (&str, &Value)> {
    message["headersList"].as_array().into_iter().flatten().map(|field| {
        let (name, value) =
            if field.is_array() { (&field[0], &field[1]) } else { (&field["name"], &field["value"]) };
        (name.as_str().unwrap_or_default(), value)
    })
}

fn count(message: &Value) -> Value {
    json!(fields(message).count())
}

fn header(message: &Value, name: &str) -> Value {
    fields(message).find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or(Value::Null, |(_, v)| v.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_and_the_oracle_speak_of_the_same_facts() {
        let item = json!({"stream": "000000000001", "protocol": {"name": "http", "version": "1.1"},
            "src": {"ip": "10.0.0.1", "port": "4000"}, "dst": {"ip": "fe80::1", "port": "80"},
            "request": {"method": "GET", "target": "/a?b=1", "httpVersion": "HTTP/1.1", "bodySize": 0,
                "headersList": [{"name": "HOST", "value": "h"}, {"name": "X", "value": "1"}]},
            "response": {"status": 200, "headersList": [], "bodySize": 3, "bodySha256": "aa",
                "content": {"size": 2, "text": "aGk=", "encoding": "base64"}, "interim": [{"status": 100}]},
            "error": null});
        let line = json!({"kind": "http1", "client": "10.0.0.1:4000", "server": "[fe80::1]:80", "method": "GET",
            "host": "h", "path": "/a?b=1", "req_version": "HTTP/1.1", "req_headers": 2, "req_body_len": 0,
            "req_complete": true, "status": 200, "resp_headers": 0, "resp_body_len": 3, "resp_complete": true,
            "resp_body_sha256": "aa", "interim": [100], "grade": "A",
            "resp_decoded": {"len": 2, "sha256": "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"}});
        let (found, wanted) = (found_item(&item).unwrap(), expected(&line).unwrap());
        assert_eq!((&found.client, &found.server), (&wanted.client, &wanted.server));
        for (name, value) in &wanted.facts {
            assert_eq!(found.get(name), Some(value), "{name}");
        }
        assert!(found_item(&json!({"protocol": {"name": "http", "version": "2"}})).is_none());
        assert!(expected(&json!({"kind": "redis"})).is_none());
    }

    #[test]
    fn streams_are_compared_by_bytes_and_hashes() {
        let oracle = json!({"kind": "tcp", "client": "a:1", "server": "b:2", "grade": "B", "roles": "payload",
            "c2s": {"bytes": 3, "sha256": "x"}, "s2c": {"bytes": 5, "chunks": [{"off": 2, "len": 5, "sha256": "y"}]}});
        let ours = json!({"client": "b:2", "server": "a:1", "s2c": {"bytes": 3, "sha256": "x", "gaps": []},
            "c2s": {"bytes": 5, "chunks": [{"offset": 2, "length": 5, "sha256": "y"}]}});
        let (wanted, found) = (expected(&oracle).unwrap(), swapped(&found_stream(&ours)));
        assert!(!wanted.roles_known);
        for (name, value) in &wanted.facts {
            assert_eq!(found.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn an_incomplete_message_is_not_held_to_a_length() {
        let line = json!({"kind": "http1", "client": "a:1", "server": "b:2", "method": "GET", "status": 200,
            "resp_body_len": 10, "resp_complete": false, "resp_body_missing": 4, "grade": "C"});
        assert_eq!(expected(&line).unwrap().get("resp_body_len"), None);
        let whole = json!({"kind": "http1", "method": null, "status": 200, "resp_body_len": 10, "resp_complete": true,
            "resp_body_missing": 4, "resp_body_sha256": "z"});
        let record = expected(&whole).unwrap();
        assert_eq!(record.get("resp_body_len"), Some(&json!(14)));
        assert_eq!((record.get("resp_body_sha256"), record.get("method")), (None, Some(&Value::Null)));
    }
}
