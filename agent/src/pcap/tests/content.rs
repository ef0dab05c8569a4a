//! What comes out is what went in: every stream's packets, in order, and no other's.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::pcap::StoreError;

#[test]
fn a_stream_is_what_was_appended_to_it() {
    let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
    let (a, b) = (bench.stream(0), bench.stream(1));
    let mut sent_a = Vec::new();
    for n in 0..600 {
        let other = Sent::nth(b, n, 900);
        bench.append(b, &other);
        bench.appender.as_mut().unwrap().append(
            None,
            &Packet {
                time: Timestamp(9),
                link: LinkType::ETHERNET,
                data: b"of no stream",
                original_len: 12,
                origin: Origin::default(),
            },
        );
        let packet = Sent::nth(a, n, n as usize % 90);
        bench.append(a, &packet);
        sent_a.push(packet);
        if n % 50 == 49 {
            bench.commit();
        }
    }
    let path = bench.store.path(a).unwrap();
    assert!(path.is_absolute() && path.starts_with(bench.store.folder()));
    assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{:012}.pcap", a.0));
    assert_eq!(judge(&path), sent_a);
    assert_eq!(bench.read(a), sent_a);
    assert!(bench.segments().len() > 4, "the stream spans segments");
    assert_eq!(bench.read(b).len(), 600);
    let stats = bench.store.stats();
    assert_eq!((stats.packets, stats.refused_packets, stats.errors, stats.extractions), (1800, 0, 0, 2));
}

#[test]
fn what_is_committed_is_there_at_once_and_what_is_not_is_not() {
    // The queue would wait for an hour: a reader has it written.
    let mut bench = Bench::new(|c| c.flush_age = Duration::from_secs(3600));
    let stream = bench.stream(0);
    assert!(matches!(bench.store.path(stream), Err(StoreError::Unknown(_))));
    let mut all = bench.send(stream, 0..3, 50);
    assert_eq!(bench.read(stream), all);
    let later = Sent::nth(stream, 3, 50);
    bench.append(stream, &later);
    assert_eq!(bench.read(stream), all, "not committed yet");
    bench.commit();
    all.push(later);
    assert_eq!(bench.read(stream), all);
}

#[test]
fn a_file_at_hand_is_reused_and_a_longer_one_takes_its_place() {
    let mut bench = Bench::new(|_| {});
    let stream = bench.stream(0);
    let mut all = bench.send(stream, 0..10, 100);
    let path = bench.store.path(stream).unwrap();
    let mut handed_out = File::open(&path).unwrap();
    let first = handed_out.metadata().unwrap();
    assert_eq!(bench.store.path(stream).unwrap(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), first.ino(), "nothing was made anew");
    assert_eq!(bench.store.stats().extractions, 1);

    all.extend(bench.send(stream, 10..30, 100));
    assert_eq!(bench.store.path(stream).unwrap(), path);
    assert_eq!(judge(&path), all);
    let mut old = Vec::new();
    handed_out.read_to_end(&mut old).unwrap();
    assert_eq!(old.len() as u64, first.len(), "who reads the old file keeps it");

    std::fs::write(&path, b"spoilt").unwrap();
    assert_eq!(judge(&bench.store.path(stream).unwrap()), all);
    std::fs::remove_file(&path).unwrap();
    all.extend(bench.send(stream, 30..31, 100));
    assert_eq!(judge(&bench.store.path(stream).unwrap()), all);
    let left: Vec<_> = std::fs::read_dir(bench.store.folder()).unwrap().collect();
    assert_eq!(left.len(), 1, "no unfinished files are left");
}

#[test]
fn link_types_that_mix_make_pcapng() {
    let mut bench = Bench::new(|c| c.interfaces = Some(named("eth")));
    let stream = bench.stream(0);
    let mut all = bench.send(stream, 0..2, 10);
    assert!(bench.store.path(stream).unwrap().ends_with(format!("{stream}.pcap")));
    for (n, link) in [(2, 113), (3, 1), (4, 60_000)] {
        let packet = Sent { link, ..Sent::nth(stream, n, 11) };
        bench.append(stream, &packet);
        all.push(packet);
    }
    bench.commit();
    let path = bench.store.path(stream).unwrap();
    assert!(path.ends_with(format!("{stream}.pcapng")));
    assert_eq!(read(&path), all);
    all.extend(bench.send(stream, 5..6, 12));
    assert_eq!(bench.read(stream), all);
    assert_eq!(std::fs::read_dir(bench.store.folder()).unwrap().count(), 1);
    assert_eq!(read(&bench.segments()[0]), all, "the segment is a capture file as well");

    let bytes = std::fs::read(&bench.segments()[0]).unwrap();
    let mut reader = pcap_file::pcapng::PcapNgReader::new(&bytes[..]).unwrap();
    while let Some(block) = reader.next_block() {
        block.unwrap();
    }
    assert_eq!(reader.interfaces().len(), 3);
    assert!(format!("{:?}", reader.interfaces()[0]).contains("eth2"));
}

#[test]
fn odd_packets_are_kept_as_they_are() {
    let mut bench = Bench::new(|_| {});
    let stream = bench.stream(0);
    let odd = [
        Sent { time: 0, link: 1, original_len: 0, data: vec![] },
        Sent { time: 4_294_967_295_999_999_999, link: 1, original_len: 1, data: vec![7; 300_000] },
        Sent { time: 5, link: 1, original_len: u32::MAX, data: vec![1, 2, 3] },
    ];
    odd.iter().for_each(|packet| bench.append(stream, packet));
    bench.commit();
    assert_eq!(bench.read(stream), odd);
}

