//! Destinations that are of no use: nobody listens, nobody answers, or every answer is an error.
//!
//! The address stays the same for as long as it is dead and after, so that something alive can take the place.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;

use super::{LINGERS, Server, listen};

/// In which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// Nobody listens.
    Refused,
    /// Connections and requests are taken; no answer ever comes.
    Silent,
    /// Every request is answered by this status and no body.
    Status(u16),
}

/// A dead destination on the loopback of the namespace that it was made in; [`Dead::bury`] makes room for a living one.
#[derive(Debug)]
pub struct Dead {
    address: SocketAddr,
    calls: Arc<AtomicU64>,
    server: Option<Server>,
}

impl Dead {
    /// On any free port.
    ///
    /// # Errors
    /// When there is none, or `death` is a status that is none.
    pub fn new(death: Death) -> Result<Self> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), death)
    }

    /// At this address.
    ///
    /// # Errors
    /// When it cannot be had, or `death` is a status that is none.
    pub fn at(address: SocketAddr, death: Death) -> Result<Self> {
        let calls = Arc::new(AtomicU64::new(0));
        let status = match death {
            Death::Refused => {
                let address =
                    listen(address).and_then(|listener| listener.local_addr()).context("a free port")?;
                // See `listen`: a copy of the listener may live a little longer.
                let began = Instant::now();
                while TcpStream::connect(address).is_ok() && began.elapsed() < LINGERS {
                    std::thread::sleep(Duration::from_millis(10));
                }
                return Ok(Self { address, calls, server: None });
            }
            Death::Silent => None,
            Death::Status(status) => Some(StatusCode::from_u16(status).context("a status")?),
        };
        let count = Arc::clone(&calls);
        let answer = move |_: Bytes| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                match status {
                    Some(status) => status,
                    None => std::future::pending().await,
                }
            }
        };
        let server = Server::start("dead", address, Router::new().fallback(answer))?;
        Ok(Self { address: server.address, calls, server: Some(server) })
    }

    /// Where it is, or would be.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that came.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Closes it with all its connections, and gives the address.
    pub fn bury(mut self) -> SocketAddr {
        drop(self.server.take());
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn each_is_dead_in_its_way_and_leaves_its_place() {
        assert!(TcpStream::connect(Dead::new(Death::Refused).unwrap().address()).is_err());
        for (death, answer) in [(Death::Status(503), "HTTP/1.1 503 "), (Death::Silent, "")] {
            let dead = Dead::new(death).unwrap();
            let mut stream = TcpStream::connect(dead.address()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            stream.write_all(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1").unwrap();
            let mut got = [0; 13];
            let read = stream.read(&mut got).unwrap_or(0);
            assert_eq!(std::str::from_utf8(&got[..read]).unwrap(), answer);
            assert_eq!(dead.calls(), 1);
            listen(dead.bury()).unwrap();
        }
    }
}
