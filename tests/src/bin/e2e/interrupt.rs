//! Ctrl-C and SIGTERM end a run through its ordinary error path, so that guards clean up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static TOLD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on the signals only say so; a second one ends the process, and its guardian cleans up.
pub(crate) fn install() -> Result<()> {
    let told = TOLD.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(told))?;
        signal_hook::flag::register(signal, Arc::clone(told))?;
    }
    Ok(())
}

/// Errs once a signal came.
pub(crate) fn check() -> Result<()> {
    if TOLD.get().is_some_and(|told| told.load(Ordering::Relaxed)) {
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
