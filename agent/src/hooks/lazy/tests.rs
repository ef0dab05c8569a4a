//! Lazy objects against their model: what `JSON.parse` makes of the item's JSON text.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use agent_core::item::{Body, Endpoint, ErrorKind, HeaderBlock, ItemError, Message, StreamId};
use agent_core::item::{Request, Response};
use agent_core::{Engine, EngineConfig, Event, HttpExchange, Item, Record, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use rquickjs::{CatchResultExt as _, Context, Function, Persistent, Runtime};

mod bodies;

use super::*;
use crate::capture::file::FileSource;
use crate::capture::{PacketSource as _, Progress};
use crate::captured::{Known, Name, Node, Source};
use crate::view::Redaction;

/// Walks an item in an order that `seed` says; throws where it differs from the model.
const WALK: &str = include_str!("walk.js");

struct Bench {
    context: Context,
    meter: Rc<Meter>,
    view: Arc<ItemView>,
}

impl Bench {
    fn new(redaction: Redaction) -> Self {
        let context = Context::full(&Runtime::new().unwrap()).unwrap();
        Self { context, meter: Meter::new(1 << 30), view: Arc::new(ItemView::new(redaction)) }
    }

    fn json(&self, item: &Captured) -> String {
        let mut text = Vec::new();
        self.view.json(item, &mut text);
        String::from_utf8(text).unwrap()
    }

    /// Compares with the model, again and again, in other orders.
    fn check(&self, items: &[Arc<Captured>], seeds: &[u32]) {
        self.context.with(|ctx| {
            let lazies = Lazies::new(&ctx, &self.view, &self.meter).unwrap();
            let walk: Function<'_> = ctx.eval(WALK).catch(&ctx).map_err(|error| error.to_string()).unwrap();
            for item in items {
                let text = self.json(item);
                for &seed in seeds {
                    let kept = lazies.keep(item);
                    let data = kept.object(&ctx).unwrap();
                    let walked = walk.call::<_, ()>((data, text.as_str(), seed)).catch(&ctx);
                    walked.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
                }
            }
        });
        // What the script let go is gone, cycles included.
        self.context.runtime().run_gc();
        for item in items {
            assert_eq!(Arc::strong_count(item), 1);
        }
        assert_eq!(self.meter.used(), 0);
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..12), "[ -~]{0,12}".prop_map(String::into_bytes), Just("žluť 🐟".into())]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: [&str; 17] = [
        "Host",
        "host",
        "Cookie",
        "Set-Cookie",
        "set-cookie",
        "Content-Type",
        "X-A",
        "x-a",
        "__proto__",
        "Constructor",
        "constructor",
        "toJSON",
        "17",
        "4",
        "length",
        "Authorization",
        "",
    ];
    prop_oneof![4 => prop::sample::select(&KNOWN[..]).prop_map(|name| name.into()), 1 => bytes()]
}

fn fields() -> impl Strategy<Value = Headers> {
    let mime = prop::sample::select(
        &["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain", "image/png"]
            [..],
    );
    (vec((name(), bytes()), 0..8), prop::option::of(mime)).prop_map(|(mut fields, mime)| {
        fields.extend(mime.map(|mime| (b"content-type".to_vec(), mime.into())));
        fields
    })
}

/// Names and values of headers.
type Headers = Vec<(Vec<u8>, Vec<u8>)>;

