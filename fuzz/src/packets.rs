//! The whole engine with packets of any bytes.

use std::time::Duration;

use agent_core::{Direction, Engine, EngineConfig, Event, Limits, Origin, Packet, Timestamp};
use arbitrary::Unstructured;

use crate::decoding::link;

/// Records of: link type, milliseconds (by tens) and flags, length (two bytes), bytes.
pub fn run(data: &[u8]) {
    let limits = limits();
    let mut engine =
        Engine::new(EngineConfig { limits: limits.clone(), hash: true, ..EngineConfig::default() });
    let mut u = Unstructured::new(data);
    let mut now = Timestamp::new(1_000, 0);
    let (mut packets, mut closed) = (0, 0);
    while !u.is_empty() {
        let kind: u8 = u.arbitrary().unwrap_or(0);
        let flags: u8 = u.arbitrary().unwrap_or(0);
        let length = usize::from(u.arbitrary::<u16>().unwrap_or(0)).min(u.len());
        let bytes = u.bytes(length).unwrap_or_default();
        now = now.after(Duration::from_millis(u64::from(flags >> 3).pow(3)));
        let direction = match flags & 3 {
            0 | 3 => None,
            1 => Some(Direction::Ingress),
            _ => Some(Direction::Egress),
        };
        let cut = if flags & 4 == 0 { 0 } else { 100 };
        let packet = Packet {
            time: now,
            link: link(kind),
            data: bytes,
            original_len: bytes.len() as u32 + cut,
            origin: Origin { direction, ..Origin::default() },
        };
        engine.handle_packet(&packet);
        packets += 1;
        closed += draw(&mut engine);
        check(&engine, &limits);
        if engine.poll_timeout().is_some_and(|due| due <= now) {
            engine.handle_timeout(now);
            closed += draw(&mut engine);
            assert!(engine.poll_timeout().is_none_or(|due| due > now), "a time-out stays due");
        }
    }
    engine.finish();
    closed += draw(&mut engine);
    let stats = engine.stats();
    assert_eq!(stats.packets, packets);
    assert_eq!(stats.streams, closed, "every stream has an end");
    assert_eq!((stats.active_streams, stats.held, stats.dissect), (0, 0, 0), "nothing is left");
}

/// Small enough to be reached.
fn limits() -> Limits {
    Limits {
        streams: 8,
        reassembly_per_direction: 2_000,
        reassembly_total: 6_000,
        holes: 6,
        dissect_total: 40_000,
        head: 400,
        headers: 12,
        body: 300,
        pipelined: 4,
        interim: 2,
        anomalies: 3,
        listed_gaps: 3,
        fragment_memory: 8_000,
        ..Limits::default()
    }
}

fn draw(engine: &mut Engine) -> u64 {
    let mut closed = 0;
    while let Some(event) = engine.poll_event() {
        closed += u64::from(matches!(event, Event::StreamClosed(_)));
    }
    closed
}

/// The budgets.
pub(crate) fn check(engine: &Engine, limits: &Limits) {
    let stats = engine.stats();
    assert!(stats.active_streams <= limits.streams as u64, "streams: {}", stats.active_streams);
    assert!(stats.held <= limits.reassembly_total as u64, "reassembly: {}", stats.held);
    assert!(stats.dissect <= limits.dissect_total as u64, "dissectors: {}", stats.dissect);
    // The table of streams grows by chunks of many.
    let bound = limits.reassembly_total + limits.fragment_memory + (limits.streams + 128) * 1_024;
    assert!(engine.memory() <= bound, "memory: {} of {bound}", engine.memory());
}
