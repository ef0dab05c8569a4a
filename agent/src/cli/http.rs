//! Where the agent is served by HTTP: the keys `api` and `metrics`, checked, then bound before anything is captured.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::settings::UsageError;
use crate::api::{Bound, FeedConfig, Listen};
use crate::config::{self, ListenOn, Token};
use crate::pipeline::SecretFrom;
use crate::secret::Secret;
use crate::view::ItemView;

/// Ports, where nothing is said.
const API: u16 = 8899;
const METRICS: u16 = 9899;
/// A token is no shorter, in bytes.
const LEAST: usize = 16;

/// What is served where.
#[derive(Clone, Debug, Default)]
pub(super) struct Http {
    /// Everything, for people and programs.
    pub(super) api: Option<Listen>,
    /// Health and metrics, for the kubelet and Prometheus.
    pub(super) metrics: Option<Listen>,
    /// The latest items.
    pub(super) feed: FeedConfig,
}

impl Http {
    /// What the file says, or the loopback.
    ///
    /// # Errors
    /// When a token cannot be had or is missing; the key is named.
    pub(super) fn new(file: &config::File, view: &Arc<ItemView>) -> Result<Self, UsageError> {
        let at = |given: &Option<ListenOn>, port| match given {
            Some(ListenOn(address)) => *address,
            None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        };
        let listen = |key, address, token, everything| Listen { key, address, token, everything };
        let api = match at(&file.api.listen, API) {
            Some(address) => Some(listen("api.listen", address, token(&file.api)?, true)),
            None => None,
        };
        let metrics = at(&file.metrics.listen, METRICS);
        let metrics = metrics.map(|address| listen("metrics.listen", address, None, false));
        for listen in [&api, &metrics].into_iter().flatten() {
            listen.check().map_err(|error| UsageError(error.to_string()))?;
        }
        let usual = FeedConfig::default();
        let feed = FeedConfig {
            recent_items: file.api.recent_items.map_or(usual.recent_items, |count| count.0 as usize),
            recent_bytes: file.api.recent_bytes.map_or(usual.recent_bytes, |size| size.0 as usize),
            clients: file.api.max_clients.map_or(usual.clients, |count| count.0 as usize),
            view: Arc::clone(view),
        };
        Ok(Self { api, metrics, feed })
    }

    /// Takes the addresses.
    ///
    /// # Errors
    /// When one of them cannot be had; its key is named, with what to do.
    pub(super) fn bind(&self) -> anyhow::Result<Vec<Bound>> {
        let all = [&self.api, &self.metrics].into_iter().flatten();
        Ok(all.map(|listen| listen.clone().bind()).collect::<Result<_, _>>()?)
    }

    /// Endpoints whose packets are our own answers: not to be captured. Where any address is listened on, which they are is
    /// not known.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        let all = [&self.api, &self.metrics].into_iter().flatten().map(|listen| listen.address);
        let known = |address: &SocketAddr| !address.ip().is_unspecified() && address.port() != 0;
        all.filter(known).collect::<Vec<_>>().into_iter()
    }
}

fn token(api: &config::Api) -> Result<Option<Secret>, UsageError> {
    let file = |path: &PathBuf| SecretFrom::File(path.clone());
    let (key, read) = match (&api.token, &api.token_file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(UsageError("api.token and api.tokenFile: give one of them".to_owned()));
        }
        (Some(Token::Written(secret)), None) => ("api.token", Ok(secret.clone())),
        (Some(Token::From(from)), None) => ("api.token", from.read()),
        (None, Some(path)) => ("api.tokenFile", file(path).read()),
    };
    let secret = read.map_err(|error| UsageError(format!("{key}: {error:#}")))?;
    let text = secret.expose();
    if text.len() < LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let how = "`openssl rand -hex 24` makes one";
        return Err(UsageError(format!(
            "{key}: a token has {LEAST} characters or more, printable ASCII without spaces; {how}"
        )));
    }
    Ok(Some(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(yaml: &str) -> Result<Http, String> {
        let file: config::File = serde_norway::from_str(yaml).unwrap();
        Http::new(&file, &Arc::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn by_default_both_are_on_the_loopback() {
        let usual = http("{}").unwrap();
        let shown: Vec<_> = usual.endpoints().map(|endpoint| endpoint.to_string()).collect();
        assert_eq!(shown, ["127.0.0.1:8899", "127.0.0.1:9899"]);
        let off = http("api: {listen: 'off'}\nmetrics: {listen: 'off'}").unwrap();
        assert!(off.api.is_none() && off.metrics.is_none() && off.bind().unwrap().is_empty());
        let other =
            http("metrics: {listen: '0.0.0.0:9899'}\napi: {listen: '127.0.0.1:0', recentItems: 3}").unwrap();
        assert_eq!(other.endpoints().count(), 0);
        assert_eq!(other.feed.recent_items, 3);
    }

    #[test]
    fn a_token_is_had_from_where_it_is_and_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let path = path.display();
        for yaml in [
            format!("api: {{listen: '0.0.0.0:1', tokenFile: '{path}'}}"),
            format!("api: {{listen: '0.0.0.0:1', token: {{file: '{path}'}}}}"),
            "api: {listen: '0.0.0.0:1', token: 0123456789abcdef}".to_owned(),
        ] {
            let token = http(&yaml).unwrap().api.unwrap().token.unwrap();
            assert_eq!(token.expose(), "0123456789abcdef", "{yaml}");
        }
        for (yaml, words) in [
            ("api: {listen: '0.0.0.0:8899'}", "api.listen 0.0.0.0:8899: elsewhere than on the loopback"),
            ("api: {token: hush}", "api.token: a token has 16"),
            ("api: {token: 'hush hush hush hush'}", "api.token: a token has 16"),
            ("api: {token: '${REMORA_NOT_SET}'}", "api.token: the variable REMORA_NOT_SET is not set"),
            ("api: {tokenFile: /nonexistent}", "api.tokenFile: /nonexistent: No such file"),
            ("api: {token: hushhushhushhush, tokenFile: /x}", "api.token and api.tokenFile: give one"),
        ] {
            let said = http(yaml).unwrap_err();
            assert!(said.contains(words) && !said.contains("hush"), "{yaml}: {said}");
        }
    }
}
