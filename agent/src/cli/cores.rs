//! Workers on cores of their own (`--pin-workers`).

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that this process may use, by number; none where the kernel does not tell.
pub(super) fn allowed() -> Vec<usize> {
    let set = match sched_getaffinity(Pid::from_raw(0)) {
        Ok(set) => set,
        Err(error) => {
            tracing::warn!(%error, "which cores may be used is not known: workers are not pinned");
            return Vec::new();
        }
    };
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

/// Keeps the calling thread on a core. Where that is refused it stays free, and the log says so.
pub(super) fn pin(core: usize) {
    let mut set = CpuSet::new();
    let pinned = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::warn!(%error, core, "a worker could not be pinned");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_put() {
        let cores = allowed();
        let last = *cores.last().unwrap();
        let after = std::thread::spawn(move || {
            pin(last);
            allowed()
        });
        assert_eq!(after.join().unwrap(), [last]);
        assert_eq!(allowed(), cores, "no other thread is");
    }
}
