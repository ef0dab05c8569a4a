//! One validated whole of the raw flags: what the rest of the program is given.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::args::{Assignment, Common, Given, PcapMode};
use super::http::Http;
use super::kubernetes::Kubernetes;
use super::scripts::Test;
use crate::config::Variables;
use crate::hooks::ScriptLimits;
use crate::kfl::Filter;
use crate::outbox::OutboxConfig;
use crate::pipeline::{Format, SinkConfig, read_sinks};
use crate::tls::Trust;
use crate::view::{ItemView, Redaction};

/// A usage error: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// What options are called where they came from: flags on the command line, keys in the agent's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Words {
    /// `--port`.
    Flags,
    /// `capture.ports`.
    Keys,
}

/// Flags that messages name, and the keys that mean the same.
const KEYS: [(&str, &str); 12] = [
    ("--interface", "capture.interfaces"),
    ("--cgroup", "capture.cgroups"),
    ("--mode", "capture.mode"),
    ("--port", "capture.ports"),
    ("--net", "capture.nets"),
    ("--workers", "capture.workers"),
    ("--ring-mib", "capture.ringMib"),
    ("--env-file", "scripts.envFiles"),
    ("--slack-api-url", "slackApiUrl"),
    ("--s3-endpoint", "s3Endpoint"),
    ("--ca-file", "caFile"),
    ("--drain-timeout", "outbox.drainTimeout"),
];

impl Words {
    /// What the user calls the option of this flag.
    pub(super) fn name(self, flag: &'static str) -> &'static str {
        match self {
            Self::Flags => flag,
            Self::Keys => KEYS.iter().find(|(of, _)| *of == flag).map_or(flag, |(_, key)| key),
        }
    }
}

/// What replay, tap and the agent share, checked.
#[derive(Debug)]
pub(super) struct Settings {
    /// Scripts to run.
    pub(super) scripts: Vec<PathBuf>,
    /// Their variables.
    pub(super) env: Variables,
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
    /// What the view hides: to change it.
    pub(super) redaction: Redaction,
    /// How alerts are sent; all but the folder.
    pub(super) outbox: OutboxConfig,
    /// Where S3 is, if it is not Amazon's.
    pub(super) s3_endpoint: Option<String>,
    /// Patience with deliveries at the end, counted from the last one that succeeded.
    pub(super) drain: Duration,
    /// Bounds of each script.
    pub(super) script_limits: ScriptLimits,
    /// The end of the run takes no longer, whatever is left undone.
    pub(super) end_within: Option<Duration>,
    /// Set by SIGHUP, which then does not end the run.
    pub(super) hang_up: Option<Arc<AtomicBool>>,
    /// What is served by HTTP.
    pub(super) http: Http,
    /// What the user calls options.
    pub(super) words: Words,
    /// Names of pods and services, where there are any.
    pub(super) kubernetes: Option<Arc<Kubernetes>>,
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
    /// [`UsageError`] naming the flag, or the key, and what is wrong with it.
    pub(super) fn new(args: &Common, words: Words) -> Result<Self, UsageError> {
        let redaction = if args.no_redact { Redaction::off() } else { Redaction::with(&args.redact) };
        Ok(Self {
            scripts: args.script.clone(),
            env: Variables(environment(&args.given, words)?),
            filter: args.given.filter.clone(),
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
            view: Arc::new(ItemView::new(redaction.clone())),
            redaction,
            outbox: OutboxConfig {
                trust: trust(args.ca_file.as_deref(), words)?,
                ..args.delivery.config(base(
                    words.name("--slack-api-url"),
                    &args.slack_api_url,
                    "https://slack.com/api/",
                )?)
            },
            s3_endpoint: args
                .s3_endpoint
                .as_deref()
                .filter(|url| !url.is_empty())
                .map(|url| base(words.name("--s3-endpoint"), url, "http://minio:9000"))
                .transpose()?,
            drain: Duration::from_secs(args.drain_timeout),
            script_limits: ScriptLimits::default(),
            end_within: None,
            hang_up: None,
            http: Http::default(),
            words,
            kubernetes: None,
        })
    }

