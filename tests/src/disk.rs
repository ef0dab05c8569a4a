//! Small file systems that a test may fill: real ones, in memory, which only the test's own thread and those that it starts see.

#![expect(clippy::expect_used, reason = "a test ends where something is missing")]

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const NOTHING: Option<&str> = None;

/// Gives the calling thread, and those that it starts from then on, mounts of their own, which vanish with them.
///
/// # Errors
/// When that is not permitted.
pub fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
}

/// Runs `body` on a thread with mounts of its own. Who is not root may not, and is told.
///
/// # Panics
/// As `body` does, and when root may not either.
pub fn with_own_mounts(body: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: no file system can be mounted");
        return;
    }
    let run = || {
        own_mounts().expect("mounts of its own");
        body();
    };
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// The same, with an empty folder on a disk of so many MiB.
///
/// # Panics
/// As [`with_own_mounts`].
pub fn with_small_disk(mib: u32, body: impl FnOnce(&Path) + Send) {
    with_own_mounts(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let _disk = SmallDisk::over(folder.path(), mib).expect("a tmpfs");
        body(folder.path());
    });
}

/// A file system over a folder, until it is dropped: after what has files there, before the folder.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Of so many MiB. Call it on a thread with [`own_mounts`].
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn over(folder: &Path, mib: u32) -> nix::Result<Self> {
        let size = format!("size={mib}m");
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))?;
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Err: somebody has taken it away, and else it goes with the thread.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
