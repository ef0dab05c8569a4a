//! What comes after the engine: store, outbox, sinks, scripts.

use std::collections::BTreeMap;

use crate::exposition::{Exposition, Kind};
use crate::hooks::Scripts;
use crate::outbox::DeliveryStats;
use crate::pcap::StoreStats;
use crate::pipeline::SinkStats;

/// A metric without labels: name, kind, help, value.
type Figure<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

const STORE: [Figure<StoreStats>; 17] = [
    ("remora_store_packets_total", Kind::Counter, "Packets written.", |s| s.packets),
    ("remora_store_packet_bytes_total", Kind::Counter, "Captured bytes of these packets.", |s| s.bytes),
    ("remora_store_refused_packets_total", Kind::Counter, "Packets that were not stored.", |s| {
        s.refused_packets
    }),
    ("remora_store_refused_bytes_total", Kind::Counter, "Captured bytes of these packets.", |s| {
        s.refused_bytes
    }),
    (
        "remora_store_detoured_packets_total",
        Kind::Counter,
        "Of the refused packets: kept in memory for a while.",
        |s| s.detoured_packets,
    ),
    ("remora_store_errors_total", Kind::Counter, "Disk operations that failed.", |s| s.errors),
    ("remora_store_down", Kind::Gauge, "Whether the disk takes nothing just now.", |s| s.down.into()),
    ("remora_store_segments", Kind::Gauge, "Segments held.", |s| s.segments),
    ("remora_store_bytes", Kind::Gauge, "Bytes of the segments held.", |s| s.stored_bytes),
    ("remora_store_expired_segments_total", Kind::Counter, "Segments removed by retention.", |s| {
        s.expired_segments
    }),
    (
        "remora_store_fallback_bytes",
        Kind::Gauge,
        "Memory of packets and files that the disk did not take.",
        |s| s.fallback_bytes,
    ),
    ("remora_store_window_bytes", Kind::Gauge, "Memory of packets that wait to be asked for.", |s| {
        s.window_bytes
    }),
    ("remora_store_passed_packets_total", Kind::Counter, "Packets that nobody asked for in time.", |s| {
        s.passed_packets
    }),
    ("remora_store_index_bytes", Kind::Gauge, "Memory of the index of streams.", |s| s.index_bytes),
    (
        "remora_store_index_evicted_total",
        Kind::Counter,
        "Groups of 64 streams dropped from the index for want of memory.",
        |s| s.index_evicted,
    ),
    ("remora_store_extractions_total", Kind::Counter, "PCAPs put together.", |s| s.extractions),
    ("remora_store_extracted_bytes", Kind::Gauge, "Bytes of PCAPs put together and kept.", |s| {
        s.extracted_bytes
    }),
];

const OUTBOX: [Figure<DeliveryStats>; 12] = [
    ("remora_outbox_queued_total", Kind::Counter, "Deliveries taken.", |s| s.queued),
    ("remora_outbox_sent_total", Kind::Counter, "Deliveries sent.", |s| s.sent),
    ("remora_outbox_retried_total", Kind::Counter, "Calls made again after a passing error.", |s| s.retried),
    ("remora_outbox_unanswered_total", Kind::Counter, "Of these: calls to which no answer came.", |s| {
        s.unanswered
    }),
    ("remora_outbox_failed_total", Kind::Counter, "Deliveries given up: dead letters.", |s| s.failed),
    (
        "remora_outbox_files_failed_total",
        Kind::Counter,
        "Files that a message had to name instead of carry.",
        |s| s.files_failed,
    ),
    ("remora_outbox_suppressed_total", Kind::Counter, "Alerts folded into others.", |s| s.suppressed),
    ("remora_outbox_refused_total", Kind::Counter, "Deliveries that were not taken.", |s| s.refused),
    (
        "remora_outbox_unwritten_total",
        Kind::Counter,
        "Deliveries in memory only: the disk took nothing.",
        |s| s.in_memory,
    ),
    (
        "remora_outbox_taken_up_total",
        Kind::Counter,
        "Deliveries of an earlier run, and dead letters sent again.",
        |s| s.taken_up,
    ),
    ("remora_outbox_dead_dropped_total", Kind::Counter, "Dead letters past their bounds.", |s| {
        s.dead_dropped
    }),
    ("remora_outbox_waiting", Kind::Gauge, "Deliveries that wait.", |s| s.waiting),
];

const SINKS: [Figure<SinkStats>; 6] = [
    ("remora_sink_items_total", Kind::Counter, "Items handed to the outbox, or written.", |s| s.items),
    ("remora_sink_filtered_total", Kind::Counter, "Items that did not match the sink's filter.", |s| {
        s.filtered
    }),
    ("remora_sink_dropped_total", Kind::Counter, "Items that found the sink's queue full.", |s| s.dropped),
    ("remora_sink_refused_total", Kind::Counter, "Items that the outbox or the disk refused.", |s| s.refused),
    ("remora_sink_batches_total", Kind::Counter, "Deliveries, or writes, that they made.", |s| s.batches),
    ("remora_sink_bytes_total", Kind::Counter, "Bytes of JSON in these.", |s| s.bytes),
];

pub(super) fn store(to: &mut Exposition, stats: Option<StoreStats>) {
    figures(to, &STORE, stats.as_ref());
}

pub(super) fn outbox(to: &mut Exposition, stats: Option<DeliveryStats>) {
    figures(to, &OUTBOX, stats.as_ref());
}

fn figures<T>(to: &mut Exposition, all: &[Figure<T>], stats: Option<&T>) {
    for (name, kind, help, of) in all {
        let mut family = to.family(name, help, *kind);
        if let Some(stats) = stats {
            family.value(of(stats));
        }
    }
}

pub(super) fn sinks(to: &mut Exposition, stats: Option<BTreeMap<String, SinkStats>>) {
    let stats = stats.unwrap_or_default();
    for (name, kind, help, of) in &SINKS {
        let mut family = to.family(name, help, *kind);
        for (sink, stats) in &stats {
            family.with(&[("sink", sink)], of(stats));
        }
    }
}

/// Counters of scripts, and what they publish themselves.
pub(super) fn scripts(to: &mut Exposition, scripts: Option<&Scripts>) {
    to.gauge("remora_scripts", "Scripts that run.").value(scripts.map_or(0, Scripts::len));
    if let Some(scripts) = scripts {
        to.raw(&scripts.prometheus());
    }
}
