//! Coded bodies in JSON and in the line for a person.

use agent_core::dissect::content::Codings;
use agent_core::item::Coded;

use super::*;
use crate::view::text_line;

const CAP: usize = 4096;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    testkit::gzip(bytes).unwrap()
}

fn body(bytes: &[u8], value: &str) -> Body {
    let mut codings = Codings::default();
    codings.add(value.as_bytes());
    let coded = Coded::new(codings, CAP);
    Body { size: bytes.len() as u64, bytes: bytes.into(), coded, ..Body::default() }
}

fn captured(request: Body, response: Body) -> Captured {
    let choice = (1, [0, 1, 0, 0, 1, 1, 0, 0], [false, true, true, false], 0, Vec::new());
    let mut captured = World::new().captured(0, &choice);
    let Record::Http(exchange) = &mut captured.item.record else { panic!() };
    exchange.request.as_mut().unwrap().message.body = request;
    exchange.response.as_mut().unwrap().message.body = response;
    captured
}

fn times(captured: &Captured) -> [u32; 2] {
    let Record::Http(exchange) = &captured.item.record else { panic!() };
    let request = exchange.request.as_ref().unwrap().message.body.times_decoded();
    [request, exchange.response.as_ref().unwrap().message.body.times_decoded()]
}

fn json_of(captured: &Captured) -> Value {
    let mut json = Vec::new();
    ItemView::default().json(captured, &mut json);
    serde_json::from_slice(&json).unwrap()
}

#[test]
fn the_whole_item_decodes_each_body_once() {
    let captured = captured(body(&gzip(b"asked"), "gzip"), body(&gzip(b"answered"), "gzip"));
    let item = json_of(&captured);
    assert_eq!(times(&captured), [1, 1]);
    assert_eq!(item["request"]["postData"]["text"], "asked");
    let content = &item["response"]["content"];
    assert_eq!((&content["text"], &content["size"]), (&json!("answered"), &json!(8)));
    assert_eq!((&content["truncated"], &item["anomalies"]), (&json!(false), &json!([])));
    assert!(item["response"]["bodySize"].as_u64().unwrap() > 8, "as it was sent");
}

#[test]
fn what_does_not_decode_is_shown_as_it_came_with_an_anomaly_for_each() {
    let captured = captured(body(b"asked", "gzip"), body(b"answered", "zstd, gzip"));
    let item = json_of(&captured);
    assert_eq!(times(&captured), [1, 1]);
    let anomaly = json!({
        "type": "http-bad-content-encoding", "msg": "the body is not what its Content-Encoding says",
    });
    assert_eq!(item["anomalies"], json!([anomaly, anomaly]));
    assert_eq!(item["request"]["postData"]["text"], "asked");
    assert_eq!(item["response"]["content"]["text"], "answered");
    let mut line = Vec::new();
    text_line(&captured, &mut line);
    let line = String::from_utf8(line).unwrap();
    assert!(line.ends_with("  [http-bad-content-encoding]  [http-bad-content-encoding]"), "{line}");
}

#[test]
fn a_bomb_is_shown_up_to_the_cap() {
    let bomb = gzip(&vec![b'a'; 64 << 20]);
    let captured = captured(body(b"", ""), body(&bomb, "gzip"));
    let held = captured.item.memory();
    let mut json = Vec::new();
    ItemView::default().json(&captured, &mut json);
    assert!(json.len() < CAP + 4096, "{}", json.len());
    let item: Value = serde_json::from_slice(&json).unwrap();
    let content = &item["response"]["content"];
    assert_eq!((&content["size"], &content["truncated"]), (&json!(CAP), &json!(true)));
    assert_eq!(content["text"].as_str().unwrap().len(), CAP);
    assert_eq!((captured.item.memory(), item["anomalies"].clone()), (held, json!([])));
}
