//! Whole HTTP conversations whose packets are split, moved, doubled, fragmented and dropped.
//!
//! Every exchange has a number, which is in its request's target, in a header of its response and in every byte of both
//! bodies. Whatever happens to the packets, no item has the numbers of two exchanges, and what an item says without an
//! error is right. As long as no packet is dropped or moved far, all exchanges are found, in order.

mod script;
mod traffic;

use std::collections::BTreeSet;
use std::time::Duration;

use agent_core::item::{HttpExchange, Item, Message};
use agent_core::{Engine, EngineConfig, Event, Limits, Origin, Packet, Record, Timestamp};
use arbitrary::Unstructured;

use crate::packets::check;
use script::{Exchange, Script};
use traffic::Frame;

/// Flags, conversations, then what happens to each packet.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let flags: u8 = u.arbitrary().unwrap_or(0);
    let wild = flags & 1 != 0;
    let tight = flags & 2 != 0;
    let count = 1 + (flags >> 2 & 1);
    let mut scripts = Vec::new();
    for connection in 0..count {
        scripts.push(Script::read(&mut u, connection));
    }
    let frames = traffic::frames(&mut u, &scripts, flags, wild);
    let items = play(&frames, tight);
    judge(&scripts, &items);
    if !wild && !tight {
        all_found(&scripts, &items);
    }
}

fn limits(tight: bool) -> Limits {
    if !tight {
        return Limits::default();
    }
    Limits {
        streams: 1,
        reassembly_per_direction: 2_000,
        reassembly_total: 3_000,
        holes: 4,
        dissect_total: 12_000,
        pipelined: 4,
        body: 200,
        ..Limits::default()
    }
}

fn play(frames: &[Frame], tight: bool) -> Vec<Item> {
    let limits = limits(tight);
    let mut engine = Engine::new(EngineConfig { limits: limits.clone(), ..EngineConfig::default() });
    let mut items = Vec::new();
    let mut now = Timestamp::new(1_000, 0);
    let mut draw = |engine: &mut Engine| {
        while let Some(event) = engine.poll_event() {
            if let Event::Item(item) = event {
                items.push(*item);
            }
        }
    };
    for frame in frames {
        now = now.after(Duration::from_millis(frame.after));
        let packet = Packet {
            time: now,
            link: frame.link,
            data: &frame.data,
            original_len: frame.data.len() as u32,
            origin: Origin::default(),
        };
        engine.handle_packet(&packet);
        draw(&mut engine);
        check(&engine, &limits);
    }
    engine.finish();
    draw(&mut engine);
    items
}

/// Nothing is wrong, whatever was lost.
fn judge(scripts: &[Script], items: &[Item]) {
    let (mut requests, mut responses) = (BTreeSet::new(), BTreeSet::new());
    for item in items {
        let Record::Http(http) = &item.record else { panic!("no HTTP: {item:?}") };
        let asked = http.request.as_ref().and_then(|r| header(&r.message, item));
        let answered = http.response.as_ref().and_then(|r| header(&r.message, item));
        if let (Some(request), Some(number)) = (&http.request, asked) {
            assert!(*request.target() == *format!("/{number}").as_bytes(), "{item:#?}");
        }
        if let (Some(asked), Some(answered)) = (asked, answered) {
            assert_eq!(asked, answered, "the response of another request: {item:#?}");
        }
        for interim in &http.interim {
            let Some(number) = header(&interim.message, item) else { continue };
            assert!(asked.is_none_or(|n| n == number), "a 1xx of another request: {item:#?}");
            assert!(answered.is_none_or(|n| n == number), "a 1xx of another response: {item:#?}");
        }
        // Copies that come long after the end are another stream.
        let once = |seen: &mut BTreeSet<_>, n| seen.insert((item.stream, n));
        assert!(asked.is_none_or(|n| once(&mut requests, n)), "a request twice: {item:#?}");
        // A 1xx that stands alone is shown in the place of the response, which may stand alone as well.
        let last = answered.filter(|_| http.response.as_ref().is_some_and(|r| r.status >= 200));
        assert!(last.is_none_or(|n| once(&mut responses, n)), "a response twice: {item:#?}");
        let Some(number) = asked.or(answered) else { continue };
        let exchange = scripts.iter().find_map(|s| s.exchange(number));
        let Some(exchange) = exchange else { panic!("{number} was never said: {item:#?}") };
        let ports = (item.client.port, item.server.port);
        assert_eq!(ports, (40_000 + u16::from(exchange.connection()), 80), "{item:#?}");
        whole(exchange, http, item);
    }
}

/// What an item claims to have seen whole is what was said.
fn whole(exchange: &Exchange, http: &HttpExchange, item: &Item) {
    if item.error.is_none() {
        assert!(http.request.is_some() && http.response.is_some(), "half an item, and no error: {item:#?}");
    }
    let request = http.request.as_ref().map(|r| (&r.message, exchange.request_body()));
    let response = http.response.as_ref().map(|r| (&r.message, exchange.response_body()));
    // Whether a response has a body is a guess where its request, perhaps a HEAD, is not known.
    let guessed = |m: &Message| http.request.is_none() && (exchange.is_head() || m.body.size == 0);
    let response = response.filter(|(message, _)| !guessed(message));
    for (message, said) in request.into_iter().chain(response) {
        let (body, content) = (&message.body, message.body.content());
        assert!(said.starts_with(&content.bytes), "another body: {item:#?}");
        if message.complete && item.error.is_none() {
            assert_eq!(body.size, said.len() as u64, "{item:#?}");
        }
        if message.complete && !content.truncated {
            assert!(*content.bytes == *said, "not the whole body: {item:#?}");
        }
    }
}

fn all_found(scripts: &[Script], items: &[Item]) {
    for script in scripts {
        let found = items.iter().filter(|i| i.client.port == 40_000 + u16::from(script.connection));
        let found: Vec<Option<u64>> = found
            .map(|item| {
                assert!(item.error.is_none() && item.gaps == 0, "nothing was lost: {item:#?}");
                assert!(item.anomalies().next().is_none(), "nothing was odd: {item:#?}");
                let Record::Http(http) = &item.record else { panic!("no HTTP: {item:?}") };
                let request = http.request.as_ref().map(|r| r.target()).unwrap_or_default();
                number(request.strip_prefix(b"/").unwrap_or_default())
            })
            .collect();
        let said: Vec<_> = script.exchanges.iter().map(|e| Some(e.number)).collect();
        assert_eq!(found, said, "not all, or not in order");
    }
}

/// The number in a message's header section; none only where that was cut, which the item has to say.
fn header(message: &Message, item: &Item) -> Option<u64> {
    let Some(digits) = message.head.get("x-id") else {
        assert!(item.error.is_some() && !message.complete, "half a head, and no error: {item:#?}");
        return None;
    };
    number(digits)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
