//! Items as server-sent events: `curl -N`, or a browser's EventSource, which comes back by itself where it was.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::stream;

use super::answer::{self, Failure};
use super::client::{ClientKind, Told};
use super::counts::Counts;
use super::feed::Feed;
use super::live::{Following, Wanted, query};

pub(super) async fn stream(
    State(feed): State<Arc<Feed>>,
    State(counts): State<Arc<Counts>>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let after = headers.get("last-event-id").and_then(|id| last(id.to_str().ok()?, feed.epoch()));
    let following = Following::begin(&feed, &counts, ClientKind::Sse, query(wanted)?, after).await?;
    let epoch = feed.epoch();
    // At once, so that the client knows that it follows.
    let hello = [Bytes::from_static(b"retry: 2000\n: following\n\n")];
    let events = stream::unfold(following, |mut following| async {
        let told = following.next().await?;
        Some((told, following))
    });
    let frames = futures_util::StreamExt::flat_map(events, move |told| stream::iter(frame(told, epoch)));
    let all = futures_util::StreamExt::chain(stream::iter(hello), frames);
    let body = Body::from_stream(futures_util::StreamExt::map(all, Ok::<_, std::convert::Infallible>));
    Ok(answer::with_type(StatusCode::OK, "text/event-stream", body))
}

/// The number of an event that this run sent.
fn last(id: &str, epoch: u32) -> Option<u64> {
    let (of, number) = id.split_once('-')?;
    let same = u32::from_str_radix(of, 16).is_ok_and(|of| of == epoch);
    number.parse().ok().filter(|_| same)
}

/// An event in pieces, of which the item's JSON is shared with other clients. It has no line ends.
fn frame(told: Told, epoch: u32) -> Vec<Bytes> {
    match told {
        Told::Item(number, json) => vec![
            Bytes::from(format!("id: {epoch:08x}-{number}\nevent: item\ndata: ")),
            json.into(),
            Bytes::from_static(b"\n\n"),
        ],
        Told::Dropped(items) => {
            vec![Bytes::from(format!("event: dropped\ndata: {{\"dropped\":{items}}}\n\n"))]
        }
        Told::Quiet => vec![Bytes::from_static(b": quiet\n\n")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_run_is_none() {
        assert_eq!(last("0000beef-17", 0xbeef), Some(17));
        for id in ["0000beee-17", "17", "0000beef-", "0000beef-x", ""] {
            assert_eq!(last(id, 0xbeef), None, "{id}");
        }
    }
}
