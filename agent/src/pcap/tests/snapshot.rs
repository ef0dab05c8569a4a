//! Several streams, or all, as one file; and files that somebody has open.

use super::*;
use crate::pcap::{Mode, StoreError};

fn in_time(mut packets: Vec<Sent>) -> Vec<Sent> {
    packets.sort_by_key(|packet| packet.time);
    packets
}

/// Packets of several streams in turn, each later than the one before.
fn mixed(bench: &mut Bench, streams: &[StreamId], range: std::ops::Range<u32>) -> Vec<(StreamId, Sent)> {
    let mut sent = Vec::new();
    for n in range {
        for (i, &stream) in (0..).zip(streams) {
            let time = 1_700_000_000_000_000_000 + u64::from(n) * 1000 + i;
            let packet = Sent { time, ..Sent::nth(stream, n, 200) };
            bench.append(stream, &packet);
            sent.push((stream, packet));
        }
    }
    bench.commit();
    sent
}

fn of(sent: &[(StreamId, Sent)], streams: &[StreamId]) -> Vec<Sent> {
    in_time(sent.iter().filter(|(s, _)| streams.contains(s)).map(|(_, p)| p.clone()).collect())
}

#[test]
fn a_snapshot_is_all_or_what_is_named_and_cheap_until_more_comes() {
    let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
    let streams: Vec<StreamId> = (0..5).map(|n| bench.stream(n)).collect();
    let empty = bench.store.snapshot(None).unwrap();
    assert_eq!(judge(&empty), []);
    let mut sent = mixed(&mut bench, &streams, 0..300);
    let all = bench.store.snapshot(None).unwrap();
    assert_eq!(judge(&all), of(&sent, &streams));
    assert_eq!(bench.store.snapshot(None).unwrap(), all, "nothing new: the same file");
    let two = [streams[3], streams[1]];
    let some = bench.store.snapshot(Some(&two)).unwrap();
    assert_eq!(judge(&some), of(&sent, &two));
    sent.extend(mixed(&mut bench, &streams[..1], 300..310));
    assert_eq!(
        bench.store.snapshot(Some(&[streams[1], streams[3]])).unwrap(),
        some,
        "of these nothing is new"
    );
    let again = bench.store.snapshot(None).unwrap();
    assert_eq!(judge(&again), of(&sent, &streams));
    assert!(!all.exists(), "the old one has gone, or every call would leave a file");
    let unknown = bench.store.snapshot(Some(&[streams[0], StreamId(12_345)]));
    assert!(matches!(unknown, Err(StoreError::Unknown(StreamId(12_345)))), "{unknown:?}");
}

#[test]
fn link_types_that_mix_make_a_snapshot_pcapng() {
    let mut bench = Bench::new(|_| {});
    let (one, two) = (bench.stream(0), bench.stream(1));
    let first = bench.send(one, 0..3, 100);
    let second = Sent { link: 101, ..Sent::nth(two, 0, 50) };
    bench.append(two, &second);
    bench.commit();
    let path = bench.store.snapshot(None).unwrap();
    assert_eq!(path.extension().unwrap(), "pcapng");
    assert_eq!(in_time(read(&path)), in_time(first.into_iter().chain([second]).collect()));
}

#[test]
fn a_snapshot_that_would_be_too_large_is_refused_and_leaves_nothing() {
    let mut bench = Bench::new(|c| c.extracted_bytes = 100 << 10);
    let stream = bench.stream(0);
    bench.send(stream, 0..500, 1000);
    let refused = bench.store.snapshot(None).unwrap_err();
    assert!(matches!(refused, StoreError::NoRoom { limit: 102_400, .. }), "{refused}");
    assert_eq!(std::fs::read_dir(bench.store.folder()).unwrap().count(), 0);
    assert_eq!(bench.store.stats().extracted_bytes, 0);
}

#[test]
fn a_snapshot_asks_for_what_waits_in_memory() {
    let mut bench = Bench::new(|c| c.mode = Mode::Matched);
    let streams: Vec<StreamId> = (0..3).map(|n| bench.stream(n)).collect();
    let mut sent = mixed(&mut bench, &streams, 0..50);
    let named = bench.store.snapshot(Some(&streams[..1])).unwrap();
    assert_eq!(judge(&named), of(&sent, &streams[..1]));
    assert_eq!(bench.store.stats().packets, 50);
    sent.extend(mixed(&mut bench, &streams, 50..60));
    assert_eq!(judge(&bench.store.snapshot(None).unwrap()), of(&sent, &streams));
    assert!(bench.store.is_kept(streams[0]) && !bench.store.is_kept(streams[1]));
    sent.extend(mixed(&mut bench, &streams, 60..70));
    for &stream in &streams {
        assert_eq!(bench.read(stream), of(&sent, &[stream]), "in order, each packet once");
    }
}

#[test]
fn a_file_that_is_open_is_not_removed_for_its_age() {
    let mut bench = Bench::new(|c| c.extracted_age = Duration::from_millis(20));
    let stream = bench.stream(0);
    bench.send(stream, 0..5, 50);
    let path = bench.store.path(stream).unwrap();
    let reader = std::fs::File::open(&path).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    bench.store.shared.extracted.sweep();
    assert!(path.exists(), "somebody reads it");
    assert_eq!(bench.store.path(stream).unwrap(), path);
    drop(reader);
    std::thread::sleep(Duration::from_millis(30));
    bench.store.shared.extracted.sweep();
    assert!(!path.exists());
    assert_eq!(bench.store.stats().extracted_bytes, 0);
}
