//! Every bound, driven past it.

use std::time::Instant;

use super::*;
use crate::pcap::{Overflow, StoreError, lock};

#[test]
fn the_oldest_segments_go_and_their_streams_are_expired() {
    let max_bytes = 1 << 20;
    let mut bench = Bench::new(|c| {
        c.max_bytes = max_bytes;
        c.segment_bytes = 64 << 10;
        c.flush_bytes = 16 << 10;
    });
    let (first, long) = (bench.stream(0), bench.stream(1));
    bench.send(first, 0..20, 1000);
    let mut sent = Vec::new();
    for n in 0..40 {
        sent.extend(bench.send(long, n * 100..n * 100 + 100, 1000));
    }
    let stored = bench.read(long);
    assert!(sent.ends_with(&stored) && stored.len() > 500 && stored.len() < sent.len(), "{}", stored.len());
    let stats = bench.store.stats();
    assert!(stats.stored_bytes <= max_bytes && stats.expired_segments > 20, "{stats:?}");
    let on_disk: u64 = std::fs::read_dir(bench.folder.path().join("segments"))
        .unwrap()
        .map(|f| f.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk <= max_bytes + (128 << 10), "{on_disk}");
    assert!(
        matches!(bench.store.path(first), Err(StoreError::Expired { stream, since: Some(_) }) if stream == first)
    );
    assert!(matches!(bench.store.path(bench.stream(2)), Err(StoreError::Unknown(_))));
}

#[test]
fn a_file_at_hand_outlives_its_segments() {
    let mut bench = Bench::new(|c| {
        c.max_bytes = 1 << 20;
        c.segment_bytes = 64 << 10;
    });
    let (early, late) = (bench.stream(0), bench.stream(100));
    let sent = bench.send(early, 0..20, 1000);
    let path = bench.store.path(early).unwrap();
    bench.send(late, 0..3000, 1000);
    bench.store.path(late).unwrap();
    assert!(bench.store.stats().expired_segments > 0);
    assert_eq!(bench.store.path(early).unwrap(), path);
    assert_eq!(judge(&path), sent);
}

#[test]
fn a_segment_that_is_read_stays_until_it_was_read() {
    let mut bench = Bench::new(|c| {
        c.max_bytes = 1 << 20;
        c.segment_bytes = 64 << 10;
    });
    let (early, late) = (bench.stream(0), bench.stream(1));
    bench.send(early, 0..20, 1000);
    bench.store.path(early).unwrap();
    let reader = bench.store.shared.registry.find(1).unwrap();
    bench.send(late, 0..3000, 1000);
    bench.store.path(late).unwrap();
    assert!(bench.store.shared.registry.find(1).is_none(), "nobody new finds it");
    assert!(reader.data.exists() && reader.links.exists());
    let (data, links) = (reader.data.clone(), reader.links.clone());
    drop(reader);
    assert!(!data.exists() && !links.exists());
}

#[test]
fn closed_streams_cost_few_bytes_and_the_index_has_a_bound() {
    let mut bench = Bench::new(|_| {});
    for n in 0..100_000 {
        let stream = bench.stream(n);
        bench.append(stream, &Sent::nth(stream, 0, 10));
        if n % 100 == 0 {
            bench.commit();
        }
    }
    bench.commit();
    let stats = bench.store.stats();
    assert!(stats.index_bytes <= 1_000_000, "{} bytes for 100,000 streams", stats.index_bytes);
    assert_eq!((stats.index_evicted, bench.read(bench.stream(0)).len()), (0, 1));

    let mut small = Bench::new(|c| c.index_bytes = 64 << 10);
    for n in 0..20_000 {
        small.send(small.stream(n), 0..1, 10);
    }
    let stats = small.store.stats();
    assert!(stats.index_bytes <= 64 << 10 && stats.index_evicted > 0, "{stats:?}");
    assert!(matches!(small.store.path(small.stream(3)), Err(StoreError::Expired { .. })));
    assert_eq!(small.read(small.stream(19_999)).len(), 1);
}

