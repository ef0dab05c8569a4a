//! The counters of a run: one JSON object (`--stats`), or a sentence.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::logging;
use super::settings::Words;
use super::tap::more_room;
use crate::hooks::ScriptStats;
use crate::outbox::DeliveryStats;
use crate::pcap::StoreStats;
use crate::pipeline::{OutputStats, SinkStats, WorkerReport};

/// Everything that was counted.
pub(super) struct Totals<'a> {
    pub(super) reports: &'a [WorkerReport],
    pub(super) output: OutputStats,
    pub(super) scripts: Vec<ScriptStats>,
    /// Of the sinks without a script, by name.
    pub(super) sinks: BTreeMap<String, SinkStats>,
    pub(super) deliveries: DeliveryStats,
    pub(super) store: Option<StoreStats>,
    /// The balance of the kernel's counters, of live sources.
    pub(super) kernel: Option<Value>,
    /// What the user calls options.
    pub(super) words: Words,
}

impl Totals<'_> {
    /// One engine counter over all workers.
    fn sum(&self, counter: impl Fn(&agent_core::EngineStats) -> u64) -> u64 {
        self.reports.iter().map(|report| counter(&report.engine)).sum()
    }

    fn lost_packets(&self) -> u64 {
        self.reports.iter().map(|report| report.loss.packets).sum()
    }

    /// Says what was lost, with what to do about it.
    pub(super) fn warn(&self) {
        let lost = self.lost_packets();
        if lost > 0 {
            tracing::warn!("{lost} packets were lost in the kernel's rings: {}", more_room(self.words));
        }
        if self.output.dropped_items > 0 {
            tracing::warn!(
                "{} items were not printed: their reader is slower than the traffic",
                self.output.dropped_items
            );
        }
        for script in self.scripts.iter().filter(|script| script.dropped > 0) {
            tracing::warn!(
                "script {}: {} items found its queue full and were dropped",
                script.name,
                script.dropped
            );
        }
        for (name, sink) in self.sinks.iter().filter(|(_, sink)| sink.dropped + sink.refused > 0) {
            tracing::warn!(
                "sink {name}: {} items found its queue full, {} were refused by the outbox or the disk: they are lost to it",
                sink.dropped,
                sink.refused
            );
        }
        if self.deliveries.refused > 0 {
            tracing::warn!(
                "{} deliveries were refused: the outbox was full, or an argument wrong; their scripts were told",
                self.deliveries.refused
            );
        }
        if logging::dropped() > 0 {
            tracing::warn!(
                "{} lines of the log were dropped: standard error is not read fast enough",
                logging::dropped()
            );
        }
        if let Some(store) = self.store.as_ref().filter(|store| store.refused_packets > 0) {
            tracing::warn!(
                "{} packets could not be stored ({} of them were in memory for a while): PCAPs lack them",
                store.refused_packets,
                store.detoured_packets
            );
        }
    }
}

