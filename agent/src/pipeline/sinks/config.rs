//! What is written about a sink: a list in YAML or JSON, each with its `kind`. Checked as a whole before anything starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::file::{FileConfig, Sync};
use crate::kfl::Filter;
use crate::outbox::{ElasticAccess, ElasticTarget, SplunkTarget, WebTarget};
use crate::secret::Secret;

/// A file of sinks is no larger, in bytes.
const MOST: u64 = 1 << 20;
/// A secret is no longer, in bytes.
const LONGEST_SECRET: u64 = 64 << 10;

/// Where items go without a script.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SinkConfig {
    /// Elasticsearch or OpenSearch, a document for each item.
    Elasticsearch {
        /// `https://host:9200`, without a password.
        #[serde(default)]
        url: String,
        /// Elastic Cloud's id, in place of the URL.
        #[serde(default)]
        cloud_id: String,
        /// Index, alias or data stream.
        index: String,
        /// With `password`.
        #[serde(default)]
        username: String,
        /// With `username`.
        password: Option<SecretFrom>,
        /// `id:key`, or that in base64.
        api_key: Option<SecretFrom>,
        /// SHA-256 of the certificate to trust.
        #[serde(default)]
        certificate_fingerprint: String,
        /// KFL; all items without.
        filter: Option<String>,
    },
    /// Splunk's HTTP Event Collector, an event for each item.
    Splunk {
        /// `https://host:8088`.
        url: String,
        /// The collector's token.
        token: SecretFrom,
        /// Instead of the token's own.
        #[serde(default)]
        index: String,
        /// Splunk's `sourcetype`.
        #[serde(default)]
        sourcetype: String,
        /// KFL; all items without.
        filter: Option<String>,
    },
    /// Any HTTP server: JSON lines (`application/x-ndjson`), many items in a request.
    Webhook {
        /// Where to, in the clear…
        #[serde(default)]
        url: String,
        /// …or from where it is secret.
        url_from: Option<SecretFrom>,
        /// POST, or PUT.
        #[serde(default)]
        method: Method,
        /// In the clear.
        #[serde(default)]
        headers: std::collections::BTreeMap<String, String>,
        /// Such as `Authorization`.
        #[serde(default)]
        secret_headers: std::collections::BTreeMap<String, SecretFrom>,
        /// KFL; all items without.
        filter: Option<String>,
    },
    /// JSON lines in a file of this node.
    JsonFile {
        /// The file that is written to; old ones are beside it.
        path: PathBuf,
        /// It is put aside when it would grow past this, in bytes.
        #[serde(default = "max_bytes")]
        max_bytes: u64,
        /// It is put aside when its first item is older than this, in seconds; 0: never.
        #[serde(default)]
        max_age_seconds: u64,
        /// Old files that are kept.
        #[serde(default = "keep")]
        keep: usize,
        /// Whether old files are packed by gzip.
        #[serde(default)]
        compress: bool,
        /// When the disk is waited for.
        #[serde(default)]
        sync: Sync,
        /// KFL; all items without.
        filter: Option<String>,
    },
}

fn max_bytes() -> u64 {
    100 << 20
}

fn keep() -> usize {
    10
}

/// How a webhook is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

/// Where a secret is read from: it is never written where it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretFrom {
    /// A variable of the agent's own environment.
    Env(String),
    /// A file; white space around it does not count.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for SecretFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reference)
    }
}

/// Reads `{env: NAME}` or `{file: PATH}`. Whatever else stands there may be the secret itself: it is not repeated.
struct Reference;

const NO_REFERENCE: &str = "a secret (token, password, apiKey, urlFrom or secretHeaders) is {env: NAME} or {file: PATH}, and is not written here itself";

macro_rules! not_repeated {
    ($($visit:ident($type:ty))*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $type) -> Result<SecretFrom, E> {
            Err(E::custom(NO_REFERENCE))
        })*
    };
}

