//! Ctrl-C and SIGTERM end a run through its ordinary error path, so that guards clean up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static TOLD: AtomicBool = AtomicBool::new(false);

/// From here on, in all threads to come, the signals only say so; a second one ends the process, and its guardian cleans up.
pub(crate) fn install() -> Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    std::thread::spawn(move || {
        while set.wait().is_ok() {
            if TOLD.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("interrupted: cleaning up; once more ends at once");
        }
    });
    Ok(())
}

/// Errs once a signal came.
pub(crate) fn check() -> Result<()> {
    if TOLD.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Asks until it is so.
///
/// # Errors
/// When it is not so in time, with what the last answer was.
pub(crate) fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        check()?;
        match done() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                bail!("{what}: not within {} s: {error:#}", limit.as_secs());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
