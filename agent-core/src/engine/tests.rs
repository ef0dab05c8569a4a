//! Streams' lives, roles, limits and budgets; items out of whole conversations.

mod conversations;
mod half_closed;
mod hooks;
mod lent;
mod limits;
mod trim;
mod usual;

use std::time::Duration;

use super::*;
use crate::item::{Item, Record};
use crate::packet::{Direction, LinkType};
use crate::testing::{ACK, FIN, RST, SYN, Seg, packet, seen_at};

/// An engine, and what came of it.
struct Bench {
    engine: Engine,
    at_ms: u64,
    items: Vec<Item>,
    closed: Vec<StreamSummary>,
    trims: Vec<Trim>,
}

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl Bench {
    fn new() -> Self {
        Self::with(EngineConfig::default())
    }

    fn with(config: EngineConfig) -> Self {
        Self {
            engine: Engine::new(config),
            at_ms: 0,
            items: Vec::new(),
            closed: Vec::new(),
            trims: Vec::new(),
        }
    }

    fn draw(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Item(item) => self.items.push(*item),
                Event::StreamClosed(summary) => self.closed.push(*summary),
                Event::Trim(trim) => self.trims.push(*trim),
                Event::Text(_) => {}
            }
        }
    }

    fn raw(&mut self, packet: &Packet<'_>) -> Handled {
        let handled = self.engine.handle_packet(packet);
        self.draw();
        handled
    }

    fn send(&mut self, seg: &Seg) -> Option<StreamId> {
        self.at_ms += 1;
        let data = seg.ipv4();
        self.raw(&packet(LinkType::RAW, &data, self.at_ms)).stream
    }

    /// Handshake with ISNs 100 and 500.
    fn open(&mut self, port: u16) {
        self.send(&Seg::c2s(100, 0, SYN, b"").port(port));
        self.send(&Seg::s2c(500, 101, SYN | ACK, b"").port(port));
        self.send(&Seg::c2s(101, 501, ACK, b"").port(port));
    }

    /// One request and its response, behind a handshake.
    fn exchange(&mut self, port: u16) {
        let next = 101 + REQUEST.len() as u32;
        self.send(&Seg::c2s(101, 501, ACK, REQUEST).port(port));
        self.send(&Seg::s2c(501, next, ACK, RESPONSE).port(port));
        self.send(&Seg::c2s(next, 501 + RESPONSE.len() as u32, ACK, b"").port(port));
    }

    fn close(&mut self, port: u16) {
        let (c, s) = (101 + REQUEST.len() as u32, 501 + RESPONSE.len() as u32);
        self.send(&Seg::c2s(c, s, FIN | ACK, b"").port(port));
        self.send(&Seg::s2c(s, c + 1, FIN | ACK, b"").port(port));
        self.send(&Seg::c2s(c + 1, s + 1, ACK, b"").port(port));
    }

    fn pass(&mut self, time: Duration) {
        self.at_ms += time.as_millis() as u64;
        let now = packet(LinkType::RAW, &[], self.at_ms).time;
        self.engine.handle_timeout(now);
        self.draw();
    }

    fn finish(&mut self) {
        self.engine.finish();
        self.draw();
    }

    fn stats(&self) -> &EngineStats {
        self.engine.stats()
    }
}

fn target(item: &Item) -> Option<String> {
    let Record::Http(http) = &item.record;
    http.request.as_ref().map(|r| String::from_utf8_lossy(r.target()).into_owned())
}

#[test]
fn a_whole_conversation() {
    let config = EngineConfig { first_stream: 5, stream_step: 4, hash: true, ..EngineConfig::default() };
    let mut b = Bench::with(config);
    b.open(1_000);
    b.exchange(1_000);
    assert_eq!(b.items.len(), 1);
    let item = &b.items[0];
    assert_eq!((item.stream, item.index, item.client.port, item.server.port), (StreamId(5), 0, 1_000, 80));
    assert_eq!((target(item), &item.error), (Some("/a".into()), &None));
    b.close(1_000);
    assert_eq!(b.stats().closed_fin, 1);
    assert!(b.closed.is_empty(), "it lingers");
    assert_eq!(b.send(&Seg::s2c(530, 0, RST, b"").port(1_000)), Some(StreamId(5)));
    b.pass(Duration::from_secs(6));
    let [s] = &b.closed[..] else { panic!() };
    assert_eq!(
        (s.reason.as_str(), s.packets, s.syn, s.synack, s.fin, s.rst, s.items),
        ("fin", 10, 1, 1, 2, 1, 1)
    );
    assert_eq!((s.c2s.bytes, s.s2c.bytes), (REQUEST.len() as u64, RESPONSE.len() as u64));
    let sha: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(REQUEST).into();
    assert_eq!(s.c2s.sha256, Some(sha));
    assert_eq!((b.stats().active_streams, b.engine.poll_timeout()), (0, None));
    b.open(1_001);
    assert_eq!(b.send(&Seg::c2s(101, 501, ACK, b"").port(1_001)), Some(StreamId(9)));
}

