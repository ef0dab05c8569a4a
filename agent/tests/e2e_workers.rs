//! `remora replay --workers N`: several workers tell what one tells, in its order.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod common;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Ran, remora, root, script};
use pcap_file::DataLink;
use serde_json::Value;
use testkit::mangle::{Capture, Packet};

/// Numbers of workers that are held against one.
const WORKERS: [u16; 3] = [2, 4, 7];

/// What a run told, but for what it says of itself.
#[derive(PartialEq, Eq, Debug)]
struct Told {
    code: i32,
    items: String,
    streams: String,
    stats: Value,
}

fn replay(capture: &Path, workers: u16, more: &[&str]) -> Ran {
    let count = workers.to_string();
    let mut args: Vec<OsString> = vec!["replay".into(), capture.into(), "--workers".into(), count.into()];
    args.extend(more.iter().map(Into::into));
    remora(args).never_panicked()
}

fn told(capture: &Path, workers: u16, more: &[&str]) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let streams = dir.path().join("streams.jsonl");
    let all = [&["--stats", "--streams", streams.to_str().unwrap()], more].concat();
    let ran = replay(capture, workers, &all);
    let (streams, stats) = (fs::read_to_string(streams).unwrap_or_default(), ran.stats());
    Told { code: ran.code, items: ran.stdout, streams, stats }
}

/// Holds some numbers of workers against one; how many items there are.
fn agree(capture: &Path, more: &[&str]) -> usize {
    let one = told(capture, 1, more);
    for workers in WORKERS {
        let several = told(capture, workers, more);
        assert!(
            one == several,
            "{} {more:?}: 1 and {workers} workers\n{one:#?}\n{several:#?}",
            capture.display()
        );
    }
    one.items.lines().count()
}

fn pcaps(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_capture = |path: &PathBuf| path.to_string_lossy().contains(".pcap");
    let mut found: Vec<_> = entries.filter(is_capture).collect();
    found.sort();
    found
}

fn fixtures() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/fixtures")).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path().join("input.pcap")).collect();
    found.retain(|path| path.exists());
    found.sort();
    assert!(found.len() > 5);
    found
}

#[test]
fn every_recording_comes_out_the_same() {
    let items: usize = fixtures().iter().map(|capture| agree(capture, &["--json", "--hash"])).sum();
    assert!(items > 100, "{items}");
}

