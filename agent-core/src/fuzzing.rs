//! Doors for fuzz targets into parts that are private. Not part of the API: only with the feature `fuzzing`.
//!
//! A function here panics when an invariant is broken, which is what a fuzz target waits for.

pub use crate::tcp::model as assembler;

use crate::decode::{self, Decoded};
use crate::flow::FlowKey;
use crate::packet::LinkType;

/// Reads one packet. What it finds must lie in the packet, and not be longer than it was on the wire.
pub fn decode(link: LinkType, data: &[u8], original: u32) {
    let wire = data.len().max(original as usize);
    let within = |part: &[u8]| part.is_empty() || data.as_ptr_range().contains(&part.as_ptr());
    match decode::decode(link, data, original) {
        Ok(Decoded::Tcp(tcp)) => {
            assert!(within(tcp.payload) && tcp.payload.len() <= tcp.wire && tcp.wire <= wire);
            if let Some((key, from)) = FlowKey::of(&tcp) {
                assert_eq!((key.port(from), key.port(1 - from)), (tcp.src_port, tcp.dst_port));
            }
        }
        Ok(Decoded::Fragment(fragment)) => {
            let frame = fragment.frame;
            assert!(within(frame.data) && frame.data.len() <= frame.wire && frame.wire <= wire);
            decode::first_fragment(&fragment);
        }
        Err(_) => {}
    }
}
