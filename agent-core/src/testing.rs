//! Packets for tests, made by hand.

use crate::packet::{Direction, LinkType, Origin, Packet};
use crate::time::Timestamp;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A TCP segment between 10.0.0.1 (client) and 10.0.0.2 (server).
#[derive(Clone, Debug)]
pub(crate) struct Seg {
    pub(crate) from_client: bool,
    pub(crate) client_port: u16,
    pub(crate) server_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl Seg {
    pub(crate) fn c2s(seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Self {
        Self {
            from_client: true,
            client_port: 40_000,
            server_port: 80,
            seq,
            ack,
            flags,
            payload: payload.to_vec(),
        }
    }

    pub(crate) fn s2c(seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Self {
        Self { from_client: false, ..Self::c2s(seq, ack, flags, payload) }
    }

    pub(crate) fn port(self, client_port: u16) -> Self {
        Self { client_port, ..self }
    }

    pub(crate) fn tcp(&self) -> Vec<u8> {
        let (src, dst) = if self.from_client {
            (self.client_port, self.server_port)
        } else {
            (self.server_port, self.client_port)
        };
        let mut b = Vec::new();
        b.extend(src.to_be_bytes());
        b.extend(dst.to_be_bytes());
        b.extend(self.seq.to_be_bytes());
        b.extend(self.ack.to_be_bytes());
        b.extend([5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        b.extend(&self.payload);
        b
    }

    fn ends(&self) -> (u8, u8) {
        if self.from_client { (1, 2) } else { (2, 1) }
    }

    pub(crate) fn ipv4(&self) -> Vec<u8> {
        let (src, dst) = self.ends();
        ipv4(6, [10, 0, 0, src], [10, 0, 0, dst], &self.tcp())
    }

    pub(crate) fn ipv6(&self, extensions: &[u8], first: u8) -> Vec<u8> {
        let (src, dst) = self.ends();
        let tcp = self.tcp();
        let mut b = vec![0x60, 0, 0, 0];
        b.extend(((extensions.len() + tcp.len()) as u16).to_be_bytes());
        b.extend([first, 64]);
        b.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, src]);
        b.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, dst]);
        b.extend(extensions);
        b.extend(tcp);
        b
    }

    pub(crate) fn ethernet(&self) -> Vec<u8> {
        ethernet(0x0800, &self.ipv4())
    }
}

pub(crate) fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0x45, 0];
    b.extend(((20 + payload.len()) as u16).to_be_bytes());
    b.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    b.extend(src);
    b.extend(dst);
    b.extend(payload);
    b
}

pub(crate) fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut b = 50_000u16.to_be_bytes().to_vec();
    b.extend(port.to_be_bytes());
    b.extend(((8 + payload.len()) as u16).to_be_bytes());
    b.extend([0, 0]);
    b.extend(payload);
    b
}

pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    b.extend(kind.to_be_bytes());
    b.extend(payload);
    b
}

pub(crate) fn packet(link: LinkType, data: &[u8], at_ms: u64) -> Packet<'_> {
    let time = Timestamp::new(1_700_000_000, 0).after(std::time::Duration::from_millis(at_ms));
    Packet { time, link, data, original_len: data.len() as u32, origin: Origin::default() }
}

pub(crate) fn seen_at(packet: Packet<'_>, direction: Direction, cgroup: u64) -> Packet<'_> {
    let origin = Origin { interface: 0, cgroup, direction: Some(direction), at_socket: true };
    Packet { origin, ..packet }
}
