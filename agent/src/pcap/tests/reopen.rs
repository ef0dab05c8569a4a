//! A store that was closed, or cut off, and is opened again.

use proptest::prelude::*;

use super::*;
use crate::pcap::StoreError;

fn open(folder: &Path, workers: usize) -> (Arc<SegmentStore>, Vec<Box<dyn PcapAppender>>) {
    SegmentStore::open(StoreConfig::new(folder), workers).unwrap()
}

#[test]
fn earlier_streams_are_found_and_their_numbers_not_used_again() {
    let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
    let (a, b) = (bench.stream(0), bench.stream(7));
    let (sent_a, sent_b) = (bench.send(a, 0..100, 700), bench.send(b, 0..100, 700));
    let extracted = bench.store.path(a).unwrap();
    let folder = bench.close();

    let mut highest = b;
    for workers in [3, 1, 2] {
        let (store, mut appenders) = open(folder.path(), workers);
        assert!(!extracted.exists(), "files of an earlier run go");
        assert_eq!(read(&store.path(a).unwrap()), sent_a);
        assert_eq!(read(&store.path(b).unwrap()), sent_b);
        for (worker, appender) in appenders.iter_mut().enumerate() {
            let (first, step) = store.stream_ids(worker).unwrap();
            assert!(first > highest, "{first} after {highest}");
            assert_eq!((first.0 % workers as u64, step), (worker as u64, workers as u64));
            let stream = StreamId(first.0 + 5 * step);
            let sent = Sent::nth(stream, 0, 30);
            sent.append(appender.as_mut(), Some(stream));
            appender.commit();
            assert_eq!(read(&store.path(stream).unwrap()), [sent]);
        }
        highest = StreamId(store.stream_ids(workers - 1).unwrap().0.0 + 5 * workers as u64);
        assert!(matches!(store.path(StreamId(highest.0 + 1)), Err(StoreError::Unknown(_))));
        assert!(
            matches!(store.path(StreamId(b.0 + 1)), Err(StoreError::Expired { .. })),
            "maybe it once was"
        );
    }
}

#[test]
fn numbers_grow_even_if_nothing_is_left_but_the_mark_or_but_the_segments() {
    let bench = Bench::new(|_| {});
    let first = bench.stream(0);
    let folder = bench.close();
    let (store, _appenders) = open(folder.path(), 1);
    let second = store.stream_ids(0).unwrap().0;
    assert!(second > first);
    drop((store, _appenders));

    for spoilt in [None, Some("not a number")] {
        let (store, mut appenders) = open(folder.path(), 1);
        let used = StreamId(store.stream_ids(0).unwrap().0.0 + 3);
        Sent::nth(used, 0, 30).append(appenders[0].as_mut(), Some(used));
        drop((store, appenders));
        let mark = folder.path().join("next-stream");
        match spoilt {
            None => std::fs::remove_file(mark).unwrap(),
            Some(text) => std::fs::write(mark, text).unwrap(),
        }
        let (store, _appenders) = open(folder.path(), 1);
        assert!(store.stream_ids(0).unwrap().0 > used);
        assert_eq!(read(&store.path(used).unwrap()).len(), 1);
    }
}

#[test]
fn many_streams_move_the_mark() {
    let mut bench = Bench::new(|_| {});
    let far = bench.stream(3 << 20);
    bench.send(far, 0..1, 30);
    bench.store.path(far).unwrap();
    drop(bench.appender.take());
    let mark: u64 =
        std::fs::read_to_string(bench.folder.path().join("next-stream")).unwrap().trim().parse().unwrap();
    assert!(mark > far.0, "{mark}");
}

#[test]
fn one_process_a_folder() {
    let bench = Bench::new(|_| {});
    let Err(second) = SegmentStore::open(StoreConfig::new(bench.folder.path()), 1) else {
        panic!("opened twice")
    };
    assert!(matches!(second, StoreError::InUse(_)), "{second}");
    let folder = bench.close();
    open(folder.path(), 1);
}

#[test]
fn what_makes_no_sense_is_removed_and_what_is_not_ours_is_left() {
    let mut bench = Bench::new(|_| {});
    let stream = bench.stream(0);
    let sent = bench.send(stream, 0..10, 100);
    let folder = bench.close();
    let segments = folder.path().join("segments");
    for name in [
        "segment-0000000005.pcapng",
        "segment-0000000006.links",
        "segment-0000000007.pcapng",
        "segment-0000000007.links",
    ] {
        std::fs::write(segments.join(name), b"garbage that is longer than one header").unwrap();
    }
    std::fs::write(segments.join("notes.txt"), b"mine").unwrap();
    let (store, _appenders) = open(folder.path(), 1);
    assert_eq!(read(&store.path(stream).unwrap()), sent);
    let mut left: Vec<String> = std::fs::read_dir(&segments)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["notes.txt", "segment-0000000001.links", "segment-0000000001.pcapng"]);
}

#[test]
fn limits_hold_for_what_is_taken_in() {
    let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
    let (old, new) = (bench.stream(0), bench.stream(1));
    bench.send(old, 0..10, 1000);
    bench.send(new, 0..1000, 1000);
    let folder = bench.close();
    let mut config = StoreConfig::new(folder.path());
    config.max_bytes = 512 << 10;
    let (store, _appenders) = SegmentStore::open(config, 1).unwrap();
    let stats = store.stats();
    assert!(stats.stored_bytes <= 512 << 10 && stats.expired_segments > 0, "{stats:?}");
    assert!(matches!(store.path(old), Err(StoreError::Expired { .. })));
    assert!(read(&store.path(new).unwrap()).len() > 300);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Cut off at any byte of either file: what is left opens, gives a prefix of each stream, and is valid.
    #[test]
    fn torn_tails_are_cut(data_cut in any::<prop::sample::Index>(), links_cut in any::<prop::sample::Index>(), which in 0..3) {
        let mut bench = Bench::new(|_| {});
        let streams = [bench.stream(0), bench.stream(1)];
        let mut sent = [Vec::new(), Vec::new()];
        for n in 0..10 {
            for (stream, sent) in streams.iter().zip(&mut sent) {
                sent.extend(bench.send(*stream, n..n + 1, 33));
            }
        }
        let folder = bench.close();
        let segments = folder.path().join("segments");
        for (extension, index, cut) in [("pcapng", data_cut, which != 0), ("links", links_cut, which != 1)] {
            let path = &files(&segments, extension)[0];
            let len = std::fs::metadata(path).unwrap().len() as usize;
            if cut {
                std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(index.index(len) as u64).unwrap();
            }
        }
        let (store, _appenders) = open(folder.path(), 1);
        let mut stored = 0;
        for (stream, sent) in streams.iter().zip(&sent) {
            match store.path(*stream) {
                Ok(path) => {
                    let packets = read(&path);
                    prop_assert!(sent.starts_with(&packets));
                    stored += packets.len();
                }
                Err(error) => prop_assert!(matches!(error, StoreError::Expired { .. }), "{}", error),
            }
        }
        let segments = files(&segments, "pcapng");
        prop_assert_eq!(segments.iter().map(|s| read(s).len()).sum::<usize>(), stored);
    }
}
