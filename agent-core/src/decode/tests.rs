//! Layers, one by one; what is cut, what is malformed; fragments.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::Limits;
use crate::testing::{ACK, FIN, SYN, Seg, ethernet, ipv4, udp};
use crate::time::Timestamp;

fn seg() -> Seg {
    Seg::c2s(1, 2, ACK, b"payload")
}

fn tcp(link: LinkType, data: &[u8]) -> TcpPacket<'_> {
    cut(link, data, data.len())
}

fn cut(link: LinkType, data: &[u8], original: usize) -> TcpPacket<'_> {
    match decode(link, data, original as u32) {
        Ok(Decoded::Tcp(t)) => t,
        other => panic!("{other:?}"),
    }
}

fn rejected(link: LinkType, data: &[u8], original: usize) -> Reject {
    match decode(link, data, original as u32) {
        Err(reject) => reject,
        other => panic!("{other:?}"),
    }
}

fn check(t: &TcpPacket<'_>) {
    assert_eq!((t.src_port, t.dst_port), (40_000, 80));
    assert_eq!((t.seq.0, t.ack.0), (1, 2));
    assert!(t.ack_flag() && !t.syn() && !t.fin() && !t.rst());
    assert_eq!((t.payload, t.wire), (&b"payload"[..], 7));
}

#[test]
fn link_layers() {
    let (ip, ip6) = (seg().ipv4(), seg().ipv6(&[], 6));
    let with = |head: &[u8], rest: &[u8]| [head, rest].concat();
    check(&tcp(LinkType::ETHERNET, &seg().ethernet()));
    for link in [LinkType::RAW, LinkType::IPV4, LinkType(12), LinkType(14)] {
        check(&tcp(link, &ip));
    }
    check(&tcp(LinkType::RAW, &ip6));
    check(&tcp(LinkType::IPV6, &ip6));
    check(&tcp(LinkType::NULL, &with(&[2, 0, 0, 0], &ip)));
    check(&tcp(LinkType::NULL, &with(&[0, 0, 0, 2], &ip)));
    check(&tcp(LinkType::NULL, &with(&[30, 0, 0, 0], &ip6)));
    check(&tcp(LinkType::LOOP, &with(&[0, 0, 0, 10], &ip6)));
    let sll = [0, 4, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0];
    check(&tcp(LinkType::LINUX_SLL, &with(&sll, &ip)));
    let sll2 = [0x86, 0xdd, 0, 0, 0, 0, 0, 1, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0];
    check(&tcp(LinkType::LINUX_SLL2, &with(&sll2, &ip6)));
    assert_eq!(rejected(LinkType(147), &ip, ip.len()), Reject::UnknownLink);
    assert_eq!(rejected(LinkType::ETHERNET, &ethernet(0x0806, &[0; 28]), 42), Reject::NotTcp);
}

#[test]
fn tags_make_different_flows() {
    let ip = seg().ipv4();
    let vlan = |kind: u16, id: u16, inner: u16, rest: &[u8]| {
        ethernet(kind, &[&id.to_be_bytes()[..], &inner.to_be_bytes(), rest].concat())
    };
    let plain = seg().ethernet();
    let tagged = vlan(0x8100, 7, 0x0800, &ip);
    let priority = vlan(0x8100, 0xe000, 0x0800, &ip);
    let inner = [&7u16.to_be_bytes()[..], &0x0800u16.to_be_bytes(), &ip].concat();
    let double = vlan(0x88a8, 9, 0x8100, &inner);
    let tags: Vec<u64> = [&plain, &tagged, &priority, &double]
        .iter()
        .map(|data| {
            let t = tcp(LinkType::ETHERNET, data);
            check(&t);
            t.net.tag
        })
        .collect();
    assert_eq!(tags[0], 0);
    assert_eq!(tags[2], 0, "VLAN id 0 is a priority only");
    assert!(tags[1] != 0 && tags[3] != 0 && tags[1] != tags[3]);
    check(&tcp(LinkType::ETHERNET, &ethernet(0x8847, &[&[0, 1, 0, 64, 0, 2, 1, 64][..], &ip].concat())));
    check(&tcp(LinkType::ETHERNET, &ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 60, 0, 0x21][..], &ip].concat())));
}

