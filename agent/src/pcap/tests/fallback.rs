//! What stands in for the disk while that takes nothing.

use std::sync::atomic::Ordering;

use super::faults::wait_until_ready;
use testkit::disk::with_small_disk;

use super::*;
use crate::pcap::StoreError;

fn bench(adjust: impl FnOnce(&mut StoreConfig)) -> Bench {
    Bench::new(|c| {
        c.flush_bytes = 8 << 10;
        c.flush_age = Duration::from_millis(20);
        c.retry_after = Duration::from_millis(20);
        adjust(c);
    })
}

/// The disk fills up in the middle of a write, at many different bytes, stays so for a while, and comes back.
#[test]
fn streams_stay_whole_over_a_full_disk() {
    let mut bench = bench(|_| {});
    let stream = bench.stream(0);
    let mut expected = bench.send(stream, 0..50, 300);
    for (round, room) in [0_u64, 1, 500, 5_000, 33_000, 34_500].into_iter().enumerate() {
        bench.store.shared.disk_left.store(room, Ordering::SeqCst);
        for turn in 0..6 {
            let from = 1000 * (round as u32 + 1) + 100 * turn;
            expected.extend(bench.send(stream, from..from + 100, 300));
            assert_eq!(bench.read(stream), expected, "round {round}, turn {turn}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(bench.store.stats().down, "round {round}");
        let other = bench.stream(1 + round as u64);
        let sent = bench.send(other, 0..10, 300);
        assert_eq!(bench.read(other), sent, "round {round}: a stream that begins meanwhile");
        bench.store.shared.disk_left.store(u64::MAX, Ordering::SeqCst);
        wait_until_ready(&mut bench);
        assert!(!bench.store.stats().down, "round {round}");
        expected.extend(bench.send(stream, 50_000 + round as u32..50_001 + round as u32, 300));
        assert_eq!(bench.read(stream), expected, "round {round}: it goes on on the disk");
    }
    let stats = bench.store.stats();
    assert!(stats.errors >= 6, "{stats:?}");
    assert!(stats.detoured_packets > 1000 && stats.detoured_packets == stats.refused_packets, "{stats:?}");
    let in_segments: usize = bench.segments().iter().map(|segment| read(segment).len()).sum();
    assert_eq!(in_segments as u64, stats.packets, "every segment on the disk is whole");
    let all = read(&bench.store.snapshot(Some(&[stream])).unwrap());
    let times = |packets: &[Sent]| {
        let mut times: Vec<u64> = packets.iter().map(|p| p.time).collect();
        times.sort_unstable();
        times
    };
    assert_eq!(times(&all), times(&expected), "a snapshot has what is in memory, too");

    let memory = bench.store.memory_folder().unwrap();
    let folder = bench.close();
    assert!(!memory.exists());
    let (store, _appenders) = SegmentStore::open(StoreConfig::new(folder.path()), 1).unwrap();
    let left = read(&store.path(stream).unwrap());
    assert_eq!(
        left,
        expected[expected.len() - 1..],
        "what was before the last gap cannot be reached any more"
    );
}

#[test]
fn memory_is_bounded_and_the_oldest_goes() {
    let mut bench = bench(|c| c.fallback_bytes = 512 << 10);
    bench.store.shared.disk_left.store(0, Ordering::SeqCst);
    for n in 0..100 {
        let stream = bench.stream(n);
        let sent = bench.send(stream, 0..30, 1000);
        assert_eq!(bench.read(stream), sent, "stream {n}");
        let stats = bench.store.stats();
        // Files are still put on the disk, which only refuses segments here.
        assert!(stats.fallback_bytes <= 512 << 10, "{stats:?}");
    }
    let (old, new) = (bench.stream(0), bench.stream(101));
    std::fs::remove_file(bench.store.folder().join(format!("{old}.pcap"))).unwrap();
    assert!(matches!(bench.store.path(old), Err(StoreError::Expired { .. })));
    bench.store.shared.disk_left.store(u64::MAX, Ordering::SeqCst);
    wait_until_ready(&mut bench);
    let sent = bench.send(new, 0..30, 1000);
    assert_eq!(bench.read(new), sent);
    assert_eq!(bench.store.stats().segments, bench.segments().len() as u64 + in_memory(&bench));
}

fn in_memory(bench: &Bench) -> u64 {
    bench.store.shared.registry.detours().iter().filter(|(_, detour)| detour.first == 0).count() as u64
}

#[test]
fn without_memory_either_packets_are_refused_and_it_is_told() {
    let mut bench = bench(|c| c.fallback_bytes = 1 << 10);
    bench.store.shared.disk_left.store(0, Ordering::SeqCst);
    let stream = bench.stream(0);
    bench.send(stream, 0..100, 1000);
    let refused = bench.store.path(stream);
    assert!(matches!(refused, Err(StoreError::Unknown(_))), "{refused:?}");
    // The writer counts when it has let the reader go.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while bench.store.stats().refused_packets < 100 && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let stats = bench.store.stats();
    assert!(stats.down && stats.refused_packets == 100 && stats.fallback_bytes == 0, "{stats:?}");
    bench.store.shared.disk_left.store(u64::MAX, Ordering::SeqCst);
    wait_until_ready(&mut bench);
}

/// A disk that takes neither segments nor extracted files.
#[test]
fn files_go_to_memory_when_the_disk_is_full() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: no file system can be mounted");
        return;
    }
    with_small_disk(2, |folder| {
        let mut config = StoreConfig::new(folder);
        (config.reserve_bytes, config.fallback_bytes) = (Some(0), 2 << 20);
        (config.extracted_grace, config.retry_after) = (Duration::ZERO, Duration::from_millis(20));
        let (store, mut appenders) = SegmentStore::open(config, 1).unwrap();
        let mut bench = Bench { folder: tempfile::tempdir().unwrap(), store, appender: appenders.pop() };
        let early = bench.stream(0);
        let expected = bench.send(early, 0..10, 1000);
        bench.store.path(early).unwrap();
        let mut ballast = std::fs::File::create(folder.join("ballast")).unwrap();
        while std::io::Write::write(&mut ballast, &[0; 4096]).is_ok() {}
        let memory = bench.store.memory_folder().unwrap();
        for n in 1..50 {
            let stream = bench.stream(n);
            let sent = bench.send(stream, 0..20, 1000);
            let path = bench.store.path(stream).unwrap();
            assert!(path.starts_with(&memory), "{}", path.display());
            assert_eq!(judge(&path), sent);
            assert!(bench.store.stats().fallback_bytes <= 4 << 20);
        }
        assert_eq!(bench.read(early), expected, "from before");
        let last = [bench.stream(48), bench.stream(49)];
        let snapshot = bench.store.snapshot(Some(&last)).unwrap();
        assert!(snapshot.starts_with(&memory) && read(&snapshot).len() == 40);
        let big = bench.stream(60);
        let mut sent = Vec::new();
        for n in 0..40 {
            sent.extend(bench.send(big, n * 100..n * 100 + 100, 1500));
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = bench.read(big);
        assert!(left.iter().all(|packet| sent.contains(packet)), "only its own");
        assert!((100..1400).contains(&left.len()), "what memory holds: {}", left.len());
        drop(ballast);
        std::fs::remove_file(folder.join("ballast")).unwrap();
        wait_until_ready(&mut bench);
        let later = bench.stream(70);
        let sent = bench.send(later, 0..10, 1000);
        let path = bench.store.path(later).unwrap();
        assert!(path.starts_with(bench.store.folder()));
        assert_eq!(judge(&path), sent);
    });
}
