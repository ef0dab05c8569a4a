//! Lines of JSON against items made the slow way: as a tree of values, one at a time, with nothing remembered.

use std::net::IpAddr;
use std::sync::Arc;

use agent_core::item::{Body, Endpoint, HeaderBlock, HttpExchange, Message, Request, Response, Span};
use agent_core::{Item, Record, StreamId, Timestamp};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

mod bodies;

use super::item::Part;
use super::item::Shown;
use super::kept::Kept;
use super::out::{Fields, Key, Out, readable};
use super::{ItemView, Lines, Page, Redaction};
use crate::captured::{Captured, Known, Name, Node, Source};
use crate::process::{ProcessInfo, Workload};

/// Makes a tree.
struct Tree<'a> {
    shown: Shown<'a>,
    values: Vec<Value>,
    map: Map<String, Value>,
    /// What is hidden once a field of that name was made.
    then: Option<(&'static str, Redaction)>,
}

impl Fields for Tree<'_> {
    type Value = Self;

    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self)) {
        self.entry(key.name.as_bytes(), true, write);
        if let Some((_, redaction)) = self.then.as_ref().filter(|(name, _)| *name == key.name) {
            self.shown.view.redaction().replace(redaction);
        }
    }
}

impl Out for Tree<'_> {
    fn null(&mut self) {
        self.values.push(Value::Null);
    }

    fn boolean(&mut self, value: bool) {
        self.values.push(value.into());
    }

    fn number(&mut self, value: u64) {
        self.values.push(value.into());
    }

    fn milliseconds(&mut self, nanos: u64) {
        let text = format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        self.values.push(serde_json::from_str(text).unwrap());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.values.push(readable(bytes).into());
    }

    fn list(&mut self, elements: impl FnOnce(&mut Self)) {
        let outer = std::mem::take(&mut self.values);
        elements(self);
        let list = std::mem::replace(&mut self.values, outer);
        self.values.push(Value::Array(list));
    }

    fn map(&mut self, entries: impl FnOnce(&mut Self)) {
        let outer = std::mem::take(&mut self.map);
        entries(self);
        let map = std::mem::replace(&mut self.map, outer);
        self.values.push(Value::Object(map));
    }

    fn entry(&mut self, name: &[u8], _plain: bool, write: impl FnOnce(&mut Self)) {
        write(self);
        let value = self.values.pop().unwrap();
        self.map.insert(readable(name).into_owned(), value);
    }

    fn part(&mut self, part: Part) {
        let shown = self.shown;
        self.map(|v| shown.fields(part, v));
    }
}

fn tree(view: &ItemView, captured: &Captured) -> Value {
    tree_then(view, captured, None)
}

