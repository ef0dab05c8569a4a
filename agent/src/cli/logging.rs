//! The log on standard error.
//!
//! Invariant: live, nobody waits for whoever reads it, or does not: lines pass through a bounded queue to a thread of their
//! own, and what finds that full is dropped and counted. In all else the writer waits, because it can, and nothing is lost.

use std::io::IsTerminal as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::say::LogWriter;

/// Lines that may wait.
const QUEUE: usize = 4096;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static GUARD: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// The log while it is held; at its end what waits is written.
pub(super) struct Log;

impl Drop for Log {
    fn drop(&mut self) {
        end();
    }
}

/// Writes what waits, for a second at most. For those who end the process without coming back.
pub(super) fn end() {
    drop(GUARD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Starts it. `live`: lines are dropped rather than waited for.
pub(super) fn start(live: bool) -> Log {
    let filter = EnvFilter::try_from_env("REMORA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_target(false);
    if !live {
        log.with_writer(|| LogWriter).init();
        return Log;
    }
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(LogWriter);
    // Err: it was started before, which nobody does.
    let _ = DROPPED.set(writer.error_counter());
    log.with_writer(writer).init();
    *GUARD.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    Log
}

/// Lines that were dropped so far.
pub(super) fn dropped() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}
