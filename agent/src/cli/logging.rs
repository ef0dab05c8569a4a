//! The log on standard error.
//!
//! Invariant: live, nobody waits for whoever reads it, or does not: lines pass through a bounded queue to a thread of their
//! own, and what finds that full is dropped and counted. In all else the writer waits, because it can, and nothing is lost.
//!
//! With `REMORA_TRACE_DIR` each process writes a second log there, at trace level, libraries' lines included: for a report of
//! what went wrong. No secret is in either: the tests search what they make it write.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use super::say::LogWriter;

/// Lines that may wait.
const QUEUE: usize = 4096;
/// The same of the second log, which says much more.
const TRACE_QUEUE: usize = 64 << 10;
/// Bytes that the second log may take; what follows is left out.
const TRACE_BYTES: u64 = 1 << 30;
/// Where the second log goes, if anywhere.
const TRACE_DIR: &str = "REMORA_TRACE_DIR";

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static GUARDS: Mutex<Vec<WorkerGuard>> = Mutex::new(Vec::new());

/// The log while it is held; at its end what waits is written.
pub(super) struct Log;

impl Drop for Log {
    fn drop(&mut self) {
        end();
    }
}

/// Writes what waits, for a second at most. For those who end the process without coming back.
pub(super) fn end() {
    drop(std::mem::take(&mut *GUARDS.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// Starts it. `live`: lines are dropped rather than waited for.
pub(super) fn start(live: bool) -> Log {
    let filter = EnvFilter::try_from_env("REMORA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let shown = layer::<Registry>().with_ansi(colours).with_target(false);
    let shown = if live {
        let writer = queue(LogWriter, true, QUEUE);
        // Err: it was started before, which nobody does.
        let _ = DROPPED.set(writer.error_counter());
        shown.with_writer(writer).with_filter(filter).boxed()
    } else {
        shown.with_writer(|| LogWriter).with_filter(filter).boxed()
    };
    let trace = std::env::var_os(TRACE_DIR).filter(|folder| !folder.is_empty()).map(|folder| {
        Bounded::create(Path::new(&folder))
            .map(|file| queue(file, live, TRACE_QUEUE))
            .map_err(|e| (folder, e))
    });
    let (trace, failed) = match trace {
        Some(Ok(writer)) => (Some(writer), None),
        Some(Err(failed)) => (None, Some(failed)),
        None => (None, None),
    };
    let traced =
        trace.map(|writer| layer().with_ansi(false).with_writer(writer).with_filter(LevelFilter::TRACE));
    tracing_subscriber::registry().with(shown).with(traced).init();
    if let Some((folder, error)) = failed {
        tracing::warn!("{TRACE_DIR}: no log in {}: {error}", Path::new(&folder).display());
    }
    Log
}

/// A thread that writes what others hand it.
fn queue(to: impl Write + Send + 'static, lossy: bool, lines: usize) -> NonBlocking {
    let builder = NonBlockingBuilder::default().lossy(lossy).buffered_lines_limit(lines).thread_name("log");
    let (writer, guard) = builder.finish(to);
    GUARDS.lock().unwrap_or_else(PoisonError::into_inner).push(guard);
    writer
}

/// A file that grows only so far.
struct Bounded {
    file: File,
    left: u64,
}

impl Bounded {
    /// A new one for this process, which only its user can read.
    fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("remora-{}.log", std::process::id()));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        Ok(Self { file, left: TRACE_BYTES })
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = bytes.len() as u64;
        if size <= self.left {
            self.left -= size;
            self.file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Lines that were dropped so far.
pub(super) fn dropped() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}
