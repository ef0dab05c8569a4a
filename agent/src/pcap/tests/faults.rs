//! Disks that fill up and fail, and everybody at once.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use testkit::disk::with_small_disk;

use super::*;
use crate::pcap::StoreError;

/// Commits until the store is tried again after a failure.
pub(super) fn wait_until_ready(bench: &mut Bench) {
    let until = Instant::now() + Duration::from_secs(20);
    let probe = bench.stream(1000);
    let before = bench.store.stats().packets;
    while bench.store.stats().packets == before {
        assert!(Instant::now() < until, "the store never came back");
        bench.send(probe, 0..1, 10);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The disk fills up in the middle of a write, at many different bytes.
#[test]
fn a_full_disk_costs_what_did_not_fit_and_nothing_else() {
    let mut bench = Bench::new(|c| {
        c.fallback_bytes = 0;
        c.flush_bytes = 8 << 10;
        c.flush_age = Duration::from_millis(20);
        c.retry_after = Duration::from_millis(20);
    });
    let stream = bench.stream(0);
    let mut expected = bench.send(stream, 0..50, 300);
    assert_eq!(bench.read(stream), expected);
    for (round, room) in [0_u64, 1, 500, 5_000, 33_000, 34_500].into_iter().enumerate() {
        bench.store.shared.disk_left.store(room, Ordering::SeqCst);
        let from = 1000 * (round as u32 + 1);
        let tried = bench.send(stream, from..from + 100, 300);
        let stored = bench.read(stream);
        assert!(stored.starts_with(&expected), "round {round}: what was stored stays");
        let fitted = &stored[expected.len()..];
        assert!(tried.starts_with(fitted), "round {round}: a prefix of what was tried");
        expected.extend_from_slice(fitted);
        bench.store.shared.disk_left.store(u64::MAX, Ordering::SeqCst);
        wait_until_ready(&mut bench);
        expected.extend(bench.send(stream, from + 500..from + 520, 300));
        assert_eq!(bench.read(stream), expected, "round {round}: it goes on where it can");
    }
    let stats = bench.store.stats();
    assert!(stats.errors >= 6 && stats.refused_packets > 100, "{stats:?}");
    let in_segments: usize = bench.segments().iter().map(|segment| read(segment).len()).sum();
    assert_eq!(in_segments as u64, stats.packets, "every segment is whole");

    let folder = bench.close();
    let (store, _appenders) = SegmentStore::open(StoreConfig::new(folder.path()), 1).unwrap();
    assert_eq!(read(&store.path(stream).unwrap()), expected);
}

/// The same on a real file system of 2 MiB.
#[test]
fn a_real_full_disk() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: no file system can be mounted; the simulated disk stands for it");
        return;
    }
    with_small_disk(2, |folder| {
        let mut config = StoreConfig::new(folder);
        (config.reserve_bytes, config.fallback_bytes) = (Some(0), 0);
        let (store, mut appenders) = SegmentStore::open(config, 1).unwrap();
        let ballast = folder.join("ballast");
        std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
        let mut bench = Bench { folder: tempfile::tempdir().unwrap(), store, appender: appenders.pop() };
        let stream = bench.stream(0);
        let mut tried = Vec::new();
        for n in 0..30 {
            tried.extend(bench.send(stream, n * 100..n * 100 + 100, 1000));
            std::thread::sleep(Duration::from_millis(10));
        }
        let stats = bench.store.stats();
        assert!(stats.errors > 0 && stats.refused_packets > 1000 && stats.packets > 500, "{stats:?}");
        let full = bench.store.path(stream);
        assert!(matches!(full, Err(StoreError::Io { .. })), "no room for the file either: {full:?}");
        assert!(full.unwrap_err().to_string().contains("No space left"));
        std::fs::remove_file(&ballast).unwrap();
        let stored = bench.read(stream);
        assert!(tried.starts_with(&stored) && stored.len() > 500, "{}", stored.len());
        wait_until_ready(&mut bench);
        let later = bench.stream(7);
        let sent = bench.send(later, 0..10, 1000);
        assert_eq!(bench.read(later), sent);
        let stats = bench.store.stats();
        assert!(stats.packets >= stored.len() as u64 + 10);
    });
}

