//! A stream that is over, as `onStreamClosed` and `onPcapReady` are told of it.

use agent_core::item::Endpoint;
use serde_json::{Value, json};

use crate::captured::{ClosedStream, Name};
use crate::pcap::CaptureFile;

/// What `onStreamClosed` gets.
pub(super) fn closed(stream: &ClosedStream) -> Value {
    let summary = &stream.summary;
    json!({
        "stream": summary.stream.to_string(),
        "src": end(&summary.client, &stream.src),
        "dst": end(&summary.server, &stream.dst),
        "packets": summary.packets,
        "bytes": summary.bytes,
        "items": summary.items,
        "reason": summary.reason.as_str(),
    })
}

/// What `onPcapReady` gets.
pub(super) fn ready(stream: &ClosedStream, file: &CaptureFile) -> Value {
    json!({
        "stream": stream.summary.stream.to_string(),
        "path": file.path.to_string_lossy(),
        "size": file.size,
        "packets": file.packets,
    })
}

fn end(endpoint: &Endpoint, name: &Name) -> Value {
    let ip = endpoint.addr.to_string();
    let mut end = json!({
        "name": name.name().unwrap_or(&ip),
        "ip": ip,
        "port": endpoint.port.to_string(),
        "namespace": name.namespace(),
    });
    for (key, value) in [("pod", name.pod()), ("service", name.service())] {
        if let Some(value) = value {
            end[key] = json!(value);
        }
    }
    end
}
