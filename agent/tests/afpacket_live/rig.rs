//! A capture under test: its sources read by threads, every packet kept.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent::capture::afpacket::{AfPacket, AfPacketConfig, AfPacketSource, Balance};
use agent::capture::{PacketSource as _, Progress};
use agent_core::packet::{LinkType, Origin};
use agent_core::time::Timestamp;
pub(crate) use testkit::echo::echo;
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
    pub(crate) worker: usize,
    pub(crate) time: Timestamp,
    pub(crate) link: LinkType,
    pub(crate) data: Vec<u8>,
    pub(crate) original_len: u32,
    pub(crate) origin: Origin,
    /// How long it took from the kernel to here.
    pub(crate) delay: Duration,
}

pub(crate) struct Rig {
    pub(crate) capture: AfPacket,
    readers: Vec<JoinHandle<Vec<Seen>>>,
}

/// What a capture came to.
pub(crate) struct Outcome {
    pub(crate) seen: Vec<Seen>,
    pub(crate) balance: Balance,
}

impl Rig {
    /// Starts to capture in `namespace` and to read.
    pub(crate) fn start(namespace: &NetNs, config: &AfPacketConfig) -> Self {
        let (capture, sources) = namespace.run(|| AfPacket::start(config)).expect("capture starts");
        Self::read(capture, sources)
    }

    pub(crate) fn read(capture: AfPacket, sources: Vec<AfPacketSource>) -> Self {
        let readers = sources.into_iter().enumerate();
        let readers = readers.map(|(worker, source)| std::thread::spawn(move || read(worker, source)));
        Self { capture, readers: readers.collect() }
    }

    /// Ends the capture and gives everything, with the books balanced.
    pub(crate) fn finish(self) -> Outcome {
        self.capture.stop().unwrap();
        let seen: Vec<Seen> = self.readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        let balance = self.capture.balance().unwrap();
        for (worker, books) in balance.rings.iter().enumerate() {
            assert_eq!(books.taken, books.accounted(), "worker {worker}: {books:?}");
            let of = seen.iter().filter(|packet| packet.worker == worker);
            let (packets, bytes) =
                of.fold((0, 0), |(n, bytes), p| (n + 1, bytes + u64::from(p.original_len)));
            assert_eq!((books.captured.packets, books.captured.bytes), (packets, bytes), "{books:?}");
            assert_eq!(books.malformed, 0);
        }
        Outcome { seen, balance }
    }
}

fn read(worker: usize, mut source: AfPacketSource) -> Vec<Seen> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut sink = |packet: &agent_core::Packet<'_>| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        seen.push(Seen {
            worker,
            time: packet.time,
            link: packet.link,
            data: packet.data.to_vec(),
            original_len: packet.original_len,
            origin: packet.origin,
            delay: now.saturating_sub(Duration::from_nanos(packet.time.0)),
        });
    };
    while source.poll(7, Duration::from_millis(500), &mut sink).unwrap() != Progress::End {
        assert!(Instant::now() < deadline, "capture does not end");
    }
    seen
}

/// A capture of the client's end of a pair, with four workers.
pub(crate) fn on_client() -> AfPacketConfig {
    AfPacketConfig {
        interfaces: vec![VethPair::CLIENT.to_owned()],
        workers: 4,
        ring_bytes: Some(8 << 20),
        ..AfPacketConfig::default()
    }
}

/// Sends `count` numbered messages of `size` bytes and a few over one connection: see [`testkit::echo::exchange`].
pub(crate) fn exchange(
    namespace: &NetNs,
    server: SocketAddr,
    count: usize,
    size: usize,
) -> (SocketAddr, Vec<u8>) {
    let message = |number: usize| {
        let mut message = format!("[{number}]").into_bytes();
        message.resize(size + number % 97, b'.');
        message
    };
    testkit::echo::exchange(namespace, server, (0..count).map(message))
}

/// A TCP segment, as found by code that has nothing to do with Remora's own.
#[derive(Clone, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) syn: bool,
    pub(crate) payload: &'a [u8],
}

