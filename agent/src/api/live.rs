//! What both ways of following items have in common: what may be asked, and what is told.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use serde::Deserialize;

use super::answer::{Failure, blocking};
use super::client::{ClientKind, Told};
use super::counts::Counts;
use super::feed::{Begin, Feed, Subscription, text};
use super::ring::Kept;
use crate::kfl::Filter;

/// Items of the backlog that are made JSON at a time.
const CHUNK: usize = 16;

/// `?filter=KFL&recent=N`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    filter: Option<String>,
    recent: Option<usize>,
}

/// What was asked for; a name that is not known is told.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query.map(|Query(wanted)| wanted).map_err(|error| Failure::bad(error.body_text()))
}

/// How many an answer shall have: 1 to `most`.
pub(super) fn limit(wanted: Option<usize>, usual: usize, most: usize) -> Result<usize, Failure> {
    let limit = wanted.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        return Err(Failure::bad(format!("limit: allowed is 1 to {most}")));
    }
    Ok(limit)
}

/// Compiles a filter.
pub(super) async fn filter(text: Option<String>) -> Result<Option<Arc<Filter>>, Failure> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let compiled = blocking(move || Filter::compile(&text)).await?;
    compiled.map(|filter| Some(Arc::new(filter))).map_err(|error| Failure::bad(format!("filter: {error}")))
}

/// A client's way through the items: first those from before, then those that come.
pub(super) struct Following {
    subscription: Subscription,
    feed: Arc<Feed>,
    ready: VecDeque<Told>,
}

impl Following {
    pub(super) async fn begin(
        feed: &Arc<Feed>,
        counts: &Counts,
        kind: ClientKind,
        wanted: Wanted,
        after: Option<u64>,
    ) -> Result<Self, Failure> {
        let filter = filter(wanted.filter).await?;
        let begin = match (after, wanted.recent) {
            (Some(number), _) => Begin::After(number),
            (None, Some(most)) => Begin::Recent(most),
            (None, None) => Begin::Now,
        };
        let Some(subscription) = feed.follow(kind, filter, begin) else {
            Counts::add(&counts.clients_refused);
            let why = "as many clients as api.maxClients allows follow items already";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, why));
        };
        let mut ready = VecDeque::new();
        if subscription.left_out > 0 {
            ready.push_back(Told::Dropped(subscription.left_out));
        }
        Ok(Self { subscription, feed: Arc::clone(feed), ready })
    }

    /// What is told next; `None`: the agent ends. Nothing is lost if it is not waited for to the end.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Some(told);
            }
            if self.subscription.backlog.is_empty() {
                return self.subscription.receiver.next().await;
            }
            let backlog = &mut self.subscription.backlog;
            let chunk: Vec<Kept> = backlog.iter().take(CHUNK).cloned().collect();
            let (filter, view) = (self.subscription.filter.clone(), Arc::clone(self.feed.view()));
            let count = chunk.len();
            let shown = blocking(move || {
                let wants = |kept: &&Kept| filter.as_ref().is_none_or(|f| f.matches(&kept.item, &view));
                let shown = |kept: &Kept| Told::Item(kept.number, text(&view, &kept.item));
                chunk.iter().filter(wants).map(shown).collect::<Vec<_>>()
            });
            // Taken out only now: whoever waits here may give up meanwhile and come back.
            let shown = shown.await.unwrap_or_default();
            self.subscription.backlog.drain(..count);
            self.ready.extend(shown);
        }
    }
}
