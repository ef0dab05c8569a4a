//! Capture: what the kernel saw, took and lost.

use crate::cli::vitals::{Books, Ring, Tally};
use crate::exposition::Exposition;

pub(super) fn all(to: &mut Exposition, books: &Books) {
    let mut info = to.gauge("remora_capture_info", "How packets are taken; always 1.");
    if !books.mode.is_empty() {
        info.with(&[("mode", books.mode)], 1_u64);
    }
    to.gauge("remora_capture_attached", "Interfaces and cgroups that are captured from.")
        .value(books.attached);
    let mut changes = to.counter(
        "remora_capture_changes_total",
        "Interfaces and cgroups that came, went, or could not be captured from.",
    );
    for (change, count) in &books.changes {
        changes.with(&[("change", change)], *count);
    }
    offered(to, books);
    rings(to, &books.rings);
    let mut connections = to.counter(
        "remora_identity_connections_total",
        "Connections whose processes are looked after, by what happened.",
    );
    for (event, count) in &books.connections {
        connections.with(&[("event", event)], *count);
    }
}

fn offered(to: &mut Exposition, books: &Books) {
    let mut packets = to.counter("remora_capture_offered_packets_total", "Packets that the kernel side saw.");
    if let Some(offered) = books.offered {
        packets.value(offered.packets);
    }
    let mut bytes = to.counter("remora_capture_offered_bytes_total", "Bytes of these packets.");
    if let Some(known) = books.offered.and_then(|offered| offered.bytes) {
        bytes.value(known);
    }
    let mut packets =
        to.counter("remora_capture_filtered_packets_total", "Packets that were not wanted, by reason.");
    for (reason, tally) in &books.filtered {
        packets.with(&[("reason", reason)], tally.packets);
    }
    let mut bytes = to.counter("remora_capture_filtered_bytes_total", "Bytes of these packets.");
    for (reason, tally) in &books.filtered {
        if let Some(known) = tally.bytes {
            bytes.with(&[("reason", reason)], known);
        }
    }
}

/// A figure of a ring: metric of packets, metric of bytes, help.
type Figure = (&'static str, &'static str, &'static str, fn(&Ring) -> Tally);

const FIGURES: [Figure; 3] = [
    (
        "remora_ring_captured_packets_total",
        "remora_ring_captured_bytes_total",
        "Packets handed over through the ring.",
        |ring| ring.captured,
    ),
    (
        "remora_ring_truncated_packets_total",
        "remora_ring_truncated_bytes_total",
        "Of the captured packets: cut by the snap length.",
        |ring| ring.truncated,
    ),
    (
        "remora_ring_headers_only_packets_total",
        "remora_ring_headers_only_bytes_total",
        "Of the captured packets: cut to their headers, because nobody needs the rest.",
        |ring| ring.headers_only,
    ),
];

fn rings(to: &mut Exposition, rings: &[Ring]) {
    let numbers: Vec<String> = (0..rings.len()).map(|number| number.to_string()).collect();
    let all = || numbers.iter().zip(rings);
    for (packets, bytes, help, figure) in FIGURES {
        let mut family = to.counter(packets, help);
        for (number, ring) in all() {
            family.with(&[("ring", number)], figure(ring).packets);
        }
        let mut family = to.counter(bytes, "Bytes of these packets on the wire.");
        for (number, ring) in all() {
            if let Some(bytes) = figure(ring).bytes {
                family.with(&[("ring", number)], bytes);
            }
        }
    }
    let mut family =
        to.counter("remora_ring_dropped_packets_total", "Packets that were wanted and lost, by reason.");
    for (number, ring) in all() {
        for (reason, tally) in &ring.dropped {
            family.with(&[("ring", number), ("reason", reason)], tally.packets);
        }
    }
    let mut family = to.counter("remora_ring_dropped_bytes_total", "Bytes of these packets on the wire.");
    for (number, ring) in all() {
        for (reason, tally) in &ring.dropped {
            if let Some(bytes) = tally.bytes {
                family.with(&[("ring", number), ("reason", reason)], bytes);
            }
        }
    }
}
