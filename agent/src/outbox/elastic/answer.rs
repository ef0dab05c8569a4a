//! What `_bulk` answered: about the whole, or about each document.

use serde::Deserialize;
use serde_json::Value;

use crate::outbox::failure::{Failure, Kind};
use crate::outbox::http::Answer;
use crate::outbox::said::{said, word};
use crate::outbox::sender::Outcome;

#[derive(Debug, Deserialize)]
struct Bulk {
    #[serde(default)]
    items: Vec<serde_json::Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "_id", default)]
    id: Option<String>,
    status: u16,
    #[serde(default)]
    error: Option<Value>,
}

/// An outcome for each id, in order.
pub(super) fn judge(ids: &[&str], answer: &Answer, secrets: &[String]) -> Vec<Outcome> {
    let all = |outcome: Outcome| vec![outcome; ids.len()];
    let status = answer.status.as_u16();
    if status != 200 {
        return all(whole(status, answer, ids.len(), secrets));
    }
    let Ok(bulk) = serde_json::from_slice::<Bulk>(&answer.body) else {
        return all(Outcome::Retry(Failure::bad_answer("not what _bulk answers".to_owned())));
    };
    if bulk.items.len() != ids.len() {
        let (got, sent) = (bulk.items.len(), ids.len());
        return all(Outcome::Retry(Failure::bad_answer(format!("{got} results for {sent} documents"))));
    }
    ids.iter().zip(bulk.items).map(|(id, item)| one(id, item, secrets)).collect()
}

/// Outcomes of documents as those of the jobs that they are of. A job of several is tried again as a whole, for what is there
/// is known by its id; it is a dead letter if any document can never be taken.
pub(super) fn by_job(counts: &[usize], outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let mut outcomes = outcomes.into_iter();
    counts.iter().map(|&count| worst(count, outcomes.by_ref().take(count))).collect()
}

fn worst(count: usize, outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let (mut again, mut dead, mut split, mut refused) = (None, None, None, 0);
    for outcome in outcomes {
        match outcome {
            Outcome::Delivered | Outcome::Arrived(_) => {}
            Outcome::Retry(failure) => again = again.or(Some(failure)),
            Outcome::Split(failure) => split = split.or(Some(failure)),
            Outcome::Dead(failure) => {
                refused += 1;
                dead = dead.or(Some(failure));
            }
        }
    }
    match (split, again, dead) {
        (Some(failure), _, _) => Outcome::Split(failure),
        (_, Some(failure), _) => Outcome::Retry(failure),
        (_, _, Some(mut failure)) => {
            if count > 1 {
                failure.detail =
                    format!("{refused} of {count} documents refused; the first: {}", failure.detail);
            }
            Outcome::Dead(failure)
        }
        (None, None, None) => Outcome::Delivered,
    }
}

/// The request as a whole was refused.
fn whole(status: u16, answer: &Answer, sent: usize, secrets: &[String]) -> Outcome {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mut failure = refused(status, &body["error"], secrets).after(answer.retry_after);
    match status {
        413 => return Outcome::Split(Failure { hint: TOO_LARGE, ..failure }),
        // One of them cannot be read; alone it is known which.
        400 if sent > 1 => return Outcome::Split(failure),
        _ => {}
    }
    failure.hint = match status {
        401 => "the credentials are not valid: check API key, token, or user and password",
        403 => "this user may not write there: it needs the index privilege create_doc (and auto_configure)",
        404 | 405 => "what answers there is not Elasticsearch: check the URL",
        _ => failure.hint,
    };
    Outcome::of(Err(failure))
}

const TOO_LARGE: &str = "larger than http.max_content_length, or than what a proxy before it takes";

fn one(id: &str, item: serde_json::Map<String, Value>, secrets: &[String]) -> Outcome {
    let item = item.into_iter().next().and_then(|(_, item)| serde_json::from_value::<Item>(item).ok());
    let Some(item) = item.filter(|item| item.id.as_deref().is_none_or(|said| said == id)) else {
        return Outcome::Retry(Failure::bad_answer("a result that fits no document".to_owned()));
    };
    let error = item.error.unwrap_or_default();
    match item.status {
        200..300 => Outcome::Delivered,
        // The id is ours: an earlier attempt, whose answer was lost, got through.
        409 => Outcome::Delivered,
        // A full disk or a read-only index: somebody will see to it.
        403 if error["type"] == "cluster_block_exception" => {
            let hint = "the index is read-only: its disk may be full";
            Outcome::Retry(Failure { kind: Kind::Passing, hint, ..refused(403, &error, secrets) })
        }
        status => Outcome::of(Err(refused(status, &error, secrets))),
    }
}

