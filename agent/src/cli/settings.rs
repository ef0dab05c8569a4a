//! One validated whole of the raw flags: what the rest of the program is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::{Common, PcapMode};
use crate::kfl::Filter;
use crate::outbox::OutboxConfig;
use crate::pipeline::{Format, SinkConfig, read_sinks};
use crate::tls::Trust;
use crate::view::{ItemView, Redaction};

/// A usage error: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// What replay and tap share, checked.
#[derive(Debug)]
pub(super) struct Settings {
    /// Scripts to run.
    pub(super) scripts: Vec<PathBuf>,
    /// Their variables.
    pub(super) env: Arc<BTreeMap<String, String>>,
    /// Which items are printed and given to scripts.
    pub(super) filter: Option<Arc<Filter>>,
    /// How items are printed.
    pub(super) format: Format,
    /// Where streams are written.
    pub(super) streams: Option<PathBuf>,
    /// Whether SHA-256 sums are computed.
    pub(super) hash: bool,
    /// Where the PCAP store is kept.
    pub(super) pcap_dir: Option<PathBuf>,
    /// What it keeps.
    pub(super) pcap: PcapLimits,
    /// Where scripts keep their files.
    pub(super) data_dir: Option<PathBuf>,
    /// Where items go without a script.
    pub(super) sinks: Vec<SinkConfig>,
    /// Whether counters are printed at the end.
    pub(super) stats: bool,
    /// How items are shown.
    pub(super) view: Arc<ItemView>,
    /// How alerts are sent; all but the folder.
    pub(super) outbox: OutboxConfig,
    /// Where S3 is, if it is not Amazon's.
    pub(super) s3_endpoint: Option<String>,
    /// Patience with deliveries at the end, counted from the last one that succeeded.
    pub(super) drain: Duration,
}

/// Bounds of the PCAP store.
#[derive(Clone, Copy, Debug)]
pub(super) struct PcapLimits {
    /// Which packets.
    pub(super) mode: PcapMode,
    /// All packets together, in bytes.
    pub(super) max_bytes: u64,
    /// How long they are kept; `None`: as long as there is room.
    pub(super) max_age: Option<Duration>,
    /// Bytes of the disk that stay free; `None`: the store's own default.
    pub(super) reserve: Option<u64>,
}

impl Settings {
    /// Checks the flags against each other and reads the files that they name.
    ///
    /// # Errors
    /// [`UsageError`] naming the flag and what is wrong with it.
    pub(super) fn new(args: &Common) -> Result<Self, UsageError> {
        let redaction = if args.no_redact { Redaction::off() } else { Redaction::with(&args.redact) };
        Ok(Self {
            scripts: args.script.clone(),
            env: Arc::new(environment(&args.env_file, &args.env)?),
            filter: args.filter.clone(),
            format: match (args.json, args.quiet) {
                (true, _) => Format::Json,
                (false, true) => Format::None,
                (false, false) => Format::Text,
            },
            streams: args.streams.clone(),
            hash: args.hash,
            pcap_dir: args.pcap_dir.clone(),
            pcap: PcapLimits {
                mode: args.pcap_store,
                max_bytes: args.pcap_max_bytes,
                max_age: args.pcap_max_age,
                reserve: args.pcap_reserve,
            },
            data_dir: args.data_dir.clone(),
            sinks: match &args.sinks {
                Some(path) => read_sinks(path).map_err(|error| UsageError(format!("--sinks: {error:#}")))?,
                None => Vec::new(),
            },
            stats: args.stats,
            view: Arc::new(ItemView::new(redaction)),
            outbox: OutboxConfig {
                trust: trust(args.ca_file.as_deref())?,
                ..args.delivery.config(base(
                    "--slack-api-url",
                    &args.slack_api_url,
                    "https://slack.com/api/",
                )?)
            },
            s3_endpoint: args
                .s3_endpoint
                .as_deref()
                .filter(|url| !url.is_empty())
                .map(|url| base("--s3-endpoint", url, "http://minio:9000"))
                .transpose()?,
            drain: Duration::from_secs(args.drain_timeout),
        })
    }
}

fn environment(files: &[PathBuf], flags: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    let mut env = BTreeMap::new();
    for file in files {
        env.extend(env_file(file)?);
    }
    for flag in flags {
        // The value may be a secret: only the name is ever repeated.
        let (key, value) = flag.split_once('=').ok_or_else(|| {
            UsageError("--env takes K=V, for example --env SLACK_CHANNEL_ID=C0123456789; found no '='".into())
        })?;
        env.insert(variable_name("--env", key)?, value.to_owned());
    }
    Ok(env)
}

fn env_file(path: &Path) -> Result<Vec<(String, String)>, UsageError> {
    let place = format!("--env-file {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| UsageError(format!("{place}: {error}")))?;
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let place = format!("{place}, line {}", number + 1);
        let Some((key, value)) = line.split_once('=') else {
            return Err(UsageError(format!("{place}: expected K=V, found no '='")));
        };
        variables.push((variable_name(&place, key.trim())?, unquoted(value.trim()).to_owned()));
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

fn variable_name(place: &str, key: &str) -> Result<String, UsageError> {
    let mut letters = key.chars();
    let starts_well = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '$');
    if starts_well && letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$') {
        return Ok(key.to_owned());
    }
    Err(UsageError(format!(
        "{place}: {key:?} cannot be a variable of a script: letters, digits, '_' and '$' are allowed, and no digit first"
    )))
}

/// Whom TLS trusts.
fn trust(ca_file: Option<&Path>) -> Result<Trust, UsageError> {
    let Some(path) = ca_file.filter(|path| !path.as_os_str().is_empty()) else { return Ok(Trust::default()) };
    Trust::with_file(path).map_err(|error| UsageError(format!("--ca-file: {error:#}")))
}

/// A URL that others are made of: it ends in a slash.
fn base(flag: &str, url: &str, like: &str) -> Result<String, UsageError> {
    let parsed = reqwest::Url::parse(url)
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
        .ok_or_else(|| UsageError(format!("{flag}: expected an http or https URL such as {like}")))?;
    let mut text = parsed.to_string();
    if !text.ends_with('/') {
        text.push('/');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_read_like_a_shell_would() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("slack.env");
        std::fs::write(&file, "# tokens\nexport A=1\nB = \"x y\" \n\nC='='\nD=a=b\n").unwrap();
        let env = environment(std::slice::from_ref(&file), &["A=2".into()]).unwrap();
        let pairs: Vec<_> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "2"), ("B", "x y"), ("C", "="), ("D", "a=b")]);

        std::fs::write(&file, "ok=1\nxoxb-secret\n").unwrap();
        let error = env_file(&file).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn names_that_no_script_could_say_are_refused_without_their_value() {
        for flag in ["1A=hush", "A-B=hush", "=hush"] {
            let error = environment(&[], &[flag.into()]).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(!environment(&[], &["hush".into()]).unwrap_err().to_string().contains("hush"));
    }

    #[test]
    fn a_base_ends_in_a_slash() {
        let base = |url| base("--x", url, "http://y");
        assert_eq!(base("http://127.0.0.1:9/api").unwrap(), "http://127.0.0.1:9/api/");
        for wrong in ["slack.com/api", "ftp://x/"] {
            assert!(base(wrong).unwrap_err().to_string().starts_with("--x: expected"), "{wrong}");
        }
    }
}