#[test]
fn an_unreadable_segment_is_an_error_and_not_a_wrong_file() {
    let mut bench = Bench::new(|_| {});
    let stream = bench.stream(0);
    bench.send(stream, 0..10, 100);
    let path = bench.store.path(stream).unwrap();
    std::fs::remove_file(path).unwrap();
    let segment = &bench.segments()[0];
    let mut bytes = std::fs::read(segment).unwrap();
    let at = bytes.len() - 132;
    bytes[at] ^= 0xff;
    std::fs::write(segment, &bytes).unwrap();
    let error = bench.store.path(stream).unwrap_err().to_string();
    assert!(
        error.contains("segment-0000000001.pcapng") && error.contains("no packet of 100 bytes"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(bench.store.folder()).unwrap().count(), 0, "no half a file");
    assert_eq!(bench.store.stats().extracted_bytes, 0);

    std::fs::remove_file(segment).unwrap();
    let error = bench.store.path(stream).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

/// Two workers append, four readers extract: what a reader gets is always what was committed, at the least, and
/// only the stream's own packets.
#[test]
fn readers_and_writers_at_once() {
    const STREAMS: u64 = 8;
    const PACKETS: u32 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let mut config = StoreConfig::new(folder.path());
    (config.segment_bytes, config.flush_bytes) = (256 << 10, 4 << 10);
    let (store, appenders) = SegmentStore::open(config, 2).unwrap();
    let committed: Vec<Vec<AtomicU32>> =
        (0..2).map(|_| (0..STREAMS).map(|_| AtomicU32::new(0)).collect()).collect();
    let done = AtomicBool::new(false);
    let id = |worker: usize, n: u64| {
        let (first, step) = store.stream_ids(worker).unwrap();
        StreamId(first.0 + n * step)
    };
    let reads = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = appenders
            .into_iter()
            .enumerate()
            .map(|(worker, mut appender)| {
                let committed = &committed[worker];
                scope.spawn(move || {
                    for n in 0..PACKETS {
                        for s in 0..STREAMS {
                            let stream = id(worker, s);
                            Sent::nth(stream, n, 100).append(appender.as_mut(), Some(stream));
                        }
                        if n % 7 == 6 || n == PACKETS - 1 {
                            appender.commit();
                            committed.iter().for_each(|c| c.store(n + 1, Ordering::SeqCst));
                        }
                    }
                })
            })
            .collect();
        for reader in 0..4_usize {
            let (done, committed, store, reads) = (&done, &committed, &store, &reads);
            scope.spawn(move || {
                let mut turn = reader as u64;
                while !done.load(Ordering::SeqCst) {
                    turn += 1;
                    let (worker, s) = ((turn % 2) as usize, turn / 2 % STREAMS);
                    let at_least = committed[worker][s as usize].load(Ordering::SeqCst);
                    let stream = id(worker, s);
                    match store.path(stream) {
                        Ok(path) => {
                            let packets = read(&path);
                            assert!(packets.len() >= at_least as usize);
                            let expected = (0..packets.len() as u32).map(|n| Sent::nth(stream, n, 100));
                            assert!(packets.iter().cloned().eq(expected));
                            reads.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(StoreError::Unknown(_)) => assert_eq!(at_least, 0),
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // On a busy machine the readers may hardly have begun.
        let deadline = Instant::now() + Duration::from_secs(60);
        while reads.load(Ordering::SeqCst) <= 10 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(reads.load(Ordering::SeqCst) > 10);
    for worker in 0..2 {
        for s in 0..STREAMS {
            assert_eq!(read(&store.path(id(worker, s)).unwrap()).len(), PACKETS as usize);
        }
    }
    assert_eq!(store.stats().refused_packets, 0);
}
