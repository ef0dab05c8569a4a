//! A load generator that can be held to account: every request has a number, every response is checked.
//!
//! What a capture should have seen is exactly what [`run`] returns. Threads block on plain sockets, so a load that
//! is started from a thread inside a network namespace stays in that namespace.
//!
//! ```no_run
//! use testkit::load::{LoadConfig, run};
//! let seen = run(&LoadConfig::new("10.0.0.2:80".parse()?, 8, 10_000))?;
//! assert!(seen.iter().all(|o| o.status == 200));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod http;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use http::{Connection, MAX_BODY, MAX_HEAD, Response};

/// The header that carries a request's number.
pub const ID_HEADER: &str = "x-request-id";

/// What no item may show: every request bears it.
const COOKIE: &str = "Cookie: session=c00kie-hushhush";

/// Most connections at once: a load is bounded.
pub const MAX_CONNECTIONS: usize = 4096;

/// What to send.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Server.
    pub addr: SocketAddr,
    /// Connections at once, each on a thread of its own; 1 to [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// Requests in all, numbered from 0.
    pub requests: u64,
    /// A connection is closed after so many requests and opened anew; 0: kept to the end.
    pub per_connection: u64,
    /// Requests sent before their responses are read; 1: one after another.
    pub pipeline: usize,
    /// Request-target; `{id}` stands for the request's number.
    pub target: String,
    /// Bytes of body; 0: GET, else POST with a body that begins with the request's number.
    pub body: usize,
    /// The response's body must hold the request's number (a server that echoes [`ID_HEADER`] or the target).
    pub echo: bool,
    /// Longest wait for any one read, write or connect.
    pub timeout: Duration,
}

impl LoadConfig {
    /// Keep-alive GETs of `/r/{id}`, one after another on each connection.
    #[must_use]
    pub fn new(addr: SocketAddr, connections: usize, requests: u64) -> Self {
        Self {
            addr,
            connections,
            requests,
            per_connection: 0,
            pipeline: 1,
            target: "/r/{id}".to_owned(),
            body: 0,
            echo: false,
            timeout: Duration::from_secs(10),
        }
    }

    fn request(&self, id: u64) -> Vec<u8> {
        let target = self.target.replace("{id}", &id.to_string());
        let host = self.addr;
        if self.body == 0 {
            return format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{COOKIE}\r\n{ID_HEADER}: {id}\r\n\r\n")
                .into_bytes();
        }
        let mut body = format!("{id} ").into_bytes();
        body.resize(self.body.max(body.len()), b'.');
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\n{COOKIE}\r\n{ID_HEADER}: {id}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        request
    }
}

/// One request as its sender saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed {
    /// The request's number.
    pub id: u64,
    /// Status of its response.
    pub status: u16,
    /// Bytes of the response's body after transfer decoding.
    pub body: u64,
    /// The client's end of the connection.
    pub client: SocketAddr,
}

/// Sends all requests and returns what came back, ordered by number.
///
/// # Errors
/// When the configuration is out of bounds, or a request got no answer, no valid one, or (with `echo`) another's.
pub fn run(config: &LoadConfig) -> Result<Vec<Observed>> {
    ensure!(
        (1..=MAX_CONNECTIONS).contains(&config.connections),
        "connections: {} is not within 1 to {MAX_CONNECTIONS}",
        config.connections
    );
    ensure!((1..=64).contains(&config.pipeline), "pipeline: {} is not within 1 to 64", config.pipeline);
    let lanes = config.connections as u64;
    let results: Vec<Result<Vec<Observed>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..lanes)
            .map(|lane| {
                scope.spawn(move || {
                    lane_run(config, lane, lanes).with_context(|| format!("connection {lane}"))
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a load thread panicked"))))
            .collect()
    });
    let mut all = Vec::new();
    for result in results {
        all.extend(result?);
    }
    all.sort_unstable_by_key(|o| o.id);
    Ok(all)
}

/// The requests `lane`, `lane + lanes`, … on one connection at a time.
fn lane_run(config: &LoadConfig, lane: u64, lanes: u64) -> Result<Vec<Observed>> {
    let ids: Vec<u64> = (lane..config.requests).step_by(usize::try_from(lanes)?).collect();
    let each =
        if config.per_connection == 0 { ids.len().max(1) } else { usize::try_from(config.per_connection)? };
    let mut seen = Vec::with_capacity(ids.len());
    for life in ids.chunks(each) {
        let mut connection = Connection::open(config.addr, config.timeout)?;
        let client = connection.local_addr()?;
        for batch in life.chunks(config.pipeline) {
            let bytes: Vec<u8> = batch.iter().flat_map(|&id| config.request(id)).collect();
            connection.send(&bytes).with_context(|| format!("sending request {}", batch[0]))?;
            for &id in batch {
                let response =
                    connection.receive(false).with_context(|| format!("response to request {id}"))?;
                if config.echo {
                    ensure!(holds(&response.body, id), "request {id} got the response of another request");
                }
                let body = response.body.len() as u64;
                seen.push(Observed { id, status: response.status, body, client });
            }
        }
    }
    Ok(seen)
}

/// Whether `id` stands in `body` as a whole number, not as part of a longer one.
fn holds(body: &[u8], id: u64) -> bool {
    body.split(|b| !b.is_ascii_digit()).any(|run| run == id.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::{Options, Server};

    fn server() -> Server {
        Server::spawn("127.0.0.1:0".parse().unwrap(), Options::default()).unwrap()
    }

    #[test]
    fn every_request_is_seen_once_and_has_its_own_answer() {
        let server = server();
        for (per_connection, pipeline, body) in [(0, 1, 0), (3, 1, 0), (0, 8, 0), (7, 4, 300)] {
            let mut config = LoadConfig::new(server.addr(), 5, 203);
            config.target = "/echo/{id}".to_owned();
            (config.per_connection, config.pipeline, config.body, config.echo) =
                (per_connection, pipeline, body, true);
            let seen = run(&config).unwrap();
            assert!(seen.iter().map(|o| o.id).eq(0..203), "{per_connection} {pipeline} {body}");
            assert!(seen.iter().all(|o| o.status == 200));
            let clients: std::collections::HashSet<_> = seen.iter().map(|o| o.client).collect();
            let expected = if per_connection == 0 { 5 } else { 5 * 41_u64.div_ceil(per_connection) };
            assert!(clients.len() as u64 <= expected && clients.len() >= 5);
        }
    }

    #[test]
    fn an_answer_meant_for_another_is_an_error() {
        let server = server();
        let mut config = LoadConfig::new(server.addr(), 1, 3);
        (config.target, config.echo) = ("/health".to_owned(), true);
        let error = format!("{:#}", run(&config).unwrap_err());
        assert!(error.contains("request 0 got the response of another request"), "{error}");
        assert!(holds(b"n=12;", 12) && !holds(b"n=121;", 12));
    }

    #[test]
    fn bounds_are_held() {
        let addr = "127.0.0.1:1".parse().unwrap();
        assert!(run(&LoadConfig::new(addr, 0, 1)).is_err());
        assert!(run(&LoadConfig::new(addr, MAX_CONNECTIONS + 1, 1)).is_err());
        let mut config = LoadConfig::new(addr, 1, 1);
        config.pipeline = 65;
        assert!(run(&config).is_err());
    }
}
