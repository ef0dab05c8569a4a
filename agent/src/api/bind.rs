//! Where is listened, and who may: bound at the start, so that an address in use is known before anything is captured.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::secret::Secret;

/// Why there is no listening.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Anybody could read the traffic.
    #[error(
        "{key} {address}: elsewhere than on the loopback (127.0.0.1, [::1]) the API needs a token: set api.token or api.tokenFile"
    )]
    NoToken {
        /// The configuration's key.
        key: &'static str,
        /// What was asked for.
        address: SocketAddr,
    },
    /// The system refuses.
    #[error("{key} {address}: {}", said(.cause))]
    Refused {
        /// The configuration's key.
        key: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// What it says.
        cause: io::Error,
    },
}

fn said(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use, perhaps by another remora agent: give another one, or \"off\"".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine (this network namespace) does not have the address: {cause}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{cause}: ports below 1024 take CAP_NET_BIND_SERVICE")
        }
        _ => cause.to_string(),
    }
}

/// An address, and what is asked of those who connect to it.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The configuration's key, for errors and logs.
    pub key: &'static str,
    /// Port 0: any.
    pub address: SocketAddr,
    /// Asked of every request, if there is one.
    pub token: Option<Secret>,
    /// Whether items, streams, scripts and the outbox are served beside health and metrics.
    pub everything: bool,
}

impl Listen {
    /// Checks that nothing is served to anybody that needs a token.
    ///
    /// # Errors
    /// [`BindError::NoToken`].
    pub fn check(&self) -> Result<(), BindError> {
        let open = self.everything && self.token.is_none() && !self.address.ip().to_canonical().is_loopback();
        if open {
            return Err(BindError::NoToken { key: self.key, address: self.address });
        }
        Ok(())
    }

    /// Takes the address, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(self) -> Result<Bound, BindError> {
        self.check()?;
        let refused = |cause| BindError::Refused { key: self.key, address: self.address, cause };
        let socket = TcpListener::bind(self.address).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Bound { listen: Self { address, ..self }, socket })
    }
}

/// An address that is ours. Who connects waits until it is served.
#[derive(Debug)]
pub struct Bound {
    pub(super) listen: Listen,
    pub(super) socket: TcpListener,
}

impl Bound {
    /// Where: with the port that was given, if any was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listen.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(address: &str, token: Option<&str>, everything: bool) -> Listen {
        Listen {
            key: "api.listen",
            address: address.parse().unwrap(),
            token: token.map(Secret::new),
            everything,
        }
    }

    #[test]
    fn elsewhere_than_on_the_loopback_a_token_is_needed() {
        for (address, token, everything, good) in [
            ("127.0.0.1:0", None, true, true),
            ("127.9.9.9:0", None, true, true),
            ("[::1]:0", None, true, true),
            ("[::ffff:127.0.0.1]:0", None, true, true),
            ("0.0.0.0:0", None, true, false),
            ("[::]:0", None, true, false),
            ("10.0.0.7:80", None, true, false),
            ("0.0.0.0:0", Some("token"), true, true),
            ("0.0.0.0:0", None, false, true),
        ] {
            let checked = listen(address, token, everything).check();
            assert_eq!(checked.is_ok(), good, "{address}");
            if let Err(error) = checked {
                let said = error.to_string();
                assert!(
                    said.contains(&format!("api.listen {address}")) && said.contains("api.tokenFile"),
                    "{said}"
                );
            }
        }
    }

    #[test]
    fn a_port_in_use_is_told_with_its_key_and_what_to_do() {
        let first = listen("127.0.0.1:0", None, true).bind().unwrap();
        let second = listen(&first.address().to_string(), None, true).bind();
        let said = second.unwrap_err().to_string();
        for words in ["api.listen 127.0.0.1:", "in use", "another one", "\"off\""] {
            assert!(said.contains(words), "{words:?} is not in {said:?}");
        }
        // TEST-NET-1 is nobody's.
        let said = listen("192.0.2.1:80", Some("t"), true).bind().unwrap_err().to_string();
        assert!(said.contains("does not have the address"), "{said}");
    }
}
