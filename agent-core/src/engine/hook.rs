//! Hook points: the places on a packet's way where it can be seen, and which of them counts.

use std::num::NonZeroU32;

use crate::decode::TcpPacket;
use crate::packet::{Direction, Origin};
use crate::tcp::Seq;

/// A place and a direction, in four bytes: streams keep two of them.
///
/// At a socket it does not matter which interface the packet takes: a route may change within a connection's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HookPoint(NonZeroU32);

impl HookPoint {
    /// Where a packet was seen, and which way it passed; `None` for sources that have no such places.
    pub(super) fn of(origin: Origin) -> Option<(Self, Direction)> {
        let direction = origin.direction?;
        // The kernel's numbers of interfaces are positive and signed: 31 bits, from 1 on.
        let place = if origin.at_socket { 0 } else { origin.interface & (u32::MAX >> 1) };
        let way = u32::from(direction == Direction::Egress);
        // Never all ones, which is the interface 2^31 - 1: it shares its place with its way in.
        let coded = NonZeroU32::MIN.saturating_add(place << 1 | way);
        Some((Self(coded), direction))
    }
}

/// Where the packets of each end of a stream count.
///
/// The hook point where a direction was first seen counts: what it shows twice was sent twice. What another one shows
/// is a copy, unless it tells something new: then the counting one missed it, is gone, or comes later on the way, and
/// the other counts from there on. So whichever comes first on the way counts before long, and a stream is read on
/// when its hook point goes.
#[derive(Debug, Default)]
pub(super) struct Counting {
    point: [Option<HookPoint>; 2],
    /// What each end acknowledged last; of meaning with `acks`.
    acked: [Seq; 2],
    /// Whether an end acknowledged anything.
    acks: [bool; 2],
}

impl Counting {
    /// Whether another hook point counts for what end `from` sends. The first one asked for does.
    pub(super) fn elsewhere(&mut self, from: usize, point: HookPoint) -> bool {
        *self.point[from].get_or_insert(point) != point
    }

    /// A packet counts: so does its hook point from now on.
    pub(super) fn count(&mut self, from: usize, point: HookPoint, t: &TcpPacket<'_>) {
        self.point[from] = Some(point);
        if self.acknowledges_more(from, t) {
            (self.acked[from], self.acks[from]) = (t.ack, true);
        }
    }

    /// Whether a packet acknowledges what none of its end did before.
    pub(super) fn acknowledges_more(&self, from: usize, t: &TcpPacket<'_>) -> bool {
        t.ack_flag() && (!self.acks[from] || t.ack.distance(self.acked[from]) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(interface: u32, direction: Direction, at_socket: bool) -> HookPoint {
        HookPoint::of(Origin { interface, cgroup: 7, direction: Some(direction), at_socket }).unwrap().0
    }

    #[test]
    fn interface_direction_and_socket_make_the_place() {
        use Direction::{Egress, Ingress};
        let interfaces = [(1, Ingress), (1, Egress), (2, Ingress), (1 << 30, Egress), (1 << 30, Ingress)];
        let mut all: Vec<_> = interfaces.map(|(index, way)| of(index, way, false)).to_vec();
        all.extend([of(9, Ingress, true), of(9, Egress, true)]);
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b), "{all:?}");
        }
        assert_eq!(of(3, Egress, true), of(4, Egress, true), "whichever way a socket's packets take");
        assert_eq!(HookPoint::of(Origin { interface: 3, ..Origin::default() }), None);
    }
}
