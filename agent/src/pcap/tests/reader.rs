//! A store's folder, read from outside while it is written.

use std::collections::BTreeMap;

use super::*;
use crate::pcap::{ExportFormat, Select, StoreError, StoreFolder};

fn export(
    folder: &Path,
    select: &Select<'_>,
    format: ExportFormat,
    name: &str,
) -> Result<PathBuf, StoreError> {
    let path = folder.join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    StoreFolder::open(folder)?.export(select, format, &mut file, &mut |_| {})?;
    Ok(path)
}

fn of(stream: StreamId) -> Select<'static> {
    Select { stream: Some(stream), ..Select::default() }
}

/// A packet of a TCP stream from port 40000 + n, so that an identity can be read from it.
fn tcp(n: u16, time: u64) -> Sent {
    let mut data = vec![0; 54];
    data[12..15].copy_from_slice(&[8, 0, 0x45]);
    data[16..18].copy_from_slice(&40_u16.to_be_bytes());
    data[22..34].copy_from_slice(&[64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    data[34..36].copy_from_slice(&(40_000 + n).to_be_bytes());
    data[36..38].copy_from_slice(&80_u16.to_be_bytes());
    data[46..48].copy_from_slice(&[0x50, 0x02]);
    Sent { time, link: 1, original_len: 54, data }
}

#[test]
fn what_is_written_can_be_read_from_outside_at_any_moment() {
    let mut bench = Bench::new(|c| {
        c.segment_bytes = 64 << 10;
        c.flush_age = Duration::from_millis(1);
    });
    let mut sent: BTreeMap<StreamId, Vec<Sent>> = BTreeMap::new();
    for round in 0..20 {
        for n in 0..5 {
            let stream = bench.stream(n);
            sent.entry(stream).or_default().extend(bench.send(stream, round * 20..round * 20 + 20, 300));
        }
        bench.store.path(bench.stream(4)).unwrap();
        for (&stream, sent) in &sent {
            let file = export(bench.folder.path(), &of(stream), ExportFormat::Classic, "out.pcap").unwrap();
            assert_eq!(&judge(&file), sent);
        }
    }
    let mut streams = StoreFolder::open(bench.folder.path()).unwrap().streams(&mut |_| {}).unwrap();
    assert_eq!(streams.len(), 5);
    let last = streams.pop().unwrap();
    let expected = &sent[&last.stream];
    assert_eq!((last.packets, last.bytes), (400, 400 * 300));
    assert_eq!((last.first.0, last.last.0), (expected[0].time, expected[399].time));
    assert_eq!(last.ends, None, "these are no TCP packets");
    let none = export(bench.folder.path(), &of(StreamId(999)), ExportFormat::Ng, "none.pcapng").unwrap();
    assert_eq!(read(&none), []);
    assert!(StoreFolder::open(&bench.folder.path().join("elsewhere")).is_err());
}

#[test]
fn a_span_of_time_is_in_order_over_all_workers_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for run in 0..3_u64 {
        let mut config = StoreConfig::new(folder.path());
        (config.segment_bytes, config.reserve_bytes) = (64 << 10, Some(0));
        let (store, mut appenders) = SegmentStore::open(config, 3).unwrap();
        for n in 0..3000_u64 {
            let worker = (n % 3) as usize;
            let (first, step) = store.stream_ids(worker).unwrap();
            // A little out of order, as rings are.
            let packet = tcp(0, 1_000_000 * (run * 3000 + (n ^ 3)));
            packet.append(appenders[worker].as_mut(), Some(StreamId(first.0 + step * (n % 7))));
            all.push(packet.time);
            if n % 50 == 0 {
                appenders.iter_mut().for_each(|a| a.commit());
            }
        }
    }
    all.sort_unstable();
    let file = export(folder.path(), &Select::default(), ExportFormat::Ng, "all.pcapng").unwrap();
    let times: Vec<u64> = read(&file).iter().map(|p| p.time).collect();
    assert!(times == all);
    let (from, to) = (Timestamp(2_500_000_000), Timestamp(6_500_000_000));
    let select = Select { from: Some(from), to: Some(to), ..Select::default() };
    let file = export(folder.path(), &select, ExportFormat::Classic, "some.pcap").unwrap();
    let times: Vec<u64> = judge(&file).iter().map(|p| p.time).collect();
    assert!(times.into_iter().eq(all.into_iter().filter(|t| (from.0..to.0).contains(t))));
    let nothing: &dyn Fn(Option<StreamId>) -> bool = &|_| false;
    let select = Select { filter: Some(nothing), ..Select::default() };
    let file = export(folder.path(), &select, ExportFormat::Ng, "nothing.pcapng").unwrap();
    assert_eq!(read(&file), []);
}

#[test]
fn an_export_has_names_comments_and_interfaces_as_tshark_sees_them() {
    let mut bench = Bench::new(|c| c.interfaces = Some(named("veth")));
    let (one, two, three) = (bench.stream(0), bench.stream(1), bench.stream(2));
    for n in 0..3 {
        bench.append(one, &tcp(1, 1_700_000_000_000_000_000 + n));
        bench.append(
            two,
            &Sent { link: 101, data: tcp(2, 0).data[14..].to_vec(), ..tcp(2, 1_700_000_000_000_000_100 + n) },
        );
    }
    // The same number in a socket's network namespace is another interface, of unknown name.
    let inside = tcp(3, 1_700_000_000_000_000_200);
    let origin = Origin { interface: 2, at_socket: true, ..Origin::default() };
    bench.appender.as_mut().unwrap().append(Some(three), &Packet { origin, ..inside.packet() });
    bench.commit();
    bench.store.name("10.0.0.2".parse().unwrap(), "shop.prod");
    bench.store.name("2001:db8::1".parse().unwrap(), "six");
    bench.store.note(two, "alert.js: HTTP 500 from shop — \u{1f525}");
    bench.store.path(two).unwrap();
    let file = export(bench.folder.path(), &Select::default(), ExportFormat::Ng, "all.pcapng").unwrap();
    assert_eq!(read(&file).len(), 7);
    let mixed =
        export(bench.folder.path(), &Select::default(), ExportFormat::Classic, "all.pcap").unwrap_err();
    assert!(mixed.to_string().contains("link types 1 and 101"), "{mixed}");
    let Some(said) = tshark(&file) else { return };
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split('\t').collect()).collect();
    let comment = |n: usize| lines[n][0];
    assert_eq!(comment(0), format!("stream {one}: 10.0.0.1:40001 to 10.0.0.2:80 (shop.prod)"));
    let alert = "alert.js: HTTP 500 from shop — \u{1f525}";
    assert_eq!(comment(3), format!("stream {two}: 10.0.0.1:40002 to 10.0.0.2:80 (shop.prod),{alert}"));
    assert!([1, 2, 4, 5].iter().all(|&n| comment(n).is_empty()));
    assert!(lines.iter().all(|line| line[1] == "shop.prod"), "{lines:?}");
    let places: Vec<_> = lines.iter().map(|line| &line[2..]).collect();
    assert!(places[..6].iter().all(|place| *place == ["veth2", "at hook 2"]), "{places:?}");
    assert_eq!(places[6][1], "at socket 2");
    assert!(!places[6][0].contains("veth"), "{places:?}");
    let info = std::process::Command::new("capinfos").arg(&file).output().unwrap();
    assert!(info.status.success(), "{}", String::from_utf8_lossy(&info.stderr));
    let told = String::from_utf8_lossy(&info.stdout).into_owned();
    assert!(told.contains("Name = veth2") && told.contains("Description = at socket 2"), "{told}");
}

