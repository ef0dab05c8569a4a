//! Hook points: the places on a packet's way where it can be seen.

use std::num::NonZeroU32;

use crate::packet::{Direction, Origin};

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
