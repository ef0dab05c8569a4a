//! Items as they come: server-sent events and WebSockets, with filters, from before, and after coming back.

use std::collections::BTreeSet;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::rig::{Rig, TOKEN, again, items, open, read_until};

fn head(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n")
}

/// The items of a stream of events, by their data; chunks of HTTP between the lines do not matter.
fn shown(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with("{\"id\":"));
    // The last one may not have come whole.
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn count(text: &str, words: &str) -> usize {
    text.matches(words).count()
}

#[test]
fn events_come_from_before_and_from_now_on_each_once() {
    let rig = Rig::new(Some(TOKEN));
    let all = items();
    let failed = |items: &[Value]| items.iter().all(|item| item["response"]["status"].as_u64() >= Some(500));
    rig.feed.deliver(&all[..20]);
    let mut followers: Vec<_> = ["?recent=1000", "?recent=5", "", "?recent=1000&filter=status_code%3E%3D500"]
        .map(|query| (open(rig.api, &head(&format!("/api/items/stream{query}"))), String::new()))
        .into();
    for (stream, text) in &mut followers {
        read_until(stream, text, |text| text.contains(": following"));
        assert!(text.contains("text/event-stream"), "{text}");
    }
    rig.wait_for("remora_api_clients{kind=\"sse\"}", 4.0);
    rig.feed.deliver(&all[20..]);
    for ((stream, text), expected) in followers.iter_mut().zip([40, 25, 20]) {
        read_until(stream, text, |text| count(text, "\n\n") > expected && shown(text).len() == expected);
        let ids: BTreeSet<String> = shown(text).iter().map(|item| item["id"].to_string()).collect();
        assert_eq!((ids.len(), count(text, "event: item")), (expected, expected));
    }
    let (stream, text) = &mut followers[3];
    let wanted = rig.get("/api/items?limit=1000&filter=status_code%3E%3D500").json()["items"]
        .as_array()
        .unwrap()
        .len();
    read_until(stream, text, |text| shown(text).len() == wanted);
    assert!(failed(&shown(text)));
    // Each was made JSON once, and told to all who wanted it.
    assert_eq!(rig.metric("remora_api_items_dropped_total"), 0.0);
    drop(followers);
    rig.wait_for("remora_api_clients{kind=\"sse\"}", 0.0);
}

#[test]
fn who_comes_back_gets_what_was_missed_or_is_told_how_much_is_gone() {
    let config = agent::api::FeedConfig { recent_items: 10, ..agent::api::FeedConfig::default() };
    let rig = Rig::with(Some(TOKEN), config, agent::api::Services::default());
    let all = items();
    let mut stream = open(rig.api, &head("/api/items/stream"));
    let mut text = String::new();
    read_until(&mut stream, &mut text, |text| text.contains(": following"));
    rig.feed.deliver(&all[..1]);
    read_until(&mut stream, &mut text, |text| shown(text).len() == 1);
    let id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(stream);
    rig.wait_for("remora_api_clients{kind=\"sse\"}", 0.0);
    rig.feed.deliver(&all[1..6]);
    let back = |id: &str| open(rig.api, &format!("{}last-event-id: {id}\r\n", head("/api/items/stream")));
    let (mut stream, mut text) = (back(&id), String::new());
    read_until(&mut stream, &mut text, |text| shown(text).len() == 5);
    assert!(!text.contains("event: dropped"), "{text}");

    rig.feed.deliver(&all[6..26]);
    let (mut stream, mut text) = (back(&id), String::new());
    read_until(&mut stream, &mut text, |text| shown(text).len() == 10);
    let (gone, first) = (text.find("data: {\"dropped\":15}").unwrap(), text.find("event: item").unwrap());
    assert!(gone < first, "{text}");

    // Of another run.
    let (mut stream, mut text) = (back("00000000-1"), String::new());
    rig.wait_for("remora_api_clients{kind=\"sse\"}", 3.0);
    rig.feed.deliver(&[again(&all[0], 999)]);
    read_until(&mut stream, &mut text, |text| !shown(text).is_empty());
    assert_eq!((shown(&text).len(), count(&text, "dropped")), (1, 0));
}

#[test]
fn a_server_that_ends_says_so() {
    let mut rig = Rig::new(Some(TOKEN));
    let mut stream = open(rig.api, &head("/api/items/stream"));
    let mut text = String::new();
    read_until(&mut stream, &mut text, |text| text.contains(": following"));
    let idle = open(rig.metrics, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n");
    rig.server = None;
    // The last chunk of HTTP: it was not cut off.
    read_until(&mut stream, &mut text, |text| text.ends_with("0\r\n\r\n"));
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_brings_items_that_match() {
    let rig = Rig::new(Some(TOKEN));
    let all = items();
    rig.feed.deliver(&all[..20]);
    let request = |path: &str, token: &str| {
        let mut request = format!("ws://{}{path}", rig.api).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    };
    let refused = |path: &'static str, token: &'static str| {
        let request = request(path, token);
        async move {
            match tokio_tungstenite::connect_async(request).await {
                Err(Error::Http(response)) => response.status().as_u16(),
                other => panic!("{path}: {other:?}"),
            }
        }
    };
    assert_eq!(refused("/api/items/ws", "wrong").await, 401);
    assert_eq!(refused("/api/items/ws?filter=%3D", TOKEN).await, 400);
    assert_eq!(refused("/api/items/ws?filtre=x", TOKEN).await, 400);
    assert_eq!(refused("/api/items/nothing", TOKEN).await, 400);

    let follow = request("/api/items/ws?recent=1000&filter=status_code%3E%3D500", TOKEN);
    let (mut socket, _) = tokio_tungstenite::connect_async(follow).await.unwrap();
    rig.feed.deliver(&all[20..]);
    let list = tokio::task::block_in_place(|| {
        rig.get("/api/items?limit=1000&filter=status_code%3E%3D500").json()["items"].clone()
    });
    let wanted = list.as_array().unwrap().len();
    let mut found = Vec::new();
    while found.len() < wanted {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            found.push(serde_json::from_str::<Value>(&text).unwrap());
        }
    }
    found.reverse();
    assert_eq!(Value::from(found), list);
    socket.send(Message::Ping("x".into())).await.unwrap();
    loop {
        if let Message::Pong(with) = socket.next().await.unwrap().unwrap() {
            assert_eq!(&with[..], b"x");
            break;
        }
    }
    // More than a client has to say.
    socket.send(Message::text("x".repeat(10_000))).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    tokio::task::block_in_place(|| rig.wait_for("remora_api_clients{kind=\"websocket\"}", 0.0));
    // A request that is none of a WebSocket.
    let plain = tokio::task::block_in_place(|| rig.get("/api/items/ws"));
    assert!((400..500).contains(&plain.status), "{plain:?}");
    tokio::task::block_in_place(|| drop(rig));
}
