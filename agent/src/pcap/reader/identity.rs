//! Who a stream is, from its first packets.

use std::net::SocketAddr;

use agent_core::{Engine, EngineConfig, Event, Packet};

/// The two ends of the TCP stream that a packet belongs to, the client first; `None`: it is of none, or a fragment.
pub(super) fn ends(packet: &Packet<'_>) -> Option<(SocketAddr, SocketAddr)> {
    // The engine is the one that knows link layers, tunnels, and who of the two is the client.
    let mut engine = Engine::new(EngineConfig::default());
    engine.handle_packet(packet);
    engine.finish();
    while let Some(event) = engine.poll_event() {
        if let Event::StreamClosed(summary) = event {
            let [client, server] =
                [summary.client, summary.server].map(|end| SocketAddr::new(end.addr, end.port));
            return Some((client, server));
        }
    }
    None
}
