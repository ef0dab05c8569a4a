//! What the outbox tests share: an outbox against the fake, and short times.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::outbox::{Alert, Delivery, MemoryOutbox, OutboxConfig, RetryPolicy};
use agent::secret::Secret;
use tempfile::TempDir;
use testkit::slack::{FakeConfig, SlackFake};
use tokio::runtime::Runtime;

/// An outbox, the fake it sends to, and what they live in.
pub(crate) struct Bench {
    pub(crate) fake: SlackFake,
    pub(crate) outbox: Arc<MemoryOutbox>,
    pub(crate) runtime: Runtime,
    pub(crate) folder: TempDir,
}

/// Times short enough for tests.
pub(crate) fn quick() -> OutboxConfig {
    OutboxConfig {
        interval: Duration::from_millis(1),
        retry: RetryPolicy {
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
            deadline: Duration::from_secs(20),
            file_deadline: Duration::from_secs(10),
            max_attempts: 8,
            ..RetryPolicy::default()
        },
        request_timeout: Duration::from_millis(1_500),
        ..OutboxConfig::default()
    }
}

impl Bench {
    pub(crate) fn new(fake: FakeConfig, config: OutboxConfig) -> Self {
        let fake = SlackFake::local(fake).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let config =
            OutboxConfig { slack_api_url: fake.api_url(), spool_dir: folder.path().join("spool"), ..config };
        let outbox = MemoryOutbox::start(config, runtime.handle()).unwrap();
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

    /// Files in the spool, but for its lock.
    pub(crate) fn spooled(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.folder.path().join("spool")).unwrap();
        let files = folders.flat_map(|f| std::fs::read_dir(f.unwrap().path()).unwrap());
        files.map(|f| f.unwrap().path()).filter(|p| p.file_name().unwrap() != "lock").collect()
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
    }
}

pub(crate) fn alert(text: &str) -> Alert {
    Alert { pretext: "Server-side Error".to_owned(), text: text.to_owned(), color: "#ff0000".to_owned() }
}