impl<'de> Visitor<'de> for Reference {
    type Value = SecretFrom;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{env: NAME} or {file: PATH}")
    }

    not_repeated! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) visit_bytes(&[u8]) }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<SecretFrom, A::Error> {
        Err(serde::de::Error::custom(NO_REFERENCE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretFrom, A::Error> {
        let wrong = || serde::de::Error::custom(NO_REFERENCE);
        let (key, value) = map.next_entry::<String, String>().ok().flatten().ok_or_else(wrong)?;
        let from = match key.as_str() {
            "env" => SecretFrom::Env(value),
            "file" => SecretFrom::File(value.into()),
            _ => return Err(wrong()),
        };
        match map.next_key::<IgnoredAny>() {
            Ok(None) => Ok(from),
            _ => Err(wrong()),
        }
    }
}

impl SecretFrom {
    /// The secret itself.
    ///
    /// # Errors
    /// When it is not there, or is empty; where it should be is named.
    pub(crate) fn read(&self) -> Result<Secret> {
        let text = match self {
            Self::Env(name) => {
                std::env::var(name).ok().with_context(|| format!("the variable {name} is not set"))?
            }
            Self::File(path) => {
                let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
                let mut text = String::new();
                std::io::Read::read_to_string(&mut std::io::Read::take(file, LONGEST_SECRET), &mut text)
                    .with_context(|| path.display().to_string())?;
                text
            }
        };
        let secret = Secret::new(&text);
        ensure!(!secret.expose().is_empty(), "{self:?} is empty");
        Ok(secret)
    }
}

/// A sink, checked, with its secrets.
#[derive(Debug)]
pub(super) struct Plan {
    /// Unique among them.
    pub(super) name: String,
    pub(super) filter: Option<Filter>,
    pub(super) to: To,
}

#[derive(Debug)]
pub(super) enum To {
    Elastic { target: ElasticTarget, index: String },
    Splunk { target: SplunkTarget, metadata: Vec<(String, String)> },
    Web { target: WebTarget },
    File(FileConfig),
}

/// Reads a list of sinks, YAML or JSON.
///
/// # Errors
/// When the file cannot be read, or is no such list: file, line and key are named.
pub fn read_sinks(path: &Path) -> Result<Vec<SinkConfig>> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| shown.to_string())?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MOST + 1), &mut text)
        .with_context(|| shown.to_string())?;
    ensure!(text.len() as u64 <= MOST, "{shown}: larger than {MOST} bytes");
    let sinks: Vec<SinkConfig> =
        serde_norway::from_str(&text).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?;
    ensure!(
        !sinks.is_empty(),
        "{shown}: no sink in it; it is a list such as [{{kind: jsonFile, path: items.jsonl}}]"
    );
    Ok(sinks)
}

/// Checks sinks, and that their secrets can be read.
///
/// # Errors
/// The first that cannot be right, by its number and kind.
pub fn check_sinks(sinks: &[SinkConfig]) -> Result<()> {
    sinks.iter().enumerate().try_for_each(|(at, sink)| sink.plan(at + 1).map(drop))
}