fn tree_then(view: &ItemView, captured: &Captured, then: Option<(&'static str, Redaction)>) -> Value {
    let shown = view.show(captured).unwrap();
    let mut tree = Tree { shown, values: Vec::new(), map: Map::new(), then };
    tree.part(Part::Item);
    tree.values.pop().unwrap()
}

/// What an item is made of, by numbers: small ones, so that neighbours share much and differ in little.
type Choice = (u64, [usize; 8], [bool; 4], u64, Vec<(usize, usize)>);

fn choice() -> impl Strategy<Value = Choice> {
    let stream = prop_oneof![Just(1u64), Just(2), Just(513), Just(999_999_999_999), any::<u64>()];
    let fields = prop::collection::vec((0..NAMES.len(), 0..VALUES.len()), 0..6);
    let time = prop_oneof![0..3_000_000_000u64, any::<u64>()];
    let numbers = [0..5usize, 0..5, 0..3, 0..3, 0..3, 0..VALUES.len(), 0..4, 0..3];
    (stream, numbers, any::<[bool; 4]>(), time, fields)
}

/// The same but for one thing.
fn changed((stream, mut numbers, mut flags, time, mut fields): Choice, what: usize, to: usize) -> Choice {
    match what {
        0..8 => numbers[what] = to % [5, 5, 3, 3, 3, VALUES.len(), 4, 3][what],
        8..12 => flags[what - 8] ^= true,
        12 => drop(fields.pop()),
        _ => fields.push((to, to)),
    }
    (stream, numbers, flags, time, fields)
}

const NAMES: [&[u8]; 8] =
    [b"Host", b"Cookie", b"Set-Cookie", b"Content-Type", b"X-Id", b"x-id", b"Authorization", b"\xff\"odd"];
const VALUES: [&[u8]; 8] = [
    b"",
    b"a",
    b"text/plain; charset=utf-8",
    b"a=1; b=%22&a=2+3",
    b"quote \" and \\ and \x01\x1f",
    "žluť 🐟".as_bytes(),
    b"latin \xe9",
    b"a value that is longer than any that is copied in two halves, by some",
];

struct World {
    nodes: [Arc<Node>; 3],
    names: [Name; 5],
}

impl World {
    fn new() -> Self {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let node = |name: &str| Arc::new(Node { name: name.to_owned(), ip });
        let pod = Name {
            known: Some(Arc::new(Known::pod("web-\"1\"", "prod"))),
            workload: Some(Workload { container_id: Some("c0ffee".into()), pod: None }),
            process: None,
        };
        let process = ProcessInfo {
            pid: 7,
            name: Some("curl \\".to_owned()),
            container_id: None,
            cgroup_id: 9,
            cgroup_path: None,
            pod: None,
        };
        let other = Name { process: Some(Arc::new(process)), ..pod.clone() };
        let moved = Name { known: Some(Arc::new(Known::pod("web-2", "prod"))), ..pod.clone() };
        let bare = Name { workload: None, ..pod.clone() };
        Self { nodes: [node("a"), node("a"), node("b")], names: [Name::default(), pod, other, moved, bare] }
    }

    fn captured(&self, index: u64, choice: &Choice) -> Captured {
        let (stream, numbers, [tls, request, response, old], time, fields) = choice;
        let [src, dst, node, ip, port, value, form, worker] = numbers;
        let ips: [IpAddr; 3] =
            [[10, 0, 0, 1].into(), [192, 168, 100, 255].into(), "2001:db8::1".parse().unwrap()];
        let end = |by: usize| Endpoint { addr: ips[(ip + by) % 3], port: [0, 80, 65_535][*port], cgroup: 0 };
        let message = |words: [&[u8]; 2]| {
            let ([one, two], head) = head(words, fields);
            let bytes: Box<[u8]> = VALUES[*value].repeat(1 + *worker * 3).into();
            let body = Body { size: bytes.len() as u64, bytes, ..Body::default() };
            (
                one,
                two,
                Message { head, head_size: 17, minor_version: u8::from(!*old), body, ..Message::default() },
            )
        };
        let exchange = HttpExchange {
            request: (*request || !*response).then(|| {
                // The same bytes are not always the same words.
                let words = [[&b"GET"[..], b"/a/b?q=1"], [b"GE", b"T/a/b?q=1"], [b"GET", b"*"]];
                let words = words.get(*form).copied().unwrap_or([b"GET", VALUES[*value]]);
                let (method, target, message) = message(words);
                Request { method, target, message }
            }),
            response: response.then(|| {
                let (_, reason, message) = message([b"HTTP/1.1", VALUES[*value]]);
                Response { status: [200, 404, 500, 0][*form], reason, message }
            }),
            interim: Vec::new(),
        };
        let record = Record::Http(Box::new(exchange));
        let item = Item {
            tls: *tls,
            started: Timestamp(*time),
            finished: Timestamp(time.saturating_add(index * 1_234_567)),
            ..Item::new(StreamId(*stream), index, end(0), end(1), record)
        };
        Captured {
            item: Box::new(item),
            src: self.names[*src].clone(),
            dst: self.names[*dst].clone(),
            node: Arc::clone(&self.nodes[*node]),
            outgoing: *tls && *request,
            worker: *worker as u16,
            source: Source::Ebpf,
        }
    }
}

fn head(words: [&[u8]; 2], fields: &[(usize, usize)]) -> ([Span; 2], HeaderBlock) {
    let fields: Vec<_> = fields.iter().map(|&(name, value)| (NAMES[name], VALUES[value])).collect();
    HeaderBlock::with_words(words, &fields)
}

proptest! {
    #[test]
    fn lines_are_the_items_whatever_was_before(
        choices in prop::collection::vec(choice(), 1..4),
        order in prop::collection::vec(
            (0usize..4, prop::bool::weighted(0.1), prop::option::of((0usize..14, 0usize..8))),
            1..60,
        ),
    ) {
        let world = World::new();
        let view = Arc::new(ItemView::new(Redaction::default()));
        // What is hidden changes now and then, and is often the very same.
        let (mut hides, redactions) = (0, [Redaction::off(), Redaction::with(&["x-id".to_owned()])]);
        let (mut lines, mut page) = (Lines::new(Arc::clone(&view)), Page::default());
        for (index, (at, turn, change)) in order.into_iter().enumerate() {
            hides ^= usize::from(turn);
            view.redaction().replace(&redactions[hides]);
            let choice = choices[at % choices.len()].clone();
            let choice = change.into_iter().fold(choice, |choice, (what, to)| changed(choice, what, to));
            let captured = world.captured(index as u64, &choice);
            let start = page.text().len();
            lines.write(&captured, &mut page);
            let line = page.text()[start..].strip_suffix(b"\n").unwrap().to_vec();
            let mut alone = b"before".to_vec();
            view.json(&captured, &mut alone);
            prop_assert_eq!(String::from_utf8_lossy(&line), String::from_utf8_lossy(&alone[6..]));
            let parsed: Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(parsed, tree(&view, &captured));
        }
    }
}

#[test]
fn more_streams_than_are_kept_each_have_their_own_text() {
    let world = World::new();
    let view = Arc::new(ItemView::default());
    let (mut lines, mut page) = (Lines::new(Arc::clone(&view)), Page::default());
    for round in 0..3 {
        for stream in 0..3000 {
            page.clear(1 << 16);
            // Two in turn, so that it is kept, in place of the one before.
            for index in 0..2 {
                let fields = vec![(4, (stream as usize + round) % VALUES.len())];
                let choice = (stream, [0, 1, 0, 0, 1, 1, 0, 0], [false, true, true, false], stream, fields);
                lines.write(&world.captured(index, &choice), &mut page);
            }
            for line in page.text().split_inclusive(|&byte| byte == b'\n') {
                let item: Value = serde_json::from_slice(line).unwrap();
                assert_eq!(item["stream"], json!(format!("{stream:012}")));
                let want = readable(VALUES[(stream as usize + round) % VALUES.len()]).into_owned();
                assert_eq!(item["request"]["headers"]["X-Id"], json!(want));
            }
        }
    }
}

#[test]
fn a_stream_is_kept_from_its_second_item_in_turn_on() {
    let world = World::new();
    let view = ItemView::default();
    let captured = |stream: u64| {
        world.captured(0, &(stream, [0, 1, 0, 0, 1, 1, 0, 0], [false, true, true, false], 0, Vec::new()))
    };
    // Both have the same place.
    let (one, other) = (captured(1), captured(513));
    let (one, other) = (view.show(&one).unwrap(), view.show(&other).unwrap());
    let mut kept = Kept::default();
    kept.keep(&one, b"one");
    assert_eq!(kept.text(&one), None);
    kept.keep(&one, b"one");
    kept.keep(&other, b"other");
    assert_eq!((kept.text(&one), kept.text(&other)), (Some(&b"one"[..]), None));
    kept.keep(&other, &[b'x'; 5_000]);
    assert_eq!((kept.text(&one), kept.text(&other)), (Some(&b"one"[..]), None), "too long to be kept");
    kept.keep(&other, b"other");
    assert_eq!((kept.text(&one), kept.text(&other)), (None, Some(&b"other"[..])));
}

/// A cookie is among the headers and has a place of its own: both hide it, or neither.
#[test]
fn a_redaction_that_changes_while_a_message_is_shown_is_of_the_next() {
    let world = World::new();
    let hidden = json!("[REDACTED]");
    for (part, header, has) in [
        ("request", "Cookie", [false, true, false, false]),
        ("response", "Set-Cookie", [false, false, true, false]),
    ] {
        let captured = world.captured(0, &(1, [0, 0, 0, 0, 1, 1, 0, 0], has, 0, vec![(1, 3), (2, 3)]));
        for (before, after, hides) in
            [(Redaction::default(), Redaction::off(), true), (Redaction::off(), Redaction::default(), false)]
        {
            let item = tree_then(&ItemView::new(before), &captured, Some(("headersList", after)));
            assert_eq!(item[part]["headers"][header] == hidden, hides, "{item}");
            let cookies = item[part]["cookies"].as_object().unwrap();
            assert!(
                !cookies.is_empty() && cookies.values().all(|value| (*value == hidden) == hides),
                "{item}"
            );
        }
    }
}
