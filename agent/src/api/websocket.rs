//! Items by WebSocket: a text message for each, as JSON; `{"dropped": N}` where some are missing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::Instant;

use super::answer::Failure;
use super::client::{ClientKind, Told};
use super::counts::Counts;
use super::feed::Feed;
use super::live::{Following, Wanted, query};

/// Bytes of a message that a client may send: only pongs and its end are of interest.
const MESSAGE: usize = 4096;
const PING: Duration = Duration::from_secs(20);
/// A client that answers no ping for so long is gone.
const SILENT: Duration = Duration::from_secs(120);

pub(super) async fn stream(
    State(feed): State<Arc<Feed>>,
    State(counts): State<Arc<Counts>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|error| Failure::new(error.status(), error.body_text()))?;
    let following = Following::begin(&feed, &counts, ClientKind::WebSocket, query(wanted)?, None).await?;
    let upgrade = upgrade.max_message_size(MESSAGE).max_frame_size(MESSAGE).write_buffer_size(64 << 10);
    Ok(upgrade.on_upgrade(|socket| follow(socket, following)))
}

async fn follow(socket: WebSocket, mut following: Following) {
    let (mut to, mut from) = socket.split();
    let mut heard = Instant::now();
    let mut ping = tokio::time::interval(PING);
    loop {
        let sent = tokio::select! {
            told = following.next() => match told {
                Some(Told::Item(_, json)) => to.send(Message::Text(json)).await,
                Some(Told::Dropped(items)) => to.send(Message::text(format!("{{\"dropped\":{items}}}"))).await,
                Some(Told::Quiet) => Ok(()),
                None => {
                    let reason = "the agent ends".into();
                    let end = CloseFrame { code: close_code::AWAY, reason };
                    let _ = to.send(Message::Close(Some(end))).await;
                    return;
                }
            },
            _ = ping.tick() => to.send(Message::Ping(Bytes::new())).await,
            heard_of = from.next() => {
                heard = Instant::now();
                match heard_of {
                    // Pings are answered by the library.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => Ok(()),
                }
            }
        };
        if sent.is_err() || heard.elapsed() > SILENT {
            return;
        }
    }
}
