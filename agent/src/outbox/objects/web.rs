//! The outbox's own HTTP for `object_store`: its clients, its bound of calls, and an account of the last answer, which the
//! library's errors do not carry as such.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::header::RETRY_AFTER;

use crate::outbox::http::Http;

/// Slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 64 * 1024;

/// What came of the last call.
#[derive(Clone, Debug, Default)]
pub(super) struct Last {
    /// `None`: no answer.
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<Duration>,
    /// Nobody was there.
    pub(super) unreachable: bool,
    /// Why there was no answer; without a URL.
    pub(super) cause: String,
    pub(super) host: String,
}

/// Calls of one store.
#[derive(Debug)]
pub(super) struct Web {
    http: Arc<Http>,
    last: Mutex<Last>,
}

impl Web {
    pub(super) fn new(http: Arc<Http>) -> Self {
        Self { http, last: Mutex::default() }
    }

    /// Forgets the last answer.
    pub(super) fn begin(&self) {
        self.recall(Last::default());
    }

    pub(super) fn last(&self) -> Last {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn recall(&self, last: Last) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    async fn run(&self, request: HttpRequest, last: &mut Last) -> Result<HttpResponse, HttpError> {
        let other = |cause: String| HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(cause));
        let url: reqwest::Url = request.uri().to_string().parse().map_err(|_| other("the URL".to_owned()))?;
        last.host = url.host_str().unwrap_or_default().to_owned();
        let client = self.http.client(&url).map_err(|failure| other(failure.to_string()))?;
        let bytes = u64::try_from(request.body().content_length()).unwrap_or(u64::MAX);
        let patience = self.http.timeout() + Duration::from_secs(bytes / SLOWEST);
        let _permit = self.http.permit().await;
        match tokio::time::timeout(patience, client.call(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::new(
                HttpErrorKind::Timeout,
                std::io::Error::from(std::io::ErrorKind::TimedOut),
            )),
        }
    }
}

/// Innermost cause of an error; the library's outer ones may name the URL.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// [`Web`] as the library takes it.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) Arc<Web>);

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut last = Last::default();
        let answer = self.0.run(request, &mut last).await;
        match &answer {
            Ok(answer) => {
                last.status = Some(answer.status().as_u16());
                let wish = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                last.retry_after = wish.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            }
            Err(error) => {
                last.unreachable = error.kind() == HttpErrorKind::Connect;
                last.cause = innermost(error);
            }
        }
        self.0.recall(last);
        answer
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
