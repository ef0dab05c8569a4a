//! Frames as nobody sends them: tags, options, extension headers, fragments, garbage. Each is put on the wire as it is,
//! and must be captured or counted as it should.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use agent::capture::ebpf::{Balance, LiveConfig};
use agent_core::packet::{Direction, LinkType};
use testkit::netns::{NetNs, VethPair};

use super::rig::{Outcome, Rig, on_client, settle, skipped};

pub(crate) const WATCHED: u16 = 8080;

/// Sends Ethernet frames out of the client's interface.
pub(crate) struct Wire {
    socket: OwnedFd,
    index: u32,
}

impl Wire {
    pub(crate) fn new(namespace: &NetNs) -> Self {
        namespace.run(|| {
            // SAFETY: no memory is involved; the result is checked.
            let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            assert!(socket >= 0);
            // SAFETY: just made, owned by nobody else.
            let socket = unsafe { OwnedFd::from_raw_fd(socket) };
            Self { socket, index: nix::net::if_::if_nametoindex(VethPair::CLIENT).unwrap() }
        })
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        self.send_as(&[], frame);
    }

    /// Sends a frame of a page or more of which only the first `linear` bytes are in the skb's linear part.
    pub(crate) fn send_paged(&self, linear: u16, frame: &[u8]) {
        let on = 1;
        // SAFETY: the option's value is an int, which outlives the call.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const on).cast(),
                size_of::<i32>() as u32,
            )
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        // struct virtio_net_hdr: flags, kind of segmentation, length of the headers, three lengths more.
        let [low, high] = linear.to_le_bytes();
        self.send_as(&[0, 0, low, high, 0, 0, 0, 0, 0, 0], frame);
    }

    fn send_as(&self, before: &[u8], frame: &[u8]) {
        let bytes = [before, frame].concat();
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
        to.sll_ifindex = self.index as i32;
        // SAFETY: buffer and address outlive the call and have the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(sent, bytes.len() as isize, "{}", std::io::Error::last_os_error());
    }
}

/// Ethernet with the given tags (EtherTypes) around `payload` of type `ether_type`.
pub(crate) fn ethernet(tags: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 8];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A TCP header from port `from` to the watched port, with some payload.
pub(crate) fn tcp(from: u16, payload: &[u8]) -> Vec<u8> {
    let mut tcp = [from.to_be_bytes(), WATCHED.to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    tcp.extend(payload);
    tcp
}

/// IPv4 with `options` bytes of options (no-operation); `fragment` is the field of flags and offset.
pub(crate) fn ipv4(protocol: u8, options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let total = (header + payload.len()) as u16;
    let mut ip = vec![0x40 | (header / 4) as u8, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 1]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, protocol, 0, 0, 10, 77, 0, 1, 10, 77, 0, 9]);
    ip.extend(vec![1; options]);
    ip.extend(payload);
    ip
}

pub(crate) fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((payload.len() as u16).to_be_bytes());
    ip.extend([next_header, 64]);
    for last in [1, 9] {
        ip.extend([0xFD, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    ip.extend(payload);
    ip
}

/// An extension header of 8 × (1 + `more`) bytes, then `payload`.
fn extension(next_header: u8, more: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 8 + usize::from(more) * 8];
    header[0] = next_header;
    header[1] = more;
    header.extend(payload);
    header
}

/// An authentication header (RFC 4302) of 24 bytes, whose length counts in words of four.
fn authentication(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 24];
    header[..2].copy_from_slice(&[next_header, 4]);
    header.extend(payload);
    header
}

fn fragment6(next_header: u8, offset_and_more: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, 0];
    header.extend(offset_and_more.to_be_bytes());
    header.extend([0, 0, 0, 5]);
    header.extend(payload);
    header
}

/// Sends the frames and gives what became of them.
fn outcome(config: &LiveConfig, frames: &[Vec<u8>]) -> Outcome {
    let pair = VethPair::new().unwrap();
    let mut rig = Rig::start(&pair.client, config);
    settle(&mut rig.live);
    let wire = Wire::new(&pair.client);
    frames.iter().for_each(|frame| wire.send(frame));
    let outcome = rig.finish();
    outcome.assert_lossless();
    outcome
}

