//! What the PCAP store takes, for `cargo xtask bench store`. Answers in JSON.
#![expect(clippy::print_stdout, reason = "that is its output")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent::capture::file::FileSource;
use agent::capture::{PacketSource as _, Progress};
use agent::pcap::{Overflow, PcapAppender, PcapStore as _, SegmentStore, StoreConfig};
use agent_core::item::StreamId;
use agent_core::{LinkType, Origin, Packet, Timestamp};
use anyhow::{Context as _, bail, ensure};
use testkit::synth::{CLIENT, Capture, SERVER};

/// Packets taken before the store is committed: what a worker takes.
const BATCH: u64 = 512;
/// Bytes of a packet in the large store.
const SIZE: usize = 600;
/// Streams that are asked for, and packets of each.
const SOUGHT: u64 = 200;
const LENGTH: u64 = 1000;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", file, packets] => make(Path::new(file), packets.parse()?),
        ["write", file, dir] => write(Path::new(file), Path::new(dir)),
        ["path", dir, gib] => path(Path::new(dir), gib.parse()?),
        ["memory", dir] => memory(Path::new(dir)),
        _ => bail!("make FILE PACKETS | write FILE DIR | path DIR GIB | memory DIR"),
    }
}

/// Small requests over kept-alive connections, a hundred exchanges each.
fn make(file: &Path, packets: u64) -> anyhow::Result<()> {
    let mut capture = Capture::create(file)?;
    let (request, response) = (vec![b'q'; 110], vec![b'r'; 850]);
    for port in (10_000..60_000).cycle() {
        if capture.packets() >= packets {
            break;
        }
        let mut connection = capture.open(port)?;
        for _ in 0..100 {
            capture.send(&mut connection, CLIENT, &request)?;
            capture.send(&mut connection, SERVER, &response)?;
        }
        capture.close(connection)?;
    }
    Ok(())
}

/// One worker's store, and its streams' numbers.
struct Rig {
    store: Arc<SegmentStore>,
    appender: Box<dyn PcapAppender>,
    first: u64,
    step: u64,
}

impl Rig {
    fn open(dir: &Path, adjust: impl FnOnce(&mut StoreConfig)) -> anyhow::Result<Self> {
        let mut config = StoreConfig::new(dir);
        config.overflow = Overflow::Wait;
        adjust(&mut config);
        let (store, mut appenders) = SegmentStore::open(config, 1)?;
        let (first, step) = store.stream_ids(0).context("no worker")?;
        Ok(Self { store, appender: appenders.remove(0), first: first.0, step })
    }

    fn id(&self, n: u64) -> StreamId {
        StreamId(self.first + self.step * n)
    }

    fn append(&mut self, stream: u64, n: u64, data: &[u8]) {
        let packet = Packet {
            time: Timestamp(1_700_000_000_000_000_000 + n * 1000),
            link: LinkType::ETHERNET,
            data,
            original_len: data.len() as u32,
            origin: Origin::default(),
        };
        self.appender.append(Some(self.id(stream)), &packet);
        if n.is_multiple_of(BATCH) {
            self.appender.commit();
        }
    }
}

/// Reads a capture file and stores all of it.
fn write(file: &Path, dir: &Path) -> anyhow::Result<()> {
    let Rig { store, mut appender, first, step } = Rig::open(dir, |_| {})?;
    let mut streams: HashMap<[u8; 2], StreamId> = HashMap::new();
    let mut source = FileSource::open(file)?;
    let mut packets = 0_u64;
    loop {
        let progress = source.poll(BATCH as usize, Duration::ZERO, &mut |packet| {
            packets += 1;
            // One server: the client's port tells the streams apart.
            let port = |at: usize| packet.data.get(at..at + 2)?.first_chunk::<2>().copied();
            let key = [port(34), port(36)].into_iter().flatten().find(|p| *p != 8080_u16.to_be_bytes());
            let next = StreamId(first + step * streams.len() as u64);
            let stream = key.map(|key| *streams.entry(key).or_insert(next));
            appender.append(stream, packet);
        })?;
        appender.commit();
        if progress == Progress::End {
            break;
        }
    }
    drop(appender);
    let stats = store.stats();
    ensure!(stats.packets == packets && stats.refused_packets == 0, "not all was stored: {stats:?}");
    println!("{}", serde_json::json!({ "packets": packets, "bytes": stats.bytes }));
    Ok(())
}

/// Fills a store with streams that lie among others, and asks for them while writing goes on.
fn path(dir: &Path, gib: u64) -> anyhow::Result<()> {
    let mut rig = Rig::open(dir, |config| config.max_bytes = (gib + 1) << 30)?;
    let data = vec![7_u8; SIZE];
    let total = (gib << 30) / (SIZE as u64 + 56);
    let span = total / SOUGHT;
    for n in 0..total {
        // Every hundredth packet is the stream's, as of a connection among a hundred.
        let its_own = n % 100 == 0 && n % span / 100 < LENGTH;
        let sought = n / 100 * 100 / span;
        rig.append(if its_own { sought } else { SOUGHT + 1 + n % 97 }, n, &data);
    }
    rig.appender.commit();
    let counts = count_of(total, span);
    let (store, ids) = (Arc::clone(&rig.store), (0..SOUGHT).map(|n| rig.id(n)).collect::<Vec<_>>());
    let done = AtomicBool::new(false);
    let (mut times, mut rate) = (Vec::new(), 0.0);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let (done, data) = (&done, &data);
        let writer = scope.spawn(move || {
            let (started, mut n) = (Instant::now(), total);
            while !done.load(Ordering::Relaxed) {
                n += 1;
                rig.append(SOUGHT + 1 + n % 97, n, data);
                if n.is_multiple_of(BATCH) {
                    // 100,000 packets a second: what a busy node brings to one worker.
                    let due = Duration::from_micros((n - total) * 10);
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                }
            }
            (n - total) as f64 / started.elapsed().as_secs_f64()
        });
        let asked = ids.iter().zip(&counts).try_for_each(|(&stream, &count)| -> anyhow::Result<()> {
            let started = Instant::now();
            let file = store.file(stream)?;
            times.push(started.elapsed().as_secs_f64() * 1000.0);
            ensure!(file.packets == count, "{} packets, not {count}", file.packets);
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        rate = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        asked
    })?;
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let answer = serde_json::json!({
        "stored_bytes": store.stats().stored_bytes,
        "calls": times.len(),
        "packets_each": counts.iter().min(),
        "median_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "packets_per_second_meanwhile": rate as u64,
    });
    println!("{answer}");
    Ok(())
}

/// How many packets each stream that is sought has.
fn count_of(total: u64, span: u64) -> Vec<u64> {
    let mut counts = vec![0; SOUGHT as usize];
    for n in (0..total).step_by(100).filter(|n| n % span / 100 < LENGTH) {
        if let Some(count) = counts.get_mut((n / span) as usize) {
            *count += 1;
        }
    }
    counts
}

/// Memory of the index for a million streams: the store does not know which of them are closed.
fn memory(dir: &Path) -> anyhow::Result<()> {
    const STREAMS: u64 = 1_000_000;
    let mut rig = Rig::open(dir, |_| {})?;
    for n in 0..STREAMS {
        rig.append(n, n, b"x");
    }
    rig.appender.commit();
    let stats = rig.store.stats();
    ensure!(stats.index_evicted == 0, "{stats:?}");
    println!("{}", serde_json::json!({ "streams": STREAMS, "index_bytes": stats.index_bytes }));
    Ok(())
}