#[test]
fn the_handshake_may_come_in_any_order_or_in_part() {
    let syn = Seg::c2s(100, 0, SYN, b"");
    let synack = Seg::s2c(500, 101, SYN | ACK, b"");
    for handshake in [
        vec![&syn, &synack],
        vec![&synack, &syn],
        vec![&synack],
        vec![&syn],
        vec![&syn, &syn, &synack, &synack],
    ] {
        let mut b = Bench::new();
        for seg in &handshake {
            b.send(seg);
        }
        b.exchange(40_000);
        b.finish();
        assert_eq!(b.items.len(), 1, "{handshake:?}");
        assert_eq!(b.closed.len(), 1);
        assert_eq!(b.closed[0].client.port, 40_000);
        assert_eq!((b.closed[0].c2s.gaps_total, b.closed[0].s2c.gaps_total), (0, 0));
        assert_eq!(b.stats().streams, 1);
    }
}

#[test]
fn without_a_handshake_payload_or_ports_tell_the_client() {
    let mut b = Bench::new();
    let to = |seg: Seg| Seg { client_port: 9_000, server_port: 50_000, ..seg };
    b.send(&to(Seg::s2c(501, 101 + REQUEST.len() as u32, ACK, RESPONSE)));
    b.send(&to(Seg::c2s(101 + REQUEST.len() as u32, 501 + RESPONSE.len() as u32, ACK, REQUEST)));
    b.finish();
    assert_eq!(b.closed[0].client.port, 9_000);
    assert_eq!(b.stats().joined, 1);
    let mut b = Bench::new();
    b.send(&Seg { server_port: 6_379, ..Seg::s2c(7, 7, ACK, b"$2\r\nhi\r\n") });
    b.finish();
    assert_eq!(b.closed[0].server.port, 6_379);
}

#[test]
fn data_on_a_syn_is_read() {
    let mut b = Bench::new();
    let next = 101 + REQUEST.len() as u32;
    b.send(&Seg::c2s(100, 0, SYN, REQUEST));
    b.send(&Seg::s2c(500, next, SYN | ACK, b""));
    b.send(&Seg::s2c(501, next, ACK | FIN, RESPONSE));
    b.send(&Seg::c2s(next, 502 + RESPONSE.len() as u32, ACK | FIN, b""));
    assert_eq!(b.items.len(), 1);
    assert_eq!(b.stats().closed_fin, 1);
}

#[test]
fn a_rst_in_the_window_closes_and_another_does_not() {
    let mut b = Bench::new();
    b.open(1);
    b.send(&Seg::s2c(500 + (1 << 28), 101, RST, b"").port(1));
    assert_eq!(b.stats().rst_ignored, 1);
    b.exchange(1);
    assert_eq!(b.items.len(), 1);
    b.send(&Seg::s2c(501 + RESPONSE.len() as u32, 0, RST, b"").port(1));
    assert_eq!(b.stats().closed_reset, 1);
    b.send(&Seg::s2c(501 + RESPONSE.len() as u32, 0, ACK, b"late").port(1));
    b.finish();
    assert_eq!(b.closed[0].reason, Reason::Reset);
    assert_eq!(b.closed[0].s2c.bytes, RESPONSE.len() as u64);
    // A port that is closed: RST answers the SYN.
    let mut b = Bench::new();
    b.send(&Seg::c2s(100, 0, SYN, b""));
    b.send(&Seg::s2c(0, 101, RST | ACK, b""));
    assert_eq!(b.stats().closed_reset, 1);
}

#[test]
fn a_handshake_that_goes_on_after_a_forged_rst_is_a_stream_of_its_own() {
    let mut b = Bench::new();
    b.send(&Seg::c2s(100, 0, SYN, b""));
    b.send(&Seg::s2c(501, 101, RST | ACK, b""));
    b.send(&Seg::s2c(500, 101, SYN | ACK, b""));
    b.exchange(40_000);
    assert_eq!((b.items.len(), b.stats().streams), (1, 2));
}

