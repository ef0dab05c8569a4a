//! The JSON of messages: one attachment, with a coloured bar, at one of three sizes.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::escape::{cut, escape};
use crate::outbox::delivery::{Alert, HeldBack};
use crate::outbox::failure::Failure;
use crate::utc;

/// Name of the file that carries a text too long for Slack.
pub(super) const TEXT_FILE: &str = "message.txt";
/// Files named one by one among those that a message goes without.
const MAX_LEFT_OUT: usize = 10;
/// A field's value up to this long may share its line with another.
const SHORT: usize = 40;

/// How much is said; the next is tried when Slack finds a payload too long or wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    /// As much as Slack shows well.
    Full,
    /// A tenth of it.
    Short,
    /// Plain text, no attachment.
    Plain,
}

impl Size {
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::Short),
            Self::Short => Some(Self::Plain),
            Self::Plain => None,
        }
    }

    fn limits(self) -> Limits {
        match self {
            Self::Full => Limits { pretext: 1_000, text: 2_000, fields: 50, value: 1_000 },
            Self::Short | Self::Plain => Limits { pretext: 300, text: 200, fields: 10, value: 100 },
        }
    }
}

/// In characters, and fields.
struct Limits {
    pretext: usize,
    text: usize,
    fields: usize,
    value: usize,
}

/// A payload, and whether something had to be left out.
pub(super) struct Payload {
    pub(super) json: Value,
    pub(super) cut: bool,
}

/// What the outbox adds to an alert.
#[derive(Clone, Copy, Default)]
pub(super) struct Notes<'a> {
    pub(super) held: Option<HeldBack>,
    /// A line for each file that the message goes without.
    pub(super) left_out: &'a [String],
}

/// What a bot says; the channel and thread are added by the caller.
pub(super) fn bot(
    alert: &Alert,
    fields: &[(String, String)],
    notes: Notes<'_>,
    made: SystemTime,
    size: Size,
) -> Payload {
    let limits = size.limits();
    let mut cut_any = size == Size::Plain || fields.len() > limits.fields;
    let mut text = part(&alert.text, limits.text, &mut cut_any);
    let pretext = part(&alert.pretext, limits.pretext, &mut cut_any);
    let shown = fields.iter().take(limits.fields);
    let mut shown: Vec<Value> = shown.map(|(t, v)| field(t, v, limits.value, &mut cut_any)).collect();
    shown.push(field("Timestamp", &utc(made), limits.value, &mut cut_any));
    if cut_any {
        let _ =
            write!(text, "\n_{} characters in all: see {TEXT_FILE} in the thread_", length(alert, fields));
    }
    for line in notes.left_out.iter().take(MAX_LEFT_OUT) {
        let _ = write!(text, "\n_{line}_");
    }
    if let Some(more) = notes.left_out.len().checked_sub(MAX_LEFT_OUT).filter(|more| *more > 0) {
        let _ = write!(text, "\n_and {more} more files_");
    }
    text.push_str(&held_note(notes.held));
    if size == Size::Plain {
        let text = format!("{}\n{text}", non_empty(pretext));
        return Payload { json: with_manners(json!({ "text": text })), cut: true };
    }
    let mut attachment = json!({
        "fallback": fallback(alert),
        "pretext": pretext,
        "text": text,
        "fields": shown,
        "mrkdwn_in": ["pretext", "text", "fields"],
    });
    paint(&mut attachment, alert);
    Payload { json: with_manners(json!({ "attachments": [attachment] })), cut: cut_any }
}

/// What a webhook says. It can carry no file: what is too long is cut, and its length told.
pub(super) fn webhook(alert: &Alert, held: Option<HeldBack>, made: SystemTime, size: Size) -> Value {
    let limits = size.limits();
    let mut cut_any = false;
    let mut text = part(&alert.text, limits.text, &mut cut_any);
    let pretext = part(&alert.pretext, limits.pretext, &mut cut_any);
    if cut_any {
        let _ = write!(text, "\n_cut: {} characters in all_", length(alert, &[]));
    }
    text.push_str(&held_note(held));
    if size == Size::Plain {
        return json!({ "text": format!("{}\n{text}", non_empty(pretext)) });
    }
    let mut attachment = json!({
        "fallback": fallback(alert),
        "pretext": pretext,
        "text": non_empty(text),
        "mrkdwn_in": ["pretext", "text"],
        "ts": made.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    });
    paint(&mut attachment, alert);
    json!({ "attachments": [attachment] })
}

/// How many were folded into this message; empty if none.
fn held_note(held: Option<HeldBack>) -> String {
    let Some(HeldBack { count, since, closing, over_budget, refused }) = held else { return String::new() };
    let since = utc::text(since / 1_000);
    if refused {
        let count = grouped(count);
        return format!(
            "\n_the last of {count} alerts of this script that were refused since {since}: the outbox was full_"
        );
    }
    let what = if over_budget { "of this script, past the budget of alerts" } else { "like this" };
    let count = grouped(count);
    if closing {
        format!("\n_the last of {count} more {what}, held back since {since}_")
    } else {
        format!("\n_held back: {count} more {what} since {since}_")
    }
}

/// A note in a message's thread.
pub(super) fn note(text: &str) -> Value {
    with_manners(json!({ "text": text }))
}