/// By the status, in the service's words.
fn refused(status: u16, error: &Value, secrets: &[String]) -> Failure {
    let mut failure = Failure::status(status);
    let name = error["type"].as_str().unwrap_or_default();
    if name.is_empty() {
        return failure;
    }
    failure.code = word(name, &failure.code);
    let reason = error["reason"].as_str().unwrap_or_default();
    let cause = error["caused_by"]["reason"].as_str().unwrap_or_default();
    let separator = if reason.is_empty() || cause.is_empty() { "" } else { ": " };
    failure.detail = said(&format!("{reason}{separator}{cause}"), secrets);
    failure.hint = match name {
        "mapper_parsing_exception" | "document_parsing_exception" | "strict_dynamic_mapping_exception" => {
            "the document does not fit the index's mapping"
        }
        "index_not_found_exception" => {
            "create the index, or allow it to be created (action.auto_create_index)"
        }
        "invalid_index_name_exception" => "the index cannot have this name",
        "illegal_argument_exception" => "the index refuses the document as it is",
        _ => "",
    };
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;

    fn judged(status: u16, body: &str, ids: &[&str]) -> Vec<Outcome> {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, retry_after: None, body: body.as_bytes().to_vec() };
        judge(ids, &answer, &["s3cr3tkey".to_owned()])
    }

    #[test]
    fn each_document_has_its_own_fate() {
        let body = r#"{"errors":true,"items":[
            {"create":{"_id":"a","status":201}},
            {"create":{"_id":"b","status":409,"error":{"type":"version_conflict_engine_exception","reason":"exists"}}},
            {"create":{"_id":"c","status":429,"error":{"type":"es_rejected_execution_exception","reason":"queue"}}},
            {"create":{"_id":"d","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed s3cr3tkey","caused_by":{"reason":"bad\nnumber"}}}},
            {"create":{"_id":"e","status":403,"error":{"type":"cluster_block_exception","reason":"read-only"}}},
            {"create":{"_id":"f","status":403,"error":{"type":"security_exception","reason":"no"}}}]}"#;
        let outcomes = judged(200, body, &["a", "b", "c", "d", "e", "f"]);
        assert_eq!(outcomes[..2], [Outcome::Delivered, Outcome::Delivered]);
        assert!(matches!(&outcomes[2], Outcome::Retry(_)) && matches!(&outcomes[4], Outcome::Retry(_)));
        let Outcome::Dead(failure) = &outcomes[3] else { panic!("{outcomes:?}") };
        assert_eq!(
            failure.to_string(),
            "mapper_parsing_exception (failed [REDACTED]: bad number): the document does not fit the index's mapping"
        );
        assert!(matches!(&outcomes[5], Outcome::Dead(_)));
    }

    #[test]
    fn answers_about_the_whole() {
        let two = &["a", "b"];
        assert!(matches!(judged(413, "", two)[..], [Outcome::Split(_), Outcome::Split(_)]));
        assert!(matches!(judged(400, "{}", two)[0], Outcome::Split(_)));
        assert!(matches!(judged(400, "{}", &["a"])[0], Outcome::Dead(_)));
        for passing in [429, 500, 503] {
            assert!(matches!(judged(passing, "<html>", two)[1], Outcome::Retry(_)), "{passing}");
        }
        for terminal in [401, 403, 404, 406] {
            assert!(matches!(judged(terminal, "", two)[1], Outcome::Dead(_)), "{terminal}");
        }
        // Not an answer of _bulk: nothing is known to have arrived.
        for odd in [
            "",
            "[]",
            r#"{"items":[]}"#,
            r#"{"items":[{"create":{"_id":"x","status":201}},{"create":{"_id":"b","status":201}}]}"#,
        ] {
            assert!(matches!(judged(200, odd, two)[0], Outcome::Retry(_)), "{odd}");
        }
    }
}
