//! An item as one line for a person: when, what was asked, what came of it, between whom.

use std::io::Write as _;

use agent_core::{Item, Record};

use super::item::url;
use super::spell;
use crate::captured::{Captured, Name};

/// Longest URL shown, in bytes.
const URL: usize = 160;

/// Appends `time  client → server  METHOD url  status  elapsed  size`, without a line end.
pub fn text_line(captured: &Captured, out: &mut Vec<u8>) {
    let item = &captured.item;
    let Record::Http(exchange) = &item.record else { return };
    time(item, out);
    put(out, format_args!("  {}  ", item.stream));
    match &exchange.request {
        Some(request) => {
            printable(request.method(), out);
            out.push(b' ');
            let url = url(item, request);
            printable(&url.as_bytes()[..url.len().min(URL)], out);
            if url.len() > URL {
                out.extend_from_slice("…".as_bytes());
            }
        }
        None => {
            put(out, format_args!("(request not seen, server {}:{})", item.server.addr, item.server.port));
        }
    }
    out.extend_from_slice(" → ".as_bytes());
    match &exchange.response {
        Some(response) => {
            put(out, format_args!("{} ", response.status));
            printable(response.reason(), out);
            put(out, format_args!("  {}", bytes(response.message.body.size)));
        }
        None => out.extend_from_slice(b"no response"),
    }
    if exchange.request.is_some() && exchange.response.is_some() {
        let elapsed = item.finished.since(item.started);
        put(out, format_args!("  {:.1} ms", elapsed.as_secs_f64() * 1000.0));
    }
    put(out, format_args!("  from {}:{}", item.client.addr, item.client.port));
    process(&captured.src, out);
    if captured.dst.process.is_some() {
        out.extend_from_slice(b" to");
        process(&captured.dst, out);
    }
    if let Some(error) = &item.error {
        put(out, format_args!("  [{}: {}]", error.kind.as_str(), error.msg));
    }
    for anomaly in item.anomalies() {
        put(out, format_args!("  [{}]", anomaly.kind.as_str()));
    }
}

/// ` (curl 4711)`, if the process is known.
fn process(end: &Name, out: &mut Vec<u8>) {
    if let Some(process) = &end.process {
        out.extend_from_slice(b" (");
        printable(process.name.as_deref().unwrap_or("process").as_bytes(), out);
        put(out, format_args!(" {})", process.pid));
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

/// `2026-11-21T09:55:00.123Z`: milliseconds are enough for the eye.
fn time(item: &Item, out: &mut Vec<u8>) {
    let second = spell::second(item.started.0 / 1_000_000_000);
    out.extend_from_slice(&second);
    put(out, format_args!("{:03}", item.started.0 / 1_000_000 % 1000));
    out.push(b'Z');
}

/// What came from traffic must not steer the terminal: control characters and non-ASCII are shown as `\xNN`.
fn printable(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        if byte.is_ascii_graphic() || byte == b' ' {
            out.push(byte);
        } else {
            put(out, format_args!("\\x{byte:02x}"));
        }
    }
}

fn bytes(size: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = size as f64;
    let mut unit = None;
    for name in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(name);
    }
    unit.map_or_else(|| format!("{size} B"), |unit| format!("{value:.1} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_cannot_steer_the_terminal() {
        let mut out = Vec::new();
        printable(b"a\x1b[31m\nb\xff", &mut out);
        assert_eq!(out, br"a\x1b[31m\x0ab\xff");
    }

    #[test]
    fn sizes_for_the_eye() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(10 << 30), "10.0 GiB");
    }
}
