//! Link, network and transport headers out of any bytes.

use agent_core::LinkType;
use agent_core::fuzzing::decode;
use arbitrary::Unstructured;

/// Link types that are known, and some that are not.
pub const LINKS: [u16; 12] = [1, 101, 113, 276, 0, 108, 228, 229, 147, 105, 9, 65_535];

/// First byte: the link type. The next two: how much of the packet the snap length cut.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let link = link(u.arbitrary().unwrap_or(0));
    let cut = u32::from(u.arbitrary::<u16>().unwrap_or(0));
    let packet = u.take_rest();
    for original in [packet.len() as u32, (packet.len() as u32).saturating_add(cut), 0, u32::MAX] {
        decode(link, packet, original);
    }
}

/// A link type by number.
#[must_use]
pub fn link(number: u8) -> LinkType {
    LinkType(LINKS[usize::from(number) % LINKS.len()])
}