fn on_port() -> LiveConfig {
    LiveConfig { ports: vec![WATCHED], ..on_client() }
}

#[test]
fn odd_but_valid_headers_are_captured_byte_for_byte() {
    if skipped() {
        return;
    }
    let segment = tcp(40_000, b"payload");
    let hop = |next, payload: &[u8]| extension(next, 1, payload);
    let frames = [
        ethernet(&[], 0x0800, &ipv4(6, 0, 0, &segment)),
        ethernet(&[], 0x0800, &ipv4(6, 40, 0, &segment)),
        ethernet(&[0x8100], 0x0800, &ipv4(6, 4, 0, &segment)),
        ethernet(&[0x88A8, 0x8100], 0x86DD, &ipv6(6, &segment)),
        ethernet(&[], 0x86DD, &ipv6(6, &segment)),
        ethernet(&[], 0x86DD, &ipv6(0, &hop(43, &hop(60, &hop(6, &segment))))),
        ethernet(&[], 0x86DD, &ipv6(51, &authentication(6, &segment))),
        ethernet(&[], 0x86DD, &ipv6(44, &fragment6(6, 0, &segment))),
    ];
    let outcome = outcome(&on_port(), &frames);
    let mut seen: Vec<_> = outcome.seen.iter().map(|p| p.data.clone()).collect();
    let mut expected = frames.to_vec();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn what_is_not_tcp_or_not_whole_is_counted_as_such() {
    if skipped() {
        return;
    }
    let segment = tcp(40_000, b"payload");
    let before = outcome(&on_port(), &[]).balance;
    let count = |frames: &[Vec<u8>]| outcome(&on_port(), frames).balance;
    let extra = |b: &Balance| (b.filtered.malformed.packets, b.filtered.port.packets);
    assert_eq!(extra(&before), (0, 0));

    let others = [
        ethernet(&[], 0x0806, &[0; 46]),
        ethernet(&[], 0x0800, &ipv4(17, 0, 0, &segment)),
        ethernet(&[], 0x86DD, &ipv6(58, &segment)),
        ethernet(&[], 0x86DD, &ipv6(44, &fragment6(17, 8, &segment))),
        ethernet(&[0x8100, 0x8100, 0x8100], 0x0800, &ipv4(6, 0, 0, &segment)),
    ];
    let balance = count(&others);
    assert!(balance.filtered.other_protocol.packets >= 5 && extra(&balance) == (0, 0), "{balance:?}");
    assert_eq!(balance.total().captured.packets, 0);

    let mut short_header = ipv4(6, 0, 0, &segment);
    short_header[0] = 0x44;
    let malformed = [
        ethernet(&[], 0x0800, &[0x45; 10]),
        ethernet(&[], 0x0800, &short_header),
        ethernet(&[], 0x0800, &ipv4(6, 40, 0, &[])),
        ethernet(&[], 0x86DD, &[0x60; 30]),
        ethernet(&[], 0x86DD, &ipv6(60, &extension(6, 9, &[])[..8])),
        ethernet(&[0x8100], 0x0800, &[])[..16].to_vec(),
    ];
    let balance = count(&malformed);
    assert_eq!((extra(&balance), balance.total().captured.packets), ((6, 0), 0), "{balance:?}");
}

/// A tun interface, whose other end is this descriptor: it takes and gives IP packets.
fn tun(namespace: &NetNs) -> std::fs::File {
    const TUNSETIFF: u64 = 0x4004_54CA;
    const IFF_TUN_NO_PI: i16 = 0x1001;
    let file = namespace.run(|| {
        let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        // SAFETY: all zeros is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"tun0") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = IFF_TUN_NO_PI;
        // SAFETY: TUNSETIFF reads and writes an ifreq, which outlives the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        file
    });
    namespace.ip("addr add 10.77.0.9/24 dev tun0").unwrap();
    namespace.ip("link set tun0 up").unwrap();
    file
}

#[test]
fn raw_ip_interfaces_are_read_without_a_link_header() {
    if skipped() {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let tun = tun(&namespace);
    let rig = Rig::start(&namespace, &LiveConfig { interfaces: vec![String::from("tun0")], ..on_port() });
    assert_reads_raw_ip(rig, tun);
}

/// The programs for them are loaded only then, and their instructions name maps that were taken out long before.
#[test]
fn the_first_raw_ip_interface_may_come_later() {
    if skipped() {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let names = ["eth*", "tun*"].map(String::from);
    let rig = Rig::start(&namespace, &LiveConfig { interfaces: names.to_vec(), ..on_port() });
    // Numbers of descriptors that are free by now are others' from here on.
    let _files: Vec<_> = (0..64).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let tun = tun(&namespace);
    let since = Instant::now();
    while rig.live.attachments().is_empty() {
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", rig.live.changes());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_reads_raw_ip(rig, tun);
}

#[track_caller]
fn assert_reads_raw_ip(rig: Rig, mut tun: std::fs::File) {
    assert_eq!(rig.live.attachments(), ["tun0 (tcx, raw IP)"]);
    // To a port where nobody listens: the kernel answers with a reset.
    let mut packet = ipv4(6, 0, 0, &tcp(40_000, b"payload"));
    let sum: u32 = packet[..20].chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
    packet[10..12].copy_from_slice(&(!((sum & 0xFFFF) + (sum >> 16)) as u16).to_be_bytes());
    tun.write_all(&packet).unwrap();
    let outcome = rig.finish();
    outcome.assert_lossless();
    let first = &outcome.seen[0];
    assert_eq!((first.link, &first.data), (LinkType::RAW, &packet));
    assert_eq!(first.origin.direction, Some(Direction::Ingress));
    assert!(outcome.seen.iter().all(|p| p.link == LinkType::RAW && p.ring == first.ring));
}

/// Later fragments carry no ports: they pass the port filter, and reach the ring of the first one.
#[test]
fn fragments_of_one_datagram_reach_one_ring() {
    if skipped() {
        return;
    }
    const MORE: u16 = 0x2000;
    let mut frames = Vec::new();
    for from in 40_000..40_016 {
        let segment = tcp(from, &[7; 60]);
        frames.push(ethernet(&[], 0x0800, &ipv4(6, 0, MORE, &segment[..40])));
        frames.push(ethernet(&[], 0x0800, &ipv4(6, 0, MORE | 5, &segment[40..64])));
        frames.push(ethernet(&[], 0x0800, &ipv4(6, 0, 8, &segment[64..])));
        frames.push(ethernet(&[], 0x86DD, &ipv6(44, &fragment6(6, 1, &segment[..40]))));
        frames.push(ethernet(&[], 0x86DD, &ipv6(44, &fragment6(6, 40, &segment[40..]))));
    }
    let run = outcome(&on_port(), &frames);
    assert_eq!(run.seen.len(), frames.len(), "{:?}", run.balance);
    for version in [4, 6] {
        let of = run.seen.iter().filter(|p| p.data[14] >> 4 == version);
        let rings: std::collections::HashSet<_> = of.map(|p| p.ring).collect();
        assert_eq!(rings.len(), 1, "IPv{version}: chosen by addresses only");
    }
    // The net decides about them, and a first fragment's port too.
    let elsewhere = LiveConfig { nets: vec!["10.99.0.0/16".parse().unwrap()], ..on_client() };
    let run = outcome(&elsewhere, &frames);
    assert_eq!((run.seen.len(), run.balance.filtered.net.packets), (0, frames.len() as u64));
    let other_port = LiveConfig { ports: vec![WATCHED + 1], ..on_client() };
    let run = outcome(&other_port, &frames);
    assert_eq!((run.seen.len(), run.balance.filtered.port.packets), (16 * 3, 16 * 2));
}
