//! What Slack's words mean: try again, mend the payload, or give up; and what a user can do about it.

use serde_json::Value;

use crate::outbox::failure::{Failure, Kind};

/// From a word of Slack's.
pub(super) fn word(word: &str) -> Failure {
    let code = clean(word);
    Failure::new(&code, kind(&code), hint(&code))
}

/// From `{"ok": false, …}`.
pub(super) fn answer(body: &Value) -> Failure {
    let mut error = word(body["error"].as_str().unwrap_or("unknown_error"));
    if let Some(needed) = body["needed"].as_str() {
        let provided = clean(body["provided"].as_str().unwrap_or_default());
        error.detail = format!("needs {}, has {provided}", clean(needed));
    }
    error
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
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => {
            "Slack takes about one message a second and channel"
        }
        "file_upload_size_restricted" => "the file is larger than the workspace allows",
        "file_uploads_disabled" | "file_type_not_allowed" | "blocked_file_type" => {
            "a workspace administrator must allow such files"
        }
        "storage_limit_reached" => "the workspace's file storage is full",
        "unknown_method" => "what answers there is not Slack: check the API URL",
        word if word.starts_with("restricted_action") => "a workspace setting forbids posting there",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        for (code, expected) in [
            ("ratelimited", Kind::Passing),
            ("internal_error", Kind::Passing),
            ("msg_too_long", Kind::Mend),
            ("restricted_action_read_only_channel", Kind::Terminal),
            ("something_new", Kind::Terminal),
        ] {
            assert_eq!(word(code).kind, expected, "{code}");
        }
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
        for code in
            ["xoxb-123456-abc", "invalid token xoxb", "xoxb_12345678901_secret", "", "https://hooks/x"]
        {
            assert_eq!(word(code).code, "unknown_error", "{code}");
        }
        let scopes = serde_json::json!({"error": "missing_scope", "needed": "channels:join", "provided": "chat:write,files:write"});
        let shown = answer(&scopes).to_string();
        assert!(
            shown.starts_with("missing_scope (needs channels:join, has chat:write,files:write): give"),
            "{shown}"
        );
    }
}
