//! Watches: changes line by line, as they come, until their time is over or a test ends them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::resource::Resource;
use super::route::Asked;
use super::select::Selection;
use super::status::Refusal;
use super::store::{Change, Event, Object};

/// Where no time is asked for: as the real server, between 30 and 60 minutes.
const USUAL_TIME: Duration = Duration::from_secs(45 * 60);

/// How a test ends watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The stream ends between two lines, as when the server restarts.
    Close,
    /// Half a line comes, then the stream ends, as when a proxy goes.
    HalfLine,
    /// The connection breaks.
    Break,
    /// An `ERROR` of code 410: what comes next has been forgotten.
    Gone,
}

struct Stream {
    shared: Arc<Shared>,
    resource: Resource,
    selection: Selection,
    lines: VecDeque<io::Result<Bytes>>,
    /// Up to where the client knows all.
    revision: u64,
    changed: watch::Receiver<u64>,
    cuts: broadcast::Receiver<(String, Cut)>,
    ends: Instant,
    bookmarks: Option<Instant>,
    ended: bool,
    metadata_only: bool,
    counted: (String, String),
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.open_watches(&self.resource.plural).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a watch.
pub(super) fn answer(shared: &Arc<Shared>, asked: &Asked, selection: Selection) -> Result<Response, Refusal> {
    let initial = asked.is("sendInitialEvents");
    if initial && asked.query("resourceVersionMatch") != Some("NotOlderThan") {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(Refusal::bad(why));
    }
    let from = asked.query("resourceVersion").unwrap_or("0");
    let from: u64 = from.parse().map_err(|_| Refusal::bad(format!("invalid resource version {from:?}")))?;
    let seconds = asked.query("timeoutSeconds").and_then(|text| text.parse().ok());
    let store = shared.store();
    if from > store.revision {
        return Err(Refusal::from_the_future(from, store.revision));
    }
    let mut stream = Stream {
        shared: Arc::clone(shared),
        resource: asked.resource.clone(),
        selection,
        lines: VecDeque::new(),
        revision: from,
        changed: store.changes(),
        cuts: shared.cuts.subscribe(),
        ends: Instant::now() + seconds.map_or(USUAL_TIME, Duration::from_secs),
        bookmarks: asked.is("allowWatchBookmarks").then(|| Instant::now() + shared.config.bookmark_every),
        ended: false,
        metadata_only: asked.metadata_only,
        counted: ("watch".to_owned(), asked.resource.plural.clone()),
    };
    if from == 0 || initial {
        let all = store.all(&asked.resource, stream.selection.namespace.as_deref());
        stream.revision = store.revision;
        for object in all {
            if !stream.selection.takes(&object.value) {
                continue;
            }
            let line = stream.line("ADDED", &object);
            stream.push(line);
        }
        if initial && stream.bookmarks.is_some() {
            let bookmark = stream.bookmark(true);
            stream.push(bookmark);
        }
    }
    drop(store);
    shared.open_watches(&stream.resource.plural).fetch_add(1, Ordering::Relaxed);
    let body = Body::from_stream(futures_util::stream::unfold(stream, |mut stream| async {
        stream.next().await.map(|line| (line, stream))
    }));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

impl Stream {
    fn line(&self, kind: &str, object: &Object) -> String {
        let object = if self.metadata_only { object.metadata() } else { object.text() };
        format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
    }

    fn push(&mut self, line: String) {
        self.shared.count_bytes(&self.counted, line.len());
        self.lines.push_back(Ok(line.into()));
    }

    fn bookmark(&self, initial_end: bool) -> String {
        let (kind, version) = if self.metadata_only {
            ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned())
        } else {
            (self.resource.kind.as_str(), self.resource.api_version())
        };
        let mut object = json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": self.revision.to_string(), "creationTimestamp": null}});
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            let revision = *self.changed.borrow_and_update();
            self.take_changes(revision);
            if self.lines.is_empty() {
                self.wait().await;
            }
        }
    }

    fn take_changes(&mut self, revision: u64) {
        if revision <= self.revision {
            return;
        }
        let events = self.shared.store().since(&self.resource, self.revision);
        let Some(events) = events else {
            return self.gone();
        };
        for event in &events {
            let line = match (seen(&self.selection, event), &event.before) {
                (None, _) => continue,
                // What is no longer asked for is told as it was while it was.
                (Some("DELETED"), Some(before)) => self.line("DELETED", &before.at(event.revision)),
                (Some(kind), _) => self.line(kind, &event.object),
            };
            self.push(line);
        }
        self.revision = events.last().map_or(revision, |event| event.revision.max(revision));
    }

    fn gone(&mut self) {
        let why = format!("too old resource version: {}", self.revision);
        let line = json!({"type": "ERROR", "object": Refusal::expired(why).status()});
        self.push(format!("{line}\n"));
        self.ended = true;
    }

    async fn wait(&mut self) {
        let bookmark = self.bookmarks.unwrap_or(self.ends);
        tokio::select! {
            changed = self.changed.changed() => self.ended = changed.is_err(),
            cut = self.cuts.recv() => self.cut(cut),
            () = sleep_until(bookmark.min(self.ends)) => {
                let due = self.bookmarks.is_some();
                self.ended = Instant::now() >= self.ends;
                if due {
                    let line = self.bookmark(false);
                    self.push(line);
                    self.bookmarks = Some(Instant::now() + self.shared.config.bookmark_every);
                }
            }
        }
    }

    fn cut(&mut self, cut: Result<(String, Cut), broadcast::error::RecvError>) {
        let how = match cut {
            Ok((plural, how)) if plural == self.resource.plural || plural == "*" => how,
            Ok(_) => return,
            Err(_) => Cut::Close,
        };
        self.ended = true;
        match how {
            Cut::Close => {}
            Cut::Gone => self.gone(),
            Cut::HalfLine => {
                self.lines
                    .push_back(Ok(Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Po")));
            }
            Cut::Break => self.lines.push_back(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

/// What an event is to a watch with a selection, for which an object may begin or cease to be.
fn seen(selection: &Selection, event: &Event) -> Option<&'static str> {
    let takes = |object: &Value| selection.takes(object);
    let before = event.before.as_ref().is_some_and(|before| takes(&before.value));
    let after = event.change != Change::Deleted && takes(&event.object.value);
    match (before, after) {
        (false, true) => Some("ADDED"),
        (true, true) => Some("MODIFIED"),
        (true, false) => Some("DELETED"),
        (false, false) => None,
    }
}
