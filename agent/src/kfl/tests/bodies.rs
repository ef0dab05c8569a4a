//! Coded bodies: a filter decodes those that it names, once, and no other.

use agent_core::dissect::content::Codings;
use agent_core::item::Coded;

use super::*;

/// Says of the bodies of request and response that they are gzip: they hardly ever are.
pub(super) fn code(item: &mut Captured, which: [bool; 2]) {
    let Record::Http(exchange) = &mut item.item.record else { panic!() };
    let request = exchange.request.as_mut().map(|request| &mut request.message.body);
    let response = exchange.response.as_mut().map(|response| &mut response.message.body);
    for (body, _) in [request, response].into_iter().zip(which).filter(|(_, coded)| *coded) {
        let mut gzip = Codings::default();
        gzip.add(b"gzip");
        // As the engine does: an empty body is what it is, whatever it is said to be.
        body.into_iter().filter(|body| body.size > 0).for_each(|body| body.coded = Coded::new(gzip, 1000));
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    testkit::gzip(bytes).unwrap()
}

/// A form and an answer to it, both by gzip.
pub(super) fn coded() -> Captured {
    let form = [("Content-Type", &b"application/x-www-form-urlencoded"[..])];
    let json = [("Content-Type", &b"application/json"[..])];
    let answer = [&b"{\"ok\":"[..], &[b' '; 2000]].concat();
    let asked = request("POST", "/pay", &form, &gzip(b"card=1234&sum=7"));
    let mut item = captured(Some(asked), Some(response(200, &json, &gzip(&answer))));
    code(&mut item, [true; 2]);
    item
}

pub(super) fn badly_coded() -> Captured {
    let mut item = failing();
    code(&mut item, [true; 2]);
    item
}

/// How often the bodies of request and response were decoded.
fn decoded(item: &Captured) -> [u32; 2] {
    let Record::Http(exchange) = &item.item.record else { panic!() };
    let request = exchange.request.as_ref().map_or(0, |request| request.message.body.times_decoded());
    [request, exchange.response.as_ref().map_or(0, |response| response.message.body.times_decoded())]
}

#[test]
fn what_a_filter_asks_of_a_body_is_asked_of_its_content() {
    for text in [
        "request.postData.text == 'card=1234&sum=7' && !request.postData.truncated",
        "request.postData.params.exists(p, p.name == 'sum' && p.value == '7')",
        "response.content.text.startsWith('{\"ok\":') && response.content.size == 1000",
        "response.content.truncated && response.content.encoding == ''",
        "response_body_size < 100 && anomalies == []",
    ] {
        assert!(matches(text, &coded()), "{text}");
    }
    for text in [
        "anomalies.map(a, a.type) == ['http-bad-content-encoding', 'http-bad-content-encoding']",
        "response.content.text == 'oh no' && response.content.size == 5 && !response.content.truncated",
    ] {
        assert!(matches(text, &badly_coded()), "{text}");
    }
}

#[test]
fn a_filter_decodes_what_it_names_and_once() {
    let body = "response.content";
    for (text, times) in [
        ("http && status_code == 200 && method == 'POST' && response_body_size > 10".to_owned(), [0, 0]),
        (format!("{body}.mimeType == 'application/json' && request.postData.mimeType != ''"), [0, 0]),
        ("'x-odd' in response.headers || size(response.headersList) == 1".to_owned(), [0, 0]),
        (format!("status_code == 404 && {body}.text.contains('ok')"), [0, 0]),
        (format!("{body}.size > 7"), [0, 1]),
        (format!("{body}.text.contains('ok') && {body}.size == 1000 && {body}.truncated"), [0, 1]),
        (format!("{body}.text.contains('no') || {body}.text.contains('nor') || {body}.size == 3"), [0, 1]),
        (format!("request.postData.text.contains('card') && {body}.text != ''"), [1, 1]),
        (format!("[1, 2, 3].all(n, {body}.size > n && {body}.text != 'x')"), [0, 1]),
        ("anomalies == []".to_owned(), [1, 1]),
    ] {
        let item = coded();
        let matched = Filter::compile(&text).unwrap().matches(&item, &ItemView::default());
        assert_eq!(decoded(&item), times, "{text}: {matched}");
    }
}

#[test]
fn no_name_but_those_of_bodies_decodes() {
    let view = ItemView::default();
    let mut named = 0;
    for name in names::all() {
        let item = coded();
        let _ = value(&Native::new(&item, &view).unwrap(), name);
        let times = match name.path {
            "request" => [1, 0],
            "response" => [0, 1],
            "anomalies" => [1, 1],
            path if path.ends_with(".mimeType") => [0, 0],
            path if path.starts_with("request.postData") => [1, 0],
            path if path.starts_with("response.content") => [0, 1],
            _ => [0, 0],
        };
        assert_eq!(decoded(&item), times, "{}", name.name);
        named += usize::from(times != [0, 0]);
    }
    assert!(named >= 11, "{named}");
}
