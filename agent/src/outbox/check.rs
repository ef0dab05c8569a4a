//! Arguments are judged once, when a script gives them. Messages never repeat a secret.

use super::{Alert, Delivery, OutboxError};

/// Longest token, channel id or URL: far above any that exist.
const MAX_NAME: usize = 2_048;
/// Files of one delivery.
const MAX_FILES: usize = 50;

/// Judges what can be judged without touching a file.
pub(super) fn arguments(delivery: &Delivery) -> Result<(), OutboxError> {
    match delivery {
        Delivery::SlackWebhook { url, .. } => webhook_url(url.expose()),
        Delivery::SlackBot { token, channel, files, .. } => {
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
    }
}

/// Bytes of text that a delivery keeps in memory.
pub(super) fn text_bytes(delivery: &Delivery) -> u64 {
    let alert = |a: &Alert| a.pretext.len() + a.text.len() + a.color.len();
    let bytes = match delivery {
        Delivery::SlackWebhook { alert: a, .. } => alert(a),
        Delivery::SlackBot { alert: a, fields, .. } => {
            alert(a) + fields.iter().map(|(title, value)| title.len() + value.len()).sum::<usize>()
        }
    };
    bytes as u64
}

fn name(argument: &'static str, value: &str) -> Result<(), OutboxError> {
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
    const ARGUMENT: &str = "webhookUrl";
    name(ARGUMENT, value)?;
    let Ok(url) = reqwest::Url::parse(value) else {
        return invalid(
            ARGUMENT,
            "is not a URL; it looks like https://hooks.slack.com/services/…".to_owned(),
        );
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return invalid(ARGUMENT, "is not an http or https URL".to_owned());
    }
    Ok(())
}

fn invalid(argument: &'static str, cause: String) -> Result<(), OutboxError> {
    Err(OutboxError::Invalid { argument, cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn bot(token: &str, channel: &str) -> Result<(), OutboxError> {
        arguments(&Delivery::SlackBot {
            token: Secret::new(token),
            channel: channel.to_owned(),
            alert: Alert::default(),
            fields: Vec::new(),
            files: Vec::new(),
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
        let webhook =
            |url: &str| arguments(&Delivery::SlackWebhook { url: Secret::new(url), alert: Alert::default() });
        assert!(webhook(" https://hooks.slack.com/services/T0/B0/x ").is_ok());
        for url in
            ["", "hooks.slack.com/services/T0/B0/secret", "ftp://secret/x", "http://", "https://a/se cret"]
        {
            let error = webhook(url).unwrap_err().to_string();
            assert!(error.starts_with("webhookUrl: ") && !error.contains("secret"), "{error}");
        }
    }
}
