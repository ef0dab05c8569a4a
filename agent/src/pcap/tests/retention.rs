//! Retention by age and by the disk's reserve, and a file system that is filled to its end.

use std::time::Instant;

use testkit::disk::with_small_disk;

use super::*;
use crate::pcap::StoreError;

fn bench_in(folder: &Path, adjust: impl FnOnce(&mut StoreConfig)) -> Bench {
    let mut config = StoreConfig::new(folder);
    config.flush_age = Duration::from_millis(20);
    config.retry_after = Duration::from_millis(20);
    adjust(&mut config);
    let (store, mut appenders) = SegmentStore::open(config, 1).unwrap();
    Bench { folder: tempfile::tempdir().unwrap(), store, appender: appenders.pop() }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn free(folder: &Path) -> u64 {
    let disk = nix::sys::statvfs::statvfs(folder).unwrap();
    disk.blocks_available() * disk.fragment_size()
}

#[test]
fn segments_go_with_age_also_when_nothing_more_comes() {
    let mut bench = Bench::new(|c| {
        c.max_age = Some(Duration::from_millis(400));
        c.flush_age = Duration::from_millis(20);
    });
    let (early, late) = (bench.stream(0), bench.stream(1));
    let sent = bench.send(early, 0..20, 100);
    assert_eq!(bench.read(early), sent);
    // Nobody commits any more: a source may wait for packets as long as it likes.
    until("the segment of a quiet worker is closed and goes", || bench.store.stats().segments == 0);
    assert_eq!(files(&bench.folder.path().join("segments"), "pcapng"), [] as [PathBuf; 0]);
    // What was handed out is judged by its own age.
    assert_eq!(bench.read(early), sent);
    let sent = bench.send(late, 0..20, 100);
    assert_eq!(bench.read(late), sent, "the next segment is as good as the first");
    let stats = bench.store.stats();
    assert!((1..=10).contains(&stats.expired_segments) && stats.refused_packets == 0, "{stats:?}");
}

#[test]
fn what_is_too_old_at_the_start_goes_at_once_and_the_error_says_how_far_the_store_goes_back() {
    let mut bench = Bench::new(|_| {});
    let old = bench.stream(0);
    bench.send(old, 0..20, 100);
    let folder = bench.close();
    std::thread::sleep(Duration::from_millis(60));
    let mut config = StoreConfig::new(folder.path());
    (config.max_age, config.reserve_bytes) = (Some(Duration::from_millis(50)), Some(0));
    let (store, mut appenders) = SegmentStore::open(config, 1).unwrap();
    assert!(matches!(store.path(old), Err(StoreError::Expired { stream, since: None }) if stream == old));
    let new = store.stream_ids(0).unwrap().0;
    let mut sent = Sent::nth(new, 0, 100);
    sent.time = 1_800_000_000_000_000_000;
    sent.append(appenders[0].as_mut(), Some(new));
    appenders[0].commit();
    store.path(new).unwrap();
    let error = store.path(old).unwrap_err().to_string();
    assert!(
        error.ends_with("has expired from the store, which goes back to 2027-01-15T08:00:00Z"),
        "{error}"
    );
}

#[test]
fn the_oldest_go_for_the_disks_reserve_and_none_that_is_read() {
    with_small_disk(16, |folder| {
        let mut bench = bench_in(folder, |c| {
            c.segment_bytes = 256 << 10;
            c.reserve_bytes = Some(4 << 20);
        });
        let (first, long) = (bench.stream(0), bench.stream(1));
        bench.send(first, 0..10, 1000);
        bench.store.path(first).unwrap();
        let reader = bench.store.shared.registry.find(1).unwrap();
        let mut sent = Vec::new();
        for n in 0..300 {
            sent.extend(bench.send(long, n * 100..n * 100 + 100, 1000));
            until("the writer keeps up", || bench.store.stats().packets + 2000 > sent.len() as u64);
            assert!(free(folder) >= 4 << 20, "the reserve is not touched");
        }
        assert!(reader.data.exists() && reader.links.exists(), "one that is read stays");
        drop(reader);
        until("all is written", || bench.store.stats().packets == sent.len() as u64 + 10);
        let stats = bench.store.stats();
        assert!(stats.expired_segments > 10 && stats.refused_packets == 0 && stats.errors == 0, "{stats:?}");
        let stored: Vec<Sent> =
            files(&folder.join("segments"), "pcapng").iter().flat_map(|f| read(f)).collect();
        assert!(sent.ends_with(&stored) && stored.len() > 9000, "{}", stored.len());
        std::fs::write(folder.join("ballast"), vec![0; 3 << 20]).unwrap();
        let again = bench.send(bench.stream(2), 0..100, 1000);
        assert_eq!(bench.read(bench.stream(2)), again);
        assert!(free(folder) >= (4 << 20) - (256 << 10), "others' files cost segments, not the reserve");
    });
}

#[test]
fn a_file_system_filled_to_its_end_stops_storage_until_there_is_room() {
    with_small_disk(64, |folder| {
        let mut bench = bench_in(folder, |c| c.fallback_bytes = 0);
        let mut n = 0;
        // Somebody else writes until nothing is left, while packets come.
        let mut ballast = std::fs::File::create(folder.join("ballast")).unwrap();
        let mut full = 0;
        while full < 20 {
            n += 1;
            bench.send(bench.stream(n), 0..50, 1000);
            match std::io::Write::write(&mut ballast, &vec![0; 256 << 10]) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                    full += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        until("storage stops", || {
            n += 1;
            bench.send(bench.stream(n), 0..50, 1000);
            bench.store.stats().refused_packets > 500
        });
        let stats = bench.store.stats();
        assert!(stats.down && stats.errors > 0 && stats.expired_segments > 0, "{stats:?}");
        bench.store.path(bench.stream(n)).unwrap_err();

        drop(ballast);
        std::fs::remove_file(folder.join("ballast")).unwrap();
        until("storage resumes", || {
            n += 1;
            bench.send(bench.stream(n), 0..50, 1000);
            std::thread::sleep(Duration::from_millis(5));
            bench.store.path(bench.stream(n)).is_ok()
        });
        let sent = bench.send(bench.stream(n + 1), 0..50, 1000);
        assert_eq!(bench.read(bench.stream(n + 1)), sent);
        assert!(!bench.store.stats().down);
        files(&folder.join("segments"), "pcapng").iter().for_each(|segment| drop(read(segment)));
    });
}