/// Reads a frame that is TCP, without IPv6 extension headers but the one of BIG TCP.
pub(crate) fn segment(packet: &Seen) -> Segment<'_> {
    let mut ip = match packet.link {
        LinkType::ETHERNET => &packet.data[12..],
        LinkType::RAW => &packet.data[..],
        LinkType::LINUX_SLL => &packet.data[16..],
        other => panic!("{other:?}"),
    };
    if packet.link == LinkType::ETHERNET {
        while matches!(ip[..2], [0x81, 0] | [0x88, 0xA8]) {
            ip = &ip[4..];
        }
        ip = &ip[2..];
    }
    let (src, dst, tcp): (IpAddr, IpAddr, &[u8]) = if ip[0] >> 4 == 4 {
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let end = if len == 0 { ip.len() } else { len.min(ip.len()) };
        let address = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap();
        (address(12).into(), address(16).into(), &ip[usize::from(ip[0] & 15) * 4..end])
    } else {
        let address = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap();
        let start = if ip[6] == 0 { 48 } else { 40 };
        (address(8).into(), address(24).into(), &ip[start..])
    };
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    Segment {
        src: (src, port(0)).into(),
        dst: (dst, port(2)).into(),
        seq: u32::from_be_bytes(tcp[4..8].try_into().unwrap()),
        syn: tcp[13] & 2 != 0,
        payload: &tcp[usize::from(tcp[12] >> 4) * 4..],
    }
}

/// The bytes that went from `src` to `dst`, every one of which must be there, and the workers that saw them.
pub(crate) fn bytes(seen: &[Seen], src: SocketAddr, dst: SocketAddr) -> (Vec<u8>, Vec<usize>) {
    let mut first = HashMap::new();
    let (mut pieces, mut workers) = (Vec::new(), Vec::new());
    for packet in seen {
        let s = segment(packet);
        if (s.src, s.dst) != (src, dst) {
            continue;
        }
        workers.push(packet.worker);
        if s.syn {
            first.insert((), s.seq.wrapping_add(1));
        } else if !s.payload.is_empty() {
            let begin = first.get(&()).expect("payload before a SYN");
            pieces.push((s.seq.wrapping_sub(*begin) as usize, s.payload.to_vec()));
        }
    }
    pieces.sort();
    let mut bytes: Vec<u8> = Vec::new();
    for (offset, payload) in pieces {
        assert!(offset <= bytes.len(), "bytes {} to {offset} are missing", bytes.len());
        let known = (bytes.len() - offset).min(payload.len());
        bytes.extend_from_slice(&payload[known..]);
    }
    workers.sort_unstable();
    workers.dedup();
    (bytes, workers)
}

/// From now on nothing but what the tests send passes the pair: no neighbour discovery, no multicast.
pub(crate) fn hush(pair: &VethPair) {
    let address = |namespace: &NetNs, interface: &str| {
        let text = namespace.ip(&format!("-o link show {interface}")).unwrap();
        text.split_once("link/ether ").unwrap().1.split(' ').next().unwrap().to_owned()
    };
    let (client, server) = (address(&pair.client, VethPair::CLIENT), address(&pair.server, VethPair::SERVER));
    for (namespace, interface, other, lladdr) in
        [(&pair.client, VethPair::CLIENT, 2, server), (&pair.server, VethPair::SERVER, 1, client)]
    {
        namespace
            .ip(&format!("neigh replace 10.77.0.{other} lladdr {lladdr} nud permanent dev {interface}"))
            .unwrap();
        namespace.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
}

/// Packets that an interface has sent and received, as the kernel counts them.
pub(crate) fn passed(namespace: &NetNs, interface: &str) -> u64 {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap();
    let (_, numbers) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == interface)
        .unwrap();
    let numbers: Vec<u64> = numbers.split_whitespace().map(|n| n.parse().unwrap()).collect();
    numbers[1] + numbers[9]
}