#[test]
fn tunnels() {
    let frame = seg().ethernet();
    let ip = seg().ipv4();
    let over_udp = |port, head: &[u8], inner: &[u8]| {
        ipv4(17, [1, 1, 1, 1], [2, 2, 2, 2], &udp(port, &[head, inner].concat()))
    };
    let over_gre = |head: &[u8], inner: &[u8]| ipv4(47, [1, 1, 1, 1], [2, 2, 2, 2], &[head, inner].concat());
    let vxlan = |vni: u8| over_udp(4789, &[8, 0, 0, 0, 0, 0, vni, 0], &frame);
    let all = [
        vxlan(1),
        over_udp(8472, &[8, 0, 0, 0, 0, 0, 5, 0], &frame),
        over_udp(4790, &[0x0c, 0, 0, 3, 0, 0, 1, 0], &frame),
        over_udp(4790, &[0x0c, 0, 0, 1, 0, 0, 1, 0], &ip),
        over_udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 1, 0], &frame),
        over_udp(6081, &[2, 0, 0x65, 0x58, 0, 0, 1, 0, 1, 2, 3, 1, 9, 9, 9, 9], &frame),
        over_udp(2152, &[0x30, 0xff, 0, 0, 0, 0, 0, 9], &ip),
        over_udp(2152, &[0x34, 0xff, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0x85, 1, 0, 9, 0], &ip),
        over_gre(&[0, 0, 8, 0], &ip),
        over_gre(&[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1], &ip),
        over_gre(&[0x20, 0, 0x65, 0x58, 0, 0, 7, 0], &frame),
        over_gre(&[0, 0, 0x88, 0xbe], &frame),
        over_gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 3, 0, 0, 0, 0], &frame),
        over_gre(&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0], &frame),
        ipv4(4, [1, 1, 1, 1], [2, 2, 2, 2], &ip),
        ipv4(41, [1, 1, 1, 1], [2, 2, 2, 2], &seg().ipv6(&[], 6)),
    ];
    for (i, data) in all.iter().enumerate() {
        let Ok(Decoded::Tcp(t)) = decode(LinkType::RAW, data, data.len() as u32) else {
            panic!("tunnel {i}: {:?}", decode(LinkType::RAW, data, data.len() as u32))
        };
        check(&t);
    }
    assert_ne!(tcp(LinkType::RAW, &vxlan(1)).net, tcp(LinkType::RAW, &vxlan(2)).net);
    let no_vni = over_udp(4789, &[0, 0, 0, 0, 0, 0, 1, 0], &frame);
    assert_eq!(rejected(LinkType::RAW, &no_vni, no_vni.len()), Reject::NotTcp);
}

#[test]
fn endless_nesting_ends() {
    let mut ip = seg().ipv4();
    for _ in 0..40 {
        ip = ipv4(4, [1, 1, 1, 1], [2, 2, 2, 2], &ip);
    }
    assert_eq!(rejected(LinkType::RAW, &ip, ip.len()), Reject::Malformed(Malformed::Ip));
    let tags = vec![0x81; 400];
    assert!(matches!(rejected(LinkType::ETHERNET, &ethernet(0x8100, &tags), 414), Reject::NotTcp));
}

#[test]
fn lengths_are_those_of_the_ip_header() {
    // Ethernet padding is no payload.
    let mut padded = Seg::c2s(1, 2, ACK, b"").ethernet();
    padded.extend([0; 6]);
    assert_eq!(tcp(LinkType::ETHERNET, &padded).wire, 0);
    // Cut by the snap length: the header says how long the payload was.
    let whole = Seg::c2s(1, 2, ACK, &[b'x'; 1_000]).ethernet();
    let t = cut(LinkType::ETHERNET, &whole[..96], whole.len());
    assert_eq!((t.payload.len(), t.wire), (96 - 54, 1_000));
    // Options of TCP cut: the flags are there, the payload is not.
    let mut options = Seg::c2s(1, 2, SYN, b"").ipv4();
    options[32] = 10 << 4;
    options[3] = 60;
    let t = cut(LinkType::RAW, &options, 60);
    assert!(t.syn() && t.payload.is_empty() && t.wire == 0);
    assert_eq!(rejected(LinkType::RAW, &whole[14..40], whole.len() - 14), Reject::HeaderCut);
    // A super-packet: total length 0 means as long as it was captured.
    let mut tso = Seg::c2s(1, 2, ACK, &[b'x'; 70_000]).ipv4();
    (tso[2], tso[3]) = (0, 0);
    assert_eq!(tcp(LinkType::RAW, &tso).payload.len(), 70_000);
    let mut big = Seg::c2s(1, 2, ACK, &[b'x'; 70_000]).ipv6(&[], 6);
    (big[4], big[5]) = (0, 0);
    assert_eq!(tcp(LinkType::RAW, &big).payload.len(), 70_000);
}

