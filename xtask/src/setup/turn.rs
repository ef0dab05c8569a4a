//! One set-up at a time in a workspace: two would clear the folders under each other's hands.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::sys::{interrupt, project, term};

/// Longer than a set-up that builds everything.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Held while this set-up is under way; dropped, the next one has its turn, however this one ends.
pub(super) struct Turn(#[expect(dead_code, reason = "the lock goes with it")] File);

/// Waits for its turn.
pub(super) fn wait() -> Result<Turn> {
    fs::create_dir_all(project::target())?;
    wait_at(&project::target().join("setup.lock"), PATIENCE)
}

fn wait_at(path: &Path, patience: Duration) -> Result<Turn> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut told = false;
    let has_it = interrupt::wait_for(patience, || match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => {
            if !std::mem::replace(&mut told, true) {
                term::say("  another set-up is under way in this folder: waiting for its end");
            }
            Ok(false)
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    })?;
    ensure!(has_it, "another set-up is still under way after {} s: end it, or wait", patience.as_secs());
    Ok(Turn(file))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_second_one_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = wait_at(&path, Duration::ZERO).unwrap();
        let refused = wait_at(&path, Duration::from_millis(50)).err().unwrap().to_string();
        assert!(refused.contains("another set-up is still under way"), "{refused}");
        let began = Instant::now();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| wait_at(&path, PATIENCE).map(|_| began.elapsed()).unwrap());
            std::thread::sleep(Duration::from_millis(200));
            let released = began.elapsed();
            drop(first);
            assert!(second.join().unwrap() >= released);
        });
    }
}
