//! A finished TCP stream as one JSON line (`--streams`).

use agent_core::StreamSummary;
use agent_core::engine::DirectionSummary;

use super::json::Json;
use super::spell;

/// Appends the summary as one JSON object, without a line end.
pub fn stream_json(summary: &StreamSummary, out: &mut Vec<u8>) {
    Json::append(out, |j| j.object(|j| fields(j, summary)));
}

fn fields(j: &mut Json<'_>, summary: &StreamSummary) {
    j.key("stream");
    j.spelt(|into| spell::stream(into, summary.stream.0));
    let ends = [("client", summary.client), ("server", summary.server)];
    for (name, end) in ends {
        j.field(name, std::net::SocketAddr::new(end.addr, end.port).to_string().as_bytes());
    }
    j.key("startTime");
    j.rfc3339(summary.first);
    j.key("endTime");
    j.rfc3339(summary.last);
    j.number("packets", summary.packets);
    j.number("bytes", summary.bytes);
    j.number("items", summary.items);
    j.boolean("syn", summary.syn > 0);
    j.number("fin", summary.fin.into());
    j.number("rst", summary.rst.into());
    j.field("reason", summary.reason.as_str().as_bytes());
    for (name, direction) in [("c2s", &summary.c2s), ("s2c", &summary.s2c)] {
        j.key(name);
        j.object(|j| one_direction(j, direction));
    }
}

fn one_direction(j: &mut Json<'_>, direction: &DirectionSummary) {
    j.number("bytes", direction.bytes);
    j.number("packets", direction.packets);
    j.key("gaps");
    j.array(|j| {
        for &(offset, length) in &direction.gaps {
            j.object(|j| {
                j.number("offset", offset);
                j.number("length", length);
            });
        }
    });
    // No gaps, for nothing was captured on the other side of them.
    j.number("before", direction.before);
    j.number("unseen", direction.unseen);
    j.number("retransmitted", direction.retransmitted);
    j.number("overlaps", direction.overlaps);
    if let Some(sum) = &direction.sha256 {
        j.key("sha256");
        j.hex(sum);
    }
    if !direction.chunks.is_empty() {
        j.key("chunks");
        j.array(|j| {
            for (offset, length, sum) in &direction.chunks {
                j.object(|j| {
                    j.number("offset", *offset);
                    j.number("length", *length);
                    j.key("sha256");
                    j.hex(sum);
                });
            }
        });
    }
}