#[test]
fn contradictions_are_malformed() {
    let good = seg().ipv4();
    let with = |at: usize, byte: u8| {
        let mut data = good.clone();
        data[at] = byte;
        rejected(LinkType::RAW, &data, data.len())
    };
    assert_eq!(with(0, 0x43), Reject::Malformed(Malformed::Ip));
    assert_eq!(with(0, 0x55), Reject::Malformed(Malformed::Ip));
    assert_eq!(with(3, 10), Reject::Malformed(Malformed::Ip));
    assert_eq!(with(32, 4 << 4), Reject::Malformed(Malformed::Tcp));
    assert_eq!(with(32, 15 << 4), Reject::Malformed(Malformed::Tcp));
    assert_eq!(with(9, 1), Reject::NotTcp);
    assert_eq!(rejected(LinkType::ETHERNET, &[0; 5], 5), Reject::Malformed(Malformed::Link));
    assert_eq!(rejected(LinkType::RAW, &[], 0), Reject::Malformed(Malformed::Ip));
}

#[test]
fn ipv6_extension_headers() {
    let options = [60, 0, 1, 4, 0, 0, 0, 0];
    let routing = [51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let authentication = [44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let atomic = [6, 0, 0, 0, 0, 0, 0, 9];
    let destination = [43, 0, 1, 4, 0, 0, 0, 0];
    let chain = [&options[..], &destination, &routing, &authentication, &atomic].concat();
    check(&tcp(LinkType::RAW, &seg().ipv6(&chain, 0)));
    let broken = [6, 200, 0, 0, 0, 0, 0, 0];
    let data = seg().ipv6(&broken, 0);
    assert_eq!(rejected(LinkType::RAW, &data, data.len()), Reject::Malformed(Malformed::Ip));
}

/// Cuts an IPv4 packet into fragments of at most `size` payload bytes.
fn fragments(packet: &[u8], size: usize, id: u8) -> Vec<Vec<u8>> {
    let (head, payload) = packet.split_at(20);
    let count = payload.len().div_ceil(size);
    (0..count)
        .map(|i| {
            let piece = &payload[i * size..((i + 1) * size).min(payload.len())];
            let mut data = [head, piece].concat();
            let place = (i * size / 8) as u16 | if i + 1 < count { 0x2000 } else { 0 };
            let length = data.len() as u16;
            data[2..4].copy_from_slice(&length.to_be_bytes());
            (data[4], data[5]) = (0, id);
            data[6..8].copy_from_slice(&place.to_be_bytes());
            data
        })
        .collect()
}

fn insert(all: &mut Fragments, data: &[u8], now: Timestamp, limits: &Limits) -> fragment::Inserted {
    match decode(LinkType::RAW, data, data.len() as u32) {
        Ok(Decoded::Fragment(f)) => all.insert(&f, now, limits),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fragments_in_any_order_make_the_datagram() {
    let packet = Seg::c2s(1, 2, ACK | FIN, &(0..200).collect::<Vec<u8>>()).ipv4();
    let pieces = fragments(&packet, 64, 1);
    let limits = Limits::default();
    for turn in 0..pieces.len() {
        let mut all = Fragments::new(3);
        let mut whole = None;
        for i in 0..pieces.len() {
            assert!(whole.is_none());
            let result = insert(&mut all, &pieces[(i + turn) % pieces.len()], Timestamp(1), &limits);
            assert!(!result.overlap && !result.refused);
            whole = result.whole;
        }
        let whole = whole.unwrap();
        let Ok(Decoded::Tcp(t)) = resume(&whole) else { panic!() };
        assert!(t.fin() && t.payload.len() == 200 && t.payload[199] == 199);
        assert_eq!(all.memory(), 0);
    }
}

#[test]
fn overlapping_fragments_are_told_and_the_first_copy_wins() {
    let packet = Seg::c2s(1, 2, ACK, &[b'a'; 108]).ipv4();
    let mut pieces = fragments(&packet, 64, 1);
    let mut all = Fragments::new(3);
    let limits = Limits::default();
    insert(&mut all, &pieces[0], Timestamp(1), &limits);
    let last = pieces[0].len() - 1;
    pieces[0][last] = b'!';
    assert!(insert(&mut all, &pieces[0], Timestamp(1), &limits).overlap);
    let whole = insert(&mut all, &pieces[1], Timestamp(1), &limits).whole.unwrap();
    assert!(!whole.data.contains(&b'!'));
}

#[test]
fn ipv6_fragments() {
    let tcp = Seg::c2s(1, 2, ACK, &[b'z'; 100]).tcp();
    let limits = Limits::default();
    let mut all = Fragments::new(0);
    let mut whole = None;
    for (from, to, more) in [(64, 120, 0u8), (0, 64, 1)] {
        let mut fragment = vec![6, 0, 0, from as u8 | more, 0, 0, 0, 77];
        fragment.extend(&tcp[from..to]);
        let mut data = Seg::c2s(0, 0, 0, b"").ipv6(&fragment, 44);
        data.truncate(40 + fragment.len());
        data[5] = fragment.len() as u8;
        whole = insert(&mut all, &data, Timestamp(1), &limits).whole;
    }
    let whole = whole.unwrap();
    let Ok(Decoded::Tcp(t)) = resume(&whole) else { panic!() };
    assert_eq!(t.payload, [b'z'; 100]);
}

#[test]
fn fragments_keep_their_budget_and_their_time() {
    let limits = Limits { fragment_memory: 10_000, ..Limits::default() };
    let mut all = Fragments::new(0);
    let packet = Seg::c2s(1, 2, ACK, &[b'a'; 2_000]).ipv4();
    let mut evicted = 0;
    for id in 0..100 {
        let first = &fragments(&packet, 1_024, id)[0];
        evicted += insert(&mut all, first, Timestamp(u64::from(id)), &limits).evicted;
        assert!(all.memory() <= 10_000);
    }
    assert!(evicted > 80);
    let due = all.deadline(&limits).unwrap();
    assert_eq!(all.expire(Timestamp(due.0 - 1), &limits), 0);
    assert_eq!(all.expire(due.after(Duration::from_secs(1)), &limits), 100 - evicted);
    assert_eq!(all.memory(), 0);
    // Past the end, and of no length.
    let mut far = fragments(&packet, 1_024, 1)[1].clone();
    (far[6], far[7]) = (0x1f, 0xff);
    assert!(insert(&mut all, &far, Timestamp(1), &limits).refused);
    let mut empty = fragments(&packet, 1_024, 1)[0][..20].to_vec();
    (empty[2], empty[3]) = (0, 20);
    assert!(insert(&mut all, &empty, Timestamp(1), &limits).refused);
}

proptest! {
    /// No bytes and no length make it panic, and a payload is always within the packet.
    #[test]
    fn anything_decodes_to_something(
        link in prop::sample::select(vec![0u16, 1, 12, 14, 101, 108, 113, 228, 229, 276]),
        base in 0..6usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
        original in 0..200_000u32,
    ) {
        let frame = seg().ethernet();
        let mut data = match base {
            0 => frame,
            1 => seg().ipv4(),
            2 => seg().ipv6(&[60, 0, 0, 0, 0, 0, 0, 0], 0),
            3 => ipv4(17, [1; 4], [2; 4], &udp(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &frame].concat())),
            4 => ipv4(47, [1; 4], [2; 4], &[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], &frame].concat()),
            _ => vec![0x60; 64],
        };
        for (at, byte) in flips {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.truncate(keep.index(data.len() + 1));
        if let Ok(Decoded::Tcp(t)) = decode(LinkType(link), &data, original) {
            prop_assert!(t.payload.len() <= data.len());
            prop_assert!(t.payload.len() <= t.wire);
        }
    }
}

proptest! {
    #[test]
    fn what_is_read_at_once_the_layers_read_the_same(
        cut in 0..120usize,
        longer in 0..40u32,
        flips in prop::collection::vec((0..40usize, any::<u8>()), 0..3),
        total in prop::option::of(0..80u16),
    ) {
        let mut data = seg().ethernet();
        if let Some(total) = total {
            data[16..18].copy_from_slice(&total.to_be_bytes());
        }
        for (at, byte) in flips {
            data[at] = byte;
        }
        let original = data.len() as u32 + longer;
        data.truncate(cut);
        let at_once = decode(LinkType::ETHERNET, &data, original);
        let by_layers = link::link(LinkType::ETHERNET, Frame::new(&data, original));
        prop_assert_eq!(format!("{at_once:?}"), format!("{by_layers:?}"));
    }
}
