//! The item's contract, field by field, through `remora replay --json`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::Write as _;
use std::path::Path;

use common::remora;
use serde_json::{Value, json};
use testkit::synth::{CLIENT, Capture, SERVER};

const REQUEST: &str = "POST /shop/cart%20x?item=42&tag=a&tag=b%26c HTTP/1.1\r\n\
Host: shop.test:8080\r\n\
Cookie: sid=abc; theme=dark\r\n\
X-Twice: one\r\n\
x-twice: two\r\n\
Content-Type: application/x-www-form-urlencoded\r\n\
Content-Length: 18\r\n\r\n\
name=J%C3%B6rg&n=1";

fn gzip_chunked_response(body: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(body).unwrap();
    let coded = coder.finish().unwrap();
    let mut response = b"HTTP/1.1 201 Created\r\n\
Content-Type: application/json; charset=utf-8\r\n\
Content-Encoding: gzip\r\n\
Transfer-Encoding: chunked\r\n\
Set-Cookie: sid=def; Path=/\r\n\
Set-Cookie: lang=cs\r\n\
Location: /shop/cart/7\r\n\r\n"
        .to_vec();
    for piece in coded.chunks(7) {
        response.extend(format!("{:x}\r\n", piece.len()).bytes());
        response.extend(piece);
        response.extend(b"\r\n");
    }
    response.extend(b"0\r\nX-Checksum: 99\r\n\r\n");
    response
}

fn items(path: &Path, more: &[&str]) -> Vec<Value> {
    let mut args = vec!["replay", path.to_str().unwrap(), "--json"];
    args.extend(more);
    remora(args).exits(0).items()
}

