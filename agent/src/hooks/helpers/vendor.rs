//! `vendor`: Slack through the outbox; webhooks by [`super::webhook`].

use std::path::PathBuf;

use agent_core::item::StreamId;

use crate::outbox::{Alert, Delivery};
use crate::secret::Secret;

use super::{Call, HelperError, HelperResult, Host, Member, webhook};

pub(super) const MEMBERS: &[Member] = &[
    ("slack", "vendor.slack", slack),
    ("slackBot", "vendor.slackBot", slack_bot),
    ("webhook", "vendor.webhook", webhook::webhook),
    ("webhookForm", "vendor.webhookForm", webhook::webhook_form),
];

const NO_OPTIONS: &str =
    "vendor.slack and vendor.slackBot: options are not supported by this version; every alert is sent";

fn slack<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let url = Secret::new(&call.text(0, "webhookUrl")?);
    let alert = alert(call, 1)?;
    if call.given(4).is_some() {
        host.warn_once(NO_OPTIONS);
    }
    enqueue(host, call, Delivery::SlackWebhook { url, alert })
}

fn slack_bot<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let token = Secret::new(&call.text(0, "token")?);
    let channel = call.text(1, "channelId")?;
    let alert = alert(call, 2)?;
    let fields = call.pairs(5, "fields")?;
    let files = files(host, call, 6)?;
    if call.given(7).is_some() {
        host.warn_once(NO_OPTIONS);
    }
    enqueue(host, call, Delivery::SlackBot { token, channel, alert, fields, files })
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
    Some((stream, format!("{}: {}: {}", host.name(), alert.pretext, alert.text)))
}

fn enqueue<'js>(host: &Host, call: &Call<'js>, delivery: Delivery) -> HelperResult<'js> {
    // Copying attachments is the agent's work, not the script's time.
    let note = note(host, &delivery);
    let queued = host.clock.wait(|| host.services().outbox.enqueue(host.name(), delivery));
    if queued.is_ok()
        && let (Some((stream, text)), Some(store)) = (note, &host.services().store)
    {
        host.clock.wait(|| store.note(stream, &text));
    }
    match queued {
        Ok(id) => call.returns(id.0.to_string()),
        Err(error) => Err(call.failed_call(error)),
    }
}
