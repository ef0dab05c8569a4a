//! The engine: packets, streams, items, and what was odd about them; all workers together, but for who of them gets on.

use std::time::Duration;

use agent_core::EngineStats;

use crate::exposition::Exposition;
use crate::pipeline::{ItemCounts, Progress};

/// A counter without labels.
type Plain = (&'static str, &'static str, fn(&EngineStats) -> u64);
/// A counter with one label, by its values.
type Split<'a> = (&'static str, &'static str, &'static str, &'a [(&'static str, fn(&EngineStats) -> u64)]);

const PLAIN: [Plain; 21] = [
    ("remora_packets_total", "Packets handed to the engine.", |e| e.packets),
    ("remora_packet_bytes_total", "Bytes of these packets on the wire.", |e| e.bytes),
    ("remora_packets_truncated_total", "Packets that were cut when they were captured.", |e| e.truncated),
    ("remora_packet_copies_total", "Segments that a second hook point on their way showed again.", |e| {
        e.copies
    }),
    ("remora_fragments_total", "IP fragments.", |e| e.fragments),
    ("remora_datagrams_defragmented_total", "Datagrams put together from fragments.", |e| e.defragmented),
    ("remora_fragment_overlaps_total", "Fragments that overlapped another one.", |e| e.fragment_overlaps),
    ("remora_segments_total", "TCP segments.", |e| e.segments),
    ("remora_segments_out_of_window_total", "Segments outside the window, not taken.", |e| e.out_of_window),
    ("remora_segments_overlapping_total", "Segments that overlapped others with different bytes.", |e| {
        e.overlaps
    }),
    ("remora_segments_after_close_total", "Segments of streams that were closed.", |e| e.after_close),
    ("remora_resets_ignored_total", "RSTs outside the window, not believed.", |e| e.rst_ignored),
    ("remora_streams_opened_total", "TCP streams.", |e| e.streams),
    ("remora_streams_joined_total", "Of these: without a SYN.", |e| e.joined),
    ("remora_streams_tls_total", "Streams that began with a TLS handshake: nothing in them is read.", |e| {
        e.tls
    }),
    ("remora_streams_opaque_total", "Streams whose reader found the rest not to be its protocol.", |e| {
        e.opaque
    }),
    ("remora_payload_bytes_total", "Bytes of payload handed on in order.", |e| e.payload),
    ("remora_gaps_total", "Holes in streams that were handed on as such.", |e| e.gaps),
    ("remora_gap_bytes_total", "Bytes in these holes.", |e| e.gap_bytes),
    ("remora_trimmed_bytes_total", "Bytes of payload left in the kernel because nobody needs them.", |e| {
        e.trimmed
    }),
    ("remora_retransmitted_bytes_total", "Bytes of payload that had come before.", |e| e.retransmitted),
];

const SPLIT: [Split<'_>; 5] = [
    (
        "remora_packets_undecoded_total",
        "Packets of which nothing is read, by reason.",
        "reason",
        &[
            ("unknown_link", |e| e.unknown_link),
            ("non_tcp", |e| e.non_tcp),
            ("header_cut", |e| e.header_cut),
            ("malformed_link", |e| e.malformed_link),
            ("malformed_ip", |e| e.malformed_ip),
            ("malformed_tcp", |e| e.malformed_tcp),
            ("malformed_tunnel", |e| e.malformed_tunnel),
        ],
    ),
    (
        "remora_fragments_dropped_total",
        "Fragments refused, and datagrams in pieces that were dropped for want of memory or of the rest.",
        "reason",
        &[
            ("refused", |e| e.fragments_refused),
            ("evicted", |e| e.fragments_evicted),
            ("timeout", |e| e.fragments_timed_out),
        ],
    ),
    (
        "remora_streams_closed_total",
        "TCP streams that ended, by how.",
        "reason",
        &[
            ("fin", |e| e.closed_fin),
            ("reset", |e| e.closed_reset),
            ("timeout", |e| e.closed_timeout),
            ("evicted", |e| e.closed_evicted),
            ("reused", |e| e.closed_reused),
            ("capture_end", |e| e.closed_capture_end),
        ],
    ),
    (
        "remora_streams_detected_total",
        "TCP streams in which a protocol was recognised.",
        "protocol",
        &[("http", |e| e.detected_http1)],
    ),
    (
        "remora_engine_evicted_total",
        "What was given up to keep the engine's memory within its limits.",
        "what",
        &[
            ("hole_of_stream", |e| e.evicted_holes),
            ("hole", |e| e.evicted_holes_total),
            ("reader", |e| e.evicted_readers),
            ("message", |e| e.refused_messages),
        ],
    ),
];

/// What is held now.
const NOW: [Plain; 3] = [
    ("remora_streams", "TCP streams that are tracked.", |e| e.active_streams),
    ("remora_reassembly_held_bytes", "Memory of what waits out of order.", |e| e.held),
    ("remora_dissect_held_bytes", "Memory of what dissectors hold.", |e| e.dissect),
];

pub(super) fn all(to: &mut Exposition, workers: &[(Progress, Option<Duration>)]) {
    let sum =
        |of: fn(&EngineStats) -> u64| workers.iter().map(|(progress, _)| of(&progress.engine)).sum::<u64>();
    for (name, help, of) in PLAIN {
        to.counter(name, help).value(sum(of));
    }
    for (name, help, label, values) in SPLIT {
        let mut family = to.counter(name, help);
        for (value, of) in values {
            family.with(&[(label, value)], sum(*of));
        }
    }
    for (name, help, of) in NOW {
        to.gauge(name, help).value(sum(of));
    }
    let memory = workers.iter().map(|(progress, _)| progress.memory).sum::<u64>();
    to.gauge("remora_engine_memory_bytes", "Memory of tracked streams and fragments.").value(memory);
    items(to, workers);
    let mut ages = to.gauge("remora_worker_idle_seconds", "Time since a worker's loop last went round.");
    for (number, (_, age)) in workers.iter().enumerate() {
        if let Some(age) = age {
            ages.with(&[("worker", &number.to_string())], age.as_secs_f64());
        }
    }
    let mut packets = to.counter("remora_worker_packets_total", "Packets by worker.");
    for (number, (progress, _)) in workers.iter().enumerate() {
        packets.with(&[("worker", &number.to_string())], progress.engine.packets);
    }
}

fn items(to: &mut Exposition, workers: &[(Progress, Option<Duration>)]) {
    let mut counts = ItemCounts::default();
    workers.iter().for_each(|(progress, _)| counts.plus(&progress.items));
    let mut family =
        to.counter("remora_items_total", "Items, by protocol and class of status; none: without a response.");
    for (protocol, status, count) in counts.all() {
        family.with(&[("protocol", protocol), ("status", status)], count);
    }
    let filtered = workers.iter().map(|(progress, _)| progress.filtered).sum::<u64>();
    to.counter("remora_items_filtered_total", "Items that the agent's filter kept from scripts and sinks.")
        .value(filtered);
}
