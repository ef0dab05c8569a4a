//! What Slack's words mean: try again, mend the payload, or give up; and what a user can do about it.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// What to do after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Try the same again.
    Passing,
    /// Try something shorter or plainer.
    Mend,
    /// Nothing that we can do.
    Terminal,
}

/// A call that did not succeed. It never holds a URL, a token or text that a server made up freely.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SlackError {
    /// Slack's word, or ours: `http_503`, `no_answer`, `unreachable`, `bad_answer` …
    pub(crate) code: String,
    /// More about it; may be empty.
    pub(crate) detail: String,
    pub(crate) kind: Kind,
    pub(crate) retry_after: Option<Duration>,
    /// The call may have taken effect.
    pub(crate) unanswered: bool,
}

impl SlackError {
    /// From a word of Slack's.
    pub(crate) fn word(word: &str) -> Self {
        let code = clean(word);
        let kind = kind(&code);
        Self { code, detail: String::new(), kind, retry_after: None, unanswered: false }
    }

    /// From `{"ok": false, …}`.
    pub(crate) fn answer(body: &Value) -> Self {
        let mut error = Self::word(body["error"].as_str().unwrap_or("unknown_error"));
        if let Some(needed) = body["needed"].as_str() {
            let provided = clean(body["provided"].as_str().unwrap_or_default());
            error.detail = format!("needs {}, has {provided}", clean(needed));
        }
        error
    }

    /// From a status whose body says nothing.
    pub(crate) fn status(status: u16) -> Self {
        let passing = status == 429 || status == 408 || (500..600).contains(&status);
        let kind = if passing { Kind::Passing } else { Kind::Terminal };
        let detail = match status {
            300..400 => "a redirect, which is not followed".to_owned(),
            _ => String::new(),
        };
        Self { code: format!("http_{status}"), detail, kind, retry_after: None, unanswered: false }
    }

    /// A connection could not be made: nothing was sent.
    pub(crate) fn unreachable(cause: String) -> Self {
        Self { detail: cause, kind: Kind::Passing, ..Self::word("unreachable") }
    }

    /// Sent, but not answered to the end.
    pub(crate) fn no_answer(cause: String) -> Self {
        Self { detail: cause, kind: Kind::Passing, unanswered: true, ..Self::word("no_answer") }
    }

    /// Answered, but not as Slack answers.
    pub(crate) fn bad_answer(cause: String) -> Self {
        Self { detail: cause, kind: Kind::Passing, unanswered: true, ..Self::word("bad_answer") }
    }

    /// Something on our side that trying again does not change.
    pub(crate) fn local(code: &str, cause: String) -> Self {
        Self { detail: cause, kind: Kind::Terminal, ..Self::word(code) }
    }

    /// The same, with a server's wish.
    pub(crate) fn after(mut self, wish: Option<Duration>) -> Self {
        self.retry_after = wish;
        self
    }

    pub(crate) fn given_up(mut self, attempts: u32) -> Self {
        let separator = if self.detail.is_empty() { "" } else { "; " };
        let plural = if attempts == 1 { "" } else { "s" };
        self.detail = format!("{}{separator}given up after {attempts} attempt{plural}", self.detail);
        self.kind = Kind::Terminal;
        self
    }
}

impl fmt::Display for SlackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        match hint(&self.code) {
            "" => Ok(()),
            hint => write!(f, ": {hint}"),
        }
    }
}

/// Only what Slack's words and scopes are made of: a server that repeats a token must not get it into a log.
fn clean(word: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || matches!(c, '_' | '.' | ',' | ':');
    let whole = word.len() <= 200 && word.chars().all(|c| plain(c) || c.is_ascii_digit());
    // Tokens have digits, words and scopes hardly any.
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if whole && digits <= 4 && !word.is_empty() { word.to_owned() } else { "unknown_error".to_owned() }
}