#[test]
fn a_new_syn_on_old_ports_is_a_new_stream() {
    for (close, reason) in [(true, Reason::Fin), (false, Reason::Reused)] {
        let mut b = Bench::new();
        b.open(1);
        b.exchange(1);
        if close {
            b.close(1);
        }
        b.send(&Seg::c2s(100, 0, SYN, b"").port(1));
        assert_eq!(b.stats().streams, 1, "a SYN that came again");
        b.send(&Seg::c2s(9_000_000, 0, SYN, b"").port(1));
        assert_eq!((b.closed.len(), b.closed[0].reason), (1, reason));
        b.send(&Seg::s2c(70, 9_000_001, SYN | ACK, b"").port(1));
        b.send(&Seg::c2s(9_000_001, 71, ACK, REQUEST).port(1));
        b.send(&Seg::s2c(71, 9_000_001 + REQUEST.len() as u32, ACK, RESPONSE).port(1));
        assert_eq!(b.items.iter().map(|i| i.stream.0).collect::<Vec<_>>(), [1, 2]);
    }
    // The new connection's SYN was lost.
    let mut b = Bench::new();
    b.open(1);
    b.exchange(1);
    b.close(1);
    b.send(&Seg::s2c(7_000_000, 3_000_000_000, SYN | ACK, b"").port(1));
    assert_eq!(b.stats().streams, 2);
}

#[test]
fn a_new_connection_on_old_ports_without_its_handshake_is_a_new_stream() {
    let over = || {
        let mut bench = Bench::new();
        bench.open(40_000);
        bench.exchange(40_000);
        bench.close(40_000);
        assert_eq!(bench.items.len(), 1);
        bench
    };
    let (request, response) = (REQUEST.len() as u32, RESPONSE.len() as u32);
    let mut bench = over();
    // Both SYNs are missing; one number is near the old one, the other far from it.
    let first = bench.send(&Seg::c2s(70_001, 9_000_001, ACK, REQUEST));
    let second = bench.send(&Seg::s2c(9_000_001, 70_001 + request, ACK, RESPONSE));
    assert_eq!(first, second);
    bench.send(&Seg::c2s(70_001 + request, 9_000_001 + response, FIN | ACK, b""));
    bench.send(&Seg::s2c(9_000_001 + response, 70_002 + request, FIN | ACK, b""));
    bench.finish();
    let ends: Vec<_> = bench.closed.iter().map(|c| c.reason).collect();
    assert_eq!((bench.items.len(), ends), (2, vec![Reason::Fin; 2]));
    assert_eq!(bench.items[1].error, None);

    // What is late of the old one, or has but one number that is none of it, opens nothing.
    let mut bench = over();
    bench.send(&Seg::c2s(101, 501, ACK, REQUEST));
    bench.send(&Seg::s2c(501, 101 + request, ACK, RESPONSE));
    bench.send(&Seg::c2s(102 + request, 502 + response, ACK, b""));
    bench.send(&Seg::c2s(70_001, 501 + response, ACK, REQUEST));
    bench.send(&Seg::c2s(101, 9_000_001, ACK, REQUEST));
    bench.send(&Seg::c2s(70_001, 9_000_001, RST | ACK, b""));
    assert_eq!((bench.items.len(), bench.engine.stats().streams), (1, 1));
}

#[test]
fn half_open_streams_go_on_one_way() {
    let mut b = Bench::new();
    b.open(1);
    let next = 101 + REQUEST.len() as u32;
    b.send(&Seg::c2s(101, 501, ACK | FIN, REQUEST).port(1));
    b.pass(Duration::from_secs(100));
    b.send(&Seg::s2c(501, next + 1, ACK | FIN, RESPONSE).port(1));
    assert_eq!((b.items.len(), b.stats().closed_fin), (1, 1));
    assert_eq!(b.items[0].error, None);
}

#[test]
fn tags_keep_streams_apart_and_both_hook_points_are_one() {
    let mut b = Bench::new();
    for vlan in [1u8, 2] {
        for seg in [Seg::c2s(100, 0, SYN, b""), Seg::s2c(500, 101, SYN | ACK, b"")] {
            let data = crate::testing::ethernet(0x8100, &[&[0, vlan, 8, 0][..], &seg.ipv4()].concat());
            b.raw(&packet(LinkType::ETHERNET, &data, 1));
        }
    }
    assert_eq!(b.stats().streams, 2);

    let mut b = Bench::new();
    let next = 101 + REQUEST.len() as u32;
    let segs = [
        Seg::c2s(100, 0, SYN, b""),
        Seg::s2c(500, 101, SYN | ACK, b""),
        Seg::c2s(101, 501, ACK, REQUEST),
        Seg::s2c(501, next, ACK | FIN, RESPONSE),
        Seg::c2s(next, 502 + RESPONSE.len() as u32, ACK | FIN, b""),
    ];
    for seg in &segs {
        let data = seg.ipv4();
        let (out, into) = if seg.from_client { (11, 22) } else { (22, 11) };
        assert!(!b.raw(&seen_at(packet(LinkType::RAW, &data, 1), Direction::Egress, out)).copy);
        let again = b.raw(&seen_at(packet(LinkType::RAW, &data, 1), Direction::Ingress, into));
        assert!(again.copy && again.stream == Some(StreamId(1)), "{seg:?}");
    }
    b.finish();
    let s = &b.closed[0];
    assert_eq!((s.packets, s.client.cgroup, s.server.cgroup, s.c2s.retransmitted), (5, 11, 22, 0));
    assert_eq!((b.items.len(), b.stats().copies), (1, 5));
    assert_eq!((b.items[0].client.cgroup, b.items[0].server.cgroup), (11, 22));
}

