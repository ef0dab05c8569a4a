//! Who may ask: the token, and what a browser says of where a request comes from.
//!
//! A page from anywhere can have a browser send requests to 127.0.0.1, and by DNS rebinding read the answers. So on the
//! loopback only names of it are taken as `Host`; and everywhere nothing of another origin is answered, WebSockets included,
//! for which browsers ask nobody. There is no CORS. Whoever is no browser sends neither `Origin` nor `Sec-Fetch-Site`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::Failure;
use super::bind::Listen;
use super::counts::Counts;
use crate::secret::Secret;

/// What is asked of a request at one address.
pub(super) struct Guard {
    token: Option<Digest>,
    /// Only names of the loopback are taken as `Host`.
    loopback: bool,
    patience: Duration,
    counts: Arc<Counts>,
}

/// Of a token: its length is no secret any more, and all comparisons take the same time.
type Digest = [u8; 32];

/// Whether the request bore the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trusted(pub(super) bool);

impl Guard {
    /// `patience`: how long an answer's head may take.
    pub(super) fn new(listen: &Listen, patience: Duration, counts: Arc<Counts>) -> Self {
        let loopback = listen.address.ip().to_canonical().is_loopback();
        Self { token: listen.token.as_ref().map(digest), loopback, patience, counts }
    }

    /// What speaks against the request, or whether it bears the token.
    fn judge(&self, headers: &HeaderMap, uri: &Uri) -> Result<Trusted, Failure> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host =
            host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str)).unwrap_or_default();
        if (self.loopback && !is_loopback(host)) || is_foreign(headers, host) {
            Counts::add(&self.counts.foreign);
            let why = "not for pages of other sites, nor under another name than localhost: see docs/api.md";
            return Err(Failure::new(StatusCode::FORBIDDEN, why));
        }
        let Some(token) = &self.token else { return Ok(Trusted(false)) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        if given.is_some_and(|given| bool::from(Digest::from(Sha256::digest(given)).ct_eq(token))) {
            return Ok(Trusted(true));
        }
        Counts::add(&self.counts.unauthorised);
        let why =
            "send the API's token: Authorization: Bearer TOKEN (api.token or api.tokenFile of the agent)";
        Err(Failure::new(StatusCode::UNAUTHORIZED, why))
    }
}

/// Judges a request, then has it answered within time.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let response = match guard.judge(request.headers(), request.uri()) {
        Err(failure) => failure.into_response(),
        Ok(trusted) => {
            request.extensions_mut().insert(trusted);
            match tokio::time::timeout(guard.patience, next.run(request)).await {
                Ok(response) => response,
                Err(_) => {
                    Counts::add(&guard.counts.timed_out);
                    let why = format!("no answer within {} s", guard.patience.as_secs());
                    Failure::new(StatusCode::GATEWAY_TIMEOUT, why).into_response()
                }
            }
        }
    };
    guard.counts.answered(response.status().as_u16());
    response
}

fn digest(token: &Secret) -> Digest {
    Sha256::digest(token.expose()).into()
}

/// The token of `Bearer TOKEN`, whose first word is in any case (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether a `Host` is a name of the loopback, with any port: it may be forwarded.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether a browser says that the request comes of another site's page.
fn is_foreign(headers: &HeaderMap, host: &str) -> bool {
    let of = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?"));
    if of("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    let Some(origin) = of(header::ORIGIN.as_str()) else { return false };
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    authority.is_empty() || !authority.eq_ignore_ascii_case(host)
}

/// Who asks, for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(
        listen: &str,
        token: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<Trusted, StatusCode> {
        let listen = Listen {
            key: "api.listen",
            address: listen.parse().unwrap(),
            token: token.map(Secret::new),
            everything: true,
        };
        let guard = Guard::new(&listen, Duration::from_secs(1), Arc::default());
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), axum::http::HeaderValue::from_str(value).unwrap())
        });
        guard.judge(&headers.collect(), &Uri::from_static("/")).map_err(|f| f.into_response().status())
    }

    #[test]
    fn on_the_loopback_only_its_own_names_are_answered() {
        for (host, good) in [
            ("127.0.0.1:8899", true),
            ("127.0.0.1", true),
            ("localhost:1", true),
            ("LOCALHOST.", true),
            ("[::1]:8899", true),
            ("[::1]", true),
            ("evil.example:8899", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.7:8899", false),
            ("", false),
        ] {
            let found = judge("127.0.0.1:8899", None, &[("host", host)]);
            assert_eq!(found.is_ok(), good, "{host}");
            assert!(judge("0.0.0.0:9899", None, &[("host", host)]).is_ok(), "elsewhere any: {host}");
        }
        assert!(judge("127.0.0.1:8899", None, &[]).is_err());
    }

    #[test]
    fn pages_of_other_sites_get_nothing() {
        let host = ("host", "localhost:8899");
        for (name, value, good) in [
            ("origin", "http://localhost:8899", true),
            ("origin", "http://evil.example", false),
            ("origin", "http://localhost:1", false),
            ("origin", "null", false),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-site", false),
        ] {
            assert_eq!(
                judge("127.0.0.1:8899", None, &[host, (name, value)]).is_ok(),
                good,
                "{name}: {value}"
            );
            let with = ("authorization", "Bearer secret");
            let elsewhere = judge("10.0.0.7:8899", Some("secret"), &[host, with, (name, value)]);
            assert_eq!(elsewhere.is_ok(), good, "{name}: {value}");
        }
    }

    #[test]
    fn the_token_is_asked_for_wherever_there_is_one() {
        let host = ("host", "127.0.0.1");
        for (given, good) in [
            ("Bearer s3cret", true),
            ("bearer s3cret", true),
            ("BEARER  s3cret ", true),
            ("Bearer s3cre", false),
            ("Bearer s3cret1", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Basic s3cret", false),
            ("s3cret", false),
            ("", false),
        ] {
            let found = judge("127.0.0.1:1", Some("s3cret"), &[host, ("authorization", given)]);
            assert_eq!(
                found,
                if good { Ok(Trusted(true)) } else { Err(StatusCode::UNAUTHORIZED) },
                "{given}"
            );
        }
        assert_eq!(judge("127.0.0.1:1", Some("s3cret"), &[host]), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(judge("127.0.0.1:1", None, &[host, ("authorization", "Bearer x")]), Ok(Trusted(false)));
    }
}