fn message() -> impl Strategy<Value = (Message, Headers)> {
    let body = prop_oneof![
        bytes(),
        Just(b"a=1&b=%20&a=2&17=x".to_vec()),
        Just(b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"g\"\r\n\r\nx\r\n--b--".to_vec()),
    ];
    let coding = prop::sample::select(&["", "", "gzip", "deflate, br"][..]);
    let body = (body, coding, any::<bool>());
    (fields(), body, any::<bool>(), prop::option::of(any::<[u8; 32]>()), prop::option::of(fields())).prop_map(
        |(fields, (content, coding, good), truncated, sha256, trailers)| {
            let bytes = if coding == "gzip" && good { bodies::gzip(&content) } else { content };
            let body = Body {
                size: bytes.len() as u64,
                coded: bodies::coded(coding).filter(|_| !bytes.is_empty()),
                bytes: bytes.into(),
                truncated,
                sha256: sha256.map(Box::new),
                ..Body::default()
            };
            let trailers = trailers.map(|fields| Box::new(HeaderBlock::with_words([], &fields).1));
            (Message { minor_version: 1, head_size: 99, body, trailers, ..Message::default() }, fields)
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let target = prop_oneof![
        bytes(),
        Just(b"/a/b%20c?x=1&x=2&17=y&__proto__=z".to_vec()),
        Just(b"http://h/p?q".to_vec())
    ];
    (target, message()).prop_map(|(target, (message, fields))| {
        let ([method, target], head) = HeaderBlock::with_words([b"POST", &target], &fields);
        Request { method, target, message: Message { head, ..message } }
    })
}

fn response() -> impl Strategy<Value = Response> {
    (100_u16..600, bytes(), message()).prop_map(|(status, reason, (message, fields))| {
        let ([reason], head) = HeaderBlock::with_words([&reason], &fields);
        Response { status, reason, message: Message { head, ..message } }
    })
}

fn item() -> impl Strategy<Value = Arc<Captured>> {
    let exchange = (prop::option::of(request()), prop::option::of(response()), vec(response(), 0..2))
        .prop_map(|(request, response, interim)| HttpExchange { request, response, interim });
    (exchange, any::<u32>(), 0..4_000_000_000_u64, any::<bool>()).prop_map(
        |(exchange, index, elapsed, odd)| {
            let end = |port| Endpoint {
                addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
                port,
                cgroup: u64::from(odd),
            };
            let started = Timestamp(1_700_000_000_123_456_789);
            let error = ItemError { kind: ErrorKind::Gap, msg: "bytes are \"missing\"\x08\x0c".into() };
            let record = Record::Http(Box::new(exchange));
            Arc::new(Captured {
                outgoing: odd,
                item: Box::new(Item {
                    tls: odd,
                    started,
                    finished: Timestamp(started.0 + elapsed),
                    error: odd.then_some(error),
                    gaps: 3,
                    truncated: odd,
                    ..Item::new(StreamId(index.into()), index.into(), end(1), end(2), record)
                }),
                src: Name::default(),
                dst: Name::from(Known::pod("shop", "prod")),
                node: Arc::new(Node { name: "node".to_owned(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) }),
                worker: 3,
                source: Source::Pcap,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn generated_items_are_as_their_json(item in item(), seed in 1_u32..u32::MAX, redact in any::<bool>()) {
        let redaction = if redact { Redaction::default() } else { Redaction::off() };
        Bench::new(redaction).check(&[item], &[seed, seed / 2, seed / 3]);
    }
}

/// The items of a recording, as a worker would hand them on.
fn recorded(file: &Path) -> Vec<Arc<Captured>> {
    let mut source = FileSource::open(file).unwrap();
    let mut engine = Engine::new(EngineConfig { hash: true, ..EngineConfig::default() });
    let node = Arc::new(Node { name: "node".to_owned(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    while source
        .poll(512, Duration::ZERO, &mut |packet| {
            let _ = engine.handle_packet(packet);
        })
        .unwrap()
        != Progress::End
    {}
    engine.finish();
    let mut items = Vec::new();
    while let Some(event) = engine.poll_event() {
        if let Event::Item(item) = event {
            items.push(Arc::new(Captured::nameless(*item, Arc::clone(&node), Source::Pcap)));
        }
    }
    items
}

#[test]
fn recorded_items_are_as_their_json_to_the_byte() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut seen = 0;
    for folder in std::fs::read_dir(fixtures).unwrap() {
        let file = folder.unwrap().path().join("input.pcap");
        if !file.exists() {
            continue;
        }
        let mut items = recorded(&file);
        items.truncate(40);
        seen += items.len();
        let bench = Bench::new(Redaction::default());
        bench.check(&items, &[1, 0xdead_beef]);
        bench.context.with(|ctx| {
            let lazies = Lazies::new(&ctx, &bench.view, &bench.meter).unwrap();
            for item in &items {
                let data = lazies.keep(item).object(&ctx).unwrap();
                let text = ctx.json_stringify(data).unwrap().unwrap().to_string().unwrap();
                assert_eq!(text, bench.json(item), "{}", file.display());
            }
        });
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn a_name_is_learnt_once_and_strangers_never() {
    let item = Bench::new(Redaction::off());
    item.context.with(|ctx| {
        let lazies = Lazies::new(&ctx, &item.view, &item.meter).unwrap();
        let captured = recorded(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/shop/input.pcap"));
        let read: Function<'_> = ctx
            .eval("(function (d) { for (let i = 0; i < 100; i++) { d['x' + i]; d.id; d[Symbol('id')]; delete {...d}.id } })")
            .unwrap();
        for item in &captured[..3] {
            read.call::<_, ()>((lazies.keep(item).object(&ctx).unwrap(),)).unwrap();
        }
        let names: Vec<_> = lazies.names.borrow().iter().map(|name| name.1).collect();
        assert_eq!(names.iter().filter(|name| **name == "id").count(), 1);
        assert_eq!(names.len(), 23, "what an item has, and no more: {names:?}");
    });
}

#[test]
fn reading_an_accessor_without_getter_needs_no_memory() {
    let bench = Bench::new(Redaction::off());
    let items = recorded(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/shop/input.pcap"));
    let (read, data) = bench.context.with(|ctx| {
        let lazies = Lazies::new(&ctx, &bench.view, &bench.meter).unwrap();
        let data = lazies.keep(&items[0]).object(&ctx).unwrap();
        let define: Function<'_> =
            ctx.eval("(d) => { Object.defineProperty(d, 'x', { set(value) {} }); }").unwrap();
        define.call::<_, ()>((data.clone(),)).unwrap();
        let read: Function<'_> = ctx.eval("(d) => d.x === undefined").unwrap();
        assert!(read.call::<_, bool>((data.clone(),)).unwrap());
        (Persistent::save(&ctx, read), Persistent::save(&ctx, data))
    });
    bench.context.runtime().set_memory_limit(1);
    let there = bench.context.with(|ctx| {
        let (read, data) = (read.restore(&ctx).unwrap(), data.restore(&ctx).unwrap());
        read.call::<_, bool>((data,)).map_err(|error| error.to_string())
    });
    bench.context.runtime().set_memory_limit(usize::MAX);
    assert_eq!(there, Ok(true));
}