#[test]
fn fragments_belong_to_their_stream() {
    let mut b = Bench::new();
    b.open(40_000);
    let whole = Seg::c2s(101, 501, ACK, REQUEST).ipv4();
    let (head, payload) = whole.split_at(20);
    let piece = |from: usize, to: usize, more: u8| {
        let mut data = [head, &payload[from..to]].concat();
        data[3] = data.len() as u8;
        (data[6], data[7]) = (more << 5, (from / 8) as u8);
        data
    };
    let first = piece(0, 24, 1);
    let handled = b.raw(&packet(LinkType::RAW, &first, 5));
    assert_eq!(handled, Handled { stream: Some(StreamId(1)), fragment: true, copy: false });
    let middle = piece(24, 32, 1);
    assert_eq!(b.raw(&packet(LinkType::RAW, &middle, 5)).stream, Some(StreamId(1)));
    let last = piece(32, payload.len(), 0);
    assert_eq!(b.raw(&packet(LinkType::RAW, &last, 5)).stream, Some(StreamId(1)));
    b.send(&Seg::s2c(501, 101 + REQUEST.len() as u32, ACK, RESPONSE));
    assert_eq!((b.items.len(), b.stats().fragments, b.stats().defragmented), (1, 3, 1));
    // Pieces that never become whole are dropped in time.
    b.raw(&packet(LinkType::RAW, &first, 6));
    b.pass(Duration::from_secs(31));
    assert_eq!(b.stats().fragments_timed_out, 1);
}

#[test]
fn what_is_no_tcp_is_counted() {
    let mut b = Bench::new();
    let udp = crate::testing::ipv4(17, [1; 4], [2; 4], &crate::testing::udp(53, b"x"));
    for (link, data) in
        [(LinkType::RAW, &udp[..]), (LinkType(999), b"?"), (LinkType::RAW, b"\x45"), (LinkType::RAW, b"")]
    {
        assert_eq!(b.raw(&packet(link, data, 0)), Handled::default());
    }
    let mut cut = packet(LinkType::RAW, &udp[..10], 0);
    cut.original_len = 1_000;
    b.raw(&cut);
    let mut land = Seg::c2s(0, 0, SYN, b"");
    (land.client_port, land.server_port) = (80, 80);
    let mut same = land.ipv4();
    same[19] = 1;
    b.raw(&packet(LinkType::RAW, &same, 0));
    let s = b.stats();
    assert_eq!((s.non_tcp, s.unknown_link, s.malformed_ip, s.header_cut, s.malformed_tcp), (1, 1, 2, 1, 1));
    assert_eq!((s.packets, s.truncated, s.streams), (6, 1, 0));
}

#[test]
fn a_message_is_recognised_after_bytes_that_are_none() {
    let mut b = Bench::new();
    b.open(1);
    b.send(&Seg::c2s(101, 501, ACK, b"\x00\x01\x02 no message").port(1));
    let at = 101 + 14;
    b.send(&Seg::c2s(at, 501, ACK, REQUEST).port(1));
    b.send(&Seg::s2c(501, at + REQUEST.len() as u32, ACK, RESPONSE).port(1));
    b.finish();
    assert_eq!(b.items.iter().map(target).collect::<Vec<_>>(), [Some("/a".into())]);
    assert_eq!(b.stats().detected_http1, 1);
    // A server that sends requests on a connection it accepted is not taken for a client.
    let mut b = Bench::new();
    b.open(1);
    b.send(&Seg::s2c(501, 101, ACK, REQUEST).port(1));
    b.finish();
    assert_eq!((b.items.len(), b.stats().detected_http1), (0, 0));
}

#[test]
fn a_differing_overlap_is_told_on_the_item() {
    let mut b = Bench::new();
    b.open(1);
    let (head, tail) = REQUEST.split_at(10);
    b.send(&Seg::c2s(111, 501, ACK, tail).port(1));
    let mut other = tail.to_vec();
    other[0] = b'?';
    b.send(&Seg::c2s(111, 501, ACK, &other).port(1));
    b.send(&Seg::c2s(101, 501, ACK, head).port(1));
    b.send(&Seg::s2c(501, 101 + REQUEST.len() as u32, ACK, RESPONSE).port(1));
    let kinds: Vec<_> = b.items[0].anomalies().map(|a| a.kind).collect();
    assert_eq!(kinds, [crate::AnomalyKind::TcpOverlapDiffers]);
    assert_eq!(target(&b.items[0]), Some("/a".into()));
    assert_eq!(b.stats().overlaps, 1);
}