#[test]
fn a_disk_that_hangs_costs_live_capture_packets_but_no_time() {
    let mut bench = Bench::new(|c| {
        c.queue_bytes = 256 << 10;
        c.flush_bytes = 1;
    });
    let (stream, later) = (bench.stream(0), bench.stream(1));
    let sent = {
        let store = Arc::clone(&bench.store);
        let _hanging = lock(&store.shared.disk_hangs);
        let started = Instant::now();
        let sent = bench.send(stream, 0..4096, 1000);
        assert!(started.elapsed() < Duration::from_secs(5));
        sent
    };
    let after = bench.send(later, 0..10, 1000);
    assert_eq!(bench.read(later), after, "it goes on");
    let stored = bench.read(stream);
    assert!(sent.starts_with(&stored) && !stored.is_empty());
    let stats = bench.store.stats();
    assert_eq!(stats.refused_packets, 4096 - stored.len() as u64);
    assert_eq!(stats.refused_bytes, 1000 * stats.refused_packets);
    assert_eq!(stats.packets, stored.len() as u64 + 10);
    bench.segments().iter().for_each(|segment| drop(read(segment)));
}

#[test]
fn a_file_source_waits_for_the_disk_and_loses_nothing() {
    let mut bench = Bench::new(|c| {
        c.queue_bytes = 128 << 10;
        c.overflow = Overflow::Wait;
    });
    let stream = bench.stream(0);
    let store = Arc::clone(&bench.store);
    let (sender, hung) = std::sync::mpsc::channel();
    let disk = std::thread::spawn(move || {
        let _hanging = lock(&store.shared.disk_hangs);
        sender.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    });
    hung.recv().unwrap();
    let sent = bench.send(stream, 0..2000, 1000);
    disk.join().unwrap();
    assert_eq!(bench.read(stream), sent);
    assert_eq!(bench.store.stats().refused_packets, 0);
}

#[test]
fn extracted_files_keep_their_own_limits() {
    let mut bench = Bench::new(|c| {
        c.extracted_bytes = 100 << 10;
        c.extracted_grace = Duration::ZERO;
    });
    for n in 0..100 {
        let stream = bench.stream(n);
        let sent = bench.send(stream, 0..10, 500);
        assert_eq!(bench.read(stream), sent);
        assert!(bench.store.stats().extracted_bytes <= 100 << 10);
    }
    let left = std::fs::read_dir(bench.store.folder()).unwrap().count();
    assert!((5..=12).contains(&left), "{left}");
    assert_eq!(bench.read(bench.stream(0)).len(), 10, "what was swept is made again");

    let big = bench.stream(200);
    bench.send(big, 0..200, 1000);
    let refused = bench.store.path(big).unwrap_err();
    assert!(matches!(refused, StoreError::NoRoom { needed: 203_224, limit: 102_400, .. }), "{refused}");
}

#[test]
fn files_handed_out_lately_are_not_swept() {
    let mut bench = Bench::new(|c| {
        c.extracted_bytes = 16 << 10;
        c.extracted_grace = Duration::from_secs(3600);
    });
    let paths: Vec<PathBuf> = (0..4)
        .map(|n| {
            let stream = bench.stream(n);
            bench.send(stream, 0..1, 50);
            bench.store.path(stream).unwrap()
        })
        .collect();
    let stream = bench.stream(4);
    bench.send(stream, 0..1, 50);
    assert!(matches!(bench.store.path(stream), Err(StoreError::NoRoom { .. })));
    assert!(paths.iter().all(|p| p.exists()));
    assert_eq!(std::fs::read_dir(bench.store.folder()).unwrap().count(), 4);
}

#[test]
fn extracted_files_go_with_age() {
    let mut bench = Bench::new(|c| c.extracted_age = Duration::from_millis(50));
    let stream = bench.stream(0);
    bench.send(stream, 0..1, 50);
    let path = bench.store.path(stream).unwrap();
    bench.store.shared.extracted.sweep();
    assert!(path.exists());
    std::thread::sleep(Duration::from_millis(60));
    bench.store.shared.extracted.sweep();
    assert!(!path.exists());
    assert_eq!(bench.store.stats().extracted_bytes, 0);
}
