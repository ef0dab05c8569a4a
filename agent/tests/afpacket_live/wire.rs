//! Frames as they come: tags that the kernel takes off or not, fragments, interfaces that are not Ethernet.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use agent::capture::afpacket::AfPacketConfig;
use agent_core::packet::{Direction, LinkType};
use testkit::netns::{NetNs, VethPair};

use super::rig::{Rig, bytes, echo, exchange, on_client, skipped};

/// VLAN interfaces over both ends of a pair: `tags` from the outside in.
fn vlan(pair: &VethPair, tags: &[(&str, u16)]) {
    for (namespace, base, number) in
        [(&pair.client, VethPair::CLIENT, 1), (&pair.server, VethPair::SERVER, 2)]
    {
        let mut below = base.to_owned();
        for (protocol, id) in tags {
            let name = format!("v{id}");
            namespace
                .ip(&format!("link add link {below} name {name} type vlan protocol {protocol} id {id}"))
                .unwrap();
            namespace.ip(&format!("link set {name} up")).unwrap();
            below = name;
        }
        namespace.ip(&format!("addr add 10.79.0.{number}/24 dev {below}")).unwrap();
        namespace.ip(&format!("addr add fd79::{number}/64 dev {below} nodad")).unwrap();
    }
}

/// On the trunk the tags are there, in both directions, and both directions go to one worker; with offload and without.
#[test]
fn tags_are_put_back_and_do_not_part_a_stream() {
    if skipped() {
        return;
    }
    let single: &[(&str, u16)] = &[("802.1Q", 7)];
    let double: &[(&str, u16)] = &[("802.1ad", 70), ("802.1Q", 7)];
    for (tags, offload) in [(single, true), (single, false), (double, true), (double, false)] {
        let pair = VethPair::new().unwrap();
        vlan(&pair, tags);
        if !offload {
            for (namespace, name) in [(&pair.client, VethPair::CLIENT), (&pair.server, VethPair::SERVER)] {
                let all = ["-K", name, "txvlan", "off", "tx-vlan-stag-hw-insert", "off"];
                namespace.command("ethtool", &all).unwrap();
            }
        }
        let rig = Rig::start(&pair.client, &on_client());
        let mut served = Vec::new();
        for bind in ["10.79.0.2:0", "[fd79::2]:0"] {
            let (address, server) = echo(&pair.server, bind, 6);
            for _ in 0..6 {
                let (local, sent) = exchange(&pair.client, address, 5, 700);
                served.push((local, address, sent));
            }
            server.join().unwrap();
        }
        let outcome = rig.finish();
        let mut workers = HashSet::new();
        for (local, address, sent) in served {
            let (there, by) = bytes(&outcome.seen, local, address);
            let (back, and_by) = bytes(&outcome.seen, address, local);
            assert!(there == sent && back == sent, "{tags:?}, offload {offload}");
            assert_eq!((by.len(), &by), (1, &and_by), "{tags:?}, offload {offload}: parted");
            workers.extend(by);
        }
        assert!(workers.len() > 1, "{workers:?}");
        let mut expected = Vec::new();
        for (protocol, id) in tags {
            expected.extend(if *protocol == "802.1Q" { [0x81, 0x00] } else { [0x88, 0xA8] });
            expected.extend(id.to_be_bytes());
        }
        for packet in &outcome.seen {
            assert_eq!(packet.data[12..12 + expected.len()], expected, "{tags:?}, offload {offload}");
            assert_eq!(packet.data.len(), packet.original_len as usize);
        }
        // The interface on top sees the same without tags.
        let top = format!("v{}", tags[tags.len() - 1].1);
        let rig = Rig::start(&pair.client, &AfPacketConfig { interfaces: vec![top], ..on_client() });
        let (address, server) = echo(&pair.server, "10.79.0.2:0", 1);
        let (local, sent) = exchange(&pair.client, address, 5, 100);
        server.join().unwrap();
        let outcome = rig.finish();
        assert_eq!(bytes(&outcome.seen, address, local).0, sent);
        assert!(outcome.seen.iter().all(|p| p.data[12..14] == [8, 0]));
    }
}

/// Sends Ethernet frames out of an interface.
fn send(namespace: &NetNs, interface: &str, frames: &[Vec<u8>]) {
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
    [&[0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 8, 8, 0], payload].concat()
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
    let mut tun = tun(&namespace);
    let interfaces = vec![String::from("tun0")];
    let rig = Rig::start(&namespace, &AfPacketConfig { interfaces, ports: vec![8080], ..on_client() });
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

/// GRE shows a link header of its own kind, which nobody else can read: it is cooked.
#[test]
fn other_interfaces_are_cooked() {
    if skipped() {
        return;
    }
    let pair = VethPair::new().unwrap();
    for (namespace, number, other) in [(&pair.client, 1, 2), (&pair.server, 2, 1)] {
        let ends = format!("local 10.77.0.{number} remote 10.77.0.{other}");
        namespace.ip(&format!("link add gre9 type gre {ends}")).unwrap();
        namespace.ip(&format!("addr add 10.80.0.{number}/24 dev gre9")).unwrap();
        namespace.ip("link set gre9 up").unwrap();
    }
    let interfaces = vec![String::from("gre9")];
    let rig = Rig::start(&pair.client, &AfPacketConfig { interfaces, ..on_client() });
    let (address, server) = echo(&pair.server, "10.80.0.2:0", 1);
    let (local, sent) = exchange(&pair.client, address, 20, 500);
    server.join().unwrap();
    let outcome = rig.finish();
    let (there, by) = bytes(&outcome.seen, local, address);
    let (back, and_by) = bytes(&outcome.seen, address, local);
    assert!(there == sent && back == sent);
    assert_eq!((by.len(), by), (1, and_by));
    for packet in &outcome.seen {
        assert_eq!((packet.link, packet.data.len()), (LinkType::LINUX_SLL, packet.original_len as usize));
        let outgoing = packet.origin.direction == Some(Direction::Egress);
        // Kind of packet, kind of interface (778: GRE), EtherType.
        assert_eq!(packet.data[..4], [0, if outgoing { 4 } else { 0 }, 3, 10]);
        assert_eq!(packet.data[14..16], [8, 0]);
    }
}
