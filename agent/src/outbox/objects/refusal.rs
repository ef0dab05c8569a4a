//! What a store's errors mean.

use std::error::Error as _;

use super::web::{Last, innermost};
use crate::outbox::failure::{Failure, Kind};
use crate::outbox::said::word;

/// Why there is no store to talk to: keys that are none, a region that cannot be.
pub(super) fn not_opened(error: &object_store::Error) -> Failure {
    // The library's words about a key file could repeat a part of it.
    let kind = match error {
        object_store::Error::UnknownConfigurationKey { .. } => "a setting is unknown",
        _ => "the account or the settings of the store cannot be used",
    };
    Failure::local("bad_account", kind.to_owned())
}

/// By the last answer, and the store's own word for it.
pub(super) fn judge(error: &object_store::Error, last: Last) -> Failure {
    let Some(status) = last.status else {
        let mut failure =
            if last.unreachable { Failure::unreachable(last.cause) } else { Failure::no_answer(last.cause) };
        if matches!(last.host.as_str(), "169.254.169.254" | "metadata.google.internal" | "169.254.170.2") {
            failure.hint = "there are no keys, and no role of the machine or pod: give keyID and accessKey";
        }
        return failure;
    };
    let mut failure = Failure::status(status).after(last.retry_after);
    if (200..300).contains(&status) {
        // A connection that broke while the answer was read, or an answer that is none.
        return Failure::bad_answer(innermost(error));
    }
    let Some(code) = code(error) else { return failure };
    failure.code = word(&code, &failure.code);
    match failure.code.as_str() {
        "RequestTimeout" | "SlowDown" | "InternalError" | "ServiceUnavailable" | "OperationAborted"
        | "ExpiredToken" => {
            failure.kind = Kind::Passing;
        }
        _ => {}
    }
    failure.hint = match failure.code.as_str() {
        "NoSuchBucket" => "there is no such bucket here: check its name, region and REMORA_S3_ENDPOINT",
        "AccessDenied" => "these keys may not put objects there (s3:PutObject, storage.objects.create)",
        "InvalidAccessKeyId" => "there is no such key: check keyID",
        "SignatureDoesNotMatch" => "the access key is not valid: check accessKey and region",
        "RequestTimeTooSkewed" => "the clock of this node is wrong",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => "the bucket is in another region",
        "EntityTooLarge" => "the store takes no object of this size",
        _ => failure.hint,
    };
    failure
}

/// `<Code>` of the XML that the library repeats in its error.
fn code(error: &object_store::Error) -> Option<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    let between = |text: &String| {
        let (_, rest) = text.split_once("<Code>")?;
        Some(rest.split_once("</Code>")?.0.trim().to_owned())
    };
    texts.iter().find_map(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn words_and_statuses_are_told_apart() {
        let last = |status| Last { status, ..Last::default() };
        let gone = judge(&error("404: <Error><Code>NoSuchBucket</Code></Error>"), last(Some(404)));
        assert_eq!((gone.code.as_str(), gone.kind), ("NoSuchBucket", Kind::Terminal));
        assert_eq!(judge(&error("<Code>SlowDown</Code>"), last(Some(503))).kind, Kind::Passing);
        assert_eq!(judge(&error("<Code>RequestTimeout</Code>"), last(Some(400))).kind, Kind::Passing);
        assert_eq!(judge(&error("busy"), last(Some(429))).to_string(), "http_429");
        let odd = judge(&error("<Code>AKIA0123456789ABCDEF</Code>"), last(Some(403)));
        assert_eq!(odd.code, "http_403", "what is no word is not repeated");
        let silent = judge(&error("x"), last(None));
        assert!(silent.unanswered && silent.kind == Kind::Passing);
        let alone = Last { unreachable: true, host: "169.254.169.254".into(), ..Last::default() };
        assert!(judge(&error("x"), alone).hint.contains("keyID"));
    }
}
