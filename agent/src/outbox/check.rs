//! Arguments are judged once, when a script gives them. Messages never repeat a secret.

use std::time::Duration;

use super::{Delivery, Fold, OutboxError};

/// Longest token, channel id or URL: far above any that exist.
const MAX_NAME: usize = 2_048;
/// Files of one delivery.
const MAX_FILES: usize = 50;

/// Longest key of a fold, in bytes.
const MAX_KEY: usize = 1_024;
/// Longest window.
const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Judges what can be judged without touching a file.
pub(super) fn arguments(delivery: &Delivery) -> Result<(), OutboxError> {
    match delivery {
        Delivery::SlackWebhook { url, fold, .. } => {
            folding(fold.as_ref())?;
            webhook_url(url.expose())
        }
        Delivery::SlackBot { token, channel, files, fold, .. } => {
            folding(fold.as_ref())?;
            name("token", token.expose())?;
            name("channelId", channel)?;
            if files.len() > MAX_FILES {
                return invalid(
                    "files",
                    format!("{} files; at most {MAX_FILES} in one message", files.len()),
                );
            }
            Ok(())
        }
        // Judged when they were made.
        Delivery::Elastic { .. }
        | Delivery::ElasticMany { .. }
        | Delivery::Web { .. }
        | Delivery::Splunk { .. }
        | Delivery::Influx { .. }
        | Delivery::S3 { .. }
        | Delivery::Gcs { .. } => Ok(()),
    }
}

fn folding(fold: Option<&Fold>) -> Result<(), OutboxError> {
    let Some(Fold { key, window }) = fold else { return Ok(()) };
    if key.is_empty() || key.len() > MAX_KEY {
        return invalid("options.key", format!("is {} bytes long; 1 to {MAX_KEY} are allowed", key.len()));
    }
    if window.is_zero() || *window > MAX_WINDOW {
        let most = MAX_WINDOW.as_secs();
        return invalid("options.window", format!("must be more than 0 and at most {most} seconds"));
    }
    Ok(())
}

/// A token, an id, a URL: one word of ASCII.
pub(super) fn name(argument: &'static str, value: &str) -> Result<(), OutboxError> {
    if value.is_empty() {
        return invalid(argument, "is empty; is its variable set?".to_owned());
    }
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return invalid(argument, "has white space, control or non-ASCII characters in it".to_owned());
    }
    if value.len() > MAX_NAME {
        return invalid(argument, format!("is {} bytes long; at most {MAX_NAME}", value.len()));
    }
    Ok(())
}

fn webhook_url(value: &str) -> Result<(), OutboxError> {
    url("webhookUrl", value, "https://hooks.slack.com/services/…").map(drop)
}

/// An http or https URL; `like` shows what one looks like.
pub(super) fn url(argument: &'static str, value: &str, like: &str) -> Result<reqwest::Url, OutboxError> {
    name(argument, value)?;
    let Ok(url) = reqwest::Url::parse(value) else {
        return invalid(argument, format!("is not a URL; it looks like {like}"));
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return invalid(argument, "is not an http or https URL".to_owned());
    }
    Ok(url)
}

/// Host and port of a URL, for logs and lists.
pub(super) fn host(url: &str) -> String {
    let url = reqwest::Url::parse(url).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or("?");
    match url.as_ref().and_then(reqwest::Url::port) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A name or password: not empty, without control characters.
pub(super) fn text(argument: &'static str, value: &str) -> Result<(), OutboxError> {
    if value.is_empty() {
        return invalid(argument, "is empty; is its variable set?".to_owned());
    }
    if value.chars().any(char::is_control) {
        return invalid(argument, "has control characters in it".to_owned());
    }
    if value.len() > MAX_NAME {
        return invalid(argument, format!("is {} bytes long; at most {MAX_NAME}", value.len()));
    }
    Ok(())
}

pub(super) fn invalid<T>(argument: &'static str, cause: String) -> Result<T, OutboxError> {
    Err(OutboxError::Invalid { argument, cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Alert;
    use crate::secret::Secret;

    fn bot(token: &str, channel: &str) -> Result<(), OutboxError> {
        arguments(&Delivery::SlackBot {
            token: Secret::new(token),
            channel: channel.to_owned(),
            alert: Alert::default(),
            fields: Vec::new(),
            files: Vec::new(),
            fold: None,
        })
    }

    #[test]
    fn tokens_and_channels() {
        assert!(bot("xoxb-1\n", "C1").is_ok(), "outer white space is cut");
        for (token, channel) in
            [("", "C1"), ("xoxb- secret", "C1"), ("xoxb\nsecret", "C1"), ("xoxb", ""), ("x", "C 1")]
        {
            let error = bot(token, channel).unwrap_err().to_string();
            assert!(error.starts_with("token: ") || error.starts_with("channelId: "), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn webhook_urls() {
        let webhook = |url: &str| {
            arguments(&Delivery::SlackWebhook { url: Secret::new(url), alert: Alert::default(), fold: None })
        };
        assert!(webhook(" https://hooks.slack.com/services/T0/B0/x ").is_ok());
        for url in
            ["", "hooks.slack.com/services/T0/B0/secret", "ftp://secret/x", "http://", "https://a/se cret"]
        {
            let error = webhook(url).unwrap_err().to_string();
            assert!(error.starts_with("webhookUrl: ") && !error.contains("secret"), "{error}");
        }
    }
}
