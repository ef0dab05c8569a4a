//! Frames as they come: tags that the kernel takes off or not, fragments, interfaces that are not Ethernet.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use agent::capture::afpacket::AfPacketConfig;
use agent_core::packet::{Direction, LinkType};
use testkit::netns::{NetNs, VethPair};

use super::rig::{Rig, on_client, skipped};

/// Sends Ethernet frames out of an interface.
fn send(namespace: &NetNs, interface: &str, frames: &[Vec<u8>]) {
    // Until the kernel has noticed that the other end is up, all that is sent is thrown away.
    let ready = || namespace.ip(&format!("-o link show {interface}")).unwrap().contains("qdisc noqueue");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < deadline, "{interface} does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
    namespace.run(|| {
        // SAFETY: no memory is involved; the result is checked.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(socket >= 0);
        // SAFETY: just made, owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        for frame in frames {
            // SAFETY: all zeros is a valid sockaddr_ll.
            let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
            to.sll_ifindex = index as i32;
            // SAFETY: buffer and address outlive the call and have the lengths given.
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    size_of::<libc::sockaddr_ll>() as u32,
                )
            };
            assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
        }
    });
}

/// An IPv4 packet of protocol TCP between hosts .1 and .9, or back.
fn ipv4(back: bool, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend(((20 + payload.len()) as u16).to_be_bytes());
    ip.extend([0, 1]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, 6, 0, 0]);
    let (from, to) = if back { (9, 1) } else { (1, 9) };
    ip.extend([10, 77, 0, from, 10, 77, 0, to]);
    ip.extend(payload);
    let sum: u32 = ip[..20].chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
    ip[10..12].copy_from_slice(&(!((sum & 0xFFFF) + (sum >> 16)) as u16).to_be_bytes());
    ip
}

