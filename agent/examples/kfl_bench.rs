//! What filters cost, in ns an item; in JSON: `cargo run --release -p agent --no-default-features --example kfl_bench`.
#![expect(clippy::print_stdout, reason = "that is its output")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use agent::captured::{Captured, Node, Source};
use agent::kfl::Filter;
use agent::view::ItemView;
use agent_core::item::{Endpoint, HeaderBlock, Message, Request, Response, StreamId};
use agent_core::{HttpExchange, Item, Record, Timestamp};

const ITEMS: u64 = 1024;
const ROUNDS: usize = 500;

const FILTERS: [&str; 7] = [
    "http && response.status >= 500",
    "http && status_code >= 500 && elapsed_time > 5 * 1000000",
    "http && method == 'POST' && path.contains('/orders')",
    "request.headers['x-request-id'] == 'none' || 'via' in response.headers",
    "url.matches('^/api/v[0-9]+/none') && dst.port in [80, 443]",
    "status_code / 100 == 5",
    "request.headersList.exists(h, h.name == 'Via')",
];

fn main() -> anyhow::Result<()> {
    let items: Vec<Captured> = (0..ITEMS).map(item).collect();
    let view = ItemView::default();
    for text in FILTERS {
        let filter = Filter::compile(text)?;
        let rounds = if filter.is_interpreted() { ROUNDS / 50 } else { ROUNDS };
        let began = Instant::now();
        let mut matched = 0u64;
        for item in items.iter().cycle().take(items.len() * rounds) {
            matched += u64::from(filter.matches(item, &view));
        }
        let ns = began.elapsed().as_nanos() as f64 / (items.len() * rounds) as f64;
        println!(
            "{}",
            serde_json::json!({ "filter": text, "ns": (ns * 10.0).round() / 10.0, "matched": matched,
                "interpreted": filter.is_interpreted() })
        );
    }
    Ok(())
}

fn item(index: u64) -> Captured {
    let id = format!("{index:032x}");
    let fields =
        [("Host", "shop.test"), ("User-Agent", "bench"), ("Accept", "*/*"), ("X-Request-Id", id.as_str())];
    let ([method, target], request) = HeaderBlock::with_words([b"GET", b"/api/v1/items?page=2"], &fields);
    let fields = [("Content-Type", "application/json"), ("Content-Length", "0")];
    let ([reason], response) = HeaderBlock::with_words([b"OK"], &fields);
    let exchange = HttpExchange {
        request: Some(Request {
            method,
            target,
            message: Message { head: request, head_size: 200, ..Message::default() },
        }),
        response: Some(Response {
            status: 200,
            reason,
            message: Message { head: response, head_size: 90, ..Message::default() },
        }),
        interim: Vec::new(),
    };
    let end = |last, port| Endpoint { addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port, cgroup: 0 };
    let item = Item {
        started: Timestamp(1_700_000_000_000_000_000),
        finished: Timestamp(1_700_000_000_010_000_000),
        ..Item::new(StreamId(index), index, end(1, 40_000), end(2, 80), Record::Http(Box::new(exchange)))
    };
    let node = Arc::new(Node { name: "bench".to_owned(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    Captured::nameless(item, node, Source::Pcap)
}
