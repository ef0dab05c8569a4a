//! InfluxDB by its v2 write API: points in line protocol, in batches. A point that arrives twice is one.

mod line;
mod target;

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::Value;

pub use line::InfluxPoint;
pub use target::InfluxTarget;

use super::config::{OutboxConfig, Rate};
use super::delivery::{Content, Job};
use super::failure::Failure;
use super::http::Answer;
use super::pack;
use super::said::{said, word};
use super::sender::{Batch, Outcome, Sender, Sending, Turn};

/// One bucket, by one token.
#[derive(Debug)]
pub(in crate::outbox) struct Influx {
    target: InfluxTarget,
}

impl Influx {
    pub(in crate::outbox) fn new(target: InfluxTarget) -> Self {
        Self { target }
    }

    async fn write(&self, turn: &Turn<'_>, batch: &[Job]) -> Result<Answer, Failure> {
        let url = self.target.endpoint()?;
        let mut auth = HeaderValue::from_str(&format!("Token {}", self.target.token.expose()))
            .map_err(|_| Failure::local("bad_request", "the token".to_owned()))?;
        auth.set_sensitive(true);
        let request = turn.services.http.client(&url)?.post(url);
        let request = request.header(AUTHORIZATION, auth).header(CONTENT_TYPE, "text/plain; charset=utf-8");
        let lines: Vec<&str> = batch.iter().filter_map(line).collect();
        let request = pack::body(request, lines.join("\n").into_bytes()).await?;
        turn.services.http.send(request, Duration::ZERO).await
    }
}

fn line(job: &Job) -> Option<&str> {
    match &job.content {
        Content::Influx { line } => Some(line),
        _ => None,
    }
}

impl Sender for Influx {
    fn batch(&self) -> Batch {
        Batch { jobs: 5_000, bytes: 1024 * 1024 }
    }

    fn rate(&self, _config: &OutboxConfig) -> Rate {
        Rate { per_second: 100.0, burst: 100 }
    }

    fn send<'a>(&'a self, turn: &'a Turn<'_>, batch: &'a [Job]) -> Sending<'a> {
        Box::pin(async move {
            let answer = turn.pace.keep(self.write(turn, batch)).await;
            let outcome = match answer {
                Ok(answer) => judge(&answer, batch.len(), &[self.target.token.expose().to_owned()]),
                Err(failure) => Outcome::of(Err(failure)),
            };
            vec![outcome; batch.len()]
        })
    }
}

/// The fate of all: what the service says of single lines is not to be relied on, and points may be sent again.
fn judge(answer: &Answer, sent: usize, secrets: &[String]) -> Outcome {
    let status = answer.status.as_u16();
    match status {
        204 => return Outcome::Delivered,
        200..300 => return Outcome::Retry(Failure::bad_answer(format!("status {status} for a write"))),
        _ => {}
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mut failure = Failure::status(status).after(answer.retry_after);
    if let Some(code) = body["code"].as_str() {
        failure.code = format!("influxdb {}", word(code, &failure.code));
        failure.detail = said(body["message"].as_str().unwrap_or_default(), secrets);
    }
    failure.hint = match status {
        401 => "the token is not valid",
        403 => "the token may not write to this bucket",
        404 => "there is no such organization or bucket, or what answers there is not InfluxDB",
        422 => "the point is older than the bucket keeps, or its fields are of other types there",
        _ => failure.hint,
    };
    match status {
        413 => Outcome::Split(failure),
        400 | 422 if sent > 1 => Outcome::Split(failure),
        _ => Outcome::of(Err(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;

    #[test]
    fn answers_are_told_apart() {
        let judged = |status: u16, sent: usize| {
            let body = br#"{"code":"invalid","message":"unable to parse 't0ken'"}"#.to_vec();
            judge(
                &Answer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body },
                sent,
                &["t0ken".to_owned()],
            )
        };
        assert_eq!(judged(204, 1), Outcome::Delivered);
        assert!(matches!(
            (judged(400, 2), judged(413, 1), judged(422, 9)),
            (Outcome::Split(_), Outcome::Split(_), Outcome::Split(_))
        ));
        let Outcome::Dead(failure) = judged(400, 1) else { panic!() };
        assert_eq!(failure.to_string(), "influxdb invalid (unable to parse '[REDACTED]')");
        for terminal in [401, 403, 404] {
            assert!(matches!(judged(terminal, 2), Outcome::Dead(_)));
        }
        for passing in [200, 429, 503] {
            assert!(matches!(judged(passing, 2), Outcome::Retry(_)));
        }
    }
}
