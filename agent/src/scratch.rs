//! A folder of this process's own that vanishes with it. What a killed process left is removed by the next one.
//!
//! Invariants: a folder is 0700; while its process lives, its `lock` is held; a folder without a `lock` is in the making
//! and left alone.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::TempDir;

const LOCK: &str = "lock";

/// The folder; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    /// Held while the process lives, so that another can tell this folder from one left behind.
    _lock: File,
}

impl Scratch {
    /// Makes a folder `PREFIX…` in `parent`, and removes those of that name that dead processes left there.
    pub(crate) fn create(parent: &Path, prefix: &str) -> io::Result<Self> {
        remove_stale(parent, prefix);
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(parent)?;
        // It gets its name when it is held: nobody finds it free in between.
        let unnamed = folder.path().join("lock.new");
        let lock = File::create(&unnamed)?;
        lock.try_lock()?;
        std::fs::rename(&unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Folders whose lock nobody holds are left from a killed process of ours.
fn remove_stale(parent: &Path, prefix: &str) {
    let own = nix::unistd::geteuid().as_raw();
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let path = entry.path();
        let ours = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir() && m.uid() == own);
        let free = ours && File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if free && let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!("{} was left behind and cannot be removed: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_folders_go_and_live_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        let live = Scratch::create(parent.path(), "x-").unwrap();
        let (stale, foreign, new) = ("x-dead", "y-dead", "x-new");
        for name in [stale, foreign] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
            std::fs::write(parent.path().join(name).join(LOCK), "").unwrap();
        }
        std::fs::create_dir(parent.path().join(new)).unwrap();
        let second = Scratch::create(parent.path(), "x-").unwrap();
        assert!(!parent.path().join(stale).exists());
        assert!(parent.path().join(foreign).exists() && parent.path().join(new).exists());
        assert!(live.path().exists());
        assert_eq!(std::fs::metadata(second.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }
}