    /// For `remora scripts test`: nothing is printed, kept or sent.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub(super) fn of_test(args: &Test) -> Result<Self, UsageError> {
        let redaction = if args.no_redact { Redaction::off() } else { Redaction::default() };
        Ok(Self {
            scripts: args.files.clone(),
            env: Variables(environment(&args.given, Words::Flags)?),
            filter: args.given.filter.clone(),
            format: Format::None,
            streams: None,
            hash: args.hash,
            pcap_dir: None,
            pcap: PcapLimits { mode: PcapMode::All, max_bytes: 4 << 30, max_age: None, reserve: None },
            data_dir: None,
            sinks: Vec::new(),
            stats: false,
            view: Arc::new(ItemView::new(redaction.clone())),
            redaction,
            outbox: OutboxConfig::default(),
            s3_endpoint: std::env::var("REMORA_S3_ENDPOINT").ok(),
            drain: Duration::ZERO,
            script_limits: ScriptLimits::default(),
            end_within: None,
            hang_up: None,
            http: Http::default(),
            words: Words::Flags,
            kubernetes: None,
        })
    }
}

fn environment(given: &Given, words: Words) -> Result<BTreeMap<String, String>, UsageError> {
    let mut env = BTreeMap::new();
    for file in &given.env_file {
        let place = format!("{} {}", words.name("--env-file"), file.display());
        env.extend(if file.is_dir() { env_folder(file, &place)? } else { env_file(file, &place)? });
    }
    for Assignment(flag) in &given.env {
        // The value may be a secret: only the name is ever repeated.
        let (key, value) = flag.split_once('=').ok_or_else(|| {
            UsageError("--env takes K=V, for example --env SLACK_CHANNEL_ID=C0123456789; found no '='".into())
        })?;
        env.insert(variable_name("--env", key)?, value.to_owned());
    }
    Ok(env)
}

/// A text of variables is no longer, in bytes.
const MOST_OF_ENV: u64 = 1 << 20;

fn env_text(path: &Path, place: &str) -> Result<String, UsageError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_OF_ENV + 1).read_to_string(&mut text));
    let read = read.map_err(|error| UsageError(format!("{place}: {error}")))?;
    if read as u64 > MOST_OF_ENV {
        return Err(UsageError(format!("{place}: larger than {MOST_OF_ENV} bytes, which no variables are")));
    }
    Ok(text)
}

/// A file for each variable, as Kubernetes mounts a Secret: its own files there begin with two dots.
fn env_folder(path: &Path, place: &str) -> Result<Vec<(String, String)>, UsageError> {
    let fail = |error: std::io::Error| UsageError(format!("{place}: {error}"));
    let mut variables = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || path.is_dir() {
            continue;
        }
        let value = env_text(&path, &format!("{place}/{name}"))?;
        let value = value.strip_suffix('\n').unwrap_or(&value);
        variables.push((variable_name(place, &name)?, value.to_owned()));
    }
    Ok(variables)
}

