//! What goes on beside the workers while they capture, whichever way: the configuration is followed, what is captured from is looked
//! after, losses are told.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::daemon::{Daemon, Wanted};
use super::run::Run;
use super::settings::Words;
use super::tap;
use super::vitals::Vitals;
use crate::pipeline::{WorkerReport, panicked};

/// How often losses are looked at, to warn while there is time to act.
const LOSSES: Duration = Duration::from_secs(10);
/// How often is looked whether what is watched is still there.
const LOOK: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(250);

/// A capture that goes on.
pub(super) trait Capture {
    /// Captures what is wanted from now on.
    ///
    /// # Errors
    /// When that cannot be: then what was stays in force.
    fn set_filter(&mut self, wanted: Wanted) -> anyhow::Result<()>;

    /// Tells the log what came and went, and `vitals` the books.
    ///
    /// # Errors
    /// When nothing is left to capture, or the kernel's counters cannot be read.
    fn look(&mut self, vitals: &Vitals) -> anyhow::Result<()>;

    /// Packets lost since it began, because rings were full.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read.
    fn lost(&mut self) -> anyhow::Result<u64>;
}

/// Until the end is asked for, or a worker has ended by itself.
///
/// # Errors
/// Those of [`Capture::look`] and [`Capture::lost`].
pub(super) fn watch(
    capture: &mut impl Capture,
    run: &Run,
    workers: &[JoinHandle<WorkerReport>],
    words: Words,
    daemon: &mut Daemon,
) -> anyhow::Result<()> {
    let (mut looked, mut counted, mut known) = (Instant::now(), Instant::now(), 0);
    while !run.stop().is_set() {
        // A live source ends only when it is told to: who has ended before has failed, and its report says why.
        if workers.iter().any(JoinHandle::is_finished) {
            return Ok(());
        }
        std::thread::sleep(TICK);
        run.vitals().watched();
        if let Some(wanted) = daemon.look() {
            daemon.done(capture.set_filter(wanted));
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            capture.look(run.vitals())?;
        }
        if counted.elapsed() >= LOSSES {
            counted = Instant::now();
            let lost = capture.lost()?;
            warn_of_loss(lost.saturating_sub(known), words);
            known = lost;
        }
    }
    Ok(())
}

fn warn_of_loss(lost: u64, words: Words) {
    if lost > 0 {
        let (time, mend) = (LOSSES.as_secs(), tap::more_room(words));
        tracing::warn!("{lost} packets lost in the last {time} s, their rings were full: {mend}");
    }
}

/// What the workers did, once all have ended. Of one that has panicked only that: what the others and it have found is
/// still to be delivered.
pub(super) fn reports(workers: Vec<JoinHandle<WorkerReport>>) -> Vec<WorkerReport> {
    let report = |worker: JoinHandle<WorkerReport>| {
        worker
            .join()
            .unwrap_or_else(|_| WorkerReport { error: Some(panicked("a worker")), ..WorkerReport::default() })
    };
    workers.into_iter().map(report).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panicked_takes_nobody_elses_report_along() {
        let well = std::thread::spawn(|| WorkerReport { filtered: 7, ..WorkerReport::default() });
        let ill = std::thread::spawn(|| -> WorkerReport { panic!("on purpose") });
        let reports = reports(vec![ill, well]);
        assert!(reports[0].error.as_ref().unwrap().to_string().contains("please report it"));
        assert!(reports[1].error.is_none() && reports[1].filtered == 7);
    }
}
