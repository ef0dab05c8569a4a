//! Mode `matched`: only what is asked for is stored, from its first packet where that is still at hand.

use std::time::Instant;

use super::*;
use crate::pcap::{Mode, StoreError, window};

fn bench(adjust: impl FnOnce(&mut StoreConfig)) -> Bench {
    Bench::new(|c| {
        c.mode = Mode::Matched;
        adjust(c);
    })
}

#[test]
fn a_stream_that_is_asked_for_is_there_from_its_first_packet_and_goes_on() {
    let mut bench = bench(|_| {});
    let (asked, other) = (bench.stream(3), bench.stream(2));
    let mut sent = Vec::new();
    for n in 0..30 {
        sent.extend(bench.send(asked, n * 10..n * 10 + 10, 300));
        bench.send(other, n * 10..n * 10 + 10, 300);
    }
    assert_eq!(bench.store.stats().packets, 0);
    assert!(!bench.store.is_kept(asked));
    assert_eq!(bench.read(asked), sent);
    assert!(bench.store.is_kept(asked) && !bench.store.is_kept(other));
    let before = bench.store.stats().packets;
    assert_eq!(before, 300, "and nothing else");
    sent.extend(bench.send(asked, 300..400, 300));
    bench.send(other, 300..400, 300);
    assert_eq!(bench.read(asked), sent, "what comes is stored, too");
    assert!(matches!(bench.store.path(bench.stream(4)), Err(StoreError::Unknown(_))));
    let folder = bench.close();
    let (store, _appenders) = SegmentStore::open(StoreConfig::new(folder.path()), 1).unwrap();
    assert_eq!(read(&store.path(asked).unwrap()), sent);
    store.path(other).unwrap_err();
}

#[test]
fn the_window_is_bounded_in_bytes_and_in_age() {
    let mut small = bench(|c| c.window_bytes = 1 << 20);
    let (early, flood) = (small.stream(0), small.stream(1));
    small.send(early, 0..10, 500);
    let sent = small.send(flood, 0..4000, 500);
    let stats = small.store.stats();
    assert!(stats.window_bytes <= 1 << 20 && stats.passed_packets > 2000, "{stats:?}");
    assert!(matches!(small.store.path(early), Err(StoreError::Passed(stream)) if stream == early));
    let stored = small.read(flood);
    assert!(sent.ends_with(&stored) && stored.len() > 500, "what is left of it: {}", stored.len());
    let more = small.send(early, 10..20, 500);
    assert_eq!(small.read(early), more, "asked for too late: from then on");

    let mut short = bench(|c| c.window_age = Duration::from_millis(30));
    short.send(short.stream(0), 0..10, 500);
    let until = Instant::now() + Duration::from_secs(20);
    while short.store.stats().window_bytes > 0 {
        assert!(Instant::now() < until, "age alone empties it");
        std::thread::sleep(Duration::from_millis(5));
        short.commit();
    }
    assert_eq!(short.store.stats().passed_packets, 10);
}

#[test]
fn streams_asked_for_are_bounded_and_the_quiet_are_let_go() {
    struct Nowhere;
    impl PcapAppender for Nowhere {
        fn append(&mut self, _: Option<StreamId>, _: &Packet<'_>) {}
        fn commit(&mut self) {}
    }
    let limits = window::Limits { kept: 80, ..window::Limits::new(1 << 20, Duration::from_secs(30)) };
    let shared = Arc::new(std::sync::Mutex::new(window::Window::new(limits, Box::new(Nowhere))));
    let mut worker = window::Matched::new(Arc::clone(&shared));
    for n in 0..1000 {
        for stream in [0, n] {
            Sent::nth(StreamId(stream), n as u32, 20).append(&mut worker, Some(StreamId(stream)));
        }
        worker.commit();
        assert!(shared.lock().unwrap().keep(StreamId(n)));
    }
    let window = shared.lock().unwrap();
    assert!(window.is_kept(StreamId(0)) && window.is_kept(StreamId(999)), "a busy stream stays");
    assert_eq!(
        (0..1000).filter(|&n| window.is_kept(StreamId(n))).count() as u64,
        1000 - window.counts().let_go
    );
    assert!(window.counts().let_go >= 920);
}

#[test]
fn readers_ask_while_the_worker_goes_on() {
    let mut bench = bench(|_| {});
    let streams: Vec<StreamId> = (0..40).map(|n| bench.stream(n)).collect();
    let store = Arc::clone(&bench.store);
    std::thread::scope(|scope| {
        let (streams, store) = (&streams, &store);
        let reader = scope.spawn(move || {
            for &stream in streams {
                while store.path(stream).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        for n in 0..300 {
            for &stream in streams {
                bench.append(stream, &Sent::nth(stream, n, 50));
            }
            bench.commit();
        }
        reader.join().unwrap();
    });
    for &stream in &streams {
        let expected: Vec<Sent> = (0..300).map(|n| Sent::nth(stream, n, 50)).collect();
        assert_eq!(bench.read(stream), expected);
    }
}
