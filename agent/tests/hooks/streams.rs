//! `onStreamClosed`, `onPcapReady` and `pcap.snapshot`.

use std::sync::Arc;

use agent::captured::{ClosedStream, Known, Name};
use agent_core::item::{Endpoint, StreamId};
use agent_core::{DirectionSummary, Reason, StreamSummary, Timestamp};

use crate::rig::{PATIENCE, Rig, item};

fn closed(stream: u64) -> Arc<ClosedStream> {
    let end = |last: u8, port| Endpoint { addr: [10, 0, 0, last].into(), port, cgroup: 0 };
    let summary = StreamSummary {
        stream: StreamId(stream),
        client: end(1, 40_000),
        server: end(2, 80),
        packets: 9,
        bytes: 999,
        syn: 1,
        synack: 1,
        fin: 2,
        rst: 0,
        first: Timestamp(1),
        last: Timestamp(2),
        items: 3,
        reason: Reason::Fin,
        c2s: DirectionSummary::default(),
        s2c: DirectionSummary::default(),
    };
    let dst = Name::from(Known::pod("shop", "prod"));
    Arc::new(ClosedStream { summary, src: Name::default(), dst })
}

#[test]
fn scripts_are_told_of_streams_that_are_over_and_of_their_files() {
    let rig = Rig::new();
    let text = "function onItemCaptured(data) { console.log('item ' + data.stream) }
        const onStreamClosed = (info) => console.log(JSON.stringify(info));
        function onPcapReady(info) { console.log(JSON.stringify(info)); file.copy(info.path, 'x'); console.log('copied') }";
    let (scripts, failures) = rig.load(&[rig.script("a.js", text)]);
    assert_eq!(failures, []);
    assert!(scripts.wants_streams());
    scripts.deliver(&item(0));
    scripts.stream_closed(&closed(1));
    // The store says that this one has expired.
    scripts.stream_closed(&closed(2));
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE).remove(0);
    let lines = rig.log.console();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[0], "item 000000000001");
    let info: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    let expected = serde_json::json!({
        "stream": "000000000001",
        "src": { "name": "10.0.0.1", "ip": "10.0.0.1", "port": "40000", "namespace": "" },
        "dst": { "name": "shop", "ip": "10.0.0.2", "port": "80", "namespace": "prod", "pod": "shop" },
        "packets": 9, "bytes": 999, "items": 3, "reason": "fin",
    });
    assert_eq!(info, expected);
    let ready: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!(
        (&ready["stream"], &ready["size"], &ready["packets"]),
        (&"000000000001".into(), &12.into(), &3.into())
    );
    assert!(ready["path"].as_str().unwrap().ends_with("/000000000001.pcap"));
    assert!(lines[4].contains("\"000000000002\""));
    let about = rig.log.about();
    assert!(
        about.iter().any(|line| line.contains("onPcapReady is not called: stream 000000000002 has expired"))
    );
    assert_eq!((stats.calls, stats.errors, stats.dropped), (4, 0, 0));
}

#[test]
fn streams_are_not_kept_for_scripts_that_do_not_ask_and_a_hook_that_throws_is_told() {
    let rig = Rig::new();
    let (scripts, _) = rig.load(&[rig.script("a.js", "function onItemCaptured() {}")]);
    assert!(!scripts.wants_streams());
    scripts.stream_closed(&closed(1));
    assert!(scripts.drain(PATIENCE));
    assert_eq!(scripts.shutdown(PATIENCE)[0].calls, 0);

    let text = "function onStreamClosed(info) { if (info.stream.endsWith('1')) throw new Error('odd'); console.log(info.stream) }";
    let (scripts, _) = rig.load(&[rig.script("b.js", text)]);
    scripts.stream_closed(&closed(1));
    scripts.stream_closed(&closed(102));
    assert!(scripts.drain(PATIENCE));
    let stats = scripts.shutdown(PATIENCE).remove(0);
    assert_eq!((stats.calls, stats.errors), (2, 1));
    assert_eq!(rig.log.console(), ["000000000102"]);
    assert!(rig.log.about().iter().any(|line| line.contains("onStreamClosed threw Error: odd")));
}

#[test]
fn a_snapshot_takes_one_stream_several_or_none() {
    let rig = Rig::new();
    let lines = rig.body(
        "for (const streams of [undefined, null, data.stream, [data.stream, '101'], 102])
            console.log(pcap.snapshot(streams).split('/').pop());",
    );
    let expected = ["all", "all", "1", "2", "1"].map(|what| format!("snapshot-of-{what}.pcap"));
    assert_eq!(lines, expected);
    for (call, error) in [
        ("pcap.snapshot([])", "Error: pcap.snapshot: streams: names no stream; leave it out for all of them"),
        (
            "pcap.snapshot('../x')",
            "Error: pcap.snapshot: streams: \"../x\" is not a stream number (data.stream is one)",
        ),
        (
            "pcap.snapshot(['1', '2'])",
            "Error: pcap.snapshot: streams: stream 000000000002 has expired from the store",
        ),
        (
            "pcap.snapshot(['1', {}])",
            "TypeError: pcap.snapshot: argument 1 (streams) must be a string, not an object",
        ),
        ("pcap.snapshot(Array(300).fill('1'))", "Error: pcap.snapshot: streams: has more than 256 entries"),
    ] {
        assert_eq!(rig.thrown(call), error);
    }
}
