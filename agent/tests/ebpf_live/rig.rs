//! A capture under test: its sources read by threads, every packet kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent::capture::ebpf::{Balance, Live, LiveConfig, RingSource};
use agent::capture::{PacketSource as _, Progress};
use agent_core::packet::{LinkType, Origin};
use agent_core::time::Timestamp;
use testkit::netns::{NetNs, VethPair};

/// Says so and gives true if the test cannot run: not root.
pub(crate) fn skipped() -> bool {
    let skip = !testkit::netns::is_root();
    if skip {
        eprintln!("skipped: live capture needs root");
    }
    skip
}

/// A captured packet, copied.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) ring: usize,
    pub(crate) time: Timestamp,
    pub(crate) link: LinkType,
    pub(crate) data: Vec<u8>,
    pub(crate) original_len: u32,
    pub(crate) origin: Origin,
    /// How long it took from the kernel to here.
    pub(crate) delay: Duration,
}

pub(crate) struct Rig {
    pub(crate) live: Live,
    readers: Vec<JoinHandle<(RingSource, Vec<Seen>)>>,
    stop: Arc<AtomicBool>,
}

/// What a capture came to.
pub(crate) struct Outcome {
    pub(crate) seen: Vec<Seen>,
    pub(crate) balance: Balance,
    pub(crate) sources: Vec<RingSource>,
}

impl Rig {
    /// Starts to capture in `namespace` and to read.
    pub(crate) fn start(namespace: &NetNs, config: &LiveConfig) -> Self {
        let (live, sources) = namespace.run(|| Live::start(config)).expect("capture starts");
        Self::read(live, sources)
    }

    pub(crate) fn read(live: Live, sources: Vec<RingSource>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let readers = sources
            .into_iter()
            .enumerate()
            .map(|(ring, source)| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || read(ring, source, &stop))
            })
            .collect();
        Self { live, readers, stop }
    }

    /// Ends the capture and gives everything. Waits first until the packets on their way have arrived.
    pub(crate) fn finish(mut self) -> Outcome {
        settle(&mut self.live);
        self.live.stop().unwrap();
        self.stop.store(true, Ordering::Relaxed);
        let (sources, seen): (Vec<_>, Vec<_>) = self.readers.into_iter().map(|r| r.join().unwrap()).unzip();
        let balance = self.live.balance().unwrap();
        Outcome { seen: seen.into_iter().flatten().collect(), balance, sources }
    }
}

/// Waits until no packet has come for a while.
pub(crate) fn settle(live: &mut Live) {
    let mut last = live.balance().unwrap();
    loop {
        std::thread::sleep(Duration::from_millis(60));
        let now = live.balance().unwrap();
        if now == last {
            return;
        }
        last = now;
    }
}

fn read(ring: usize, mut source: RingSource, stop: &AtomicBool) -> (RingSource, Vec<Seen>) {
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let progress = source
            .poll(256, Duration::from_millis(500), &mut |packet| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                seen.push(Seen {
                    ring,
                    time: packet.time,
                    link: packet.link,
                    data: packet.data.to_vec(),
                    original_len: packet.original_len,
                    origin: packet.origin,
                    delay: now.saturating_sub(Duration::from_nanos(packet.time.0)),
                });
            })
            .unwrap();
        match progress {
            Progress::End => break,
            Progress::Idle if stop.load(Ordering::Relaxed) => break,
            _ => assert!(Instant::now() < deadline, "capture does not end"),
        }
    }
    (source, seen)
}

impl Outcome {
    /// The books balance, to the packet and to the byte, and what was captured has arrived here.
    pub(crate) fn assert_balanced(&self) {
        let Self { seen, balance, sources } = self;
        assert_eq!(balance.offered, balance.accounted(), "{balance:?}");
        for (ring, (books, source)) in balance.rings.iter().zip(sources).enumerate() {
            let (mut packets, mut bytes) = (0, 0);
            for packet in seen.iter().filter(|p| p.ring == ring) {
                packets += 1;
                bytes += u64::from(packet.original_len);
            }
            assert_eq!(
                (books.captured.packets, books.captured.bytes),
                (packets, bytes),
                "ring {ring}: {balance:?}"
            );
            assert_eq!(source.malformed(), 0);
        }
    }

    /// Balanced, and nothing was lost.
    pub(crate) fn assert_lossless(&self) {
        self.assert_balanced();
        assert_eq!(self.balance.total().dropped().packets, 0, "{:?}", self.balance);
    }
}

/// A capture of the client's end of a pair, with four workers.
pub(crate) fn on_client() -> LiveConfig {
    LiveConfig {
        interfaces: vec![VethPair::CLIENT.to_owned()],
        workers: 4,
        ring_bytes: Some(8 << 20),
        ..LiveConfig::default()
    }
}
