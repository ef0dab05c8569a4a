//! `vendor`: Slack through the outbox; webhooks by [`super::webhook`], the others by [`super::vendor_data`] and
//! [`super::vendor_objects`].

use std::path::PathBuf;
use std::time::Duration;

use agent_core::item::StreamId;

use crate::outbox::{Alert, Delivery, DeliveryId, Fold};
use crate::secret::Secret;

use super::{Call, HelperError, HelperResult, Host, Member, vendor_data, webhook};

pub(super) const MEMBERS: &[Member] = &[
    ("elastic", "vendor.elastic", vendor_data::elastic),
    ("influxdb", "vendor.influxdb", vendor_data::influxdb),
    ("slack", "vendor.slack", slack),
    ("slackBot", "vendor.slackBot", slack_bot),
    ("splunk", "vendor.splunk", vendor_data::splunk),
    ("webhook", "vendor.webhook", webhook::webhook),
    ("webhookForm", "vendor.webhookForm", webhook::webhook_form),
];

/// Window of a fold that names none.
const WINDOW: f64 = 60.0;

fn slack<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let url = Secret::new(&call.text(0, "webhookUrl")?);
    let alert = alert(call, 1)?;
    let fold = fold(call, 4)?;
    enqueue(host, call, Delivery::SlackWebhook { url, alert, fold })
}

fn slack_bot<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let token = Secret::new(&call.text(0, "token")?);
    let channel = call.text(1, "channelId")?;
    let alert = alert(call, 2)?;
    let fields = call.pairs(5, "fields")?;
    let files = files(host, call, 6)?;
    let fold = fold(call, 7)?;
    enqueue(host, call, Delivery::SlackBot { token, channel, alert, fields, files, fold })
}

/// `options`: `{key, window}`.
fn fold(call: &Call<'_>, index: usize) -> Result<Option<Fold>, HelperError> {
    let (mut key, mut window) = (None, None);
    for (name, value) in call.pairs(index, "options")? {
        match name.as_str() {
            "key" => key = Some(value),
            "window" => {
                let seconds = value.trim().parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0);
                window = Some(seconds.ok_or_else(|| {
                    call.failed("options.window", format!("{value:?} is not a number of seconds above 0"))
                })?);
            }
            _ => {
                return Err(
                    call.failed("options", format!("there is no option {name:?}; key and window are"))
                );
            }
        }
    }
    let asked = Duration::try_from_secs_f64(window.unwrap_or(WINDOW));
    let asked = asked.map_err(|error| call.failed("options.window", error))?;
    match key {
        Some(key) if key.is_empty() => Err(call.failed("options.key", "is empty")),
        Some(key) => Ok(Some(Fold { key, window: asked })),
        None if window.is_some() => Err(call.failed("options", "has a window, but no key")),
        None => Ok(None),
    }
}

fn alert(call: &Call<'_>, first: usize) -> Result<Alert, HelperError> {
    Ok(Alert {
        pretext: call.text(first, "pretext")?,
        text: call.text(first + 1, "text")?,
        color: call.text(first + 2, "color")?,
    })
}

/// Name shown and path, resolved as `file.read` would.
fn files(host: &Host, call: &Call<'_>, index: usize) -> Result<Vec<(String, PathBuf)>, HelperError> {
    let resolve = |(name, path): (String, String)| {
        let resolved = host.folder.readable_path(&path);
        resolved
            .map(|path| (name.clone(), path))
            .map_err(|error| call.failed(&format!("files[{name:?}]"), error))
    };
    call.pairs(index, "files")?.into_iter().map(resolve).collect()
}

/// What the store is to know of an alert: the stream whose capture file goes with it, and what it says.
fn note(host: &Host, delivery: &Delivery) -> Option<(StreamId, String)> {
    let Delivery::SlackBot { alert, files, .. } = delivery else { return None };
    let store = host.services().store.as_ref()?;
    let folders = [Some(store.folder()), store.memory_folder()];
    let of_stream = |(_, path): &(String, PathBuf)| {
        let inside = folders.iter().flatten().find_map(|folder| path.strip_prefix(folder).ok())?;
        let stem = inside.file_stem()?.to_str()?;
        stem.parse().ok().map(StreamId)
    };
    let stream = files.iter().find_map(of_stream)?;
    // What an export tells of it is read by others than the alert.
    let text = format!("{}: {}: {}", host.name(), alert.pretext, alert.text);
    Some((stream, host.logger().clean(&text)))
}

fn enqueue<'js>(host: &Host, call: &Call<'js>, delivery: Delivery) -> HelperResult<'js> {
    let id = queue(host, call, delivery)?;
    call.returns(id.0.to_string())
}

/// Queues a delivery; the caller says what the script gets back.
pub(super) fn queue(host: &Host, call: &Call<'_>, delivery: Delivery) -> Result<DeliveryId, HelperError> {
    // Copying attachments is the agent's work, not the script's time.
    let note = note(host, &delivery);
    let queued = host.clock.wait(|| host.services().outbox.enqueue(host.name(), delivery));
    if queued.is_ok()
        && let (Some((stream, text)), Some(store)) = (note, &host.services().store)
    {
        host.clock.wait(|| store.note(stream, &text));
    }
    queued.map_err(|error| call.failed_call(error))
}
