//! What the collector's codes mean.

use serde_json::Value;

use crate::outbox::failure::{Failure, Kind};
use crate::outbox::http::Answer;
use crate::outbox::said::said;
use crate::outbox::sender::Outcome;

/// What became of a run.
pub(super) enum Verdict {
    /// All of it; with the number under which its indexing can be asked for.
    Taken(Option<u64>),
    /// An outcome for each.
    Refused(Vec<Outcome>),
}

/// Judges the answer to `sent` events.
pub(super) fn judge(answer: &Answer, sent: usize, secrets: &[String]) -> Verdict {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let status = answer.status.as_u16();
    if status == 200 {
        return match body["code"].as_u64() {
            Some(0) => Verdict::Taken(body["ackId"].as_u64()),
            _ => Verdict::Refused(vec![not_a_collector(); sent]),
        };
    }
    let failure = refused(status, &body, secrets).after(answer.retry_after);
    if status == 413 {
        let hint = "larger than the collector's max_content_length, or than what a proxy before it takes";
        return Verdict::Refused(vec![Outcome::Split(Failure { hint, ..failure }); sent]);
    }
    if status != 400 || sent == 1 || !is_about_one(body["code"].as_u64()) {
        return Verdict::Refused(vec![Outcome::of(Err(failure)); sent]);
    }
    // One of them is wrong. Whether those before it were taken is not said: sent twice is better than lost.
    let bad = body["invalid-event-number"].as_u64().and_then(|number| usize::try_from(number).ok());
    let mut outcomes = vec![Outcome::Split(failure.clone()); sent];
    if let Some(outcome) = bad.and_then(|bad| outcomes.get_mut(bad)) {
        *outcome = Outcome::Dead(failure);
    }
    Verdict::Refused(outcomes)
}

/// Whether an acknowledgement has come.
pub(super) fn acknowledged(answer: &Answer, ack: u64, secrets: &[String]) -> Result<bool, Failure> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status.as_u16() {
        200 => Ok(body["acks"][ack.to_string()].as_bool() == Some(true)),
        // Acknowledgement was turned off meanwhile: nobody can tell any more.
        400 if body["code"] == 14 => Ok(true),
        status => {
            let failure = refused(status, &body, secrets);
            // Busy: later.
            if failure.kind == Kind::Passing { Ok(false) } else { Err(failure) }
        }
    }
}

/// Whether the collector says that it can take events; one that has no health endpoint is believed to.
pub(super) fn health(answer: &Answer, secrets: &[String]) -> Result<(), Failure> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let failure = refused(answer.status.as_u16(), &body, secrets);
    if answer.status.is_success() || failure.kind != Kind::Passing {
        Ok(())
    } else {
        Err(failure.after(answer.retry_after))
    }
}

fn not_a_collector() -> Outcome {
    Outcome::Retry(Failure::bad_answer("not what the event collector answers".to_owned()))
}

/// Codes about an event, not about the sender.
fn is_about_one(code: Option<u64>) -> bool {
    matches!(code, Some(5 | 6 | 7 | 12 | 13 | 15))
}

fn refused(status: u16, body: &Value, secrets: &[String]) -> Failure {
    let Some(code) = body["code"].as_u64() else { return Failure::status(status) };
    let mut failure = Failure::status(status);
    failure.code = format!("splunk_{code}");
    failure.detail = said(body["text"].as_str().unwrap_or_default(), secrets);
    if matches!(code, 8 | 9 | 18 | 19 | 20 | 23 | 26 | 27) {
        failure.kind = Kind::Passing;
    }
    failure.hint = match code {
        1 => "the token is disabled: enable it in Settings, Data inputs, HTTP Event Collector",
        2..=4 | 21 => {
            "the token is not valid: copy it again from Settings, Data inputs, HTTP Event Collector"
        }
        7 => "the token may not write to this index, or there is none of this name",
        10 | 11 => "the token asks for a channel: give options.channel a GUID",
        _ => "",
    };
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    fn outcomes(status: u16, body: &str, sent: usize) -> Vec<Outcome> {
        match judge(&answer(status, body), sent, &["t0ken".to_owned()]) {
            Verdict::Taken(_) => panic!("taken"),
            Verdict::Refused(outcomes) => outcomes,
        }
    }

    #[test]
    fn codes_are_told_apart() {
        assert!(matches!(
            judge(&answer(200, r#"{"text":"Success","code":0,"ackId":7}"#), 2, &[]),
            Verdict::Taken(Some(7))
        ));
        for (status, code) in [(401, 2), (401, 3), (403, 1), (403, 4), (400, 10)] {
            let body = format!(r#"{{"text":"no t0ken","code":{code}}}"#);
            let outcome = outcomes(status, &body, 2).remove(1);
            let Outcome::Dead(failure) = outcome else { panic!("{code}: {outcome:?}") };
            assert!(
                failure.to_string().starts_with(&format!("splunk_{code} (no [REDACTED]): ")),
                "{failure}"
            );
        }
        for (status, body) in [
            (503, r#"{"text":"Server is busy","code":9}"#),
            (500, r#"{"code":8}"#),
            (429, "slow"),
            (200, "<html>"),
        ] {
            assert!(matches!(outcomes(status, body, 2)[0], Outcome::Retry(_)), "{body}");
        }
        assert!(matches!(outcomes(413, "", 2)[0], Outcome::Split(_)));
    }

    #[test]
    fn a_bad_event_does_not_take_the_others_with_it() {
        let body = r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#;
        let three = outcomes(400, body, 3);
        assert!(matches!(three[..], [Outcome::Split(_), Outcome::Dead(_), Outcome::Split(_)]), "{three:?}");
        assert!(matches!(outcomes(400, body, 1)[0], Outcome::Dead(_)));
        let unknown = outcomes(400, r#"{"text":"Invalid data format","code":6}"#, 2);
        assert!(matches!(unknown[..], [Outcome::Split(_), Outcome::Split(_)]));
    }

    #[test]
    fn acknowledgement_and_health() {
        assert!(acknowledged(&answer(200, r#"{"acks":{"3":true}}"#), 3, &[]).unwrap());
        assert!(!acknowledged(&answer(200, r#"{"acks":{"3":false}}"#), 3, &[]).unwrap());
        assert!(acknowledged(&answer(400, r#"{"code":14}"#), 3, &[]).unwrap());
        assert!(acknowledged(&answer(403, r#"{"code":4}"#), 3, &[]).is_err());
        assert!(health(&answer(200, r#"{"code":17}"#), &[]).is_ok() && health(&answer(404, ""), &[]).is_ok());
        assert!(
            health(&answer(503, r#"{"text":"HEC is unhealthy, queues are full","code":18}"#), &[]).is_err()
        );
    }
}