fn kind(code: &str) -> Kind {
    match code {
        "ratelimited"
        | "rate_limited"
        | "message_limit_exceeded"
        | "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org"
        | "rollup_error" => Kind::Passing,
        "no_text"
        | "msg_too_long"
        | "msg_blocks_too_long"
        | "attachment_payload_limit_exceeded"
        | "invalid_blocks"
        | "invalid_attachments"
        | "too_many_attachments"
        | "invalid_payload"
        | "invalid_arguments" => Kind::Mend,
        _ => Kind::Terminal,
    }
}

/// What a user can do about an error of Slack's, in a few words; empty where nothing is known.
#[must_use]
pub fn hint(code: &str) -> &'static str {
    match code {
        "invalid_auth" | "not_authed" => {
            "the token is not valid: copy the Bot User OAuth Token (xoxb-…) of the app again"
        }
        "token_revoked" | "token_expired" | "account_inactive" => {
            "the token is no longer valid: install the app again and use its new token"
        }
        "missing_scope" => "give the app the scope and install it to the workspace again",
        "not_allowed_token_type" => "use the app's bot token (xoxb-…)",
        "channel_not_found" => {
            "use the channel's id (channel details, at the bottom); for a private channel invite the bot (/invite @name)"
        }
        "not_in_channel" => {
            "invite the bot to the channel (/invite @name) or give the app the scope channels:join"
        }
        "is_archived" | "channel_is_archived" => "the channel is archived: choose another or unarchive it",
        "no_service" | "no_service_id" | "no_team" | "invalid_token" | "action_prohibited" => {
            "the webhook is gone or disabled: make a new one in the app's Incoming Webhooks"
        }
        "user_not_found" => "the webhook's user is gone: make a new webhook",
        "ekm_access_denied" | "team_access_not_granted" | "access_denied" | "no_permission" => {
            "a workspace administrator must allow it"
        }
        "ratelimited" | "rate_limited" | "message_limit_exceeded" | "http_429" => {
            "Slack takes about one message a second and channel"
        }
        "file_upload_size_restricted" => "the file is larger than the workspace allows",
        "file_uploads_disabled" | "file_type_not_allowed" | "blocked_file_type" => {
            "a workspace administrator must allow such files"
        }
        "storage_limit_reached" => "the workspace's file storage is full",
        "unreachable" | "no_answer" => "check network, DNS, proxy and firewall",
        "bad_answer" | "http_404" | "http_405" | "unknown_method" => {
            "what answers there is not Slack: check the API URL"
        }
        "no_tls" => "install the system's CA certificates (ca-certificates)",
        word if word.starts_with("restricted_action") => "a workspace setting forbids posting there",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        for (word, expected) in [
            ("ratelimited", Kind::Passing),
            ("internal_error", Kind::Passing),
            ("msg_too_long", Kind::Mend),
            ("restricted_action_read_only_channel", Kind::Terminal),
            ("something_new", Kind::Terminal),
        ] {
            assert_eq!(SlackError::word(word).kind, expected, "{word}");
        }
        assert_eq!(SlackError::status(503).kind, Kind::Passing);
        assert_eq!(SlackError::status(302).kind, Kind::Terminal);
    }

    #[test]
    fn every_terminal_word_has_a_hint() {
        for word in "invalid_auth not_authed token_revoked account_inactive missing_scope channel_not_found \
            not_in_channel is_archived restricted_action ekm_access_denied file_upload_size_restricted \
            file_uploads_disabled file_type_not_allowed storage_limit_reached action_prohibited invalid_token \
            no_service channel_is_archived user_not_found"
            .split_whitespace()
        {
            assert!(!hint(word).is_empty(), "{word}");
        }
    }

    #[test]
    fn a_server_cannot_put_a_token_into_a_log() {
        for word in
            ["xoxb-123456-abc", "invalid token xoxb", "xoxb_12345678901_secret", "", "https://hooks/x"]
        {
            assert_eq!(SlackError::word(word).code, "unknown_error", "{word}");
        }
        let scopes = serde_json::json!({"error": "missing_scope", "needed": "channels:join", "provided": "chat:write,files:write"});
        let shown = SlackError::answer(&scopes).to_string();
        assert!(
            shown.starts_with("missing_scope (needs channels:join, has chat:write,files:write): give"),
            "{shown}"
        );
    }
}
