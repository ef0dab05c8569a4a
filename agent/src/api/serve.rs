//! The server: threads and a runtime of its own, so that health is told whatever the rest is busy with; connections that
//! are bounded in number and patience.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use super::access::Peer;
use super::bind::Bound;
use super::counts::Counts;
use super::feed::Feed;
use super::metrics;
use super::patient::Patient;
use super::registry::Registry;
use super::router;
use super::services::Services;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 32 << 10;
/// How long answers under way may take at the end.
const END: Duration = Duration::from_secs(1);

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections at a time for each address.
    pub connections: usize,
    /// How long a request's head may take to come, and a connection may be quiet between requests.
    pub head: Duration,
    /// How long the head of an answer may take.
    pub answer: Duration,
    /// How long a write may get nowhere.
    pub write: Duration,
}

impl Default for ServeLimits {
    /// 64 connections; 30 s for heads and answers, 60 s for writes.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connections: 64, head: seconds(30), answer: seconds(30), write: seconds(60) }
    }
}

/// Serves until it is dropped.
pub struct Server {
    stop: watch::Sender<bool>,
    feed: Option<Arc<Feed>>,
    counts: Arc<Counts>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves at all addresses. `feed` and `services` are there where more than health and metrics is served.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn start(
        bound: Vec<Bound>,
        registry: &Arc<Registry>,
        feed: Option<&Arc<Feed>>,
        services: Services,
        limits: ServeLimits,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .thread_name("api")
            .enable_all()
            .build()?;
        let (stop, counts) = (watch::Sender::new(false), Arc::new(Counts::default()));
        metrics::add(registry, &counts, feed);
        let services = Arc::new(services);
        for Bound { listen, socket } in bound {
            let app = router::router(&listen, limits.answer, &counts, registry, feed, &services);
            let listener = {
                let _inside = runtime.enter();
                TcpListener::from_std(socket)?
            };
            let what = if listen.everything { "API, health and metrics" } else { "health and metrics" };
            tracing::info!("{what} on http://{}", listen.address);
            runtime.spawn(accept(listener, app, limits, Arc::clone(&counts), stop.subscribe()));
        }
        Ok(Self { stop, feed: feed.map(Arc::clone), counts, runtime: Some(runtime) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those who follow items are told that it is the end.
        if let Some(feed) = &self.feed {
            feed.close();
        }
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            let connections = &self.counts.connections;
            runtime.block_on(async {
                let closed = async {
                    while connections.load(Ordering::Relaxed) > 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                // Err: whoever is left is cut off.
                let _ = tokio::time::timeout(END, closed).await;
            });
            runtime.shutdown_timeout(END);
        }
    }
}

async fn accept(
    listener: TcpListener,
    app: Router,
    limits: ServeLimits,
    counts: Arc<Counts>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: it passes.
                tracing::debug!("api: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            Counts::add(&counts.connections_refused);
            refuse(&stream);
            continue;
        };
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let (app, counts, stop) = (app.clone(), Arc::clone(&counts), stop.clone());
        tokio::spawn(async move {
            serve(stream, Peer(peer), app, limits, stop).await;
            counts.connections.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
}

/// Says so to who comes too many, as far as that can be done without waiting.
fn refuse(stream: &TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 28\r\n\r\ntoo many connections at once";
    let _ = stream.try_write(FULL);
}

async fn serve(
    stream: TcpStream,
    peer: Peer,
    app: Router,
    limits: ServeLimits,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answer = app.call(request);
        async move { answer.await as Result<Response, Infallible> }
    });
    let io = TokioIo::new(Patient::new(stream, limits.write));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            within(END, connection).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("api: {}: {error}", peer.0);
    }
}

/// Waits for the end.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Err: whoever would tell is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn within(time: Duration, work: impl Future<Output = hyper::Result<()>>) -> hyper::Result<()> {
    tokio::time::timeout(time, work).await.unwrap_or(Ok(()))
}
