//! Time-outs, eviction, budgets and memory.

use super::*;
use crate::limits::Limits;

fn config(change: impl FnOnce(&mut Limits)) -> EngineConfig {
    let mut config = EngineConfig::default();
    change(&mut config.limits);
    config
}

#[test]
fn time_outs_by_state() {
    let mut b = Bench::new();
    b.send(&Seg::c2s(100, 0, SYN, b"").port(1));
    b.open(2);
    b.exchange(2);
    assert!(b.engine.poll_timeout().is_some());
    b.pass(Duration::from_secs(31));
    assert_eq!(b.closed.iter().map(|s| s.client.port).collect::<Vec<_>>(), [1]);
    b.pass(Duration::from_secs(500));
    b.send(&Seg::c2s(101 + REQUEST.len() as u32, 501, ACK, b"").port(2));
    b.pass(Duration::from_secs(599));
    assert_eq!(b.closed.len(), 1, "a packet keeps it");
    b.pass(Duration::from_secs(2));
    assert_eq!((b.closed.len(), b.closed[1].reason), (2, Reason::Timeout));
    assert_eq!(b.stats().closed_timeout, 2);
    assert_eq!(b.engine.poll_timeout(), None);
}

#[test]
fn a_hole_wakes_the_engine() {
    let mut b = Bench::new();
    b.open(1);
    let next = 101 + REQUEST.len() as u32;
    b.send(&Seg::c2s(next, 501, ACK, REQUEST).port(1));
    assert_eq!(b.items.len(), 0);
    // The server acknowledged both requests: the first one was lost.
    b.send(&Seg::s2c(501, next + REQUEST.len() as u32, ACK, b"").port(1));
    let due = b.engine.poll_timeout().unwrap();
    assert!(due.since(b.engine.now) <= Duration::from_millis(100));
    b.pass(Duration::from_millis(101));
    assert_eq!((b.stats().gaps, b.stats().gap_bytes), (1, REQUEST.len() as u64));
    assert_eq!(b.stats().held, 0);
    b.finish();
    assert_eq!(b.closed[0].c2s.gaps, [(0, REQUEST.len() as u64)]);
}

#[test]
fn past_the_limit_the_longest_idle_stream_goes() {
    let mut b = Bench::with(config(|l| l.streams = 4));
    for port in 1..=4 {
        b.open(port);
        b.exchange(port);
        b.pass(Duration::from_millis(10));
    }
    b.send(&Seg::c2s(101 + REQUEST.len() as u32, 501 + RESPONSE.len() as u32, ACK, b"").port(1));
    b.pass(Duration::from_millis(10));
    b.open(5);
    assert_eq!((b.closed.len(), b.closed[0].client.port, b.closed[0].reason), (1, 2, Reason::Evicted));
    assert_eq!((b.stats().active_streams, b.stats().closed_evicted), (4, 1));
}

#[test]
fn a_flood_of_syns_costs_no_open_stream() {
    let mut b = Bench::with(config(|l| l.streams = 100));
    for port in 1..=10 {
        b.open(port);
        b.exchange(port);
    }
    for port in 1_000..20_000 {
        b.send(&Seg::c2s(u32::from(port), 0, SYN, b"").port(port));
    }
    assert_eq!(b.stats().active_streams, 100);
    assert!(b.closed.iter().all(|s| s.client.port >= 1_000));
}

#[test]
fn held_bytes_of_all_streams_stay_within_their_budget() {
    let mut b = Bench::with(config(|l| l.reassembly_total = 100_000));
    for port in 1..=50 {
        b.open(port);
        for i in 0..5u32 {
            b.send(&Seg::c2s(102 + 1_100 * i, 501, ACK, &[b'x'; 1_000]).port(port));
            assert!(b.stats().held <= 100_000);
        }
    }
    assert!(b.stats().evicted_holes_total > 10);
    assert!(b.stats().held_peak <= 102_000);
    b.finish();
    assert_eq!((b.stats().held, b.stats().payload), (0, 50 * 5 * 1_000));
}

#[test]
fn readers_memory_stays_within_its_budget() {
    let mut b = Bench::with(config(|l| {
        l.dissect_total = 200_000;
        l.streams = 1_000;
    }));
    let head = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
    for port in 1..=30 {
        b.open(port);
        b.send(&Seg::c2s(101, 501, ACK, head).port(port));
        for i in 0..10u32 {
            b.send(&Seg::c2s(101 + head.len() as u32 + 1_400 * i, 501, ACK, &[b'x'; 1_400]).port(port));
            assert!(b.stats().dissect <= 200_000, "{}", b.stats().dissect);
        }
    }
    assert!(b.stats().evicted_readers > 5);
    assert!(b.stats().dissect_peak > 150_000);
    b.finish();
    assert_eq!(b.stats().dissect, 0);
}

#[test]
fn requests_beyond_the_limit_are_counted() {
    let mut b = Bench::with(config(|l| l.pipelined = 4));
    b.open(1);
    b.send(&Seg::c2s(101, 501, ACK, &REQUEST.repeat(10)).port(1));
    assert_eq!((b.stats().refused_messages, b.items.len()), (6, 6));
    b.finish();
    assert_eq!((b.stats().refused_messages, b.items.len()), (6, 10));
}

/// After a whole exchange: the place in the table, the share of its index, the reader.
#[test]
fn an_idle_stream_costs_little() {
    let mut b = Bench::new();
    let n = 20_000;
    for port in 1..=n {
        b.open(port);
        b.exchange(port);
        b.items.clear();
    }
    assert_eq!(b.stats().active_streams, u64::from(n));
    let (table, readers) = (b.engine.memory(), b.stats().dissect as usize);
    let each = (table + readers) / usize::from(n);
    assert!(table / usize::from(n) <= 384, "table: {}", table / usize::from(n));
    assert!(each <= 512, "{each} bytes for an idle stream");
    assert_eq!(b.stats().opaque + b.stats().evicted_readers, 0, "all are still read");
    b.finish();
    assert!(b.engine.memory() < 256 * 1_024, "closed streams leave nothing: {}", b.engine.memory());
}

#[test]
fn a_body_of_gigabytes_takes_constant_memory() {
    let mut b = Bench::new();
    b.open(1);
    let length = 10u64 << 30;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let next = 101 + REQUEST.len() as u32;
    b.send(&Seg::c2s(101, 501, ACK, REQUEST).port(1));
    b.send(&Seg::s2c(501, next, ACK, head.as_bytes()).port(1));
    // Super-packets as offloading makes them, of which the snap length leaves the first 1,000 bytes.
    let wire = 64u32 << 10;
    let mut seg = Seg::s2c(501 + head.len() as u32, next, ACK, &[b'x'; 1_000]).port(1);
    for _ in 0..length / u64::from(wire) {
        let mut data = seg.ipv4();
        (data[2], data[3]) = (0, 0);
        let mut p = packet(LinkType::RAW, &data, b.at_ms);
        p.original_len = 40 + wire;
        b.raw(&p);
        seg.seq = seg.seq.wrapping_add(wire);
    }
    assert!(b.stats().dissect_peak < 4 << 20, "{}", b.stats().dissect_peak);
    assert_eq!(b.stats().held_peak, 0);
    b.finish();
    let s = &b.closed[0];
    assert_eq!(s.s2c.bytes + s.s2c.gap_bytes, length + head.len() as u64);
    assert_eq!(b.items.len(), 1);
}