/// Captures from elsewhere, where there are any: `REMORA_CORPUS` names a folder.
#[test]
fn every_capture_of_the_corpus_comes_out_the_same() {
    let named = std::env::var_os("REMORA_CORPUS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root().join("../shared/pcaps"));
    if !folder.is_dir() {
        eprintln!("skipped: no folder {}", folder.display());
        return;
    }
    for capture in pcaps(&folder) {
        agree(&capture, &["--json", "--hash"]);
    }
}

/// Many recordings at once, a packet of each in turn; so many milliseconds between two packets.
fn mixed(to: &Path, step_ms: u64, change: impl Fn(Vec<Packet<'static>>) -> Vec<Packet<'static>>) {
    let mut all: Vec<std::vec::IntoIter<Packet<'static>>> = Vec::new();
    for path in fixtures() {
        let Ok(capture) = Capture::read(&path) else { continue };
        if capture.link == DataLink::ETHERNET {
            let owned = |p: &Packet<'_>| Packet { data: Cow::Owned(p.data.to_vec()), ..p.borrowed() };
            all.push(capture.packets.iter().take(400).map(owned).collect::<Vec<_>>().into_iter());
        }
    }
    assert!(all.len() > 3);
    let mut packets = Vec::new();
    while !all.is_empty() {
        all.retain_mut(|one| one.next().map(|packet| packets.push(packet)).is_some());
    }
    let mut packets = change(packets);
    for (i, packet) in packets.iter_mut().enumerate() {
        // Three packets in a row have the same time.
        packet.time = Duration::from_secs(1_700_000_000) + Duration::from_millis(step_ms * (i as u64 / 3));
    }
    Capture { link: DataLink::ETHERNET, packets }.save(to).unwrap();
}

/// Nobody closes: time-outs, and what waits at the end, bring most of it.
fn without_ends(mut packets: Vec<Packet<'static>>) -> Vec<Packet<'static>> {
    // FIN or RST, where the IP header has no options.
    packets.retain(|p| p.data.get(14) != Some(&0x45) || p.data.get(47).is_none_or(|flags| flags & 5 == 0));
    let most = packets.len() * 9 / 10;
    packets.truncate(most);
    packets
}

#[test]
fn time_outs_come_with_the_packets_that_bring_them() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1, 70, 4_000, 40_000] {
        let capture = dir.path().join("mixed.pcap");
        mixed(&capture, step, |packets| packets);
        agree(&capture, &["--json"]);
        mixed(&capture, step, without_ends);
        agree(&capture, &["--json"]);
    }
}

/// Cuts large IPv4 packets into fragments, of which some come from behind.
fn fragmented(packets: Vec<Packet<'static>>) -> Vec<Packet<'static>> {
    const PIECE: usize = 256;
    let mut out = Vec::new();
    for (id, packet) in packets.into_iter().enumerate() {
        let data = packet.data.to_vec();
        let total = usize::from(data[16]) << 8 | usize::from(data[17]);
        if data[12..15] != [8, 0, 0x45] || total < 20 + 2 * PIECE || data.len() < 14 + total {
            out.push(packet);
            continue;
        }
        let (head, payload) = data[..14 + total].split_at(34);
        let count = payload.len().div_ceil(PIECE);
        let mut pieces: Vec<_> = payload
            .chunks(PIECE)
            .enumerate()
            .map(|(i, piece)| {
                let mut data = [head, piece].concat();
                let length = (20 + piece.len()) as u16;
                let place = (i * PIECE / 8) as u16 | if i + 1 < count { 0x2000 } else { 0 };
                data[16..18].copy_from_slice(&length.to_be_bytes());
                data[18..20].copy_from_slice(&(id as u16).to_be_bytes());
                data[20..22].copy_from_slice(&place.to_be_bytes());
                Packet { time: packet.time, original: data.len() as u32, data: Cow::Owned(data) }
            })
            .collect();
        match id % 3 {
            0 => {}
            1 => pieces.reverse(),
            _ => pieces.rotate_left(1),
        }
        out.extend(pieces);
    }
    out
}

#[test]
fn fragments_reach_the_worker_of_their_flow() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("fragments.pcap");
    mixed(&capture, 1, fragmented);
    assert!(agree(&capture, &["--json", "--hash"]) > 50);
    let stats = replay(&capture, 4, &["--stats", "--quiet"]).stats();
    assert!(stats["fragments"].as_u64().unwrap() > 100, "{stats}");
}

#[test]
fn filters_and_the_text_for_people_are_the_same() {
    let capture = root().join("tests/fixtures/shop/input.pcap");
    assert!(agree(&capture, &[]) > 0, "as text");
    assert!(agree(&capture, &["--json", "--filter", "http && status_code < 300"]) > 0);
    // Numbers are known only where all workers' finds are together.
    let of = |filter| agree(&capture, &["--json", "--filter", filter]);
    assert!(of("index % 2 == 0") > of("index == 3"));
    assert_eq!(of("index == 3"), 1);
    agree(&capture, &["--quiet"]);
    agree(&capture, &["--json", "--no-redact"]);
}

/// A writer whose reader is slow has its room full: the one worker makes lines itself then, which are to be the same, in order.
#[test]
fn what_a_slow_reader_gets_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.pcap");
    let mut capture = testkit::synth::Capture::create(&path).unwrap();
    let mut connections: Vec<_> = (0..4).map(|n| capture.open(40_000 + n).unwrap()).collect();
    for n in 0..400 {
        // Some 20 MB, of which the room and a pipe hold few; every tenth is long alone.
        let body = format!("{{\"n\":\"{n}\"}},").repeat(if n % 10 == 9 { 60_000 } else { 1_000 });
        let request = format!("GET /{n} HTTP/1.1\r\nHost: shop\r\n\r\n");
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        capture.exchange(&mut connections[n % 4], request.as_bytes(), response.as_bytes()).unwrap();
    }
    connections.into_iter().for_each(|connection| capture.close(connection).unwrap());
    drop(capture);
    let mut slow = Command::new(common::REMORA)
        .args(["replay", "--json"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = slow.stdout.take().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(slow.wait().unwrap().success());
    assert_eq!(text.lines().count(), 400);
    assert!(text == told(&path, 2, &["--json"]).items, "one worker and two tell something else");
}

/// Batches go on together while packets are at hand, and not later than that: nobody waits for what a pipe may bring tomorrow.
#[test]
fn what_came_through_a_pipe_is_told_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("few.pcap");
    let mut capture = testkit::synth::Capture::create(&path).unwrap();
    let mut connection = capture.open(40_000).unwrap();
    for _ in 0..300 {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n".to_owned() + &"x".repeat(400);
        capture.exchange(&mut connection, b"GET / HTTP/1.1\r\n\r\n", response.as_bytes()).unwrap();
    }
    drop((capture, connection));
    let mut replay = Command::new(common::REMORA)
        .args(["replay", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (replay.stdin.take().unwrap(), replay.stdout.take().unwrap());
    stdin.write_all(&fs::read(&path).unwrap()).unwrap();
    let (told, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(told.send(line)));
    });
    for n in 0..300 {
        let line = lines.recv_timeout(Duration::from_secs(20));
        assert!(line.is_ok(), "{n} of 300 while the pipe is open");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", replay.id())).unwrap();
    let huge = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    assert!(huge.is_none_or(|huge| huge.trim() == "0"), "huge pages: {status}");
    drop(stdin);
    assert!(replay.wait().unwrap().success());
    reader.join().unwrap();
}

const SCRIPT: &str = r"
function onItemCaptured(item) { console.log('item ' + item.index + ' ' + item.worker + ' ' + item.request?.url); }
function onPacketCaptured(packet) { console.log('item packet ' + packet.timestamp + ' ' + packet.length); }
";

#[test]
fn scripts_and_sinks_get_the_same_in_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let capture = root().join("tests/fixtures/shop/input.pcap");
    let file = script(dir.path(), "count.js", SCRIPT);
    let run = |workers: u16| {
        let out = dir.path().join(format!("items-{workers}.jsonl"));
        let sinks = dir.path().join(format!("sinks-{workers}.yaml"));
        fs::write(&sinks, format!("- {{kind: jsonFile, path: '{}'}}\n", out.display())).unwrap();
        let more =
            ["--script", file.to_str().unwrap(), "--sinks", sinks.to_str().unwrap(), "--stats", "--json"];
        let ran = replay(&capture, workers, &more).exits(0);
        let said = |line: &str| line.split_once("item ").map(|(_, said)| said.to_owned());
        // Items and packets each have an order; which of the two comes first is a matter of batches.
        let lines = ran.stderr.lines().filter_map(said);
        let logged: (Vec<String>, Vec<String>) = lines.partition(|line| line.starts_with("packet"));
        let calls = ran.stats()["scripts"]["count.js"]["calls"].clone();
        let numberless = |text: &str| -> Vec<Value> {
            let each = text.lines().map(|line| {
                let mut item: Value = serde_json::from_str(line).unwrap();
                // Packets are stored under the workers' own numbers.
                for number in ["id", "stream"] {
                    item[number] = Value::Null;
                }
                item
            });
            each.collect()
        };
        (logged, calls, numberless(&ran.stdout), numberless(&fs::read_to_string(out).unwrap()))
    };
    let one = run(1);
    assert!(
        !one.0.0.is_empty() && one.1.as_u64().is_some() && one.2.len() > 3 && one.3.len() == one.2.len(),
        "{one:?}"
    );
    for workers in WORKERS {
        assert_eq!(run(workers), one, "{workers} workers");
    }
}

/// The packets of each stored stream, by its client.
fn stored(capture: &Path, workers: u16) -> Vec<(String, Vec<Vec<u8>>)> {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().to_str().unwrap();
    let ran = replay(capture, workers, &["--pcap-dir", store, "--json", "--stats"]).exits(0);
    let list = remora(["streams", "list", "--json", "--pcap-dir", store]).exits(0);
    let mut all = Vec::new();
    for stream in list.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let id = stream["stream"].as_str().or(stream["id"].as_str()).unwrap().to_owned();
        let out = dir.path().join("one.pcap");
        remora(["streams", "pcap", &id, "-o", out.to_str().unwrap(), "--pcap-dir", store]).exits(0);
        let packets = Capture::read(&out).unwrap().packets;
        let items = ran.items().iter().filter(|item| item["stream"] == id.as_str()).count();
        all.push((format!("{items} items"), packets.iter().map(|packet| packet.data.to_vec()).collect()));
    }
    all.sort();
    all
}

