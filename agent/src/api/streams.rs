//! The store's streams, and the PCAP of one.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::Timestamp;
use agent_core::item::StreamId;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::access::{Peer, Trusted};
use super::answer::{self, Failure, heavy};
use super::live::{limit, query};
use super::services::Services;
use crate::pcap::{PcapStore, StoreError, StoreFolder, StreamEntry};
use crate::utc;

/// Streams of an answer: by default, and at most.
const USUAL: usize = 100;
const MOST: usize = 10_000;
/// Bytes of a file that are read at a time.
const PIECE: u64 = 256 << 10;

/// One at a time: each reads the store's whole index from the disk.
static LISTING: Semaphore = Semaphore::const_new(1);

/// `?limit=N&before=ID`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    before: Option<String>,
}

/// `?redact=true`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    redact: bool,
}

pub(super) async fn list(
    State(services): State<Arc<Services>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Failure> {
    let wanted = query(wanted)?;
    let limit = limit(wanted.limit, USUAL, MOST)?;
    let before = wanted.before.as_deref().map(number).transpose()?;
    let Some(folder) = services.store_folder.clone() else { return Err(off()) };
    // Err: it is never closed.
    let turn = LISTING.acquire().await.ok();
    let found = heavy(move || {
        let _turn = turn;
        // One more tells whether there are more.
        StoreFolder::open(&folder)?.latest(limit + 1, before, &mut |_| {})
    });
    let mut found = found.await?.map_err(|error| refused(&error))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|entry| entry.stream.to_string());
    let streams: Vec<Value> = found.iter().map(entry).collect();
    Ok(answer::json_of(StatusCode::OK, &json!({ "streams": streams, "next": next })))
}

fn entry(entry: &StreamEntry) -> Value {
    let (client, server) = entry.ends.map(|(client, server)| (text(client), text(server))).unzip();
    json!({
        "stream": entry.stream.to_string(),
        "client": client,
        "server": server,
        "packets": entry.packets,
        "bytes": entry.bytes,
        "firstTime": time(entry.first),
        "lastTime": time(entry.last),
    })
}

fn text(end: SocketAddr) -> String {
    end.to_string()
}

fn time(time: Timestamp) -> String {
    utc::text(time.0 / 1_000_000_000)
}

pub(super) async fn pcap(
    State(services): State<Arc<Services>>,
    Extension(trusted): Extension<Trusted>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    how: Result<Query<How>, QueryRejection>,
) -> Result<Response, Failure> {
    let stream = number(&id)?;
    let redact = query(how)?.redact;
    if !redact && trusted != Trusted(true) {
        let why = "raw packets show what items hide: set api.token and send it, or ask for ?redact=true";
        return Err(Failure::new(StatusCode::FORBIDDEN, why));
    }
    let Some(store) = services.store.clone() else { return Err(off()) };
    let view = Arc::clone(&services.view);
    let opened = heavy(move || open(&*store, stream, redact.then(|| view.redaction().for_copies()))).await?;
    let (file, size, name) = opened.map_err(|error| refused(&error))?;
    let what = if redact { "redacted" } else { "raw" };
    tracing::info!("api: {what} packets of stream {stream}, {size} bytes, go to {}", peer.0);
    let mut response = answer::with_type(StatusCode::OK, "application/vnd.tcpdump.pcap", body(file));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, size.into());
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// The file, open: it may be removed from here on.
fn open(
    store: &dyn PcapStore,
    stream: StreamId,
    redaction: Option<crate::view::Redaction>,
) -> Result<(File, u64, String), StoreError> {
    let made = match redaction {
        Some(redaction) => store.redacted(stream, &|header| redaction.hides(header))?,
        None => store.file(stream)?,
    };
    let what = || format!("opening the capture of stream {stream}");
    let file = File::open(&made.path).map_err(|source| StoreError::Io { what: what(), source })?;
    let name = made.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok((file, made.size, format!("stream-{name}")))
}

fn body(file: File) -> Body {
    Body::from_stream(stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            let read = file.by_ref().take(PIECE).read_to_end(&mut piece);
            (read.map(|_| Bytes::from(piece)), file)
        });
        match read.await {
            Ok((Ok(piece), _)) if piece.is_empty() => None,
            Ok((Ok(piece), file)) => Some((Ok(piece), Some(file))),
            Ok((Err(error), _)) => Some((Err(error), None)),
            Err(error) => Some((Err(std::io::Error::other(error)), None)),
        }
    }))
}

/// A stream's number: digits, however many zeros before them.
fn number(text: &str) -> Result<StreamId, Failure> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits).map(StreamId);
    number.ok_or_else(|| Failure::bad(format!("{text:?} is no stream's number, such as 000000000017")))
}

fn off() -> Failure {
    Failure::missing("the PCAP store is off (store.mode)")
}

fn refused(error: &StoreError) -> Failure {
    let status = match error {
        StoreError::Unknown(_) | StoreError::Off(_) => StatusCode::NOT_FOUND,
        StoreError::Expired { .. } | StoreError::Passed(_) => StatusCode::GONE,
        StoreError::NoRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failure::new(status, error.to_string())
}
