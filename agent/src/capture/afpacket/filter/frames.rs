//! Made-up packets for tests: what they are is known before they are bytes.

use std::net::{IpAddr, SocketAddr};

use agent_core::packet::Direction;
use proptest::prelude::*;

use super::super::bpf::interpreter::Machine;
use super::super::frame::Kind;

/// A packet as it was meant.
#[derive(Clone, Debug)]
pub(in super::super) struct Frame {
    /// Kind of interface, as `linux/if_arp.h` numbers them.
    hardware: u16,
    /// Tags in the bytes.
    tags: Vec<u16>,
    pub(in super::super) src: SocketAddr,
    pub(in super::super) dst: SocketAddr,
    protocol: u8,
    /// Words of IPv4 options.
    options: usize,
    /// IPv6 extension headers before that of fragments: number, and 8-byte (authentication: 4-byte) units more than the least.
    extensions: Vec<(u8, u8)>,
    /// Offset in bytes, a multiple of 8, and whether more come.
    fragment: Option<(u16, bool)>,
    outgoing: bool,
    pub(super) interface: u32,
}

impl Frame {
    /// A TCP segment over Ethernet.
    pub(in super::super) fn tcp(src: &str, dst: &str) -> Self {
        Self {
            hardware: 1,
            tags: Vec::new(),
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol: 6,
            options: 0,
            extensions: Vec::new(),
            fragment: None,
            outgoing: false,
            interface: 1,
        }
    }

    pub(in super::super) fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, ..self.clone() }
    }

    pub(in super::super) fn with_tags(self, tags: Vec<u16>) -> Self {
        // As many as can be gone through, or not.
        let tags = if self.tags.len() > 2 { self.tags.clone() } else { tags };
        Self { tags, ..self }
    }

    pub(in super::super) fn fragment(self, offset: u16, more: bool) -> Self {
        let mut frame = Self { fragment: Some((offset, more)), ..self };
        frame.extensions.truncate(6);
        frame
    }

    fn is_v4(&self) -> bool {
        self.src.is_ipv4()
    }

    /// Whether the rules find TCP in it.
    pub(in super::super) fn is_tcp(&self) -> bool {
        // What a later fragment holds is known by its own header.
        let headers =
            self.extensions.len() + usize::from(self.fragment.is_some()) + usize::from(self.has_ports());
        let readable = self.is_v4() || headers <= 8;
        self.protocol == 6 && (self.kind() != Kind::Ethernet || self.tags.len() <= 2) && readable
    }

    /// Its ports, unless it is a later fragment.
    pub(super) fn has_ports(&self) -> bool {
        self.fragment.is_none_or(|(offset, _)| offset == 0)
    }

    pub(super) fn direction(&self) -> Direction {
        if self.outgoing { Direction::Egress } else { Direction::Ingress }
    }

    pub(super) fn is_repeated(&self) -> bool {
        self.hardware == 772 && self.outgoing
    }

    pub(super) fn kind(&self) -> Kind {
        match self.hardware {
            1 | 772 => Kind::Ethernet,
            0xFFFE => Kind::Raw,
            _ => Kind::Cooked,
        }
    }

    pub(super) fn ether_type(&self) -> u16 {
        if self.is_v4() { 0x0800 } else { 0x86DD }
    }

    /// Bytes of its link header.
    fn link_header(&self) -> usize {
        match self.kind() {
            Kind::Ethernet => 14 + 4 * self.tags.len(),
            Kind::Raw => 0,
            // Whatever it has there.
            Kind::Cooked => 5,
        }
    }

    pub(in super::super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0xEE; self.link_header()];
        if self.kind() == Kind::Ethernet {
            bytes.truncate(12);
            for tag in &self.tags {
                bytes.extend(tag.to_be_bytes());
                bytes.extend([0, 7]);
            }
            bytes.extend(self.ether_type().to_be_bytes());
        }
        if self.is_v4() {
            self.ipv4(&mut bytes);
        } else {
            self.ipv6(&mut bytes);
        }
        if self.has_ports() {
            bytes.extend(self.src.port().to_be_bytes());
            bytes.extend(self.dst.port().to_be_bytes());
            bytes.extend([0; 16]);
        } else {
            bytes.extend([0x55; 20]);
        }
        bytes
    }

    fn ipv4(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + 20 + 4 * self.options, 1);
        let ip = &mut bytes[start..];
        ip[0] = 0x45 + self.options as u8;
        let (offset, more) = self.fragment.unwrap_or((0, false));
        // "Don't fragment" means nothing here.
        let field = (offset / 8) | (u16::from(more) << 13) | (u16::from(self.fragment.is_none()) << 14);
        ip[6..8].copy_from_slice(&field.to_be_bytes());
        ip[9] = self.protocol;
        for (at, end) in [(12, self.src), (16, self.dst)] {
            let IpAddr::V4(address) = end.ip() else { panic!("mixed families") };
            ip[at..at + 4].copy_from_slice(&address.octets());
        }
    }

    fn ipv6(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + 40, 0x60);
        let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
        for (number, more) in &self.extensions {
            let unit = if *number == 51 { 4 } else { 8 };
            let mut header = vec![0xAA; 8 + usize::from(*more) * unit];
            header[1] = *more;
            chain.push((*number, header));
        }
        if let Some((offset, more)) = self.fragment {
            let [high, low] = (offset | u16::from(more)).to_be_bytes();
            chain.push((44, vec![0, 0, high, low, 1, 2, 3, 4]));
        }
        let mut next = self.protocol;
        for (number, header) in chain.iter_mut().rev() {
            header[0] = next;
            next = *number;
        }
        bytes[start + 6] = next;
        for (at, end) in [(8, self.src), (24, self.dst)] {
            let IpAddr::V6(address) = end.ip() else { panic!("mixed families") };
            bytes[start + at..start + at + 16].copy_from_slice(&address.octets());
        }
        chain.into_iter().for_each(|(_, header)| bytes.extend(header));
    }

    /// The packet as the kernel's programs see it.
    pub(in super::super) fn machine<'a>(&self, bytes: &'a [u8]) -> Machine<'a> {
        let network = self.link_header().min(bytes.len());
        Machine {
            data: bytes,
            from_link: bytes,
            from_network: &bytes[network..],
            protocol: self.ether_type(),
            packet_type: if self.outgoing { 4 } else { 0 },
            interface: self.interface,
            hardware: u32::from(self.hardware),
        }
    }

    /// The packet as user space sees it.
    pub(super) fn seen(&self, bytes: &[u8]) -> Vec<u8> {
        match self.kind() {
            Kind::Cooked => [&[0; 16], &bytes[self.link_header().min(bytes.len())..]].concat(),
            _ => bytes.to_vec(),
        }
    }
}