#[test]
fn each_stream_is_stored_with_its_packets_whichever_worker_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let fragments = dir.path().join("fragments.pcap");
    mixed(&fragments, 1, fragmented);
    for capture in [root().join("tests/fixtures/shop/input.pcap"), fragments] {
        let one = stored(&capture, 1);
        assert!(one.len() > 2, "{one:?}");
        for workers in WORKERS {
            assert!(stored(&capture, workers) == one, "{}: {workers} workers", capture.display());
        }
    }
}

#[test]
fn files_that_end_or_break_off_are_told_as_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(root().join("tests/fixtures/shop/input.pcap")).unwrap();
    let cut = dir.path().join("cut.pcap");
    fs::write(&cut, &whole[..whole.len() - 7]).unwrap();
    assert!(agree(&cut, &["--json"]) > 0);
    let mut damaged = whole;
    damaged.extend([0xff; 64]);
    let broken = dir.path().join("damaged.pcap");
    fs::write(&broken, damaged).unwrap();
    assert!(agree(&broken, &["--json"]) > 0);
    for workers in WORKERS {
        let ran = replay(&broken, workers, &["--quiet"]).exits(1);
        assert!(ran.stderr.contains("damaged at byte"), "{}", ran.stderr);
    }
    let two = remora(["replay", cut.to_str().unwrap(), cut.to_str().unwrap(), "--json", "--workers", "3"]);
    let one = remora(["replay", cut.to_str().unwrap(), cut.to_str().unwrap(), "--json"]);
    assert_eq!(two.stdout, one.stdout);
}

#[test]
fn a_number_of_workers_that_cannot_be_is_refused_with_the_limits() {
    for workers in ["0", "65", "many"] {
        let ran = remora(["replay", "x.pcap", "--workers", workers]).exits(2);
        assert!(ran.stderr.contains("1..=64") || workers == "many", "{}", ran.stderr);
    }
}
