//! Which flows are wanted: ports and nets match if either end matches; both must, where both are set.

use agent_common::{
    config::{Endpoint, FILTER_EXCLUDED, FILTER_NETS, FILTER_PORTS, PORT_WORD_BITS, Settings},
    counters::HookTally,
    flow::End,
};
use aya_ebpf::btf_maps::lpm_trie::Key;

use crate::{
    maps::{EXCLUDED, NETS, PORTS},
    packet::Flow,
};

/// Tries the filters that are on, the cheap ones first; the error says which one it was. A later fragment has no
/// ports to go by: its net decides, and what it belongs to is told apart when it is put together.
#[inline(always)]
pub(crate) fn check(flow: &Flow, settings: &Settings) -> Result<(), HookTally> {
    let flags = settings.flags;
    if flags & FILTER_PORTS != 0 && flow.ports && !port(flow.src.port) && !port(flow.dst.port) {
        return Err(HookTally::Port);
    }
    if flags & FILTER_NETS != 0 && !net(&flow.src) && !net(&flow.dst) {
        return Err(HookTally::Net);
    }
    if flags & FILTER_EXCLUDED != 0 && flow.ports && (excluded(&flow.src) || excluded(&flow.dst)) {
        return Err(HookTally::Excluded);
    }
    Ok(())
}

#[inline(always)]
fn port(port: u16) -> bool {
    let port = u32::from(port);
    PORTS.get(port / PORT_WORD_BITS).is_some_and(|word| word >> (port % PORT_WORD_BITS) & 1 != 0)
}

#[inline(always)]
fn net(end: &End) -> bool {
    NETS.get(&Key::new(128, bytes(end))).is_some()
}

#[inline(always)]
fn excluded(end: &End) -> bool {
    let key = Endpoint { address: bytes(end), port: u32::from(end.port) };
    // SAFETY: only whether there is an entry counts; nothing of it is read.
    unsafe { EXCLUDED.get(&key) }.is_some()
}

/// The address in network order: its words are in memory order.
#[inline(always)]
fn bytes(end: &End) -> [u8; 16] {
    // SAFETY: both are 16 bytes of plain integers.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(end.address) }
}