/// Comment, resolved destination and interface of each packet; `None` where there is no tshark.
fn tshark(file: &Path) -> Option<String> {
    let mut tshark = std::process::Command::new("tshark");
    tshark.args(["-n", "-NnN", "-r"]).arg(file).args(["-T", "fields", "-E", "aggregator=,"]);
    for field in ["frame.comment", "ip.dst_host", "frame.interface_name", "frame.interface_description"] {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().inspect_err(|error| eprintln!("no tshark: {error}")).ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn segments_that_vanish_while_they_are_read_cost_only_themselves() {
    let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
    let stream = bench.stream(0);
    let sent = bench.send(stream, 0..1000, 1000);
    bench.store.path(stream).unwrap();
    let folder = StoreFolder::open(bench.folder.path()).unwrap();
    for gone in &bench.segments()[..4] {
        std::fs::remove_file(gone).unwrap();
    }
    let mut out = Vec::new();
    let exported = folder.export(&of(stream), ExportFormat::Classic, &mut out, &mut |_| {}).unwrap();
    assert_eq!(exported.vanished, 4);
    let file = bench.folder.path().join("rest.pcap");
    std::fs::write(&file, out).unwrap();
    let rest = judge(&file);
    assert!(sent.ends_with(&rest) && rest.len() as u64 == exported.packets && rest.len() > 500);
}

#[test]
fn the_latest_streams_are_those_of_the_whole_list_however_they_lie_in_segments() {
    let mut bench = Bench::new(|c| c.segment_bytes = 64 << 10);
    // Each of 30 streams goes on through several segments, the first ones longest.
    for round in 0..10 {
        for n in 0..30 {
            let stream = bench.stream(n);
            if round % (n + 1) <= round / 2 {
                bench.send(stream, round as u32 * 10..round as u32 * 10 + 10, 300);
            }
        }
    }
    let folder = bench.close();
    let folder = StoreFolder::open(folder.path()).unwrap();
    let mut all = folder.streams(&mut |_| {}).unwrap();
    assert_eq!(all.len(), 30);
    all.reverse();
    for most in [1, 7, 29, 30, 100] {
        let latest = folder.latest(most, None, &mut |_| {}).unwrap();
        assert_eq!(latest, all[..most.min(30)], "{most}");
        let before = folder.latest(most, Some(all[9].stream), &mut |_| {}).unwrap();
        assert_eq!(before, all[10..(10 + most).min(30)], "{most}");
    }
}