fn env_file(path: &Path, place: &str) -> Result<Vec<(String, String)>, UsageError> {
    let text = env_text(path, place)?;
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

/// Whether a script could say it as the name of a global.
pub(crate) fn is_variable_name(key: &str) -> bool {
    let mut letters = key.chars();
    let starts_well = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '$');
    starts_well && letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

fn variable_name(place: &str, key: &str) -> Result<String, UsageError> {
    if is_variable_name(key) {
        return Ok(key.to_owned());
    }
    Err(UsageError(format!(
        "{place}: {key:?} cannot be a variable of a script: letters, digits, '_' and '$' are allowed, and no digit first"
    )))
}

/// Whom TLS trusts.
fn trust(ca_file: Option<&Path>, words: Words) -> Result<Trust, UsageError> {
    let Some(path) = ca_file.filter(|path| !path.as_os_str().is_empty()) else { return Ok(Trust::default()) };
    Trust::with_file(path).map_err(|error| UsageError(format!("{}: {error:#}", words.name("--ca-file"))))
}

/// A URL that others are made of: it ends in a slash.
fn base(flag: &str, url: &str, like: &str) -> Result<String, UsageError> {
    base_url(url).map_err(|allowed| UsageError(format!("{flag}: {allowed} such as {like}")))
}

/// The base of an HTTP API, ending in a slash.
///
/// # Errors
/// What is allowed.
pub(crate) fn base_url(url: &str) -> Result<String, String> {
    let parsed = reqwest::Url::parse(url)
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
        .ok_or_else(|| String::from("expected an http or https URL"))?;
    // It is shown in logs and lists.
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(String::from("expected an http or https URL without user and password"));
    }
    let mut text = parsed.to_string();
    if !text.ends_with('/') {
        text.push('/');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(files: &[&Path], flags: &[&str]) -> Given {
        Given {
            env: flags.iter().map(|flag| (*flag).to_owned().into()).collect(),
            env_file: files.iter().map(|file| (*file).to_owned()).collect(),
            filter: None,
        }
    }

    #[test]
    fn env_files_read_like_a_shell_would() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("slack.env");
        std::fs::write(&file, "# tokens\nexport A=1\nB = \"x y\" \n\nC='='\nD=a=b\n").unwrap();
        let env = environment(&given(&[&file], &["A=2"]), Words::Flags).unwrap();
        let pairs: Vec<_> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "2"), ("B", "x y"), ("C", "="), ("D", "a=b")]);

        std::fs::write(&file, "ok=1\nxoxb-secret\n").unwrap();
        let error = env_file(&file, "--env-file").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_folder_is_a_variable_for_each_file() {
        let dir = tempfile::tempdir().unwrap();
        // As the kubelet lays a Secret out.
        let real = dir.path().join("..2026_11_21");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("TOKEN"), "xoxb-1\n").unwrap();
        std::os::unix::fs::symlink("..2026_11_21", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/TOKEN", dir.path().join("TOKEN")).unwrap();
        std::fs::write(dir.path().join("LINES"), "a\nb").unwrap();
        let env = environment(&given(&[dir.path()], &["LINES=c"]), Words::Keys).unwrap();
        let pairs: Vec<_> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("LINES", "c"), ("TOKEN", "xoxb-1")]);

        std::fs::write(dir.path().join("slack.env"), "hushhush").unwrap();
        let error = environment(&given(&[dir.path()], &[]), Words::Keys).unwrap_err().to_string();
        assert!(error.starts_with("scripts.envFiles") && error.contains("\"slack.env\""), "{error}");
        assert!(!error.contains("hushhush"), "{error}");
    }

    #[test]
    fn a_text_of_variables_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endless.env");
        std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
        let error = environment(&given(&[&file], &[]), Words::Flags).unwrap_err().to_string();
        assert!(error.contains("larger than 1048576 bytes"), "{error}");
    }

    #[test]
    fn names_that_no_script_could_say_are_refused_without_their_value() {
        for flag in ["1A=hushhush", "A-B=hushhush", "=hushhush", "hushhush"] {
            let error = environment(&given(&[], &[flag]), Words::Flags).unwrap_err().to_string();
            assert!(!error.contains("hushhush"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_variables_value() {
        let mut tap = crate::cli::args::Tap::usual().unwrap();
        tap.common.given.env = ["TOKEN=hushhush", "hushhush"].map(|text| text.to_owned().into()).to_vec();
        let shown = format!("{tap:?}");
        assert!(shown.contains("[TOKEN, [REDACTED]]") && !shown.contains("hushhush"), "{shown}");
        tap.common.given.env.pop();
        let shown = format!("{:?}", Settings::new(&tap.common, Words::Flags).unwrap());
        assert!(shown.contains("TOKEN") && !shown.contains("hushhush"), "{shown}");
    }

    #[test]
    fn a_base_ends_in_a_slash() {
        let base = |url| base("--x", url, "http://y");
        assert_eq!(base("http://127.0.0.1:9/api").unwrap(), "http://127.0.0.1:9/api/");
        for wrong in ["slack.com/api", "ftp://x/", "http://user:hushhush@x/", "http://hushhush@x/"] {
            let error = base(wrong).unwrap_err().to_string();
            assert!(error.starts_with("--x: expected") && !error.contains("hushhush"), "{error}");
        }
    }
}
