//! The senders against their services' strict fakes: what arrives, once or at least once, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod elastic;
mod influx;
mod objects;
mod splunk;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::outbox::{
    Delivery, DeliveryStats, DurableOutbox, Letter, LetterState, Letters, Outbox as _, OutboxConfig,
    OutboxError, RetryPolicy,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// An outbox with short times, and what it lives in.
struct Bench {
    outbox: Arc<DurableOutbox>,
    runtime: Runtime,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut OutboxConfig)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), change)
    }

    /// The next run on the same folder.
    fn again(self) -> Self {
        let Self { outbox, runtime, folder } = self;
        drop(outbox);
        // Whatever was under way is dropped as by a kill.
        runtime.shutdown_timeout(Duration::from_secs(5));
        Self::on(folder, |_| ())
    }

    fn on(folder: TempDir, change: impl FnOnce(&mut OutboxConfig)) -> Self {
        let mut config = OutboxConfig {
            folder: folder.path().join("outbox"),
            durable: false,
            retry: RetryPolicy {
                first_pause: Duration::from_millis(10),
                longest_pause: Duration::from_millis(50),
                deadline: Duration::from_secs(20),
                max_attempts: 8,
                ..RetryPolicy::default()
            },
            request_timeout: Duration::from_millis(2_000),
            disk_reserve: 0,
            ..OutboxConfig::default()
        };
        change(&mut config);
        let runtime = Runtime::new().unwrap();
        let outbox = DurableOutbox::open(config, runtime.handle()).unwrap();
        Self { outbox, runtime, folder }
    }

    fn send(&self, delivery: Delivery) {
        self.outbox.enqueue("a.js", delivery).unwrap();
    }

    fn refused(&self, delivery: Delivery) -> OutboxError {
        self.outbox.enqueue("a.js", delivery).unwrap_err()
    }

    /// Waits until everything was sent or given up.
    fn drained(&self) -> DeliveryStats {
        let left = self.runtime.block_on(self.outbox.drain(Duration::from_secs(15)));
        assert!(left.undelivered.is_empty(), "{left}");
        self.outbox.stats()
    }

    /// Why the dead letters are dead, in order.
    fn dead(&self) -> Vec<String> {
        self.runtime.block_on(self.outbox.shutdown(Duration::from_secs(1)));
        let mut dead = Vec::new();
        let mut keep = |letter: Letter| {
            if letter.state == LetterState::Dead {
                dead.push(letter.error.unwrap_or_default());
            }
            Ok(())
        };
        Letters::open(self.folder.path()).unwrap().list(&mut keep).unwrap();
        dead
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}
