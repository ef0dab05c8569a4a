//! `pcap`, `test`, `utils` and `hash`: the helpers of a few lines.

use std::path::Path;

use agent_core::item::StreamId;
use rquickjs::{Object, Value};
use sha2::{Digest as _, Sha256};

use super::{Call, HelperError, HelperResult, Host, Member};
use crate::hooks::limits::size_text;
use crate::pcap::PcapStore;

pub(super) const PCAP: &[Member] = &[
    ("nameResolutionHistory", "pcap.nameResolutionHistory", name_history),
    ("path", "pcap.path", pcap_path),
    ("snapshot", "pcap.snapshot", pcap_snapshot),
];
pub(super) const TEST: &[Member] = &[
    ("fail", "test.fail", |_, call| mark(call, "failed")),
    ("pass", "test.pass", |_, call| mark(call, "passed")),
];
pub(super) const UTILS: &[Member] = &[
    ("json2Yaml", "utils.json2Yaml", json_to_yaml),
    ("nodeName", "utils.nodeName", |host, call| call.returns(host.services().node_name.as_str())),
];
pub(super) const HASH: &[Member] = &[("sha256", "hash.sha256", sha256)];

/// Longest JSON that is turned into YAML: its tree in memory is many times as large.
const LONGEST_JSON: usize = 1 << 20;

fn name_history<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let history = (host.services().names)();
    let object = Object::new(call.ctx().clone())?;
    for (second, names) in history {
        let at = Object::new(call.ctx().clone())?;
        for (ip, name) in names {
            at.set(ip.to_string(), name)?;
        }
        object.set(second.to_string(), at)?;
    }
    call.returns(object)
}

fn json_to_yaml<'js>(_: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (text, _) = call.text_or_json(0, "text")?;
    if text.len() > LONGEST_JSON {
        let (size, bound) = (text.len(), size_text(LONGEST_JSON as u64));
        return Err(
            call.failed("text", format!("is {size} bytes long, more than the {bound} that are allowed"))
        );
    }
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| call.failed("text", format!("is not JSON: {error}")))?;
    let yaml = serde_norway::to_string(&value).map_err(|error| call.failed("text", error))?;
    call.returns(yaml)
}

fn pcap_path<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let stream = stream_number(call, "stream", &call.text(0, "stream")?)?;
    let store = store(host, call)?;
    let file = if wants_redacted(call)? {
        let redaction = host.services().view.redaction().for_copies();
        host.clock.wait(|| store.redacted(stream, &|name| redaction.hides(name)))
    } else {
        host.clock.wait(|| store.file(stream))
    };
    returns_path(call, &file.map_err(|error| call.failed("stream", error))?.path)
}

/// `options {redact}`. What is no such object is an error: a copy that should have been redacted must not go out raw.
fn wants_redacted(call: &Call<'_>) -> Result<bool, HelperError> {
    let Some(options) = call.given(1) else { return Ok(false) };
    let Some(options) = options.as_object().filter(|options| options.as_array().is_none()) else {
        return Err(call.failed("options", "is no object; {redact: true} is one"));
    };
    for name in options.keys::<String>() {
        let name = name?;
        if name != "redact" {
            return Err(call.failed("options", format!("has no {name:?}; it has only redact")));
        }
    }
    let wanted: Option<Value<'_>> = options.get("redact")?;
    match wanted {
        None => Ok(false),
        Some(value) if value.is_undefined() => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| call.failed("options", "redact is not true or false")),
    }
}

fn pcap_snapshot<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let streams = call.optional_texts(0, "streams")?;
    let streams: Option<Vec<StreamId>> = streams
        .map(|texts| texts.iter().map(|text| stream_number(call, "streams", text)).collect())
        .transpose()?;
    if streams.as_ref().is_some_and(Vec::is_empty) {
        return Err(call.failed("streams", "names no stream; leave it out for all of them"));
    }
    let store = store(host, call)?;
    let path = host.clock.wait(|| store.snapshot(streams.as_deref()));
    returns_path(call, &path.map_err(|error| call.failed("streams", error))?)
}

fn stream_number(call: &Call<'_>, argument: &str, text: &str) -> Result<StreamId, HelperError> {
    match text.parse::<u64>() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(StreamId(number)),
        _ => {
            let shown: String = text.chars().take(40).collect();
            Err(call.failed(argument, format!("{shown:?} is not a stream number (data.stream is one)")))
        }
    }
}

fn store<'h>(host: &'h Host, call: &Call<'_>) -> Result<&'h dyn PcapStore, HelperError> {
    let store = host.services().store.as_deref();
    store.ok_or_else(|| call.failed_call("the PCAP store is off, so there is no capture file to be had"))
}

fn returns_path<'js>(call: &Call<'js>, path: &Path) -> HelperResult<'js> {
    match path.to_str() {
        Some(path) => call.returns(path),
        None => Err(call.failed_call("the capture file's path is not UTF-8")),
    }
}

fn mark<'js>(call: &Call<'js>, property: &str) -> HelperResult<'js> {
    let item = call.object(0, "data")?;
    item.set(property, true)?;
    call.returns(item.clone())
}

fn sha256<'js>(_: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let digest = Sha256::digest(call.text(0, "text")?.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    call.returns(Value::from_string(rquickjs::String::from_str(call.ctx().clone(), &hex)?))
}
