//! What the outbox tests share: an outbox against the fake, and short times.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::outbox::{Alert, Delivery, DurableOutbox, FoldPolicy, OutboxConfig, Rate, RetryPolicy};
use agent::secret::Secret;
use tempfile::TempDir;
use testkit::slack::{FakeConfig, SlackFake};
use tokio::runtime::Runtime;

/// An outbox, the fake it sends to, and what they live in.
pub(crate) struct Bench {
    pub(crate) fake: SlackFake,
    pub(crate) outbox: Arc<DurableOutbox>,
    pub(crate) runtime: Runtime,
    pub(crate) folder: TempDir,
}

/// Times short enough for tests.
pub(crate) fn quick() -> OutboxConfig {
    OutboxConfig {
        slack_rate: Rate { per_second: 1000.0, burst: 1 },
        retry: RetryPolicy {
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
            deadline: Duration::from_secs(20),
            file_deadline: Duration::from_secs(10),
            max_attempts: 8,
            ..RetryPolicy::default()
        },
        request_timeout: Duration::from_millis(1_500),
        disk_reserve: 0,
        // Most tests send the same again and again.
        fold: FoldPolicy { flood_limit: 0, ..FoldPolicy::default() },
        ..OutboxConfig::default()
    }
}

impl Bench {
    pub(crate) fn new(fake: FakeConfig, config: OutboxConfig) -> Self {
        Self::prepared(fake, config, |_| ())
    }

    /// `prepare` is given the folder first.
    pub(crate) fn prepared(fake: FakeConfig, config: OutboxConfig, prepare: impl FnOnce(&Path)) -> Self {
        let fake = SlackFake::local(fake).unwrap();
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let runtime = Runtime::new().unwrap();
        let config =
            OutboxConfig { slack_api_url: fake.api_url(), folder: folder.path().join("outbox"), ..config };
        let outbox = DurableOutbox::open(config, runtime.handle()).unwrap();
        Self { fake, outbox, runtime, folder }
    }

    pub(crate) fn quick() -> Self {
        Self::new(FakeConfig::default(), quick())
    }

    /// Waits until everything was sent or given up.
    pub(crate) fn drain(&self) {
        let drained = self.runtime.block_on(self.outbox.drain(Duration::from_secs(15)));
        assert!(drained.undelivered.is_empty(), "{drained}");
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The outbox's copies of files.
    pub(crate) fn copies(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path().join("outbox/blobs")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    /// Waits until so many copies are there.
    pub(crate) fn wait_for_copies(&self, count: usize) {
        let start = Instant::now();
        while self.copies().len() != count {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", self.copies());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A delivery as a bot.
pub(crate) fn bot(channel: &str, text: &str, files: &[(&str, PathBuf)]) -> Delivery {
    Delivery::SlackBot {
        token: Secret::new(FakeConfig::TOKEN),
        channel: channel.to_owned(),
        alert: alert(text),
        fields: vec![("Service".to_owned(), "shop".to_owned()), ("Node".to_owned(), String::new())],
        files: files.iter().map(|(name, path)| ((*name).to_owned(), path.clone())).collect(),
        fold: None,
    }
}

pub(crate) fn alert(text: &str) -> Alert {
    Alert { pretext: "Server-side Error".to_owned(), text: text.to_owned(), color: "#ff0000".to_owned() }
}
