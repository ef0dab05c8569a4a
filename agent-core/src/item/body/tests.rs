//! What is kept of a coded body, when it is decoded, and what that costs.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::item::{Endpoint, HttpExchange, Item, Message, Record, Request, Response, Span, StreamId};

fn codings(value: &str) -> Codings {
    let mut codings = Codings::default();
    codings.add(value.as_bytes());
    codings
}

fn coded(value: &str, bytes: &[u8], cap: usize) -> Body {
    let coded = Coded::new(codings(value), cap);
    Body { size: bytes.len() as u64, bytes: bytes.into(), coded, ..Body::default() }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::best());
    to.write_all(data).unwrap();
    to.finish().unwrap()
}

fn item(request: Body, response: Body) -> Item {
    let message = |body| Message { body, ..Message::default() };
    let (method, target) = (Span::default(), Span::default());
    let exchange = HttpExchange {
        request: Some(Request { method, target, message: message(request) }),
        response: Some(Response { status: 200, reason: Span::default(), message: message(response) }),
        interim: Vec::new(),
    };
    let end = |port| Endpoint { addr: IpAddr::V4(Ipv4Addr::LOCALHOST), port, cgroup: 0 };
    Item::new(StreamId(1), 0, end(1), end(2), Record::Http(Box::new(exchange)))
}

#[test]
fn a_plain_body_is_its_content_and_no_copy_of_it() {
    for value in ["", "identity", "compress", "gzip, compress"] {
        let body = coded(value, b"hello", 100);
        assert!(!body.is_coded() && !body.is_badly_coded() && body.times_decoded() == 0, "{value}");
        let content = body.content();
        assert!(matches!(content.bytes, Cow::Borrowed(b"hello")), "{value}");
        assert_eq!((content.size, content.truncated, content.decoded), (5, false, false), "{value}");
        assert_eq!(body.memory(), 5);
    }
    assert!(size_of::<Body>() <= 56, "{}", size_of::<Body>());
}

#[test]
fn content_is_decoded_when_it_is_read_and_not_kept() {
    let body = coded("gzip", &gzip(&[7; 5000]), 10_000);
    let held = body.memory();
    assert!(body.times_decoded() == 0 && held < 200);
    for _ in 0..2 {
        let content = body.content();
        assert_eq!((&*content.bytes, content.size), (&[7; 5000][..], 5000));
        assert!(!content.truncated && content.decoded);
    }
    assert!(!body.is_badly_coded());
    assert_eq!((body.times_decoded(), body.memory()), (2, held));
}

#[test]
fn the_start_of_a_coded_body_is_the_start_of_its_content() {
    let noise: Vec<u8> = (0..9_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = gzip(&noise);
    let part = &whole[..whole.len() / 2];
    let body = Body { truncated: true, ..coded("gzip", part, 10_000) };
    let content = body.content();
    assert!(content.truncated && content.decoded && !body.is_badly_coded());
    assert!(content.size > 1000 && content.size == content.bytes.len() as u64);
    assert!(noise.starts_with(&content.bytes));
    // The same bytes as the whole of a body are no gzip.
    assert!(coded("gzip", part, 10_000).is_badly_coded());
}

#[test]
fn the_verdict_is_remembered_whoever_finds_it() {
    let body = coded("gzip", b"no gzip", 100);
    assert!(body.times_decoded() == 0 && body.is_badly_coded());
    let copy = body.clone();
    let content = body.content();
    assert!(matches!(content.bytes, Cow::Borrowed(b"no gzip")), "coded bytes stand for it");
    assert_eq!((content.size, content.truncated, content.decoded), (7, false, false));
    assert!(copy.is_badly_coded() && body.is_badly_coded());
    assert_eq!((body.times_decoded(), copy.times_decoded()), (1, 1));

    let read = coded("br", b"\xff\xff\xff", 100);
    assert_eq!(&*read.content().bytes, b"\xff\xff\xff");
    assert!(read.is_badly_coded() && read.times_decoded() == 1);
}

#[test]
fn anomalies_are_those_noted_and_then_those_of_bodies() {
    let bad = || coded("gzip", b"no gzip", 100);
    let good = || coded("gzip", &gzip(b"x"), 100);
    let noted = Anomaly { kind: AnomalyKind::HttpBareLf, msg: "noted".into() };
    for (request, response, count) in
        [(bad(), bad(), 2), (bad(), good(), 1), (good(), bad(), 1), (good(), Body::default(), 0)]
    {
        let mut item = item(request, response);
        item.noted.push(noted.clone());
        let bodies = |item: &Item| {
            let Record::Http(http) = &item.record;
            let response = http.response.as_ref().unwrap().message.body.times_decoded();
            (http.request.as_ref().unwrap().message.body.times_decoded(), response)
        };
        // Whoever asks only for the first pays for no other.
        assert_eq!(item.anomalies().next(), Some(&noted));
        assert_eq!(bodies(&item), (0, 0));
        let found: Vec<_> = item.anomalies().map(|anomaly| anomaly.kind).collect();
        assert_eq!(found[0], AnomalyKind::HttpBareLf);
        assert_eq!(found[1..], vec![AnomalyKind::HttpBadContentEncoding; count]);
        assert_eq!(item.anomalies().count(), 1 + count);
        assert!(bodies(&item).0 == 1 && bodies(&item).1 <= 1, "each once");
    }
}

#[test]
fn a_bomb_in_a_queue_is_as_large_as_it_came_and_no_larger_than_the_cap_when_read() {
    const CAP: usize = 1 << 16;
    let bomb = gzip(&vec![0; 64 << 20]);
    let empty = item(Body::default(), Body::default()).memory();
    let item = item(coded("gzip", &bomb, CAP), coded("gzip, gzip", &gzip(&bomb), CAP));
    let held = item.memory();
    assert!(held <= empty + 2 * (bomb.len() + size_of::<Coded>()), "{held}");
    let Record::Http(exchange) = &item.record;
    for message in [&exchange.request.as_ref().unwrap().message, &exchange.response.as_ref().unwrap().message]
    {
        let content = message.body.content();
        assert!(content.truncated && content.decoded);
        let Cow::Owned(bytes) = content.bytes else { panic!("not decoded") };
        assert!(bytes.len() <= CAP && bytes.capacity() <= 2 * CAP + (16 << 10), "{}", bytes.capacity());
    }
    assert_eq!(item.anomalies().count(), 0);
    assert_eq!(item.memory(), held, "what was read is not kept");
}
