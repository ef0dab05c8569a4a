//! Coded bodies: when a script's look at an item decodes them.

use agent_core::dissect::content::Codings;
use agent_core::item::Coded;

use super::*;

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    testkit::gzip(bytes).unwrap()
}

pub(super) fn coded(value: &str) -> Option<Box<Coded>> {
    let mut codings = Codings::default();
    codings.add(value.as_bytes());
    Coded::new(codings, 1 << 16)
}

/// A form that is gzip, and an answer that only says so.
fn item() -> Arc<Captured> {
    let message = |bytes: Vec<u8>, head| {
        let body =
            Body { size: bytes.len() as u64, bytes: bytes.into(), coded: coded("gzip"), ..Body::default() };
        Message { minor_version: 1, head, body, ..Message::default() }
    };
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let ([method, target], head) = HeaderBlock::with_words([&b"POST"[..], b"/pay"], &form);
    let request = Request { method, target, message: message(gzip(b"card=1234&sum=7"), head) };
    let ([reason], head) = HeaderBlock::with_words([b"OK"], &[("Content-Type", "text/plain")]);
    let response = Response { status: 200, reason, message: message(b"thanks".to_vec(), head) };
    let exchange = HttpExchange { request: Some(request), response: Some(response), interim: Vec::new() };
    let end = |port| Endpoint { addr: IpAddr::V4(Ipv4Addr::LOCALHOST), port, cgroup: 0 };
    let item = Item::new(StreamId(1), 0, end(1), end(2), Record::Http(Box::new(exchange)));
    let node = Arc::new(Node { name: "node".to_owned(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    Arc::new(Captured::nameless(item, node, Source::Pcap))
}

fn times(captured: &Captured) -> [u32; 2] {
    let Record::Http(exchange) = &captured.item.record else { panic!() };
    let request = exchange.request.as_ref().unwrap().message.body.times_decoded();
    [request, exchange.response.as_ref().unwrap().message.body.times_decoded()]
}

#[test]
fn looking_at_an_item_decodes_what_is_looked_at_and_once() {
    let bench = Bench::new(Redaction::default());
    bench.context.with(|ctx| {
        let lazies = Lazies::new(&ctx, &bench.view, &bench.meter).unwrap();
        for (script, said, decoded) in [
            ("d.request.url + d.response.status + ('anomalies' in d) + d.nothing", None, [0, 0]),
            ("c.mimeType + p.mimeType + ('text' in c) + c.nothing + c.url", None, [0, 0]),
            ("d.response.bodySize + ' ' + d.requestSize + d.capture.gaps + d.error", None, [0, 0]),
            ("c.size", Some("6"), [0, 1]),
            ("[c.size, c.text, c.truncated, c.encoding, c.size].join()", Some("6,thanks,false,,6"), [0, 1]),
            ("[c.mimeType, c.text, c.size].join()", Some("text/plain,thanks,6"), [0, 1]),
            ("p.params.map((f) => f.name + f.value).join()", Some("card1234,sum7"), [1, 0]),
            ("[p.text, p.truncated, p.params === p.params, p.params[1].name].join()", None, [1, 0]),
            ("delete c.text; c.more = c.size; Object.keys(c).join()", None, [0, 1]),
            ("p.text = 'x'; p.text + p.params.length", Some("x2"), [1, 0]),
            ("d.anomalies[0].type + c.text", Some("http-bad-content-encodingthanks"), [1, 1]),
            ("c.text + p.text; d.anomalies.length", Some("1"), [1, 1]),
            // QuickJS asks for all values of an object before those within them: for the anomalies first.
            ("JSON.stringify(d); JSON.stringify({...c}); d.anomalies.length", Some("1"), [2, 1]),
        ] {
            let item = item();
            let text =
                format!("(d) => {{ const c = d.response.content, p = d.request.postData; return {} }}", {
                    // Of several statements the last is the answer.
                    let (before, last) = script.rsplit_once("; ").unwrap_or(("0", script));
                    format!("eval({:?})", format!("{before}; String({last})"))
                });
            let look: Function<'_> = ctx.eval(text).unwrap();
            let data = lazies.keep(&item).object(&ctx).unwrap();
            let seen = look.call::<_, String>((data,)).catch(&ctx).map_err(|error| error.to_string());
            let seen = seen.unwrap_or_else(|error| panic!("{script}: {error}"));
            assert!(said.is_none_or(|said| said == seen), "{script}: {seen}");
            assert_eq!(times(&item), decoded, "{script}: {seen}");
        }
    });
}

#[test]
fn values_made_at_once_are_let_go_with_their_object() {
    let bench = Bench::new(Redaction::default());
    let items: Vec<_> = (0..3).map(|_| item()).collect();
    bench.check(&items, &[1, 2, 3, 4, 5]);
}
