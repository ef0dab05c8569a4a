//! The file system under the store: its size, what is free of it, and the reserve that is left to others.

use std::io;
use std::path::PathBuf;

/// The largest reserve that is kept unless another is asked for, in bytes.
const USUAL_RESERVE: u64 = 1 << 30;

/// The file system that a folder is on.
pub(super) struct Disk {
    folder: PathBuf,
    /// Bytes that stay free.
    reserve: u64,
    size: u64,
}

impl Disk {
    /// `reserve`: bytes to leave free, or `None` for a twentieth of the file system, at most 1 GiB.
    pub(super) fn of(folder: PathBuf, reserve: Option<u64>) -> io::Result<Self> {
        let disk = nix::sys::statvfs::statvfs(&folder)?;
        let size = disk.blocks().saturating_mul(disk.fragment_size());
        Ok(Self { folder, reserve: reserve.unwrap_or((size / 20).min(USUAL_RESERVE)), size })
    }

    /// All of it, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether `bytes` more can be written without touching the reserve.
    pub(super) fn has_room(&self, bytes: u64) -> io::Result<bool> {
        if self.reserve == 0 {
            return Ok(true);
        }
        self.has_spare(bytes)
    }

    /// The same, but not left to the write to find out where there is no reserve.
    pub(super) fn has_spare(&self, bytes: u64) -> io::Result<bool> {
        let disk = nix::sys::statvfs::statvfs(&self.folder)?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        Ok(free >= self.reserve.saturating_add(bytes))
    }

    /// What to say when the reserve is reached.
    pub(super) fn full(&self) -> io::Error {
        let message = format!("less than the reserve of {} MiB is free on the disk", self.reserve >> 20);
        io::Error::new(io::ErrorKind::StorageFull, message)
    }
}