fn tcp(from: u16, to: u16) -> Vec<u8> {
    let mut tcp = [from.to_be_bytes(), to.to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    tcp.extend([7; 60]);
    tcp
}

fn ethernet(payload: &[u8]) -> Vec<u8> {
    tagged(&[], 0x0800, payload)
}

fn tagged(tags: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 8];
    for (id, tag) in (7_u8..).zip(tags) {
        frame.extend(tag.to_be_bytes());
        frame.extend([0x20, id]);
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv6(back: bool, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((payload.len() as u16).to_be_bytes());
    ip.extend([6, 64]);
    for last in if back { [9, 1] } else { [1, 9] } {
        ip.extend([0xFD, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    ip.extend(payload);
    ip
}

/// What goes out has its tags in the bytes; of what comes in, the kernel takes the outer one off. Seen are the same bytes, and both
/// directions, and the same stream without tags, go to one worker.
#[test]
fn tags_are_put_back_and_do_not_part_a_stream() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &AfPacketConfig { ports: vec![8080], ..on_client() });
    let mut flows: Vec<Vec<Vec<u8>>> = Vec::new();
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for port in 40_000..40_020 {
        for v6 in [false, true] {
            let mut flow = Vec::new();
            for tags in [&[][..], &[0x8100], &[0x88A8], &[0x88A8, 0x8100]] {
                for (to, frames) in [(false, &mut out), (true, &mut back)] {
                    let segment = if to { tcp(8080, port) } else { tcp(port, 8080) };
                    let frame = match v6 {
                        true => tagged(tags, 0x86DD, &ipv6(to, &segment)),
                        false => tagged(tags, 0x0800, &ipv4(to, 0, &segment)),
                    };
                    frames.push(frame.clone());
                    flow.push(frame);
                }
            }
            flows.push(flow);
        }
    }
    send(&pair.client, VethPair::CLIENT, &out);
    send(&pair.server, VethPair::SERVER, &back);
    std::thread::sleep(Duration::from_millis(30));
    let outcome = rig.finish();
    assert_eq!(outcome.seen.len(), out.len() + back.len());
    let mut workers = HashSet::new();
    for flow in &flows {
        let mut by = HashSet::new();
        for frame in flow {
            let of: Vec<_> = outcome.seen.iter().filter(|p| p.data == *frame).collect();
            let [packet] = of.as_slice() else { panic!("{} of {frame:x?}", of.len()) };
            assert_eq!(packet.original_len as usize, frame.len());
            by.insert(packet.worker);
        }
        assert_eq!(by.len(), 1, "parted");
        workers.extend(by);
    }
    assert_eq!(workers.len(), 4, "40 flows");
}

/// Fragments of all datagrams between two hosts go to one worker, whatever their ports, both ways.
#[test]
fn fragments_go_by_their_addresses() {
    if skipped() {
        return;
    }
    const MORE: u16 = 0x2000;
    let pair = VethPair::new().unwrap();
    let rig = Rig::start(&pair.client, &AfPacketConfig { ports: vec![8080], ..on_client() });
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for port in 40_000..40_016 {
        for (to, frames) in [(false, &mut out), (true, &mut back)] {
            let segment = if to { tcp(8080, port) } else { tcp(port, 8080) };
            frames.push(ethernet(&ipv4(to, MORE, &segment[..40])));
            frames.push(ethernet(&ipv4(to, 5, &segment[40..])));
        }
        // Of another port: its first fragment is filtered, later ones of it cannot be told apart.
        out.push(ethernet(&ipv4(false, MORE, &tcp(port, 8081)[..40])));
    }
    send(&pair.client, VethPair::CLIENT, &out);
    send(&pair.server, VethPair::SERVER, &back);
    std::thread::sleep(Duration::from_millis(30));
    let outcome = rig.finish();
    let expected: HashSet<_> = out.iter().chain(&back).filter(|f| f[36..38] != [31, 145]).cloned().collect();
    let seen: HashSet<_> = outcome.seen.iter().map(|p| p.data.clone()).collect();
    assert_eq!((outcome.seen.len(), &seen), (64, &expected));
    let workers: HashSet<_> = outcome.seen.iter().map(|p| p.worker).collect();
    assert_eq!(workers.len(), 1);
    let outgoing = outcome.seen.iter().filter(|p| p.origin.direction == Some(Direction::Egress)).count();
    assert_eq!(outgoing, 32);
}

/// A tun or tap interface of a kind of interfaces, whose other end is this descriptor.
fn tun(namespace: &NetNs, flags: i16, kind: Option<libc::c_ulong>) -> std::fs::File {
    const TUNSETIFF: u64 = 0x4004_54CA;
    const TUNSETLINK: u64 = 0x4004_54CD;
    const IFF_NO_PI: i16 = 0x1000;
    let file = namespace.run(|| {
        let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        // SAFETY: all zeros is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"tun0") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = flags | IFF_NO_PI;
        // SAFETY: TUNSETIFF reads and writes an ifreq, which outlives the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        if let Some(kind) = kind {
            // SAFETY: TUNSETLINK takes a number.
            let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETLINK as _, kind) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        }
        file
    });
    namespace.ip("addr add 10.77.0.9/24 dev tun0").unwrap();
    namespace.ip("link set tun0 up").unwrap();
    file
}

const IFF_TUN: i16 = 1;
const IFF_TAP: i16 = 2;

fn on_tun() -> AfPacketConfig {
    AfPacketConfig { interfaces: vec![String::from("tun0")], ports: vec![8080], ..on_client() }
}

#[test]
fn raw_ip_interfaces_are_read_without_a_link_header() {
    if skipped() {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let mut tun = tun(&namespace, IFF_TUN, None);
    let rig = Rig::start(&namespace, &on_tun());
    // To a port where nobody listens: the kernel answers with a reset.
    let packet = ipv4(false, 0, &tcp(40_000, 8080));
    tun.write_all(&packet).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let outcome = rig.finish();
    let first = &outcome.seen[0];
    assert_eq!((first.link, &first.data), (LinkType::RAW, &packet));
    assert_eq!(first.origin.direction, Some(Direction::Ingress));
    assert!(outcome.seen.iter().all(|p| p.link == LinkType::RAW && p.worker == first.worker));
}

/// Of a kind whose link header nobody else can read, whether there is one or none, it is a cooked one.
#[test]
fn other_interfaces_are_cooked() {
    if skipped() {
        return;
    }
    // ARPHRD_PPP without a header, ARPHRD_FCFABRIC with one of 14 bytes.
    for (flags, kind, [high, low]) in [(IFF_TUN, 512, [2, 0]), (IFF_TAP, 787, [3, 19])] {
        let namespace = NetNs::new().unwrap();
        let mut tun = tun(&namespace, flags, Some(kind));
        let rig = Rig::start(&namespace, &on_tun());
        for port in [8080, 8081] {
            let packet = ipv4(false, 0, &tcp(40_000, port));
            let frame = if flags == IFF_TAP { ethernet(&packet) } else { packet };
            tun.write_all(&frame).unwrap();
        }
        std::thread::sleep(Duration::from_millis(30));
        let outcome = rig.finish();
        let incoming: Vec<_> =
            outcome.seen.iter().filter(|p| p.origin.direction == Some(Direction::Ingress)).collect();
        let [first] = incoming.as_slice() else { panic!("kind {kind}: {} packets", incoming.len()) };
        assert_eq!((first.link, first.original_len as usize), (LinkType::LINUX_SLL, first.data.len()));
        assert_eq!(first.data[16..], ipv4(false, 0, &tcp(40_000, 8080)), "kind {kind}");
        assert_eq!(first.data[2..4], [high, low]);
        assert_eq!(first.data[14..16], [8, 0]);
        assert!(outcome.seen.iter().all(|p| p.worker == first.worker));
    }
}