#[test]
fn every_field_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.pcap");
    let body = br#"{"cart":["fish","remora"]}"#;
    let mut capture = Capture::create(&path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    let response = gzip_chunked_response(body);
    capture.send(&mut connection, CLIENT, REQUEST.as_bytes()).unwrap();
    capture.send(&mut connection, SERVER, b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").unwrap();
    capture.send(&mut connection, SERVER, &response).unwrap();
    capture.close(connection).unwrap();
    drop(capture);

    let items = items(&path, &["--no-redact", "--hash"]);
    assert_eq!(items.len(), 1);
    let item = &items[0];
    assert_eq!(item["stream"], "000000000001");
    assert_eq!(item["id"], "000000000001-0");
    assert_eq!(item["protocol"]["name"], "http");
    assert_eq!((&item["protocol"]["version"], &item["protocol"]["abbr"]), (&json!("1.1"), &json!("HTTP")));
    assert_eq!(
        item["src"],
        json!({ "ip": "10.9.0.1", "port": "40000", "name": "10.9.0.1", "namespace": "" })
    );
    assert_eq!(item["dst"], json!({ "ip": "10.9.0.2", "port": "8080", "name": "10.9.0.2", "namespace": "" }));
    assert_eq!(
        (&item["namespace"], &item["outgoing"], &item["tls"]),
        (&json!(""), &json!(false), &json!(false))
    );
    assert_eq!(item["timestamp"], 1_700_000_000_000_u64);
    assert_eq!(item["startTime"], "2023-11-14T22:13:20.000400000Z");
    assert_eq!(item["elapsedTime"], 0.4, "request, its ACK, interim, its ACK, response");
    let head = REQUEST.find("\r\n\r\n").unwrap() + 4;
    assert_eq!(item["requestSize"], REQUEST.len());
    assert_eq!(item["anomalies"], json!([]));
    assert_eq!(item["error"], Value::Null);
    assert_eq!(item["capture"], json!({ "source": "pcap", "gaps": 0, "truncated": false }));
    assert_eq!((&item["passed"], &item["failed"]), (&json!(false), &json!(false)));

    let request = &item["request"];
    assert_eq!(request["method"], "POST");
    assert_eq!(request["url"], "http://shop.test:8080/shop/cart%20x?item=42&tag=a&tag=b%26c");
    assert_eq!(request["target"], "/shop/cart%20x?item=42&tag=a&tag=b%26c");
    assert_eq!(request["path"], "/shop/cart%20x");
    assert_eq!(request["pathSegments"], json!(["shop", "cart%20x"]));
    assert_eq!(request["httpVersion"], "HTTP/1.1");
    assert_eq!(request["headers"]["X-Twice"], "one, two");
    assert_eq!(request["headersList"][3], json!({ "name": "x-twice", "value": "two" }));
    assert_eq!(request["cookies"], json!({ "sid": "abc", "theme": "dark" }));
    assert_eq!(request["queryString"], json!({ "item": "42", "tag": ["a", "b&c"] }));
    let params = json!([{ "name": "name", "value": "Jörg" }, { "name": "n", "value": "1" }]);
    assert_eq!(request["postData"]["params"], params);
    assert_eq!(request["postData"]["text"], "name=J%C3%B6rg&n=1");
    assert_eq!(request["postData"]["mimeType"], "application/x-www-form-urlencoded");
    assert_eq!((&request["headersSize"], &request["bodySize"]), (&json!(head), &json!(18)));
    assert_eq!(request["bodySha256"].as_str().unwrap().len(), 64);

    let answer = &item["response"];
    assert_eq!((&answer["status"], &answer["statusText"]), (&json!(201), &json!("Created")));
    assert_eq!(
        answer["interim"],
        json!([{ "status": 103, "headersList": [{ "name": "Link", "value": "</a.css>" }] }])
    );
    assert_eq!(answer["headers"]["Set-Cookie"], "sid=def; Path=/\nlang=cs");
    assert_eq!(answer["cookies"], json!({ "sid": "def", "lang": "cs" }));
    assert_eq!(answer["trailersList"], json!([{ "name": "X-Checksum", "value": "99" }]));
    assert_eq!(answer["content"]["text"], String::from_utf8_lossy(body).as_ref());
    assert_eq!(answer["content"]["size"], body.len());
    assert_eq!(
        (&answer["content"]["encoding"], &answer["content"]["truncated"]),
        (&json!(""), &json!(false))
    );
    assert_eq!(answer["content"]["mimeType"], "application/json; charset=utf-8");
    assert_eq!(answer["redirectURL"], "/shop/cart/7");
    assert_ne!(answer["bodySize"], answer["content"]["size"], "before and after content decoding");
}

#[test]
fn cookies_are_hidden_by_default_and_their_names_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.pcap");
    let mut capture = Capture::create(&path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    capture.exchange(&mut connection, REQUEST.as_bytes(), &gzip_chunked_response(b"{}")).unwrap();
    drop(capture);
    let items = items(&path, &["--redact", "X-Twice"]);
    let (request, response) = (&items[0]["request"], &items[0]["response"]);
    assert_eq!(request["cookies"], json!({ "sid": "[REDACTED]", "theme": "[REDACTED]" }));
    assert_eq!(request["headers"]["Cookie"], "[REDACTED]");
    assert_eq!(request["headers"]["X-Twice"], "[REDACTED], [REDACTED]");
    assert_eq!(response["cookies"], json!({ "sid": "[REDACTED]", "lang": "[REDACTED]" }));
    assert_eq!(response["headers"]["Set-Cookie"], "[REDACTED]\n[REDACTED]");
    assert_eq!(response["headersList"][4], json!({ "name": "Set-Cookie", "value": "[REDACTED]" }));
}

#[test]
fn bytes_that_are_no_text_are_base64() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.pcap");
    let mut capture = Capture::create(&path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    let mut response = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 4\r\n\r\n".to_vec();
    response.extend([0x89, 0x50, 0xff, 0x00]);
    capture.exchange(&mut connection, b"GET /a.png HTTP/1.1\r\nHost: s\r\n\r\n", &response).unwrap();
    drop(capture);
    let items = items(&path, &[]);
    let content = &items[0]["response"]["content"];
    assert_eq!((&content["encoding"], &content["text"]), (&json!("base64"), &json!("iVD/AA==")));
    assert_eq!(items[0]["request"]["postData"], Value::Null);
}

#[test]
fn streams_are_told_at_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.pcap");
    let mut capture = Capture::create(&path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    capture.send(&mut connection, CLIENT, REQUEST.as_bytes()).unwrap();
    capture.close(connection).unwrap();
    drop(capture);
    let streams = dir.path().join("streams.jsonl");
    let items = items(&path, &["--hash", "--streams", streams.to_str().unwrap()]);
    assert_eq!(items[0]["response"], Value::Null);
    assert_eq!(items[0]["error"]["type"], "connection");
    assert_eq!(items[0]["elapsedTime"], Value::Null);
    let line = std::fs::read_to_string(&streams).unwrap();
    let stream: Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!((&stream["client"], &stream["server"]), (&json!("10.9.0.1:40000"), &json!("10.9.0.2:8080")));
    assert_eq!((&stream["syn"], &stream["fin"], &stream["rst"]), (&json!(true), &json!(2), &json!(0)));
    assert_eq!((&stream["packets"], &stream["items"]), (&json!(8), &json!(1)));
    assert_eq!(stream["c2s"]["bytes"], REQUEST.len());
    assert_eq!((&stream["c2s"]["gaps"], &stream["s2c"]["bytes"]), (&json!([]), &json!(0)));
    assert_eq!(stream["c2s"]["sha256"].as_str().unwrap().len(), 64);
}
