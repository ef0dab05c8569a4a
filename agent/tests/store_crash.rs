//! A process that stores packets is killed at random moments: the store opens again, has everything that is older than
//! its flush bound, nothing that was never sent, and every file is accepted by others' tools.
//!
//! `REMORA_CRASHES=200` kills that often (default 8).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::capture::file::FileSource;
use agent::capture::{PacketSource, Progress};
use agent::pcap::{PcapStore as _, SegmentStore, StoreConfig};
use agent_core::item::StreamId;
use agent_core::{LinkType, Origin, Packet, Timestamp};

const STREAMS: u64 = 8;
const FLUSH_AGE: Duration = Duration::from_millis(50);
/// What a busy machine may add to the flush age.
const SLACK: Duration = Duration::from_millis(500);
/// Notes come every millisecond; for longer than this between two, the process was not let run, nor did it age.
const STALL: Duration = Duration::from_millis(20);
const CHILD: &str = "REMORA_CRASH_CHILD";

fn config(dir: &Path) -> StoreConfig {
    let mut config = StoreConfig::new(dir.join("store"));
    config.segment_bytes = 2 << 20;
    config.max_bytes = 96 << 20;
    config.flush_age = FLUSH_AGE;
    config.flush_bytes = 64 << 10;
    config.reserve_bytes = Some(0);
    config
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// The `n`th packet of a stream, unlike any other.
fn data(stream: StreamId, n: u64) -> Vec<u8> {
    let mut data = format!("{stream} {n} ").into_bytes();
    data.resize(40 + (n * 37 % 300) as usize, b'.');
    data
}

/// The process that is killed: stores for ever, and notes after each commit how far it has come and when.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let (store, mut appenders) = SegmentStore::open(config(&dir), 1).unwrap();
    let (first, step) = store.stream_ids(0).unwrap();
    let mut notes = OpenOptions::new().create(true).append(true).open(dir.join("notes")).unwrap();
    notes.write_all(&[first.0.to_le_bytes(), step.to_le_bytes()].concat()).unwrap();
    for n in 0..u64::MAX {
        for s in 0..STREAMS {
            let stream = StreamId(first.0 + s * step);
            let bytes = data(stream, n);
            let packet = Packet {
                time: Timestamp(1_700_000_000_000_000_000 + n),
                link: LinkType(147),
                data: &bytes,
                original_len: bytes.len() as u32,
                origin: Origin::default(),
            };
            appenders[0].append(Some(stream), &packet);
        }
        if n % 8 == 7 {
            appenders[0].commit();
            notes.write_all(&[(n + 1).to_le_bytes(), now().to_le_bytes()].concat()).unwrap();
            std::thread::sleep(Duration::from_micros(700));
        }
    }
}

/// Starts the process, lets it live for a while, kills it. Gives the time of that.
fn run(dir: &Path, life: Duration) -> u64 {
    // What it says when it dies by a signal is of no interest, and it says nothing else.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = SystemTime::now() + Duration::from_secs(20);
    while std::fs::metadata(dir.join("notes")).map_or(0, |meta| meta.len()) < 32 {
        assert!(SystemTime::now() < deadline && child.try_wait().unwrap().is_none(), "it does not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(life);
    let killed = now();
    child.kill().unwrap();
    child.wait().unwrap();
    killed
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut source = FileSource::open(path).unwrap();
    let mut packets = Vec::new();
    while source.poll(1000, Duration::ZERO, &mut |p| packets.push(p.data.to_vec())).unwrap() != Progress::End
    {
    }
    assert!(!source.truncated(), "{} is cut short", path.display());
    packets
}

/// Opens what the killed process left, and holds it against what it had noted.
fn check(dir: &Path, killed: u64) {
    let notes = std::fs::read(dir.join("notes")).unwrap();
    let pairs: Vec<[u64; 2]> = notes
        .chunks_exact(16)
        .map(|pair| [0, 8].map(|at| u64::from_le_bytes(pair[at..at + 8].try_into().unwrap())))
        .collect();
    let [first, step] = pairs[0];
    let (mut age, mut next, bound) = (0, killed, (FLUSH_AGE + SLACK).as_nanos() as u64);
    let old = pairs[1..].iter().rev().find(|[_, at]| {
        age += next.saturating_sub(*at).min(STALL.as_nanos() as u64);
        next = *at;
        age >= bound
    });
    let least = old.map_or(0, |[n, _]| *n);
    let most = pairs[1..].last().map_or(0, |[n, _]| *n) + 8;
    let (store, appenders) = SegmentStore::open(config(dir), 1).unwrap();
    for s in 0..STREAMS {
        let stream = StreamId(first + s * step);
        let stored = match store.path(stream) {
            Ok(path) => read(&path),
            Err(error) => {
                assert_eq!(least, 0, "{error}");
                continue;
            }
        };
        let count = stored.len() as u64;
        assert!((least..=most).contains(&count), "{count} packets, not {least} to {most}");
        assert!(
            (0..count).all(|n| stored[n as usize] == data(stream, n)),
            "stream {stream}: not what was sent"
        );
    }
    drop((store, appenders));
    others_accept(&dir.join("store/segments"));
}

fn others_accept(segments: &Path) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(segments).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "pcapng"));
    files.sort();
    accept(Command::new("capinfos").arg("-c").args(&files));
    // Only the last ones are new.
    for file in files.iter().rev().take(2) {
        accept(
            Command::new("tshark")
                .args(["-n", "-c", "100000", "-T", "fields", "-e", "frame.number", "-r"])
                .arg(file),
        );
    }
}

fn accept(command: &mut Command) {
    let Ok(output) = command.output() else {
        eprintln!("{command:?} is not to be had here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("cut short"), "{command:?}: {said}");
}

#[test]
fn what_was_flushed_survives_kill_9_at_any_moment() {
    let crashes = std::env::var("REMORA_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(8_u64);
    let dir = tempfile::tempdir().unwrap();
    let mut seed = now();
    for round in 0..crashes {
        // xorshift: any moment will do.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let life = Duration::from_micros(seed % 1_500_000);
        let killed = run(dir.path(), life);
        check(dir.path(), killed);
        std::fs::remove_file(dir.path().join("notes")).unwrap();
        // Every tenth begins anew, so that the store is small at times, too.
        if round % 10 == 9 {
            std::fs::remove_dir_all(dir.path().join("store")).unwrap();
        }
    }
}
