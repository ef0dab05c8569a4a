//! Log lines of scripts: one line each, bounded, without control characters and without the secrets of `env`.

use std::collections::BTreeMap;
use std::sync::Arc;

/// How weighty a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// `console.debug`.
    Debug,
    /// `console.log`.
    Info,
    /// `console.warn`, and what the runtime wants an author to know.
    Warn,
    /// `console.error`, and errors of the script.
    Error,
}

/// Takes the log lines of scripts: the agent's log, or a collector in `remora scripts test` and in tests.
pub trait ScriptLog: Send + Sync {
    /// One line of the script of that name. `console`: whether the script itself wrote it.
    fn line(&self, script: &str, level: Level, console: bool, text: &str);
}

/// Writes to the agent's own structured log, target `script`.
#[derive(Clone, Copy, Default, Debug)]
pub struct TracingLog;

impl ScriptLog for TracingLog {
    fn line(&self, script: &str, level: Level, console: bool, text: &str) {
        match level {
            Level::Debug => tracing::debug!(target: "script", script, console, "{text}"),
            Level::Info => tracing::info!(target: "script", script, console, "{text}"),
            Level::Warn => tracing::warn!(target: "script", script, console, "{text}"),
            Level::Error => tracing::error!(target: "script", script, console, "{text}"),
        }
    }
}

/// One script's way to the log.
pub(crate) struct Logger {
    script: String,
    sink: Arc<dyn ScriptLog>,
    secrets: Vec<String>,
    longest: usize,
}

/// A shorter value is too likely to be part of an ordinary word.
const SHORTEST_SECRET: usize = 6;

impl Logger {
    pub(crate) fn new(
        script: &str,
        sink: Arc<dyn ScriptLog>,
        env: &BTreeMap<String, String>,
        longest: usize,
    ) -> Self {
        let mut secrets: Vec<String> = env
            .iter()
            .filter(|(key, value)| is_secret_name(key) || is_secret_value(value))
            .filter(|(_, value)| value.trim().len() >= SHORTEST_SECRET)
            .map(|(_, value)| value.trim().to_owned())
            .collect();
        // The longest first: one secret may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { script: script.to_owned(), sink, secrets, longest }
    }

    /// A line that the script wrote.
    pub(crate) fn console(&self, level: Level, text: &str) {
        self.sink.line(&self.script, level, true, &self.clean(text));
    }

    /// A line about the script: `script NAME: …`.
    pub(crate) fn about(&self, level: Level, text: &str) {
        self.sink.line(&self.script, level, false, &format!("script {}: {}", self.script, self.clean(text)));
    }

    /// The text without secrets and control characters, cut to the bound.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text = std::borrow::Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "[REDACTED]").into();
            }
        }
        for secret in &self.secrets {
            if let Some(hidden) = without_beginning(&text, secret) {
                text = hidden.into();
            }
        }
        let (head, cut) = split_at_char(&text, self.longest);
        let mut line = String::with_capacity(head.len());
        for c in head.chars() {
            match c {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') => {
                    line.extend(c.escape_unicode());
                }
                c => line.push(c),
            }
        }
        if cut > 0 {
            line.push_str(&format!("… ({cut} more bytes)"));
        }
        line
    }
}

/// What follows a text that was cut.
const CUT: &str = "… (";

/// A text may have been cut in the middle of a secret: without the beginning of it, where there is one at the end or a cut.
fn without_beginning(text: &str, secret: &str) -> Option<String> {
    // Of a URL everybody knows where it begins.
    let known = secret.find("://").map_or(0, |scheme| {
        secret[scheme + 3..].find('/').map_or(secret.len(), |host| scheme + 3 + host + 1)
    });
    let shortest = known + SHORTEST_SECRET;
    let cuts = text.match_indices(CUT).map(|(at, _)| at);
    for end in cuts.chain([text.len()]) {
        let lengths = (shortest..secret.len()).rev().filter(|&length| secret.is_char_boundary(length));
        if let Some(length) = lengths.into_iter().find(|&length| text[..end].ends_with(&secret[..length])) {
            let hidden = format!("{}[REDACTED]{}", &text[..end - length], &text[end..]);
            return Some(without_beginning(&hidden, secret).unwrap_or(hidden));
        }
    }
    None
}

/// Whether a variable of that name is taken for a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "KEY", "HOOK", "CREDENTIAL"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether a value is one whatever its name: Slack's tokens and webhook URLs.
fn is_secret_value(value: &str) -> bool {
    let value = value.trim();
    ["xoxb-", "xoxp-", "xoxa-", "xoxe-", "xapp-"].iter().any(|start| value.starts_with(start))
        || value.contains("://hooks.slack.com/")
}

/// The first `longest` bytes at most, at a character's border, and how many bytes follow.
pub(crate) fn split_at_char(text: &str, longest: usize) -> (&str, usize) {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (&text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(env: &[(&str, &str)], longest: usize) -> Logger {
        let env = env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        Logger::new("a.js", Arc::new(TracingLog), &env, longest)
    }

    #[test]
    fn secrets_are_cut_out_whole() {
        let logger = logger(
            &[
                ("SLACK_AUTH_TOKEN", "xoxb-123\n"),
                ("API_KEY", "xoxb-123-more"),
                ("NAME", "visible"),
                ("HOOK", "http://fake/services/T/B/x"),
                ("ALERTS_TO", "https://hooks.slack.com/services/T/B/y"),
                ("BOT", " xoxp-777"),
                ("KEY", "abc"),
            ],
            1000,
        );
        assert_eq!(
            logger.clean("a xoxb-123-more b xoxb-123 visible abc"),
            "a [REDACTED] b [REDACTED] visible abc"
        );
        assert_eq!(
            logger.clean("xoxp-777 http://fake/services/T/B/x https://hooks.slack.com/services/T/B/y"),
            "[REDACTED] [REDACTED] [REDACTED]"
        );
    }

    #[test]
    fn a_secret_that_was_cut_is_cut_out() {
        let token = "xoxb-123456789-abcdef";
        let hook = "https://hooks.slack.com/services/T/B/yyyy";
        let logger = logger(&[("TOKEN", token), ("TO", hook)], 1000);
        for length in SHORTEST_SECRET..=token.len() {
            let part = &token[..length];
            assert_eq!(logger.clean(&format!("a {part}")), "a [REDACTED]");
            assert_eq!(
                logger.clean(&format!("a {part}… (7 more bytes) b")),
                "a [REDACTED]… (7 more bytes) b"
            );
        }
        assert_eq!(logger.clean(&hook[..hook.len() - 1]), "[REDACTED]");
        assert_eq!(logger.clean("see https://hooks.slack.com/"), "see https://hooks.slack.com/");
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        let logger = logger(&[], 12);
        assert_eq!(logger.clean("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(logger.clean("0123456789äöü"), "0123456789ä… (4 more bytes)");
    }
}
