//! The compiled filter, run by a naive interpreter, and the one in user space, against what was meant.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;

use proptest::prelude::*;

use super::super::bpf::interpreter::run;
use super::super::sys::attach_filter;
use super::frames::Frame;
use super::*;

const SNAP: u32 = 96;

/// What somebody might ask for.
#[derive(Clone, Debug)]
struct Wish {
    interfaces: Option<Vec<u32>>,
    direction: Option<Direction>,
    ports: Vec<u16>,
    nets: Vec<Net>,
    exclude: Vec<SocketAddr>,
}

impl Wish {
    fn filter(&self) -> Filter {
        let filter = Filter::new(&self.ports, &self.nets, &self.exclude).of_direction(self.direction);
        match &self.interfaces {
            Some(interfaces) => filter.of_interfaces(interfaces),
            None => filter,
        }
    }

    /// The rules, in the plainest words.
    fn wants(&self, frame: &Frame) -> bool {
        let ends = [frame.src, frame.dst];
        let interface = self.interfaces.as_ref().is_none_or(|i| i.contains(&frame.interface));
        let port = self.ports.is_empty()
            || !frame.has_ports()
            || ends.iter().any(|end| self.ports.contains(&end.port()));
        let net =
            self.nets.is_empty() || ends.iter().any(|end| self.nets.iter().any(|net| net.contains(end.ip())));
        let excluded = frame.has_ports() && ends.iter().any(|end| self.exclude.contains(end));
        let way = match self.direction {
            None => !frame.is_repeated(),
            Some(direction) => frame.direction() == direction,
        };
        interface && way && frame.is_tcp() && port && net && !excluded
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    let net = (
        prop_oneof![
            Just("10.0.1.2"),
            Just("192.0.2.1"),
            Just("10.0.0.0"),
            Just("fd00::1:0:0:0:2"),
            Just("2001::3")
        ],
        0..=128_u8,
    )
        .prop_filter_map("prefix", |(address, prefix)| Net::new(address.parse().unwrap(), prefix));
    let endpoint = prop_oneof![
        Just("10.0.1.2:80"),
        Just("[fd00::1:0:0:0:2]:80"),
        Just("192.0.0.1:443"),
        Just("[2001::2]:81")
    ];
    (
        proptest::option::of(proptest::collection::vec(1..4_u32, 1..3)),
        prop_oneof![
            2 => Just(None),
            1 => Just(Some(Direction::Ingress)),
            1 => Just(Some(Direction::Egress)),
        ],
        proptest::collection::vec(prop_oneof![79..82_u16, Just(443)], 0..4),
        proptest::collection::vec(net, 0..4),
        proptest::collection::vec(endpoint.prop_map(|e| e.parse().unwrap()), 0..3),
    )
        .prop_map(|(interfaces, direction, ports, nets, exclude)| Wish {
            interfaces,
            direction,
            ports,
            nets,
            exclude,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_was_meant_is_what_the_kernel_and_user_space_do(wish in wish(), frame: Frame) {
        let (filter, bytes) = (wish.filter(), frame.bytes());
        let expected = if wish.wants(&frame) { SNAP } else { 0 };
        let program = filter.program(SNAP).unwrap();
        prop_assert_eq!(run(&program, &frame.machine(&bytes)), expected);
        // In user space what the kernel's part let through is looked at.
        let base = filter.without_details().program(SNAP).unwrap();
        let passed = run(&base, &frame.machine(&bytes)) != 0;
        let wanted = passed && filter.wants(frame.kind(), frame.ether_type(), &frame.seen(&bytes));
        prop_assert_eq!(if wanted { SNAP } else { 0 }, expected);
    }

    /// Cut anywhere, with bytes turned over: no panic, and both say the same.
    #[test]
    fn garbage_is_judged_alike(wish in wish(), frame: Frame, cut in 0..120_usize, flips: Vec<(prop::sample::Index, u8)>) {
        let mut bytes = frame.bytes();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut);
        let filter = wish.filter();
        let kernel = run(&filter.program(SNAP).unwrap(), &frame.machine(&bytes)) != 0;
        let base = run(&filter.without_details().program(SNAP).unwrap(), &frame.machine(&bytes)) != 0;
        let user = base && filter.wants(frame.kind(), frame.ether_type(), &frame.seen(&bytes));
        prop_assert_eq!(kernel, user);
    }
}

fn many(ports: u16, nets: u32, endpoints: u32) -> Filter {
    // With gaps, so that nothing can be put together.
    let ports: Vec<u16> = (0..ports).map(|n| n * 2 + 1).collect();
    let net = |n: u32| Net::new(IpAddr::V4((0x0A00_0000 + n * 0x200).into()), 24).unwrap();
    let end = |n: u32| SocketAddr::from((u128::from(n * 3).to_be_bytes(), 80));
    let nets: Vec<_> = (0..nets).map(net).collect();
    let exclude: Vec<_> = (0..endpoints).map(end).collect();
    Filter::new(&ports, &nets, &exclude)
}

/// The kernel checks programs when they are attached, to whatever socket.
#[test]
fn the_kernel_takes_the_programs() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let take = |filter: &Filter| attach_filter(socket.as_fd(), &filter.program(65_535).unwrap());
    take(&Filter::default()).unwrap();
    take(&Filter::default().of_interfaces(&[1, 2, 5])).unwrap();
    take(&many(50, 50, 50)).unwrap();
    attach_filter(socket.as_fd(), &super::super::fanout::program(1).unwrap()).unwrap();
}

#[test]
fn what_does_not_fit_says_so_and_is_done_in_user_space() {
    assert!(many(200, 100, 60).program(1).is_ok());
    let filter = many(3000, 500, 100);
    assert!(filter.program(1).unwrap_err().instructions > 4096);
    assert!(filter.without_details().program(1).is_ok());
    let frame = |port: u16| Frame::tcp(&format!("10.0.2.1:{port}"), "192.168.0.1:40000");
    for (port, expected) in [(4001, true), (4002, false)] {
        let frame = frame(port);
        assert_eq!(filter.wants(frame.kind(), frame.ether_type(), &frame.bytes()), expected);
    }
}