#[test]
fn numbers_that_are_no_streams_of_ours_are_unknown_and_harmless() {
    let mut bench = Bench::new(|_| {});
    for id in [0, u64::MAX, 1 << 48, bench.stream(5).0] {
        assert!(matches!(bench.store.path(StreamId(id)), Err(StoreError::Unknown(_))), "{id}");
    }
    for id in [0, u64::MAX, (1 << 48) - 1] {
        bench.append(StreamId(id), &Sent::nth(StreamId(1), 0, 20));
        bench.commit();
        assert!(matches!(bench.store.path(StreamId(id)), Err(StoreError::Unknown(_))), "{id}");
    }
    let stream = bench.stream(0);
    let sent = bench.send(stream, 0..1, 20);
    assert_eq!(bench.read(stream), sent);
    assert_eq!(bench.store.stats().packets, 4);
}

#[test]
fn files_are_their_owners_only() {
    let mut bench = Bench::new(|_| {});
    let stream = bench.stream(0);
    bench.send(stream, 0..1, 20);
    let path = bench.store.path(stream).unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    for folder in ["segments", "streams"] {
        assert_eq!(mode(&bench.folder.path().join(folder)), 0o700);
    }
    let links = files(&bench.folder.path().join("segments"), "links");
    for file in bench.segments().iter().chain(&links).chain([&path, &bench.folder.path().join("next-stream")])
    {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_temporary_store_leaves_nothing() {
    let (store, mut appenders) = SegmentStore::temporary(2, |c| c.flush_bytes = 1).unwrap();
    assert_eq!(store.stream_ids(2), None);
    let ids: Vec<_> = (0..2).map(|w| store.stream_ids(w).unwrap()).collect();
    for (worker, &(first, step)) in ids.iter().enumerate() {
        assert_eq!((first.0 % 2, step), (worker as u64, 2));
        Sent::nth(first, 0, 60).append(appenders[worker].as_mut(), Some(first));
        appenders[worker].commit();
        assert_eq!(read(&store.path(first).unwrap()), [Sent::nth(first, 0, 60)]);
    }
    let folder = store.folder();
    drop(store);
    assert!(folder.exists(), "the appenders still write there");
    drop(appenders);
    assert!(!folder.parent().unwrap().exists());
}

/// tshark reads every file, and agrees on every packet.
#[test]
fn tshark_agrees() {
    if Command::new("tshark").arg("--version").output().is_err() {
        eprintln!("tshark is not installed: this judge was not asked");
        return;
    }
    let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
    let (stream, other) = (bench.stream(0), bench.stream(1));
    let mut sent = Vec::new();
    for n in 0..40 {
        sent.extend(bench.send(stream, n * 10..n * 10 + 10, 60 + n as usize));
        bench.send(other, n * 10..n * 10 + 10, 1400);
    }
    for path in bench.segments().iter().chain([&bench.store.path(other).unwrap()]) {
        let output = Command::new("tshark").arg("-r").arg(path).output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    }
    let fields = ["frame.time_epoch", "frame.len", "frame.cap_len"].map(|f| ["-e", f]).concat();
    let path = bench.store.path(stream).unwrap();
    let output =
        Command::new("tshark").args(["-T", "fields"]).args(fields).arg("-r").arg(path).output().unwrap();
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    let expected: Vec<String> = sent
        .iter()
        .map(|p| {
            let (seconds, nanos) = (p.time / 1_000_000_000, p.time % 1_000_000_000);
            format!("{seconds}.{nanos:09}\t{}\t{}", p.original_len, p.data.len())
        })
        .collect();
    assert_eq!(lines, expected);
}

#[derive(Clone, Debug)]
enum Step {
    Append { stream: u64, len: usize, link: u16 },
    Commit,
    Path { stream: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let link = prop_oneof![40 => Just(1_u16), 1 => Just(101)];
    let step = prop_oneof![
        12 => (0_u64..6, 0_usize..3000, link).prop_map(|(stream, len, link)| Step::Append { stream, len, link }),
        2 => Just(Step::Commit),
        1 => (0_u64..6).prop_map(|stream| Step::Path { stream }),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any order of appends, commits and readings gives, at each reading, just what was committed of the stream.
    #[test]
    fn any_order_of_steps(steps in steps()) {
        let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
        let mut committed: HashMap<StreamId, Vec<Sent>> = HashMap::new();
        let mut batch: Vec<(StreamId, Sent)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { stream, len, link } => {
                    let stream = bench.stream(stream);
                    let packet = Sent { link, ..Sent::nth(stream, n as u32, len) };
                    bench.append(stream, &packet);
                    batch.push((stream, packet));
                }
                Step::Commit => {
                    bench.commit();
                    batch.drain(..).for_each(|(s, p)| committed.entry(s).or_default().push(p));
                }
                Step::Path { stream } => {
                    let stream = bench.stream(stream);
                    match committed.get(&stream) {
                        Some(sent) => prop_assert_eq!(&bench.read(stream), sent),
                        None => prop_assert!(bench.store.path(stream).is_err()),
                    }
                }
            }
        }
    }
}