/// Few values, so that they meet those of a filter.
fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let port = || prop_oneof![79..82_u16, Just(443), 32_768..32_771_u16];
    let v4 = move || {
        (prop_oneof![Just(10), Just(192)], 0..3_u8, 0..4_u8, port())
            .prop_map(|(a, b, c, port)| SocketAddr::from(([a, 0, b, c], port)))
    };
    let v6 = move || {
        (prop_oneof![Just(0xFD00_u16), Just(0x2001)], 0..3_u16, 0..4_u16, port())
            .prop_map(|(a, b, c, port)| SocketAddr::from(([a, 0, 0, b, 0, 0, 0, c], port)))
    };
    prop_oneof![(v4(), v4()), (v6(), v6())]
}

impl Arbitrary for Frame {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let link = (
            prop_oneof![6 => Just(1_u16), 1 => Just(772), 1 => Just(0xFFFE), 1 => Just(512)],
            proptest::collection::vec(prop_oneof![Just(0x8100_u16), Just(0x88A8)], 0..4),
        );
        let network = (
            prop_oneof![6 => Just(6_u8), 1 => Just(17), 1 => Just(1)],
            0..=10_usize,
            proptest::collection::vec((prop_oneof![Just(0_u8), Just(43), Just(60), Just(51)], 0..5_u8), 0..9),
            proptest::option::weighted(0.3, (prop_oneof![Just(0_u16), Just(8), Just(1480)], any::<bool>())),
        );
        let frame = (link, ends(), network, any::<bool>(), 1..4_u32);
        frame
            .prop_map(|((hardware, tags), (src, dst), network, outgoing, interface)| {
                let (protocol, options, extensions, fragment) = network;
                let v4 = src.is_ipv4();
                Self {
                    hardware,
                    tags: if matches!(hardware, 1 | 772) { tags } else { Vec::new() },
                    src,
                    dst,
                    protocol,
                    options: if v4 { options } else { 0 },
                    extensions: if v4 { Vec::new() } else { extensions },
                    fragment,
                    outgoing,
                    interface,
                }
            })
            .boxed()
    }
}
