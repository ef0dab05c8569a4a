//! The agent's own traffic at interfaces, where only a packet that goes out has a socket.
//!
//! What its sockets send tells their addresses and ports; what comes in for those is its own as well. An entry is of a
//! socket and not of a port: a connection that is opened from, or to, that end by somebody else removes it.

use agent_common::{config::Settings, counters::HookTally, record::EGRESS};

use crate::{
    capture::Hook,
    filter::endpoint,
    maps::OWN,
    packet::{ACK, Flow, RST, SYN},
};

/// Tells whether the packet, which passes every other filter at an interface, is one of the agent's own.
#[inline(always)]
pub(crate) fn check(hook: Hook, flow: &Flow, cgroup: u64, settings: &Settings) -> Result<(), HookTally> {
    if settings.own_cgroup == 0 || !flow.ports {
        return Ok(());
    }
    let opens = flow.flags & (SYN | ACK | RST) == SYN;
    if hook.direction == EGRESS {
        if cgroup == settings.own_cgroup {
            let own = endpoint(&flow.src);
            if OWN.get_ptr(&own).is_none() {
                // A full map makes room by itself; if that fails, what comes in is captured.
                let _ = OWN.insert(&own, &1, 0);
            }
            return Err(HookTally::Excluded);
        }
        if opens {
            // The port is somebody else's by now, if it ever was ours.
            let _ = OWN.remove(&endpoint(&flow.src));
        }
        return Ok(());
    }
    let own = endpoint(&flow.dst);
    if OWN.get_ptr(&own).is_none() {
        return Ok(());
    }
    if opens {
        // We call, and are not called: somebody listens there.
        let _ = OWN.remove(&own);
        return Ok(());
    }
    Err(HookTally::Excluded)
}
