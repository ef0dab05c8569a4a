//! Strict fakes of the services that data is sent to: they refuse what the real ones refuse, keep what they were sent,
//! and fail when told to ([`Fake::fail`]).
//!
//! A fake is a [`Service`]: it says what a call is, and answers it. What they share is here: a thread with a server, faults, an
//! account of all calls, bodies by gzip.

pub mod dead;
pub mod elastic;
pub mod influx;
pub mod kube;
pub mod objects;
pub mod splunk;
mod tls;

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rustls::ServerConfig;
use tokio::sync::oneshot;

use crate::canary;
use crate::slack::Injection;
use crate::slack::fault;

/// Largest body that any of them reads, in bytes.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, `POST` …
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// All of them.
    pub headers: HeaderMap,
    /// Unpacked.
    pub body: Bytes,
    /// Bytes on the wire.
    pub packed: usize,
}

impl Asked {
    /// A header's text; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A member of the query, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&self.uri).ok()?;
        pairs.0.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The content type without parameters.
    #[must_use]
    pub fn media_type(&self) -> &str {
        self.header("content-type").split(';').next().unwrap_or_default().trim()
    }
}

/// One call and the status that it was answered with (0: by a fault).
#[derive(Clone, Debug)]
pub struct Call {
    /// What [`Service::call`] says.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the body, unpacked and on the wire.
    pub bytes: (usize, usize),
}

/// What a fake does.
pub trait Service: Send + 'static {
    /// What a call is named in faults and in the account.
    fn call(&self, asked: &Asked) -> &'static str;
    /// Answers it.
    fn answer(&mut self, asked: &Asked) -> Response;
}

struct Core<S> {
    service: Mutex<S>,
    faults: Mutex<Vec<Injection>>,
    calls: Mutex<Vec<Call>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running fake; it stops when dropped.
pub struct Fake<S> {
    core: Arc<Core<S>>,
    server: Server,
}

impl<S: Service> Fake<S> {
    /// On the loopback, any free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(service: S) -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), service)
    }

    /// The same at this address, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn start_at(address: SocketAddr, service: S) -> Result<Self> {
        let core = Arc::new(Core {
            service: Mutex::new(service),
            faults: Mutex::default(),
            calls: Mutex::default(),
        });
        let router = Router::new()
            .fallback(take::<S>)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&core));
        Ok(Self { server: Server::start("fake", address, router)?, core })
    }

    /// Without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Makes the next calls fail.
    pub fn fail(&self, injection: Injection) {
        lock(&self.core.faults).push(injection);
    }

    /// Every call, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.core.calls).clone()
    }

    /// Looks at what it holds, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut lock(&self.core.service))
    }
}

async fn take<S: Service>(
    State(core): State<Arc<Core<S>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let packed = body.len();
    let body = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => body,
        Some(b"gzip") => {
            let mut plain = Vec::new();
            if flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).is_err() {
                return (StatusCode::BAD_REQUEST, "not gzip").into_response();
            }
            plain.into()
        }
        Some(_) => return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding").into_response(),
    };
    let asked = Asked { method, uri, headers, body, packed };
    let name = lock(&core.service).call(&asked);
    let bytes = (asked.body.len(), packed);
    let note = |status| lock(&core.calls).push(Call { name, status, bytes });
    let apply = || {
        let answer = lock(&core.service).answer(&asked);
        note(answer.status().as_u16());
        answer
    };
    let injection = fault::next(&mut lock(&core.faults), name, None);
    match injection {
        Some(injection) => {
            note(0);
            fault::answer(injection, apply).await
        }
        None => apply(),
    }
}

/// How long an address that was just given up may still be in use.
const LINGERS: Duration = Duration::from_secs(10);

/// Listens on `address`, also where another server has only just left it.
///
/// A process that is being started holds copies of all our descriptors until it runs its program, so a listener that was
/// closed meanwhile listens on for that long.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() != 0
                    && began.elapsed() < LINGERS =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

/// A server on a thread of its own: callers need no runtime.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` (port 0: any free one), in the network namespace of the calling thread.
    pub(crate) fn start(name: &'static str, address: SocketAddr, router: Router) -> Result<Self> {
        Self::run(name, address, router, None)
    }

    /// The same, for HTTPS and HTTP.
    pub(crate) fn start_tls(
        name: &'static str,
        address: SocketAddr,
        router: Router,
        tls: Arc<ServerConfig>,
    ) -> Result<Self> {
        Self::run(name, address, router, Some(tls))
    }

    fn run(
        name: &'static str,
        address: SocketAddr,
        router: Router,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self> {
        let router = router.layer(axum::middleware::from_fn(canary::record_request));
        let listener = listen(address).with_context(|| format!("listen on {address}"))?;
        listener.set_nonblocking(true).context("set the listener non-blocking")?;
        let address = listener.local_addr().context("ask for the listener's address")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the fake's runtime")?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(serve(name, listener, router, tls, stopped)))
            .context("start the fake's thread")?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread has been printed already; a destructor cannot pass it on.
            let _ = thread.join();
        }
    }
}

async fn serve(
    name: &str,
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<ServerConfig>>,
    stopped: oneshot::Receiver<()>,
) {
    let served = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        match tls {
            None => axum::serve(listener, router).await,
            Some(tls) => axum::serve(tls::Listener::new(listener, tls)?, router).await,
        }
    };
    // Not a graceful stop: a connection that was told to stay silent would never end.
    tokio::select! {
        result = served => {
            if let Err(error) = result {
                eprintln!("{name}: {error}");
            }
        }
        _ = stopped => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_about_to_be_free_is_waited_for() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.local_addr().unwrap();
        // As a process does that is being started.
        let copy = first.try_clone().unwrap();
        drop(first);
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let holder = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(copy);
        });
        assert_eq!(listen(address).unwrap().local_addr().unwrap(), address);
        holder.join().unwrap();
    }
}