/// All counters as one JSON object.
pub(super) fn json(totals: &Totals<'_>) -> Value {
    let scripts: Map<String, Value> = totals.scripts.iter().map(|s| (s.name.clone(), script(s))).collect();
    let mut all = json!({
        "packets": totals.sum(|e| e.packets),
        "bytes": totals.sum(|e| e.bytes),
        "truncated": totals.sum(|e| e.truncated),
        "streams": totals.sum(|e| e.streams),
        "streams_closed": {
            "fin": totals.sum(|e| e.closed_fin),
            "reset": totals.sum(|e| e.closed_reset),
            "timeout": totals.sum(|e| e.closed_timeout),
            "evicted": totals.sum(|e| e.closed_evicted),
            "reused": totals.sum(|e| e.closed_reused),
            "capture-end": totals.sum(|e| e.closed_capture_end),
        },
        "items": { "http": totals.sum(|e| e.items_http1) },
        "items_filtered": totals.reports.iter().map(|report| report.filtered).sum::<u64>(),
        "gaps": totals.sum(|e| e.gaps),
        "gap_bytes": totals.sum(|e| e.gap_bytes),
        "trimmed": totals.sum(|e| e.trimmed),
        "copies": totals.sum(|e| e.copies),
        "retransmitted": totals.sum(|e| e.retransmitted),
        "overlaps": totals.sum(|e| e.overlaps),
        "malformed": totals.sum(|e| e.malformed_link + e.malformed_ip + e.malformed_tcp + e.malformed_tunnel),
        "unknown_link": totals.sum(|e| e.unknown_link),
        "non_tcp": totals.sum(|e| e.non_tcp),
        "fragments": totals.sum(|e| e.fragments),
        "evicted": {
            "streams": totals.sum(|e| e.closed_evicted),
            "holes": totals.sum(|e| e.evicted_holes + e.evicted_holes_total),
            "readers": totals.sum(|e| e.evicted_readers),
            "messages": totals.sum(|e| e.refused_messages),
            "fragments": totals.sum(|e| e.fragments_refused + e.fragments_evicted),
        },
        "lost": {
            "kernel_ring": totals.lost_packets(),
            // Unknown, rather than less, if one of them cannot know.
            "kernel_ring_bytes": totals.reports.iter().map(|report| report.loss.bytes).sum::<Option<u64>>(),
            "queue": totals.output.dropped_items,
            "script": totals.scripts.iter().map(|s| s.dropped).sum::<u64>(),
            "log": logging::dropped(),
        },
        "scripts": scripts,
        "sinks": totals.sinks,
        "deliveries": deliveries(&totals.deliveries),
    });
    if let Some(store) = &totals.store {
        all["store"] = json!({
            "packets": store.packets,
            "bytes": store.bytes,
            "refused": store.refused_packets,
            "in_memory": store.detoured_packets,
            "errors": store.errors,
            "segments": store.segments,
            "stored_bytes": store.stored_bytes,
            "expired_segments": store.expired_segments,
        });
    }
    if let Some(kernel) = &totals.kernel {
        all["kernel"] = kernel.clone();
    }
    all
}

/// The outbox's counters.
pub(super) fn deliveries(deliveries: &DeliveryStats) -> Value {
    json!({
        "queued": deliveries.queued,
        "sent": deliveries.sent,
        "retried": deliveries.retried,
        "failed": deliveries.failed,
        "suppressed": deliveries.suppressed,
        "refused": deliveries.refused,
        "files_failed": deliveries.files_failed,
        "unanswered": deliveries.unanswered,
        "taken_up": deliveries.taken_up,
        "in_memory": deliveries.in_memory,
        "dead_dropped": deliveries.dead_dropped,
        "waiting": deliveries.waiting,
    })
}

/// A script's counters.
pub(super) fn script(stats: &ScriptStats) -> Value {
    // By name, so that none is forgotten.
    let ScriptStats {
        name: _,
        title: _,
        running: _,
        calls,
        errors,
        dropped,
        skipped,
        filtered,
        sampled,
        filters_evicted,
        timeouts,
        out_of_memory,
        stack_overflows,
        pauses,
        restarts,
        reloads,
        packets_dropped,
        jobs_passed,
        jobs_failed,
        series,
        series_refused,
        paused,
        busy,
        heap,
        waiting,
    } = stats;
    json!({
        "calls": calls,
        "errors": errors,
        "dropped": dropped,
        "skipped": skipped,
        "filtered": filtered,
        "sampled": sampled,
        "filters_evicted": filters_evicted,
        "timeouts": timeouts,
        "out_of_memory": out_of_memory,
        "stack_overflows": stack_overflows,
        "pauses": pauses,
        "paused": paused,
        "waiting": waiting,
        "restarts": restarts,
        "reloads": reloads,
        "packets_dropped": packets_dropped,
        "jobs": { "passed": jobs_passed, "failed": jobs_failed },
        "series": { "now": series, "refused": series_refused },
        "heap_bytes": heap,
        "busy_ms": u64::try_from(busy.as_millis()).unwrap_or(u64::MAX),
    })
}

/// What happened, for a person.
pub(super) fn summary(totals: &Totals<'_>) -> String {
    let mut text = format!(
        "{} packets, {} streams, {} items, {} gaps",
        totals.sum(|e| e.packets),
        totals.sum(|e| e.streams),
        totals.sum(|e| e.items),
        totals.sum(|e| e.gaps),
    );
    if totals.deliveries.queued > 0 {
        text.push_str(&format!(
            ", {} of {} alerts delivered",
            totals.deliveries.sent, totals.deliveries.queued
        ));
    }
    text
}
