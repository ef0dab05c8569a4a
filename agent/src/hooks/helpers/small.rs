//! `pcap`, `test`, `utils` and `hash`: the helpers of a few lines.

use agent_core::item::StreamId;
use rquickjs::Value;
use sha2::{Digest as _, Sha256};

use super::{Call, HelperResult, Host, Member};

pub(super) const PCAP: &[Member] = &[("path", "pcap.path", pcap_path)];
pub(super) const TEST: &[Member] = &[
    ("fail", "test.fail", |_, call| mark(call, "failed")),
    ("pass", "test.pass", |_, call| mark(call, "passed")),
];
pub(super) const UTILS: &[Member] =
    &[("nodeName", "utils.nodeName", |host, call| call.returns(host.services().node_name.as_str()))];
pub(super) const HASH: &[Member] = &[("sha256", "hash.sha256", sha256)];

fn pcap_path<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let text = call.text(0, "stream")?;
    let stream = match text.parse::<u64>() {
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => StreamId(number),
        _ => {
            let shown: String = text.chars().take(40).collect();
            return Err(
                call.failed("stream", format!("{shown:?} is not a stream number (data.stream is one)"))
            );
        }
    };
    let Some(store) = &host.services().store else {
        return Err(call.failed_call("the PCAP store is off, so there is no capture file to be had"));
    };
    let path = host.clock.wait(|| store.path(stream)).map_err(|error| call.failed("stream", error))?;
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
