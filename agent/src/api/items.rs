//! The latest items, and one of them.

use std::sync::Arc;
use std::time::Duration;

use agent_core::item::StreamId;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::answer::{Failure, heavy, json_text};
use super::feed::Feed;
use super::live::{filter, limit, query};
use super::services::Services;
use crate::captured::Captured;
use crate::kfl::Filter;

/// Items of an answer: by default, and at most.
const USUAL: usize = 50;
const MOST: usize = 1000;
/// An answer is ended when it has so many bytes.
const MOST_BYTES: usize = 16 << 20;
/// Items that are taken from the ring at a time.
const CHUNK: usize = 256;
/// How long each script may take to say what is shown of an item.
const PATIENCE: Duration = Duration::from_secs(5);

/// `?filter=KFL&limit=N&before=N`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    filter: Option<String>,
    limit: Option<usize>,
    before: Option<u64>,
}

pub(super) async fn recent(
    State(feed): State<Arc<Feed>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let wanted = query(wanted)?;
    let limit = limit(wanted.limit, USUAL, MOST)?;
    let filter = filter(wanted.filter).await?;
    let before = wanted.before.unwrap_or(u64::MAX);
    let text = heavy(move || list(&feed, filter.as_deref(), limit, before)).await?;
    Ok(json_text(StatusCode::OK, text))
}

/// The newest first; `next` is what to ask for as `before`, to go on.
fn list(feed: &Feed, filter: Option<&Filter>, limit: usize, mut before: u64) -> Vec<u8> {
    let view = feed.view();
    let mut text = b"{\"items\":[".to_vec();
    let mut count = 0;
    let next = 'all: loop {
        let chunk = feed.before(before, CHUNK);
        if chunk.is_empty() {
            break None;
        }
        for kept in chunk {
            if count == limit || text.len() >= MOST_BYTES {
                break 'all Some(before);
            }
            before = kept.number;
            if filter.is_none_or(|filter| filter.matches(&kept.item, view)) {
                if count > 0 {
                    text.push(b',');
                }
                view.json(&kept.item, &mut text);
                count += 1;
            }
        }
    };
    let stats = feed.stats().recent;
    let next = next.map_or("null".to_owned(), |next| next.to_string());
    let end = format!(
        "],\"next\":{next},\"kept\":{{\"items\":{},\"bytes\":{},\"evicted\":{}}}}}\n",
        stats.items, stats.bytes, stats.evicted
    );
    text.extend_from_slice(end.as_bytes());
    text
}

/// One item, as scripts that define `onItemQueried` would have it.
pub(super) async fn one(
    State(feed): State<Arc<Feed>>,
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let Some((stream, index)) = parse(&id) else {
        return Err(Failure::bad(format!("{id:?} is no item's id, such as 000000000017-3")));
    };
    let text = heavy(move || {
        let item = find(&feed, stream, index)?;
        let asked = services.ask_scripts.as_ref().and_then(|ask| ask(&item, PATIENCE));
        let mut text = asked.map(String::into_bytes).unwrap_or_default();
        if text.is_empty() {
            feed.view().json(&item, &mut text);
        }
        Some(text)
    })
    .await?;
    let gone = || {
        Failure::missing(format!(
            "item {id} is not among the latest (api.recentItems, api.recentBytes say how many are kept)"
        ))
    };
    text.map(|text| json_text(StatusCode::OK, text)).ok_or_else(gone)
}

fn parse(id: &str) -> Option<(StreamId, u64)> {
    let (stream, index) = id.split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((StreamId(number(stream)?), number(index)?))
}

fn find(feed: &Feed, stream: StreamId, index: u64) -> Option<Arc<Captured>> {
    let mut before = u64::MAX;
    loop {
        let chunk = feed.before(before, CHUNK);
        before = chunk.last()?.number;
        let is_it = |captured: &Captured| captured.item.stream == stream && captured.item.index == index;
        if let Some(kept) = chunk.into_iter().find(|kept| is_it(&kept.item)) {
            return Some(kept.item);
        }
    }
}
