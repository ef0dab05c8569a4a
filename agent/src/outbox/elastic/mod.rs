//! Elasticsearch and OpenSearch: documents by `_bulk`, each under an id of our own, so that what arrives twice is one.
//!
//! ```text
//! jobs ─► {"create":{"_index","_id"}} ⏎ document ⏎ … ─► POST _bulk ─► an answer for each: done, there already, again, never
//! ```
//!
//! Always `create`: it is all that a data stream takes, and where it finds our id, the document is there.

mod answer;
mod document;
mod target;

use std::sync::OnceLock;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};

pub use document::ElasticDocument;
pub use target::{ElasticAccess, ElasticTarget};

use super::config::{OutboxConfig, Rate};
use super::delivery::{Content, Job};
use super::failure::Failure;
use super::http::Answer;
use super::pack;
use super::sender::{Batch, Outcome, Sender, Sending, Turn};

/// What is asked back of the answer: it may be larger than the request else.
const FILTER: &str = "errors,error,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";

/// One cluster, as one user.
#[derive(Debug)]
pub(in crate::outbox) struct Elastic {
    target: ElasticTarget,
    pinned: OnceLock<Result<Client, Failure>>,
}

impl Elastic {
    pub(in crate::outbox) fn new(target: ElasticTarget) -> Self {
        Self { target, pinned: OnceLock::new() }
    }

    async fn bulk(&self, turn: &Turn<'_>, batch: &[Job]) -> Result<Answer, Failure> {
        let (url, auth) = self.address()?;
        let http = &turn.services.http;
        let client = match self.target.fingerprint() {
            Some(fingerprint) => {
                self.pinned.get_or_init(|| http.pinned(fingerprint)).as_ref().map_err(Failure::clone)?
            }
            None => http.client(&url)?,
        };
        let mut request = client.post(url).header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(auth) = auth {
            request = request.header(AUTHORIZATION, auth);
        }
        http.send(pack::body(request, document::lines(batch)).await?, std::time::Duration::ZERO).await
    }

    fn address(&self) -> Result<(Url, Option<HeaderValue>), Failure> {
        let wrong = |what: &str| Failure::local("bad_request", what.to_owned());
        let mut url = Url::parse(&self.target.url).map_err(|_| wrong("the URL"))?;
        url.path_segments_mut().map_err(|()| wrong("the URL"))?.pop_if_empty().push("_bulk");
        url.query_pairs_mut().append_pair("filter_path", FILTER);
        let auth = self.target.auth.as_ref().map(|auth| HeaderValue::from_str(auth.expose())).transpose();
        let mut auth = auth.map_err(|_| wrong("the credentials"))?;
        if let Some(auth) = &mut auth {
            auth.set_sensitive(true);
        }
        Ok((url, auth))
    }
}

impl Sender for Elastic {
    fn batch(&self) -> Batch {
        Batch { jobs: 500, bytes: 4 * 1024 * 1024 }
    }

    fn rate(&self, _config: &OutboxConfig) -> Rate {
        // Batches, not documents.
        Rate { per_second: 100.0, burst: 100 }
    }

    fn send<'a>(&'a self, turn: &'a Turn<'_>, batch: &'a [Job]) -> Sending<'a> {
        Box::pin(async move {
            let answer = turn.pace.keep(self.bulk(turn, batch)).await;
            match answer {
                Ok(answer) => {
                    let ids: Vec<Vec<&str>> = batch.iter().map(ids).collect();
                    let outcomes = answer::judge(&ids.concat(), &answer, &self.target.secrets());
                    answer::by_job(&ids.iter().map(Vec::len).collect::<Vec<_>>(), outcomes)
                }
                Err(failure) => batch.iter().map(|_| Outcome::of(Err(failure.clone()))).collect(),
            }
        })
    }
}

fn ids(job: &Job) -> Vec<&str> {
    match &job.content {
        Content::Elastic { id, .. } => vec![id],
        Content::ElasticMany { documents, .. } => documents.iter().map(|(id, _)| id.as_str()).collect(),
        _ => Vec::new(),
    }
}