impl SinkConfig {
    /// Whether what it sends goes by the outbox.
    #[must_use]
    pub fn needs_outbox(&self) -> bool {
        !matches!(self, Self::JsonFile { .. })
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Elasticsearch { .. } => "elasticsearch",
            Self::Splunk { .. } => "splunk",
            Self::Webhook { .. } => "webhook",
            Self::JsonFile { .. } => "jsonFile",
        }
    }

    /// Checks it and reads its secrets. `number`: its place in the list, from 1.
    pub(super) fn plan(&self, number: usize) -> Result<Plan> {
        let name = format!("{number}-{}", self.kind());
        let (filter, to) = self.to().with_context(|| format!("sink {name}"))?;
        let filter = filter.as_deref().map(Filter::compile).transpose();
        Ok(Plan { filter: filter.with_context(|| format!("sink {name}: filter"))?, name, to })
    }

    fn to(&self) -> Result<(Option<String>, To)> {
        let read = |from: &Option<SecretFrom>| from.as_ref().map(SecretFrom::read).transpose();
        match self.clone() {
            Self::Elasticsearch {
                url,
                cloud_id,
                index,
                username,
                password,
                api_key,
                certificate_fingerprint,
                filter,
            } => {
                let access = ElasticAccess {
                    url,
                    username,
                    password: read(&password)?,
                    cloud_id,
                    api_key: read(&api_key)?,
                    service_token: None,
                    fingerprint: certificate_fingerprint,
                };
                // The index is judged with every document; once here, so that it is known at the start.
                crate::outbox::ElasticDocument::new(&index, "{}")?;
                Ok((filter, To::Elastic { target: ElasticTarget::new(&access)?, index }))
            }
            Self::Splunk { url, token, index, sourcetype, filter } => {
                let target = SplunkTarget::new(&url, token.read()?, None)?;
                let metadata = [("index", index), ("sourcetype", sourcetype)];
                let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).to_vec();
                crate::outbox::SplunkEvent::event("{}", true, metadata.clone())?;
                Ok((filter, To::Splunk { target, metadata }))
            }
            Self::Webhook { url, url_from, method, headers, secret_headers, filter } => {
                let url = match (url.as_str(), &url_from) {
                    ("", Some(from)) => from.read()?,
                    (_, None) => Secret::new(&url),
                    _ => bail!("url and urlFrom: one of them"),
                };
                let mut all: Vec<_> =
                    headers.iter().map(|(name, value)| (name.clone(), Secret::new(value))).collect();
                for (name, from) in &secret_headers {
                    all.push((name.clone(), from.read().with_context(|| format!("secretHeaders.{name}"))?));
                }
                Ok((filter, To::Web { target: WebTarget::new(&url, method == Method::Put, &all)? }))
            }
            Self::JsonFile { path, max_bytes, max_age_seconds, keep, compress, sync, filter } => {
                ensure!(
                    max_bytes >= 4096,
                    "maxBytes: {max_bytes} is less than the 4096 that a file has at least"
                );
                let max_age = (max_age_seconds > 0).then(|| Duration::from_secs(max_age_seconds));
                let path = std::path::absolute(&path).with_context(|| path.display().to_string())?;
                Ok((filter, To::File(FileConfig { path, max_bytes, max_age, keep, compress, sync })))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(yaml: &str) -> Result<Plan> {
        let sinks: Vec<SinkConfig> = serde_norway::from_str(yaml)?;
        sinks.first().context("none")?.plan(1)
    }

    #[test]
    fn every_kind_is_read_and_secrets_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "hushhush-1\n").unwrap();
        let from = format!("{{file: '{}'}}", file.display());
        for yaml in [
            format!(
                "[{{kind: elasticsearch, url: 'https://e:9200', index: remora, apiKey: {from}, filter: 'http'}}]"
            ),
            format!("[{{kind: splunk, url: 'https://s:8088', token: {from}, index: main}}]"),
            format!(
                "[{{kind: webhook, url: 'https://w/x', method: PUT, headers: {{A: b}}, secretHeaders: {{X-Key: {from}}}}}]"
            ),
            "[{kind: jsonFile, path: items.jsonl, maxAgeSeconds: 60, compress: true, sync: batch}]"
                .to_owned(),
        ] {
            let shown = format!("{:?}", plan(&yaml).unwrap());
            assert!(!shown.contains("hushhush"), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (yaml, part) in [
            ("[{kind: elastic}]", "unknown variant `elastic`"),
            ("[{kind: jsonFile, path: a, maxbytes: 1}]", "unknown field `maxbytes`"),
            ("[{kind: jsonFile, path: a, maxBytes: 1}]", "maxBytes: 1 is less"),
            ("[{kind: splunk, url: 'https://s', token: hushhush}]", "token"),
            ("[{kind: splunk, url: 'https://s', token: {text: hushhush}}]", "{env: NAME} or {file: PATH}"),
            (
                "[{kind: splunk, url: 'https://s', token: {env: A, file: hushhush}}]",
                "{env: NAME} or {file: PATH}",
            ),
            ("[{kind: splunk, url: 'https://s', token: [hushhush]}]", "{env: NAME} or {file: PATH}"),
            ("[{kind: splunk, url: 'https://s', token: {env: REMORA_NOT_SET}}]", "REMORA_NOT_SET is not set"),
            ("[{kind: webhook, url: 'https://w', urlFrom: {env: A}}]", "one of them"),
            ("[{kind: webhook, url: 'ftp://w'}]", "url: is not an http"),
            ("[{kind: jsonFile, path: a, filter: '1 +'}]", "sink 1-jsonFile: filter"),
            ("[{kind: elasticsearch, url: 'https://e', index: Remora}]", "upper-case"),
        ] {
            let error = format!("{:#}", plan(yaml).unwrap_err());
            assert!(error.contains(part) && !error.contains("hushhush"), "{yaml}: {error}");
        }
    }
}
