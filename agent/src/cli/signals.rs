//! Signals: the first SIGINT, SIGTERM or SIGHUP ends a run after the batch at hand, the second ends the program at once.
//!
//! Invariant: however a signal ends the program, its temporary folder is gone. SIGHUP is left ignored where it was
//! (`nohup remora tap …`); the agent reads its configuration again at it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::pipeline::Stop;

/// Exit code of a run that was ended at once: what shells say of SIGINT.
const ENDED: i32 = 130;

/// Threads still write while the folder is removed.
const TRIES: usize = 3;

/// Signals that are caught from here on.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
    /// Set at a SIGHUP, which then ends nothing.
    told: Option<Arc<AtomicBool>>,
}

impl Signals {
    /// Catches them from now on. With `told`, SIGHUP sets that and ends nothing.
    pub(super) fn catch(runtime: &Runtime, told: Option<Arc<AtomicBool>>) -> Self {
        let _inside = runtime.enter();
        let catch = |kind| {
            signal(kind)
                .inspect_err(|error| tracing::warn!("a signal cannot be caught, and ends at once: {error}"))
                .ok()
        };
        Self {
            interrupt: catch(SignalKind::interrupt()),
            terminate: catch(SignalKind::terminate()),
            hang_up: if told.is_none() && hang_up_is_ignored() { None } else { catch(SignalKind::hangup()) },
            told,
        }
    }

    /// Sets `stop` at the first signal; at the second, or when the end takes longer than `within`, removes the folder and
    /// exits.
    pub(super) async fn set(mut self, stop: Stop, temporary: PathBuf, within: Option<Duration>) {
        loop {
            tokio::select! {
                () = next(&mut self.interrupt) => {}
                () = next(&mut self.terminate) => {}
                () = next(&mut self.hang_up) => {
                    if let Some(told) = &self.told {
                        told.store(true, Ordering::Release);
                        continue;
                    }
                }
            }
            if stop.is_set() {
                exit(&temporary, ENDED);
            }
            tracing::info!("ending: once more ends at once");
            stop.set();
            if let Some(within) = within {
                let temporary = temporary.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(within).await;
                    let limit = within.as_secs_f64();
                    tracing::error!(
                        "the end took longer than drainTimeout, {limit} s: what is left stays undone"
                    );
                    exit(&temporary, 1);
                });
            }
        }
    }
}

fn exit(temporary: &Path, code: i32) -> ! {
    // What cannot be removed is left to the next run.
    for _ in 0..TRIES {
        if std::fs::remove_dir_all(temporary).is_ok() {
            break;
        }
    }
    super::logging::end();
    std::process::exit(code);
}

async fn next(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// proc(5): `SigIgn` is a mask in hexadecimal, SIGHUP its lowest bit.
fn hang_up_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hang_up(&status))
}

fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hang_up_is_seen() {
        assert!(ignores_hang_up("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hang_up("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hang_up(""));
    }
}
