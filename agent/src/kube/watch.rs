//! A watch that goes on: list, then changes; again from where it was when the connection ends, from the start when the server has
//! forgotten where that was.
//!
//! The list comes as a stream of single objects where the server can do that (Kubernetes 1.32 and later), so that neither side
//! holds it as a whole; else as one answer out of the server's cache, as kube-proxy takes it. Errors are waited after, longer each
//! time, by chance, 30 s at most; answers of 429 and 503 as long as their `Retry-After` says.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use ::kube::runtime::watcher::{DefaultBackoff, Event, InitialListStrategy};
use ::kube::runtime::{WatchStreamExt as _, watcher};
use ::kube::{Api, Resource};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::status::{Status, Watched};

/// How long a list may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one watch lasts, in seconds: so long, and up to twice that, so that a thousand agents do not ask at once.
pub(super) const LASTS: u32 = 300;

/// Watches for ever; `sink` gets what is to be seen.
pub(super) async fn follow<K>(
    api: Api<K>,
    fields: Option<String>,
    what: Watched,
    status: &Status,
    mut sink: impl FnMut(Event<K>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut config = watcher::Config::default().any_semantic().streaming_lists();
    config.field_selector = fields;
    config.page_size = None;
    config.timeout = Some(LASTS + u32::try_from(super::hub::random(u64::from(LASTS))).unwrap_or(0));
    loop {
        let events = watcher(api.clone(), config.clone()).backoff(DefaultBackoff::default());
        let mut events = pin!(events);
        let mut listing = true;
        loop {
            let next = if listing {
                match tokio::time::timeout(PATIENCE, events.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        status.failed(what, "the server does not answer");
                        // One that does not know what a streamed list is never says where it ends.
                        config.initial_list_strategy = InitialListStrategy::ListWatch;
                        break;
                    }
                }
            } else {
                events.next().await
            };
            match next {
                Some(Ok(event)) => {
                    listing = match &event {
                        Event::Init => {
                            status.listing(what);
                            true
                        }
                        Event::InitDone => false,
                        _ => listing,
                    };
                    sink(event);
                    if !listing {
                        status.there(what);
                    }
                }
                Some(Err(error)) => {
                    if config.initial_list_strategy == InitialListStrategy::StreamingList
                        && cannot_stream(&error)
                    {
                        tracing::debug!("the API server does not stream lists: {error}");
                        config.initial_list_strategy = InitialListStrategy::ListWatch;
                        break;
                    }
                    if is_gone(&error) {
                        // The list begins anew, and says what is wrong if it cannot.
                        listing = true;
                        tracing::debug!("{error}");
                    } else if listing || !matches!(error, watcher::Error::WatchFailed(_)) {
                        status.failed(what, &told(&error));
                    } else {
                        // A connection that broke is no trouble before it cannot be had again.
                        status.broke(what);
                    }
                }
                None => break,
            }
        }
    }
}

/// Whether the server refuses to stream lists.
fn cannot_stream(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(::kube::Error::Api(said)) => matches!(said.code, 400 | 422),
        watcher::Error::WatchError(said) => matches!(said.code, 400 | 422),
        _ => false,
    }
}

fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(said) if said.code == 410)
}

/// The error with what it comes from, in one line.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