/// Only alerts are sent to Slack.
pub(super) fn not_an_alert() -> Failure {
    Failure::local("bad_content", "not an alert".to_owned())
}

/// All that an alert says, for [`TEXT_FILE`].
pub(super) fn whole(alert: &Alert, fields: &[(String, String)]) -> String {
    let mut whole = format!("{}\n\n{}\n", alert.pretext, alert.text);
    for (title, value) in fields {
        let _ = write!(whole, "\n{title}: {value}");
    }
    whole
}

/// Nobody is pinged and nothing is fetched because of what traffic said.
fn with_manners(mut message: Value) -> Value {
    message["parse"] = "none".into();
    message["unfurl_links"] = false.into();
    message["unfurl_media"] = false.into();
    message
}

fn part(text: &str, max: usize, cut_any: &mut bool) -> String {
    let (shown, whole) = cut(text, max);
    *cut_any |= !whole;
    if whole { shown } else { shown + "…" }
}

fn field(title: &str, value: &str, max: usize, cut_any: &mut bool) -> Value {
    let short = value.chars().count() <= SHORT && !value.contains('\n');
    json!({
        "title": non_empty(part(title, 100, cut_any)),
        "value": non_empty(part(value, max, cut_any)),
        "short": short,
    })
}

fn non_empty(text: String) -> String {
    if text.trim().is_empty() { "-".to_owned() } else { text }
}

/// What notifications show.
fn fallback(alert: &Alert) -> String {
    let first_line = alert.text.lines().next().unwrap_or_default();
    let joined = [alert.pretext.trim(), first_line.trim()].join(" ");
    match joined.trim() {
        "" => "Alert".to_owned(),
        joined => cut(joined, 300).0,
    }
}

fn paint(attachment: &mut Value, alert: &Alert) {
    if let Some(color) = color(&alert.color) {
        attachment["color"] = color.into();
    }
}

/// `#rrggbb` or one of Slack's names; anything else means no colour rather than no alert.
fn color(text: &str) -> Option<String> {
    let text = text.trim();
    let hex = text.strip_prefix('#').unwrap_or(text);
    let is_hex = hex.bytes().all(|b| b.is_ascii_hexdigit());
    match hex.len() {
        _ if matches!(text, "good" | "warning" | "danger") => Some(text.to_owned()),
        6 if is_hex => Some(format!("#{hex}")),
        3 if is_hex => Some(hex.chars().fold("#".to_owned(), |out, c| out + &format!("{c}{c}"))),
        _ => None,
    }
}

fn length(alert: &Alert, fields: &[(String, String)]) -> String {
    let parts = fields.iter().flat_map(|(title, value)| [title, value]).chain([&alert.pretext, &alert.text]);
    grouped(parts.map(|part| part.chars().count() as u64).sum())
}

/// 12345 as `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A file's name as it may stand in text.
pub(super) fn file_name(name: &str) -> String {
    format!("`{}`", escape(&name.replace('`', "'")))
}

/// ISO 8601 in UTC, to the second.
fn utc(time: SystemTime) -> String {
    utc::text(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times() {
        assert_eq!(utc(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(utc(at(951_782_399)), "2000-02-28T23:59:59Z");
        assert_eq!(utc(at(951_782_400)), "2000-02-29T00:00:00Z");
        assert_eq!(utc(at(1_798_761_599)), "2026-12-31T23:59:59Z");
        assert_eq!(utc(at(4_107_542_400)), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn colours() {
        assert_eq!(color(" #FF0000 ").as_deref(), Some("#FF0000"));
        assert_eq!(color("f00").as_deref(), Some("#ff0000"));
        assert_eq!(color("danger").as_deref(), Some("danger"));
        assert_eq!(color("reddish"), None);
        assert_eq!(color("ééé"), None);
    }

    #[test]
    fn an_empty_alert_still_says_something() {
        let payload =
            bot(&Alert::default(), &[(String::new(), " ".to_owned())], Notes::default(), at(0), Size::Full);
        let attachment = &payload.json["attachments"][0];
        assert_eq!(attachment["fallback"], "Alert");
        assert_eq!(attachment["fields"][0], json!({"title": "-", "value": "-", "short": true}));
        assert_eq!(attachment["fields"][1]["title"], "Timestamp");
        assert!(!payload.cut);
        assert_eq!(webhook(&Alert::default(), None, at(0), Size::Full)["attachments"][0]["text"], "-");
    }

    #[test]
    fn every_size_is_smaller_and_tells_the_length() {
        let alert = Alert { pretext: "p".repeat(5_000), text: "<".repeat(50_000), color: String::new() };
        let fields: Vec<_> = (0..200).map(|i| (format!("f{i:03}"), "v".repeat(4_996))).collect();
        let mut last = usize::MAX;
        for size in [Size::Full, Size::Short, Size::Plain] {
            let payload = bot(&alert, &fields, Notes::default(), at(0), size);
            let json = payload.json.to_string();
            assert!(payload.cut && json.contains("1,055,000 characters in all"), "{size:?}");
            assert!(json.len() < last, "{size:?}: {}", json.len());
            last = json.len();
            assert!(webhook(&alert, None, at(0), size).to_string().contains("55,000 characters in all"));
        }
        assert!(last < 2_000);
    }

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
